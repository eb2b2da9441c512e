# shellcheck shell=bash
# What every script of this project needs: where things are, how to say something,
# how to build and install. Source it (after `set -euo pipefail`); do not run it.

# The top of the source tree.
BACKFILL_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Scripts read what programs say, and servers take their encoding from here: all of it is in English
# and UTF-8. What the terminal can show is asked before.
terminal_charmap=$(locale charmap 2>/dev/null || true)
unset LC_ALL LC_CTYPE LC_MESSAGES LC_NUMERIC LC_TIME LC_COLLATE LC_MONETARY LANGUAGE
export LANG=C.UTF-8

# The server's user has to read what root copies for it, and all users what root installs.
umask 022

# A TMPDIR that does not exist (it may come from outside a chroot) breaks mktemp.
if [[ ! -d ${TMPDIR:-/tmp} || ! -w ${TMPDIR:-/tmp} ]]; then
    TMPDIR=/tmp
fi
export TMPDIR=${TMPDIR:-/tmp}

# The make that called us may be a parallel one; its job slots are not ours.
unset MAKEFLAGS MFLAGS MAKELEVEL

# Nothing that points to a user's own server may reach the throwaway one.
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE PGOPTIONS PGAPPNAME PGDATA

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }

# Say what is wrong and end the script.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# PG_CONFIG chooses the server, as with PGXS. Without a choice it is the one that the program
# pg_config belongs to. But Debian's program takes the newest client's, which may have no server, or
# none of the headers: then it is the newest server that has both.
PG_CONFIG=${PG_CONFIG:-pg_config}
debian_servers=${DEBIAN_SERVERS:-/usr/lib/postgresql} # tests have others
choose_server() {
    local candidate
    [[ $PG_CONFIG == pg_config ]] && ! server_is_complete || return 0
    while read -r candidate; do
        if PG_CONFIG=$candidate server_is_complete; then
            PG_CONFIG=$candidate
            return 0
        fi
    done < <(find "$debian_servers" -mindepth 3 -maxdepth 3 -path '*/bin/pg_config' 2>/dev/null | sort -Vr)
}

# What the chosen server lacks to be built for and run; nothing if it is complete. Debian has the
# server, pgxs.mk and the headers in three packages.
what_server_lacks() {
    local file version
    if ! version=$("$PG_CONFIG" --version 2>/dev/null); then
        printf '%s\n' "there is no program $PG_CONFIG"
        return 0
    fi
    for file in "$("$PG_CONFIG" --pgxs)" "$("$PG_CONFIG" --includedir-server)/postgres.h" "$("$PG_CONFIG" --bindir)/postgres"; do
        [[ -f $file ]] || printf '%s\n' "$PG_CONFIG belongs to $version, which has no $file"
    done | head -n 1
}
server_is_complete() { [[ -z $(what_server_lacks) ]]; }

# Where a directory of the chosen server is: server_dir bindir
server_dir() { "$PG_CONFIG" "--$1"; }

# The major version of the chosen server, as in package names.
server_major() { "$PG_CONFIG" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/'; }

# Whether what has been built is what the server would load now.
installed_is_current() {
    local built installed
    for built in "$BACKFILL_ROOT"/backfill.so "$BACKFILL_ROOT"/backfill.control "$BACKFILL_ROOT"/sql/backfill--*.sql \
        "$BACKFILL_ROOT"/router/backfill_router.control "$BACKFILL_ROOT"/router/sql/backfill_router--*.sql "$BACKFILL_ROOT"/share/*; do
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
        # Only the install needs rights; without them a user may still use what is there already.
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
    give_tree_back
    return "$status"
}

# Things that were fetched once and are kept between runs; in the tree if the user has no home
# directory.
BACKFILL_CACHE=${XDG_CACHE_HOME:-${HOME:-}/.cache}/backfill
if [[ ! -O ${BACKFILL_CACHE%/*} && ! -O ${BACKFILL_CACHE%/*/*} ]] || ! mkdir -p "$BACKFILL_CACHE" 2>/dev/null; then
    BACKFILL_CACHE=$BACKFILL_ROOT/tmp_check/cache
fi

# The HTML pages of the PostgreSQL manual: the server's own, or else that of the newest version
# at hand, installed or in the cache.
manual_dir() {
    local major dir
    major=$(server_major)
    while read -r dir; do
        if [[ -f $dir/index.html ]]; then
            printf '%s\n' "$dir"
            return 0
        fi
    done < <(
        server_dir htmldir
        printf '%s\n' "/usr/share/doc/postgresql-doc-$major/html" "$BACKFILL_CACHE/postgresql-doc-$major/usr/share/doc/postgresql-doc-$major/html"
        find /usr/share/doc "$BACKFILL_CACHE" -path '*/postgresql-doc-[0-9]*/html' -prune -print 2>/dev/null | sort -Vr
    )
    return 1
}

# Root that builds in the tree of another user (sudo make demo) leaves the files to that user.
give_tree_back() {
    local owner
    owner=$(stat -c %u:%g "$BACKFILL_ROOT")
    ((EUID == 0)) && [[ $owner != 0:* ]] || return 0
    find "$BACKFILL_ROOT" -xdev -uid 0 -exec chown -h "$owner" {} +
}

choose_server
