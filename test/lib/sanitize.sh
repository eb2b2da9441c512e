#!/bin/bash
# Runs the SQL tests and the fuzz drivers with the library built with AddressSanitizer and
# UndefinedBehaviorSanitizer, in a PostgreSQL server that is built from Debian's source with
# --enable-cassert.
#
#   test/lib/sanitize.sh [KIND...]     kinds of test/lib/run.sh (default: regress isolation fuzz)
#
# The server is built once (some six minutes) and kept below /var/cache/backfill, or in the user's
# cache. Needs what `make setup` installs; installs bison and flex if it runs as root.
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

major=$(server_major)
cache=$BACKFILL_CACHE
if ((EUID == 0)); then
    cache=/var/cache/backfill # the server's owner may not look into root's home
fi
server=$cache/postgresql-$major-cassert

# Debian's source package, by a configuration of apt's that is ours alone: the machine's own may not
# list sources.
fetch_source() {
    local dir=$1 lists options version
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial"
    lists=$dir/apt/sources.list
    {
        sed -nE 's/^deb (.*)/deb-src \1/p' /etc/apt/sources.list 2>/dev/null || true
        local file
        for file in /etc/apt/sources.list.d/*.list; do
            [[ ! -f $file ]] || sed -nE 's/^deb (.*)/deb-src \1/p' "$file"
        done
        for file in /etc/apt/sources.list.d/*.sources; do
            [[ ! -f $file ]] || awk '
                function flush(  u, s, i, j) {
                    if (types ~ /deb/) { n = split(uris, u); m = split(suites, s)
                        for (i = 1; i <= n; i++) for (j = 1; j <= m; j++) print "deb-src " signed u[i] " " s[j] " " components }
                    types = uris = suites = components = signed = "" }
                /^Types:/ { types = $2 } /^URIs:/ { $1 = ""; uris = $0 } /^Suites:/ { $1 = ""; suites = $0 }
                /^Components:/ { $1 = ""; components = $0 } /^Signed-By: *\// { signed = "[signed-by=" $2 "] " } /^$/ { flush() } END { flush() }' "$file"
        done
    } | sort -u >"$lists"
    options=(-o "Dir::Etc::sourcelist=$lists" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$dir/apt/lists"
        -o "Dir::Cache=$dir/apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" -qq update >"$dir/log" 2>&1 || true
    # The newest first; an archive does not always have the source of its newest security update.
    while read -r version; do
        (cd "$dir" && apt-get "${options[@]}" -qq source --download-only "postgresql-$major=$version") >>"$dir/log" 2>&1 && return
    done < <(apt-cache "${options[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -rVu)
    cat "$dir/log" >&2
    die "the source of PostgreSQL $major could not be fetched"
}

build_server() {
    local dir package missing=()
    for package in bison flex; do
        command -v "$package" >/dev/null || missing+=("$package")
    done
    if ((${#missing[@]} > 0)); then
        ((EUID == 0)) || die "these packages are missing: ${missing[*]}"
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 || die "could not install ${missing[*]}"
    fi
    dir=$(mktemp -d "$TMPDIR/backfill-source.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$dir'" EXIT
    say "fetching the source of PostgreSQL $major"
    fetch_source "$dir"
    say "building PostgreSQL $major with --enable-cassert"
    mkdir "$dir/source"
    tar -C "$dir/source" --strip-components=1 -xf "$dir"/postgresql-*.orig.tar.*
    (
        cd "$dir/source"
        ./configure --prefix="$server" --enable-cassert --enable-debug --without-readline --without-zlib --without-icu CFLAGS='-O1 -g'
        make -s -j"$(nproc)"
        make -s install
        make -s -C contrib -j"$(nproc)" install
    ) >"$dir/log" 2>&1 </dev/null || {
        tail -n 30 "$dir/log" >&2
        rm -rf "$server"
        die "PostgreSQL could not be built"
    }
}

main() {
    local kinds=("$@") kind tree status=0 flags runtime
    ((${#kinds[@]})) || kinds=(regress isolation fuzz)
    [[ -x $server/bin/postgres ]] || build_server
    tree=$(mktemp -d "$TMPDIR/backfill-sanitize.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$tree'" EXIT
    chmod 755 "$tree"
    tar -C "$BACKFILL_ROOT" --exclude=./.git --exclude=./tmp_check --exclude='*.o' --exclude='*.gch' --exclude=node_modules -cf - . | tar -C "$tree" -xf -
    flags='-fsanitize=address,undefined -fno-omit-frame-pointer -O1 -Wno-maybe-uninitialized'
    # Reports go into the server's log, where the tests look for them. A server never frees what it
    # needs until its end, and longjmp confuses the check of stacks that are left.
    runtime=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)
    export BACKFILL_SERVER_ENVIRONMENT="LD_PRELOAD=$runtime ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=1 \
UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:abort_on_error=1"
    for kind in "${kinds[@]}"; do
        PG_CONFIG=$server/bin/pg_config COPT="$flags" SHLIB_LINK="-fsanitize=address,undefined" \
            bash "$tree/test/lib/run.sh" "$kind" || status=1
    done
    return "$status"
}
main "$@"
