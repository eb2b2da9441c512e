# shellcheck shell=bash
# What every script of this project needs: where things are, how to say something,
# how to build and install. Source it (after `set -euo pipefail`); do not run it.

# The top of the source tree.
BACKFILL_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# PG_CONFIG chooses the server, as with PGXS.
PG_CONFIG=${PG_CONFIG:-pg_config}

# A TMPDIR that does not exist (it may come from outside a chroot) breaks mktemp.
if [[ ! -d ${TMPDIR:-/tmp} || ! -w ${TMPDIR:-/tmp} ]]; then
    TMPDIR=/tmp
fi
export TMPDIR=${TMPDIR:-/tmp}

# The make that called us may be a parallel one; its job slots are not ours.
unset MAKEFLAGS MFLAGS MAKELEVEL

# Nothing that points to somebody's own server may reach the throwaway one.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE PGOPTIONS PGAPPNAME PGDATA

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }

# Say what is wrong and end the script.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Where a directory of the chosen server is: server_dir bindir
server_dir() { "$PG_CONFIG" "--$1"; }

# The major version of the chosen server, as in package names.
server_major() { "$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# Whether what has been built is what the server would load now.
installed_is_current() {
    local built installed
    for built in "$BACKFILL_ROOT"/backfill.so "$BACKFILL_ROOT"/backfill.control "$BACKFILL_ROOT"/sql/backfill--*.sql "$BACKFILL_ROOT"/share/*.sql; do
        case $built in
        *.so) installed=$(server_dir pkglibdir)/${built##*/} ;;
        *) installed=$(server_dir sharedir)/extension/${built##*/} ;;
        esac
        cmp -s "$built" "$installed" || return 1
    done
}

# Build the extension and put it where the server looks. The argument holds extra
# compiler flags (-Werror in tests). Output is shown only when something fails.
build_and_install() {
    local flags="${COPT:-} ${1:-}" log status=0
    log=$(mktemp "$TMPDIR/backfill-build.XXXXXX")
    make -s -C "$BACKFILL_ROOT" -j"$(nproc)" PG_CONFIG="$PG_CONFIG" COPT="$flags" all >"$log" 2>&1 || status=$?
    if ((status == 0)) && ! installed_is_current; then
        # Only the install needs rights; whoever has none may still use what is there already.
        if [[ ! -w $(server_dir pkglibdir) ]]; then
            printf '%s\n' "What is installed is not what this tree builds, and you may not install;" \
                "run \"make install\" as root first." >"$log"
            status=1
        else
            make -s -C "$BACKFILL_ROOT" PG_CONFIG="$PG_CONFIG" COPT="$flags" install >>"$log" 2>&1 || status=$?
        fi
    fi
    if ((status != 0)); then
        grep -vE '^make(\[[0-9]+\])?: ' "$log" | tail -n 60 >&2 || true
        warn "error: the extension could not be built or installed"
    fi
    rm -f "$log"
    return "$status"
}

# Things that were fetched once and are kept between runs; in the tree for who has no home.
BACKFILL_CACHE=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/backfill
if ! mkdir -p "$BACKFILL_CACHE" 2>/dev/null; then
    BACKFILL_CACHE=$BACKFILL_ROOT/tmp_check/cache
fi

# The HTML pages of the PostgreSQL manual of a major version: installed, or in the cache.
manual_dir() {
    local dir
    for dir in "/usr/share/doc/postgresql-doc-$1/html" "$BACKFILL_CACHE/postgresql-doc-$1/usr/share/doc/postgresql-doc-$1/html"; do
        if [[ -f $dir/index.html ]]; then
            printf '%s\n' "$dir"
            return 0
        fi
    done
    return 1
}
