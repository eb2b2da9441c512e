#!/bin/bash
# Installs the packages that a group of targets needs, on Debian and its relatives.
#
#   test/lib/setup.sh [build] [demo] [web] [test] [fuzz] [bench] [ha]   (default: build, demo and test)
#   test/lib/setup.sh explain                            only says what is missing to build
#
# A second run finds everything in place: it costs nothing and needs neither the network
# nor root. The server is the one that PG_CONFIG names; without a choice it is one that is
# there, or else the distribution's default one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

installed() { [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

# Package lists may be missing on a fresh machine, or too old to be of use.
update_lists() {
    [[ -z ${lists_updated:-} ]] || return 0
    say "updating the package lists"
    apt-get update -qq
    lists_updated=yes
}

# Whether the package lists have a package.
is_known() { [[ $(apt-cache policy "$1" 2>/dev/null) == *'Candidate: '[0-9]* ]]; }

# The major version that the distribution's package "postgresql" (or another one) stands for.
default_major() {
    apt-cache depends "${1:-postgresql}" 2>/dev/null | sed -nE 's/^ *\|?Depends: postgresql-(doc-)?([0-9]+)$/\2/p' | head -n 1
}

# The version that a package of the distribution's stands for, "clang" for "clang-14".
major_of() { apt-cache depends "$1" 2>/dev/null | sed -nE "s/^ *Depends: $1-([0-9]+)$/\\1/p" | head -n 1; }

# The newest of Debian's servers that are installed and can get their headers.
installed_major() {
    local version
    while read -r version; do
        if is_known "postgresql-server-dev-$version"; then
            printf '%s\n' "$version"
            return
        fi
    done < <(find "$debian_servers" -mindepth 3 -maxdepth 3 -path '*/bin/postgres' -printf '%h\n' 2>/dev/null | sed 's|/bin$||; s|.*/||' | sort -Vr)
}

# The major version of the one of Debian's servers that PG_CONFIG names, whether it is there or not.
chosen_debian_major() {
    [[ $PG_CONFIG == "$debian_servers"/*/bin/pg_config ]] || return 0
    sed -E 's|.*/([0-9]+)/bin/pg_config$|\1|' <<<"$PG_CONFIG"
}

# Sets `major`. A choice is never replaced by another server.
find_server() {
    if server_is_complete; then
        major=$(server_major)
        return
    fi
    if [[ $PG_CONFIG != pg_config ]]; then
        major=$(chosen_debian_major)
        [[ -n $major ]] || die "PG_CONFIG chooses a server that cannot be used: $(what_server_lacks)"
        return
    fi
    major=$(installed_major)
    major=${major:-$(default_major)}
    if [[ -z $major ]] && ((EUID == 0)); then
        update_lists
        major=$(installed_major)
        major=${major:-$(default_major)}
    fi
    [[ -n $major ]] || die "no PostgreSQL server with development files was found; run this as root once to install one"
}

# Say what is missing to build, and what to do about it.
explain() {
    local lack version
    lack=$(what_server_lacks)
    [[ -n $lack ]] || die "pg_config belongs to a server without headers; for one that has them: make PG_CONFIG=$PG_CONFIG"
    version=$(chosen_debian_major)
    [[ -n $version ]] || version=$("$PG_CONFIG" --version 2>/dev/null | sed -nE 's/^PostgreSQL ([0-9]+).*/\1/p') || true
    die "the server's development files are not complete: $lack." \
        "Install them (Debian: postgresql-server-dev-${version:-N}), or run \"make setup\" as root, or set PG_CONFIG to the pg_config of another server."
}

# The extensions that the tests use and the server does not have.
missing_extensions() {
    local extension
    for extension in pgtap plpgsql_check pg_cron plproxy; do
        [[ -f $(server_dir sharedir)/extension/$extension.control ]] || printf '%s\n' "$extension"
    done
}

# The packages of a group, one a line.
packages_of() {
    case $1 in
    build)
        printf '%s\n' make g++ libboost-dev
        server_is_complete || printf '%s\n' "postgresql-$major" "postgresql-server-dev-$major"
        # Root runs servers as user postgres, which this package makes.
        ((EUID != 0)) || id -u postgres >/dev/null 2>&1 || printf '%s\n' postgresql-common
        ;;
    web) printf '%s\n' libpq-dev libssl-dev nlohmann-json3-dev ;;
    page) npm_packages ;;
    demo) ;; # its data, the manual, is fetched by fetch_manual
    test)
        printf '%s\n' doctest-dev clang clang-format clang-tools libipc-run-perl libtap-parser-sourcehandler-pgtap-perl \
            python3-croniter prometheus prometheus-postgres-exporter python3-prometheus-client pgbouncer \
            python3-psycopg libpqxx-dev jq shellcheck openssl chromium
        # Those of Debian are for Debian's servers; others are asked for what they have (check_test_server).
        ! is_debians_server || printf '%s\n' "postgresql-$major-pgtap" "postgresql-$major-plpgsql-check" "postgresql-$major-cron" "postgresql-$major-plproxy"
        npm_packages # fetch_example_modules needs them
        ;;
    fuzz) printf '%s\n' sqlsmith clang "libclang-rt-$(major_of clang)-dev" ;;
    ha) printf '%s\n' patroni etcd-server python3-etcd python3-psycopg ;;
    bench)
        ! is_debians_server || printf '%s\n' "postgresql-$major-plproxy"
        npm_packages
        ;; # PGQ's package is fetched by fetch_pgq, the other queues by fetch_peers
    *) die "unknown group \"$1\"; there are build, demo, web, test, fuzz, bench and ha" ;;
    esac
}

# Whether the server is Debian's, or will be when it is installed.
is_debians_server() { ! server_is_complete || [[ $(server_dir bindir) == "$debian_servers/$major/bin" ]]; }

# What a server that was built from source needs for the tests.
check_test_server() {
    local lacking
    is_debians_server && return
    lacking=$(missing_extensions)
    [[ -z $lacking ]] || die "the tests need extensions that the server of $PG_CONFIG does not have: ${lacking//$'\n'/, };" \
        "build them for it, or choose one of Debian's servers by PG_CONFIG"
    [[ -f $(dirname "$("$PG_CONFIG" --pgxs)")/../../src/test/perl/PostgreSQL/Test/Cluster.pm ]] ||
        die "the tests need PostgreSQL's modules for Perl: the server of $PG_CONFIG was built without --enable-tap-tests"
}

npm_packages() { command -v npm >/dev/null || printf '%s\n' npm nodejs; }

# Installing a server normally creates a cluster and starts it. We want neither.
# Both files are ours alone and are removed again.
no_cluster_conf=/etc/postgresql-common/createcluster.d/backfill-setup.conf
no_start_policy=/usr/sbin/policy-rc.d
forbid_services() {
    trap allow_services EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Killed, an earlier run may have left it.
    if [[ ! -e $no_start_policy ]] || grep -q 'made by the set-up of backfill' "$no_start_policy"; then
        printf '#!/bin/sh\n# made by the set-up of backfill, removed at its end\nexit 101\n' >"$no_start_policy"
        chmod +x "$no_start_policy"
        made_policy=yes
    fi
    if [[ ! -d ${no_cluster_conf%/*} ]]; then
        mkdir -p "${no_cluster_conf%/*}"
    fi
    printf 'create_main_cluster = false\n' >"$no_cluster_conf"
}
allow_services() {
    rm -f "$no_cluster_conf"
    [[ -z ${made_policy:-} ]] || rm -f "$no_start_policy"
}

# Debian starts the services of the packages that it installs with the machine from then on. The
# tests start what they need. The server's own service stays: without a cluster it does nothing.
disable_services() {
    local package unit
    for package in "$@"; do
        [[ $package != postgresql-* ]] || continue
        while read -r unit; do
            DPKG_MAINTSCRIPT_PACKAGE=$package deb-systemd-helper disable "$unit" >/dev/null 2>&1 || true
            [[ ! -e /etc/init.d/${unit%.service} ]] || update-rc.d "${unit%.service}" disable >/dev/null 2>&1 || true
        done < <(dpkg-query -L "$package" | sed -nE 's#^(/usr)?/lib/systemd/system/([^/@]+\.service)$#\2#p')
    done
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$apt_log" 2>&1
}

# Install what is missing; the first failure may only mean that the lists are old.
install_packages() {
    local missing=("$@") apt_log package
    ((EUID == 0)) || die "these packages are missing: ${missing[*]}; install them, or run this as root"
    for package in "${missing[@]}"; do
        is_known "$package" || update_lists
    done
    if [[ " ${missing[*]} " == *" postgresql-$major "* ]] && ! is_known "postgresql-$major"; then
        die "no package postgresql-$major is to be had here$([[ $PG_CONFIG == pg_config ]] || printf ', which PG_CONFIG=%s asks for' "$PG_CONFIG");" \
            "apt.postgresql.org has one of every major version"
    fi
    say "installing ${missing[*]}"
    apt_log=$(mktemp "$TMPDIR/backfill-setup.XXXXXX")
    forbid_services
    if ! apt_install "${missing[@]}"; then
        update_lists
        if ! apt_install "${missing[@]}"; then
            tail -n 30 "$apt_log" >&2
            die "the packages could not be installed"
        fi
    fi
    rm -f "$apt_log"
    disable_services "${missing[@]}"
}

# Unpack a Debian package into the cache, without installing it: fetch_package PACKAGE
fetch_package() {
    local package=$1 dir
    dir=$(mktemp -d "$TMPDIR/backfill-fetch.XXXXXX")
    if ! (cd "$dir" && apt-get download -qq "$package") >"$dir/log" 2>&1; then
        if ((EUID == 0)); then
            update_lists
        fi
        (cd "$dir" && apt-get download -qq "$package") >"$dir/log" 2>&1 || {
            cat "$dir/log" >&2
            rm -rf "$dir"
            return 1
        }
    fi
    mkdir -p "$BACKFILL_CACHE"
    dpkg-deb -x "$dir"/*.deb "$dir/unpacked"
    rm -rf "${BACKFILL_CACHE:?}/$package"
    mv "$dir/unpacked" "$BACKFILL_CACHE/$package"
    rm -rf "$dir"
}

# The demo reads the PostgreSQL manual. Many container images drop /usr/share/doc, so the
# manual is unpacked into a cache rather than installed. demo/run.sh looks in both places.
# Debian has that of one major version; for other servers it does as well.
fetch_manual() {
    local package=postgresql-doc-$major
    manual_dir >/dev/null && return
    is_known "$package" || is_known postgresql-doc || ((EUID != 0)) || update_lists
    is_known "$package" || package=postgresql-doc-$(default_major postgresql-doc)
    say "fetching the PostgreSQL ${package##*-} manual"
    fetch_package "$package" || die "could not fetch package $package, which holds the manual that the demo indexes"
    manual_dir >/dev/null || die "package $package holds no HTML pages"
}

# Installed, PGQ would bring a daemon along; the benchmarks need its files only.
fetch_pgq() {
    local package=postgresql-$major-pgq3
    [[ ! -d $BACKFILL_CACHE/$package ]] || return 0
    say "fetching PGQ"
    fetch_package "$package" || warn "could not fetch package $package: the benchmarks will do without PGQ"
}

# The packages from npm that a directory's lock file names, once: npm_install DIRECTORY
npm_install() {
    local dir=$BACKFILL_ROOT/$1 log status=0
    if cmp -s "$dir/package-lock.json" "$dir/node_modules/.backfill-lock"; then
        return 0
    fi
    say "installing what $1 needs from npm"
    log=$(mktemp "$TMPDIR/backfill-npm.XXXXXX")
    (cd "$dir" && npm ci --no-audit --no-fund --ignore-scripts </dev/null >"$log" 2>&1) || status=$?
    ((status == 0)) || warn "npm: $(sed -nE 's/^npm (ERR!|error) //p' "$log" | head -n 2 | paste -s -d ' ')"
    rm -f "$log"
    ((status == 0)) || return "$status"
    cp "$dir/package-lock.json" "$dir/node_modules/.backfill-lock"
}

# What the dashboard's page is built from.
fetch_page_modules() {
    npm_install web/ui || die "npm could not install what the dashboard's page is built from"
}

# What tests the page and drives the browser. Without a way to npm's registry those tests are left out.
fetch_page_tests() {
    { npm_install web/ui && npm_install web/test/browser; } ||
        warn "npm could not install what the tests of the dashboard's page need: they will be skipped"
}

# The job queues that the benchmarks compare with. The Node.js that runs them is one of the
# packages, so it does not matter which one runs npm.
fetch_peers() {
    npm_install bench/peers || die "npm could not install the job queues to compare with; PEERS=0 bench/run.sh does without them"
}

# Where npm does not reach its registry, Debian's package of the same module does.
fetch_example_modules() {
    local modules=$BACKFILL_ROOT/examples/node/node_modules
    [[ ! -L $modules/pg ]] || return 0
    npm_install examples/node && return
    warn "npm could not install what the example consumer for Node.js needs: taking Debian's package node-pg instead"
    installed node-pg || install_packages node-pg
    mkdir -p "$modules"
    ln -sfn /usr/share/nodejs/pg "$modules/pg"
}

main() {
    local groups=("$@") group package missing=()
    ((${#groups[@]})) || groups=(build demo test)
    [[ ${groups[0]} != explain ]] || explain
    command -v dpkg-query >/dev/null || die "this script knows Debian only; see README.md for what to install"
    find_server
    for group in "${groups[@]}"; do
        while read -r package; do
            installed "$package" || missing+=("$package")
        done < <(packages_of "$group")
    done
    if ((${#missing[@]} > 0)); then
        install_packages "${missing[@]}"
        choose_server
    fi
    server_is_complete || die "$(what_server_lacks)"
    [[ " ${groups[*]} " != *" demo "* ]] || fetch_manual
    [[ " ${groups[*]} " != *" page "* ]] || fetch_page_modules
    if [[ " ${groups[*]} " == *" test "* ]]; then
        check_test_server
        fetch_example_modules
        fetch_page_tests
    fi
    if [[ " ${groups[*]} " == *" bench "* ]]; then
        fetch_pgq
        fetch_peers
    fi
    give_tree_back
}
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@" # tests call its parts
