#!/bin/bash
# The scripts that set everything up, on machines that look complete and are not, speak another language,
# or allow little. The machines are folders of programs that answer as Debian's do. Prints TAP.
#
# test/lib/setup.sh installs nothing here: it is run as a user that may not, and says what is missing.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source test/lib/common.sh
source test/lib/cluster.sh
source test/lib/tap.sh
cluster_set_traps
scratch=$(new_server_dir)
before_cluster_stop() { rm -rf -- "$scratch"; } # the killed script's server is not ours
chmod 755 "$scratch"
real_server=$PG_CONFIG

# --- A machine ------------------------------------------------------------------------------------

# program NAME: a program of the machine, its text from standard input.
program() {
    { printf '#!/bin/bash\n'; cat; } >"$machine/bin/$1"
    chmod 755 "$machine/bin/$1"
}

# new_machine: Debian with all packages but PostgreSQL's. apt speaks the language that the environment asks for.
new_machine() {
    machine=$(mktemp -d "$scratch/machine.XXXXXX")
    mkdir "$machine/bin" "$machine/postgresql" "$machine/home"
    chmod -R 755 "$machine"
    : >"$machine/missing"
    : >"$machine/unknown"
    program dpkg-query <<<'grep -qxF "${@: -1}" "'"$machine"'/missing" && echo "un " || echo "ii "'
    program apt-cache <<EOT
case \${LC_ALL:-\${LC_MESSAGES:-\$LANG}} in
de*) depends='Hängt ab von' candidate=Installationskandidat none='(keine)' ;;
*) depends=Depends candidate=Candidate none='(none)' ;;
esac
case \$1 in
depends) printf '%s\n  %s: %s-15\n' "\$2" "\$depends" "\$2" ;;
policy) if grep -qxF "\$2" "$machine/unknown"; then none="\$none"; else none=1.0; fi; printf '%s:\n  %s: %s\n' "\$2" "\$candidate" "\$none" ;;
esac
EOT
    program pg_config <<<"exec \"\$(printf '%s\n' '$machine'/postgresql/*/bin/pg_config | sort -V | tail -n 1)\" \"\$@\""
}

# client VERSION, then server and headers of it: what packages postgresql-client, postgresql and
# postgresql-server-dev bring. All of the client's can be had without the others.
client() {
    local dir=$machine/postgresql/$1
    mkdir -p "$dir/bin" "$dir/lib/pgxs/src/makefiles" "$dir/share" "$dir/include"
    touch "$dir/lib/pgxs/src/makefiles/pgxs.mk"
    cat >"$dir/bin/pg_config" <<EOT
#!/bin/bash
case \$1 in
--version) echo 'PostgreSQL $1.3 (Debian $1.3-1)' ;;
--pgxs) echo '$dir/lib/pgxs/src/makefiles/pgxs.mk' ;;
--includedir-server) echo '$dir/include' ;;
--bindir) echo '$dir/bin' ;;
--sharedir) echo '$dir/share' ;;
--htmldir) echo '$dir/html' ;;
esac
EOT
    chmod 755 "$dir/bin/pg_config"
}
server() { install -m 755 /dev/null "$machine/postgresql/$1/bin/postgres"; }
headers() { touch "$machine/postgresql/$1/include/postgres.h"; }

# Run a command on the machine, as a user that may not install anything: on_machine [VARIABLE=VALUE...] COMMAND...
on_machine() {
    as_server env -u PG_CONFIG -C "$tree" PATH="$machine/bin:$PATH" DEBIAN_SERVERS="$machine/postgresql" HOME="$machine/home" \
        XDG_CACHE_HOME= "$@" 2>&1 </dev/null
}

# The scripts, where that user may read them.
tree=$scratch/tree
mkdir -p "$tree"
tar --exclude=./.git --exclude=./tmp_check --exclude=./web/ui/build --exclude=__pycache__ --exclude=node_modules --exclude='*.o' --exclude='*.gch' --exclude='*.so' --exclude=./results -cf - . | tar -C "$tree" -xf -
if ((EUID == 0)); then
    chown -R postgres: "$tree"
fi

# --- What is there, and what is missing -----------------------------------------------------------

new_machine
printf '%s\n' postgresql-15 postgresql-server-dev-15 >"$machine/missing"
is "$(on_machine test/lib/setup.sh build)" \
    "error: these packages are missing: postgresql-15 postgresql-server-dev-15; install them, or run this as root" \
    'a bare machine: the distribution'\''s server is missing'
is "$(on_machine LANG=de_DE.UTF-8 LC_ALL=de_DE.UTF-8 LANGUAGE=de test/lib/setup.sh build 2>&1 | grep -v setlocale)" \
    "error: these packages are missing: postgresql-15 postgresql-server-dev-15; install them, or run this as root" \
    'the same in German'

for language in LC_ALL=de_DE.UTF-8 '-u LANG LC_NUMERIC=de_DE.UTF-8'; do
    # shellcheck disable=SC2086 # it is two words
    is "$(on_machine env $language LC_MESSAGES=de_DE.UTF-8 LANGUAGE=de bash -c 'source test/lib/common.sh; env | grep -E "^(LC_|LANG)"' | grep -v setlocale)" LANG=C.UTF-8 \
        "$language: what scripts start speaks English, and its numbers have a point"
done

client 15
server 15
echo postgresql-server-dev-15 >"$machine/missing"
is "$(on_machine test/lib/setup.sh build)" "error: these packages are missing: postgresql-server-dev-15; install them, or run this as root" \
    'a server without its headers is not complete'
like "$(on_machine make -s)" "*PostgreSQL 15.3 *has no $machine/postgresql/15/include/postgres.h*Debian: postgresql-server-dev-15*make setup*PG_CONFIG*" \
    'make says which headers are missing, and what to install'
headers 15
: >"$machine/missing"
is "$(on_machine test/lib/setup.sh build)" '' 'a complete server needs nothing'

client 17
is "$(on_machine test/lib/setup.sh build)" '' 'nor does it beside the client of a newer version, which pg_config belongs to'
is "$(on_machine bash -c 'source test/lib/common.sh; echo "$PG_CONFIG"')" "$machine/postgresql/15/bin/pg_config" 'it is the one that is used'
like "$(on_machine make -s)" "*make PG_CONFIG=$machine/postgresql/15/bin/pg_config*" 'make names it'
rm "$machine/postgresql/15/include/postgres.h"
printf '%s\n' postgresql-server-dev-15 postgresql-17 postgresql-server-dev-17 >"$machine/missing"
is "$(on_machine test/lib/setup.sh build)" "error: these packages are missing: postgresql-server-dev-15; install them, or run this as root" \
    'without headers it gets them, rather than a server of the client'\''s version'
echo postgresql-server-dev-15 >"$machine/unknown"
printf '%s\n' postgresql-server-dev-15 postgresql-15 >"$machine/missing"
like "$(on_machine test/lib/setup.sh build)" '*these packages are missing: postgresql-15 postgresql-server-dev-15*' \
    'unless these headers cannot be had any more: then the distribution'\''s server is asked for'

# --- A choice is a choice -------------------------------------------------------------------------

new_machine
client 15
server 15
headers 15
printf '%s\n' postgresql-17 postgresql-server-dev-17 >"$machine/missing"
is "$(on_machine PG_CONFIG="$machine/postgresql/17/bin/pg_config" test/lib/setup.sh build)" \
    "error: these packages are missing: postgresql-17 postgresql-server-dev-17; install them, or run this as root" \
    'PG_CONFIG that names a server of Debian that is not there asks for this one'
like "$(on_machine PG_CONFIG=/opt/pg/bin/pg_config test/lib/setup.sh build)" '*PG_CONFIG chooses a server that cannot be used: there is no program /opt/pg/bin/pg_config' \
    'one that names another place is refused by name'
like "$(on_machine PG_CONFIG=/opt/pg/bin/pg_config make -s)" '*there is no program /opt/pg/bin/pg_config*' 'by make, too'

# A server that was built from source.
client 15
server 15
headers 15
mv "$machine/postgresql/15" "$machine/built"
sed -i "s|$machine/postgresql/15|$machine/built|" "$machine/built/bin/pg_config"
mkdir -p "$machine/home/.cache/backfill/postgresql-doc-15/usr/share/doc/postgresql-doc-15/html"
touch "$machine/home/.cache/backfill/postgresql-doc-15/usr/share/doc/postgresql-doc-15/html/index.html"
chmod -R a+rwX "$machine/home"
((EUID != 0)) || chown -R postgres: "$machine/home"
sed -i 's/15\.3/16.3/' "$machine/built/bin/pg_config"
is "$(on_machine PG_CONFIG="$machine/built/bin/pg_config" test/lib/setup.sh build demo)" '' \
    'the demo on a server built from source takes the manual that there is'
like "$(on_machine PG_CONFIG="$machine/built/bin/pg_config" test/lib/setup.sh build test)" \
    '*tests need extensions that the server of */built/bin/pg_config does not have: pgtap, plpgsql_check, pg_cron, plproxy;*' \
    'the tests ask it for extensions, not Debian for its packages'
mkdir "$machine/built/share/extension"
touch "$machine/built/share/extension/"{pgtap,plpgsql_check,pg_cron,plproxy}.control
like "$(on_machine PG_CONFIG="$machine/built/bin/pg_config" test/lib/setup.sh build test)" '*built without --enable-tap-tests' 'and for the modules of PostgreSQL'\''s tests'

# The manual that can be had is the distribution's; npm that cannot be reached has one line.
program apt-get <<<'echo "E: Unable to fetch $*" >&2; exit 100'
echo postgresql-doc-16 >"$machine/unknown"
rm -r "$machine/home/.cache"
if compgen -G '/usr/share/doc/postgresql-doc-*/html/index.html' >/dev/null; then
    skip 'this machine has a manual'
else
    like "$(on_machine PG_CONFIG="$machine/built/bin/pg_config" test/lib/setup.sh build demo)" '*could not fetch package postgresql-doc-15, *' \
        'where there is none, it fetches that of the distribution'
fi
new_machine
client 15
server 15
headers 15
program npm < <(printf 'echo "npm error %s" >&2\n' 'code E403' 'error 403 Forbidden' line{3..10}; echo 'exit 1')
said=$(on_machine test/lib/setup.sh build test)
is "$? $(sed -n '1,/node-pg/p' <<<"$said")" "0 installing what examples/node needs from npm
npm: code E403 error 403 Forbidden
npm could not install what the example consumer for Node.js needs: taking Debian's package node-pg instead" \
    'npm fails: one line of its errors, and what is done instead'
is "$(readlink "$tree/examples/node/node_modules/pg")" /usr/share/nodejs/pg "Debian's module is where the example looks"
like "$said" '*what the tests of the dashboard'\''s page need: they will be skipped' 'what has no other source is left out'

# --- Rights and places ----------------------------------------------------------------------------

is "$(umask 077 && cd / && bash -c "source '$tree/test/lib/common.sh' && mkdir '$scratch/made' && stat -c %a '$scratch/made'")" 755 \
    'what a script makes under umask 077 can be read by the server'\''s user'
for home in '-u HOME' HOME=/nonexistent; do
    # shellcheck disable=SC2086 # it is two words
    is "$(env -u XDG_CACHE_HOME $home bash -c "source '$tree/test/lib/common.sh' && echo \"\$BACKFILL_CACHE\"")" "$tree/tmp_check/cache" \
        "without a home ($home) the cache is in the tree"
done
ok "$([[ ! -e /nonexistent ]] && echo yes)" 'and no home is made'
if ((EUID == 0)); then
    touch "$tree/built-by-root"
    bash -c "source '$tree/test/lib/common.sh' && give_tree_back"
    is "$(stat -c %U "$tree/built-by-root")" postgres 'what root builds in the tree of another user belongs to that user'
    on_machine_as_root() { env -u PG_CONFIG -C "$tree" PATH="$machine/bin:$PATH" DEBIAN_SERVERS="$machine/postgresql" HOME="$machine/home" XDG_CACHE_HOME= "$@" 2>&1 </dev/null; }
    touch "$tree/built-by-root"
    is "$(on_machine_as_root test/lib/setup.sh build)$(stat -c %U "$tree/built-by-root")" postgres 'so after setup.sh'
    touch "$tree/built-by-root"
    on_machine_as_root bash -c 'source test/lib/common.sh; source test/lib/cluster.sh; cluster_set_traps'
    is "$(stat -c %U "$tree/built-by-root")" postgres 'and after the scripts that run a server'

    # What it installs is not started with the machine. Nothing is installed here.
    program deb-systemd-helper <<<'echo "$DPKG_MAINTSCRIPT_PACKAGE $*" >>"'"$machine"'/disabled"'
    program update-rc.d <<<':'
    program apt-get <<<':'
    program dpkg-query <<<'printf "%s\n" /lib/systemd/system /usr/lib/systemd/system/"${@: -1}".service /lib/systemd/system/"${@: -1}@.service"'
    # shellcheck disable=SC2016 # expanded there
    on_machine_as_root bash -c 'source test/lib/setup.sh; forbid_services() { :; }; major=15; install_packages prometheus postgresql-15 pgbouncer'
    is "$(cat "$machine/disabled")" $'prometheus disable prometheus.service\npgbouncer disable pgbouncer.service' \
        'services of installed packages do not start with the machine, but the server'\''s may'
else
    skip 'only root builds in the tree of another user'
fi

# --- The end --------------------------------------------------------------------------------------

# A script with a server and a child, which is killed.
PG_CONFIG=$real_server bash -c '
    source test/lib/common.sh && source test/lib/cluster.sh
    cluster_start fsync=off
    echo "$CLUSTER_DIR" >"$1/running.new" && mv "$1/running.new" "$1/running"
    exec sleep 600' _ "$scratch" >"$scratch/log" 2>&1 &
script=$!
wait_for "[[ -f $scratch/running ]] || ! kill -0 $script" 'a script starts a server' "$scratch/log"
killed=$(<"$scratch/running")
ok "$([[ -f $killed/data/postmaster.pid ]] && echo yes)" 'which runs'
kill -9 "$script"
wait_for "[[ ! -e $killed ]]" 'killed, it leaves neither the server nor its folder'

# One that is killed while its server is made: initdb stands still in the middle of its work until then.
mkdir -m 755 "$scratch/bin"
cat >"$scratch/bin/pg_config" <<EOT
#!/bin/bash
[[ \$1 == --bindir ]] && echo '$scratch/bin' || exec '$real_server' "\$@"
EOT
cat >"$scratch/bin/initdb" <<EOT
#!/bin/bash
"\$('$real_server' --bindir)/initdb" "\$@" &
until [[ -d \$2/base ]]; do :; done
kill -STOP \$!
echo "\$! \${2%/data}" >'$scratch/halted.new' && mv '$scratch/halted.new' '$scratch/halted'
wait
EOT
chmod 755 "$scratch"/bin/*
PG_CONFIG=$scratch/bin/pg_config bash -c 'source test/lib/common.sh && source test/lib/cluster.sh && cluster_start' >"$scratch/log" 2>&1 &
script=$!
wait_for "[[ -f $scratch/halted ]] || ! kill -0 $script" 'a script makes a server' "$scratch/log"
read -r initdb killed <"$scratch/halted"
ok "$([[ -d $killed/data/base ]] && kill -0 "$initdb" && echo yes)" 'it is half made'
kill -9 "$script"
kill -CONT "$initdb"
wait_for "[[ ! -e $killed ]] && ! kill -0 $initdb 2>/dev/null" 'killed, it leaves neither initdb nor the folder'

# --- A running server ------------------------------------------------------------------------------

# Without the time that a hanging script would take.
PG_CONFIG=$real_server
cluster_start fsync=off backfill.max_executors=3
like "$(make -s PG_CONFIG="$PG_CONFIG" installcheck REGRESS=install ISOLATION= 2>&1 </dev/null)" \
    "*the executors of this server (backfill.max_executors = 3) would run the tests' jobs*test/lib/run.sh regress*" \
    'make installcheck refuses a server with executors'
like "$(PGUSER=nobody_at_all make -s PG_CONFIG="$PG_CONFIG" installcheck REGRESS=install ISOLATION= 2>&1 </dev/null)" \
    '*role "nobody_at_all" does not exist*PGUSER*test/lib/run.sh regress*' 'and helps a user without a role'
like "$(make -s PG_CONFIG="$PG_CONFIG" check 2>&1 </dev/null)" '"make test" runs all tests*' 'make check says what does'
like "$(make -s help)" 'make  *build the library*make test *make dist *' 'make help lists the targets'

# --- What the demo shows --------------------------------------------------------------------------

on_terminal=yes
source demo/screen.sh
on_terminal=yes bar_full='#' bar_empty=.
for columns in 80 60 120; do
    terminal_width() { echo "$columns"; }
    drawn=$(printf 'fast_default|1164|100|900|4|1000|1\n' | draw 1164 1164 123456 1234567 12345 123 4)
    is "$(sed -E 's/\x1b\[[0-9;]*[A-Za-z]//g' <<<"$drawn" | awk -v max="$columns" 'length($0) >= max && /pages\/s/')" '' \
        "on $columns columns the progress line fits"
done

done_testing
