# shellcheck shell=bash
# A throwaway PostgreSQL server. The demo, the tests and the benchmarks use it. Source it
# after common.sh; then
#
#   cluster_start [setting=value ...]   makes and starts it, and sets PGHOST, PGUSER, PGDATABASE
#   psql ...                            just works from there on
#   cluster_reload setting=value ...    changes settings of the running server
#   cluster_require_passwords           lets only the superuser in without one
#   cluster_stop                        stops it and removes every trace
#
# The server listens on a Unix socket in its own private directory and nowhere else. It
# stops when the script ends, in whatever way. A server cannot run as root, so root starts
# it as user postgres; any other user runs it directly.

CLUSTER_DIR=

# Variables for the server alone, as NAME=VALUE separated by spaces: sanitize.sh preloads by it.
read -ra CLUSTER_ENVIRONMENT <<<"${BACKFILL_SERVER_ENVIRONMENT:-}"

# Run a command as the user that owns the server, from a directory that this user may enter. What it
# starts does not keep the guard waiting (see cluster_set_traps).
as_server() {
    if ((EUID == 0)); then
        (cd / && exec runuser -u postgres -- "$@" 8>&-)
    else
        "$@" 8>&-
    fi
}

# Stop the server and remove its directory. Safe to call twice, or when nothing was started.
cluster_stop() {
    local dir=$CLUSTER_DIR bin
    [[ -n $dir ]] || return 0
    CLUSTER_DIR=
    if [[ -f $dir/data/postmaster.pid ]]; then
        bin=$(server_dir bindir)
        if ! as_server "$bin/pg_ctl" -D "$dir/data" -m fast -t 30 -w stop >/dev/null 2>&1; then
            warn "warning: the server did not stop within 30 seconds; stopping it the hard way"
            as_server "$bin/pg_ctl" -D "$dir/data" -m immediate -t 30 -w stop >/dev/null 2>&1 || true
        fi
    fi
    rm -rf -- "$dir"
}

# The traps' last act. Another Ctrl-C must not interrupt it half-way. A script that has
# something to tidy up as well defines before_cluster_stop.
cluster_on_exit() {
    local status=$?
    trap '' INT TERM HUP
    if declare -F before_cluster_stop >/dev/null; then
        before_cluster_stop
    fi
    cluster_stop
    give_tree_back
    exit "$status"
}

# Signals end the script, and its end stops the server. A script that is killed (kill -9) cannot, so a
# guard, which reads the names of our directories, does when that pipe has no writer any more.
cluster_set_traps() {
    if [[ -z ${CLUSTER_GUARDED:-} ]]; then
        CLUSTER_GUARDED=yes
        exec 8> >(PG_CONFIG=$PG_CONFIG exec setsid "$BACKFILL_ROOT/test/lib/cluster_guard.sh" >/dev/null 2>&1)
    fi
    trap cluster_on_exit EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Print the name of a new private directory that the server's owner may reach and write,
# with a path short enough for a socket.
new_server_dir() {
    local parent=$TMPDIR dir
    if ((${#parent} > 60)) || ! as_server test -x "$parent"; then
        parent=/tmp
    fi
    dir=$(mktemp -d "$parent/backfill.XXXXXX")
    printf '%s\n' "$dir" >&8
    if ((EUID == 0)); then
        chown postgres: "$dir"
    fi
    printf '%s\n' "$dir"
}

# Make and start a server with the library preloaded. The arguments are further settings;
# tests pass fsync=off, everything that shows figures leaves it on.
cluster_start() {
    local bin setting
    bin=$(server_dir bindir)
    cluster_set_traps
    CLUSTER_DIR=$(new_server_dir)
    as_server "$bin/initdb" -D "$CLUSTER_DIR/data" -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
        >"$CLUSTER_DIR/initdb.log" 2>&1 </dev/null || {
        cat "$CLUSTER_DIR/initdb.log" >&2
        die "initdb failed"
    }
    {
        printf '%s\n' "shared_preload_libraries = 'backfill'" "listen_addresses = ''" \
            "unix_socket_directories = '$CLUSTER_DIR'" "log_line_prefix = '%m [%p] %b %q%u@%d '"
        for setting in "$@"; do
            printf "%s = '%s'\n" "${setting%%=*}" "${setting#*=}"
        done
        # As PostgreSQL's own tests have it: settings for all servers of a run.
        [[ -z ${TEMP_CONFIG:-} ]] || cat "$TEMP_CONFIG"
    } >>"$CLUSTER_DIR/data/postgresql.conf"
    as_server env "${CLUSTER_ENVIRONMENT[@]}" "$bin/pg_ctl" -D "$CLUSTER_DIR/data" -l "$CLUSTER_DIR/server.log" -t 60 -w start >/dev/null 2>&1 </dev/null || {
        cluster_log 30 >&2
        die "the server did not start"
    }
    export PGHOST=$CLUSTER_DIR PGUSER=postgres PGDATABASE=postgres
    PATH=$bin:$PATH
}

# Change settings of the running server that need no restart.
# shellcheck disable=SC2120 # most callers are in other scripts
cluster_reload() {
    local setting
    for setting in "$@"; do
        psql -XqAt -d postgres -v ON_ERROR_STOP=1 -c "ALTER SYSTEM SET ${setting%%=*} = '${setting#*=}'"
    done
    psql -XqAt -d postgres -v ON_ERROR_STOP=1 -c 'SELECT pg_reload_conf()' >/dev/null
}

# Roles log in with their passwords from now on, except the superuser.
cluster_require_passwords() {
    printf '%s\n' 'local all postgres trust' 'local all all scram-sha-256' 'host all all all scram-sha-256' >"$CLUSTER_DIR/data/pg_hba.conf"
    cluster_reload
}

# The last lines of the server's log, to be shown when something went wrong.
cluster_log() {
    [[ -r $CLUSTER_DIR/server.log ]] || return 0
    say "--- the end of the server's log"
    tail -n "${1:-20}" "$CLUSTER_DIR/server.log"
}
