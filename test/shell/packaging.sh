#!/bin/bash
# What packages and archives are made from: META.json, debian/, the scripts that make machines. Prints TAP.
# Whether they install is tested by `make test-install`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit
source test/lib/common.sh
source test/lib/cluster.sh
source test/lib/tap.sh
cluster_set_traps
scratch=$(new_server_dir)
before_cluster_stop() { rm -rf -- "$scratch"; }
version=$(sed -n "s/^default_version = '\(.*\)'/\1/p" backfill.control)

# --- The archive for PGXN -------------------------------------------------------------------------

# make_zip DIRECTORY: an archive of that name, of the directory's content.
make_zip() { (cd "$scratch/$1" && python3 -m zipfile -c "$scratch/$1.zip" ./*); }
check_archive() { python3 test/lib/check_archive.py "$1" 2>&1; }
# What the checker says of an archive with a META.json that is changed by a Python statement: planted STATEMENT
planted() {
    rm -rf "$scratch/planted"
    mkdir "$scratch/planted"
    cp -r "$scratch/good"/* "$scratch/planted"
    (cd "$scratch/planted/backfill-$version" && python3 -c "
import json
meta = json.load(open('META.json'))
$1
json.dump(meta, open('META.json', 'w'))")
    make_zip planted
    check_archive "$scratch/planted.zip"
}

if git -c safe.directory='*' rev-parse HEAD >/dev/null 2>&1; then
    is "$(make -s -C "$scratch" -f "$BACKFILL_ROOT/Makefile" PG_CONFIG="$PG_CONFIG" dist 2>&1)" '' 'make dist'
    is "$(check_archive "$scratch/backfill-$version.zip")" '' 'META.json in the archive is right, and what it names is there'
else
    skip 'an archive is made of a repository'
fi

# The same with the tree's META.json, and each fault that the checker has to find.
mkdir -p "$scratch/good/backfill-$version"/{sql,docs,router/sql}
cp META.json README.md backfill.control "$scratch/good/backfill-$version"
cp docs/scale-out.md "$scratch/good/backfill-$version/docs"
cp router/backfill_router.control "$scratch/good/backfill-$version/router"
touch "$scratch/good/backfill-$version/sql/backfill--$version.sql" "$scratch/good/backfill-$version/router/sql/backfill_router--$version.sql"
make_zip good
is "$(check_archive "$scratch/good.zip")" '' "the tree's META.json is right"
for key in name version abstract maintainer license provides meta-spec; do
    like "$(planted "del meta['$key']")" "*META.json lacks '$key'*" "without $key"
done
like "$(planted "meta['provides']['backfill']['file'] = 'sql/none.sql'")" "*provides.backfill.file names 'sql/none.sql', which is not in the archive*" 'a script that is not there'
like "$(planted "meta['provides']['backfill']['docfile'] = 'doc/none.md'")" "*docfile names 'doc/none.md', which is not*" 'a document that is not there'
like "$(planted "meta['provides']['backfill']['version'] = '9.9.9'")" "*the versions differ: *'9.9.9'*" 'another version of the extension'
like "$(planted "meta['provides']['backfill_router']['file'] = 'sql/backfill--$version.sql'")" "*the archive has no backfill_router.control*" 'a script beside which there is no control file of its extension'
like "$(planted "meta['version'] = '9.9.9'")" "*the archive's directory is backfill-$version, not backfill-9.9.9*" 'another version of the archive'
like "$(planted "meta['license'] = 'postgres'")" "*does not know the license 'postgres'*" 'an unknown license'
like "$(planted "meta['resources'] = {'repository': {'url': 'somewhere'}}")" "*resources.repository.url is no address*" 'an address that is none'
like "$(planted "meta['prereqs']['runtime']['requires']['PostgreSQL'] = '15'")" "*PostgreSQL is '15'*" 'a version that is not of three numbers'
like "$(planted "meta['licence'] = 'postgresql'")" "*has 'licence', which the specification does not know*" 'a misspelt key'
like "$(planted "meta['meta-spec']['version'] = '2.0.0'")" '*meta-spec is not version 1.0.0*' 'another specification'
like "$(check_archive README.md)" '*README.md: *not a zip file*' 'no archive'

# --- Debian's packages ----------------------------------------------------------------------------

if command -v pg_buildext >/dev/null; then
    mkdir "$scratch/debian"
    cp -r debian "$scratch/debian"
    (cd "$scratch/debian" && PG_SUPPORTED_VERSIONS='14 15 16 17 18' pg_buildext updatecontrol)
    is "$(diff debian/control "$scratch/debian/debian/control")" '' 'debian/control is what debian/control.in gives for 15 to 18'
else
    skip 'pg_buildext is not installed'
fi
is "$(diff <(sed -n '5,$p' LICENSE) <(sed -n '/^License: PostgreSQL$/,/^$/p' debian/copyright | sed -n '/^ Permission/,$p' | sed 's/^ //; s/^\.$//'))" '' \
    'debian/copyright has the text of the licence'
for holder in preact @preact/signals; do
    if [[ -f web/ui/node_modules/$holder/LICENSE ]]; then
        like "$(<debian/copyright)" "*$(sed -nE 's/^Copyright \(c\) //p' "web/ui/node_modules/$holder/LICENSE")*" "it names the holder of the rights in $holder"
        is "$(diff <(sed -n '/^Permission/,$p' "web/ui/node_modules/$holder/LICENSE") <(sed -n '/^License: Expat$/,/^$/p' debian/copyright | sed -e 1d -e '$d' -e 's/^ //; s/^\.$//'))" '' \
            'with its text'
    else
        skip 'npm has not installed what the page is made of'
    fi
done
for option in $(sed -nE 's/^ *(\{|[a-z]+_option\()"([a-z-]+)", .*/\2/p' web/src/options.cpp); do
    like "$(tr -d '\\' <web/backfill-web.1)" "*--$option*" "the manual's page has --$option"
done
is "$(sed -nE '1s/^backfill \((.*)-[^-]*\) .*/\1/p' debian/changelog)" "$version" 'debian/changelog begins with the version of the control file'
mapfile -t settings < <(grep -oE -- '-o [a-z_.]+=[^ ]+' debian/tests/installcheck | sed 's/^-o //')
cluster_start fsync=off "${settings[@]}"
is "$(test/lib/installcheck.sh 2>&1)" '' "the SQL tests accept a server with the settings of debian/tests/installcheck"
cluster_stop
is "$(sed -n 's/^## \([^ ]*\).*/\1/p' CHANGELOG.md | head -n 1)" "$version" 'and so does CHANGELOG.md'

# --- Machines -------------------------------------------------------------------------------------

source test/install/machine.sh
mkdir -p "$scratch/a machine/system"
if ((EUID == 0)) && unshare --mount true 2>/dev/null; then
    # shellcheck disable=SC2016 # expanded there
    said=$(unshare --mount bash -c 'source test/lib/common.sh; source test/install/machine.sh
        mount -t tmpfs tmpfs "$1/system" && touch "$1/system/precious"
        ! machine_remove "$1" && ls "$1/system" && umount "$1/system"' _ "$scratch/a machine" 2>&1)
    is "$said" "$scratch/a machine/system is mounted: $scratch/a machine is left in place; unmount it and remove that directory"$'\n'precious \
        'a machine in which something is mounted is not removed'
else
    skip 'mounting is not allowed'
fi
machine_remove "$scratch/a machine"
ok "$([[ ! -e "$scratch/a machine" ]] && echo yes)" 'a machine in which nothing is mounted is removed'

for script in test/install/on_machine/*.sh; do
    name=$(basename "$script" .sh)
    [[ $name == lib ]] || ok "$(grep -qE "^known=\(.*\b$name\b|run_script $name " test/install/run.sh && echo yes)" "test/install/run.sh runs $name"
done
like "$(test/install/run.sh floppy 2>&1)" '*unknown way to install "floppy"; there are: apt pgxn destdir source docker pg_upgrade' 'an unknown way to install'
mkdir "$scratch/tree"
tar -cf - test/lib test/install | tar -C "$scratch/tree" -xf -
chmod -R a+rX "$scratch"
if ((EUID == 0)); then
    for script in run matrix; do
        like "$(as_server "$scratch/tree/test/install/$script.sh" 2>&1)" '*making fresh machines needs root*' "test/install/$script.sh without rights"
    done
fi

done_testing
