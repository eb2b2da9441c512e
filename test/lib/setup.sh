#!/bin/bash
# Installs the packages that a group of targets needs, on Debian and its relatives.
#
#   test/lib/setup.sh [build] [demo] [test] [bench]      (default: the first three)
#
# A second run finds everything in place: it costs nothing and needs neither the network
# nor root. The server is the distribution's default one, or the one that PG_CONFIG names.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

installed() { [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

# Whether the chosen server can be built against and run already.
server_is_complete() {
    command -v "$PG_CONFIG" >/dev/null 2>&1 &&
        [[ -f $("$PG_CONFIG" --pgxs 2>/dev/null) && -x $("$PG_CONFIG" --bindir)/postgres ]]
}

# Package lists may be missing on a fresh machine, or too old to be of use.
update_lists() {
    [[ -z ${lists_updated:-} ]] || return 0
    say "updating the package lists"
    apt-get update -qq
    lists_updated=yes
}

# The major version that the distribution's package "postgresql" stands for.
default_major() {
    apt-cache depends postgresql 2>/dev/null | sed -nE 's/^ *\|?Depends: postgresql-([0-9]+)$/\1/p' | head -n 1
}

# Sets `major`, from the server at hand or else from the distribution.
find_major() {
    if server_is_complete; then
        major=$(server_major)
        return
    fi
    major=$(default_major)
    if [[ -z $major ]] && ((EUID == 0)); then
        update_lists
        major=$(default_major)
    fi
    [[ -n $major ]] || die "no PostgreSQL server with development files was found; run this as root once to install one"
}

# The packages of a group, one a line.
packages_of() {
    case $1 in
    build)
        printf '%s\n' make g++ libboost-dev
        server_is_complete || printf '%s\n' "postgresql-$major" "postgresql-server-dev-$major"
        ;;
    demo) ;; # its data, the manual, is fetched by fetch_manual
    test)
        printf '%s\n' doctest-dev clang clang-format clang-tools libipc-run-perl libtap-parser-sourcehandler-pgtap-perl \
            "postgresql-$major-pgtap" "postgresql-$major-plpgsql-check" "postgresql-$major-cron" python3-croniter \
            prometheus prometheus-postgres-exporter python3-prometheus-client pgbouncer \
            python3-psycopg libpqxx-dev jq shellcheck
        npm_packages # fetch_example_modules needs them
        ;;
    bench) npm_packages ;; # PGQ's package is fetched by fetch_pgq, the other queues by fetch_peers
    *) die "unknown group \"$1\"; there are build, demo, test and bench" ;;
    esac
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
    if [[ ! -e $no_start_policy ]]; then
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

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >"$apt_log" 2>&1
}

# Install what is missing; the first failure may only mean that the lists are old.
install_packages() {
    local missing=("$@") apt_log package
    ((EUID == 0)) || die "these packages are missing: ${missing[*]}; install them, or run this as root"
    for package in "${missing[@]}"; do
        [[ -n $(apt-cache policy "$package" 2>/dev/null) ]] || update_lists
    done
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
fetch_manual() {
    local package=postgresql-doc-$major
    manual_dir "$major" >/dev/null && return
    say "fetching the PostgreSQL $major manual"
    fetch_package "$package" || die "could not fetch package $package, which holds the manual that the demo indexes"
    manual_dir "$major" >/dev/null || die "package $package holds no HTML pages"
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
    ((status == 0)) || cat "$log" >&2
    rm -f "$log"
    ((status == 0)) || return "$status"
    cp "$dir/package-lock.json" "$dir/node_modules/.backfill-lock"
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
    command -v dpkg-query >/dev/null || die "this script knows Debian only; see README.md for what to install"
    find_major
    for group in "${groups[@]}"; do
        while read -r package; do
            installed "$package" || missing+=("$package")
        done < <(packages_of "$group")
    done
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
    [[ " ${groups[*]} " != *" demo "* ]] || fetch_manual
    [[ " ${groups[*]} " != *" test "* ]] || fetch_example_modules
    if [[ " ${groups[*]} " == *" bench "* ]]; then
        fetch_pgq
        fetch_peers
    fi
}
main "$@"
