#!/bin/bash
# The dashboard on a throwaway server with work that goes on, until Ctrl-C.
#
#   web/demo.sh                            http://127.0.0.1:8080
#   WEB_LISTEN=127.0.0.1:9000 web/demo.sh  another address
#   web/demo.sh COMMAND...                 until the command ends, which finds the address in WEB_URL
#
# "make web-demo" installs and builds before what this needs.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh
source ../test/lib/cluster.sh

program=${BACKFILL_WEB:-build/backfill-web}
listen=${WEB_LISTEN:-127.0.0.1:8080}
children=()

# Called when this script ends, also by Ctrl-C.
before_cluster_stop() {
    ((${#children[@]} > 0)) || return 0
    kill "${children[@]}" 2>/dev/null || true
    wait "${children[@]}" 2>/dev/null || true
}

# Run a program beside this script. It ends with it, also when the script is killed.
start() {
    setpriv --pdeathsig TERM "$@" 8>&- &
    children+=($!)
}

# Call a statement again and again as a role: repeat ROLE SECONDS STATEMENT
repeat() {
    PGPASSWORD=$1 start psql -XqAt -v ON_ERROR_STOP=1 -U "$1" -d postgres -o /dev/null \
        -c 'SET client_min_messages = error' -f <(printf '%s \\watch %s\n' "$3" "$2")
}

[[ -x $program ]] || die "the program is not built; run: make web"
cluster_start backfill.max_executors=4 max_worker_processes=16 password_encryption=scram-sha-256
psql -Xq -v ON_ERROR_STOP=1 -f demo.sql -o /dev/null
cluster_require_passwords

start "$program" --listen "$listen" --database "shop=host=$CLUSTER_DIR dbname=postgres"
dashboard=$!
repeat producer 0.8 'SELECT shop.customers_come()'
repeat consumer 0.5 'CALL shop.consume()'

if (($# > 0)); then
    while ! (: >"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null; do
        kill -0 "$dashboard" 2>/dev/null || die "backfill-web has ended"
        sleep 0.1
    done
    WEB_URL=http://$listen "$@" 8>&-
    exit
fi

printf '%s\n' "The dashboard is at http://$listen" \
    "" \
    "Log in as one of these roles; each has its name as the password:" \
    "  admin     sees and may do everything" \
    "  monitor   looks, but sees no payloads" \
    "  consumer  claims and completes jobs; sees the jobs" \
    "  producer  enqueues jobs" \
    "" \
    "SQL: psql -h $CLUSTER_DIR -U postgres" \
    "Ctrl-C ends it and leaves nothing."

# Whatever ends first ends the demo.
status=0
wait -n || status=$?
if ! kill -0 "$dashboard" 2>/dev/null; then
    die "backfill-web has ended (status $status); WEB_LISTEN=ADDRESS:PORT chooses another address"
fi
die "the work has stopped (status $status)"
