#!/bin/bash
# `make test-ha`: three servers under Patroni, with an etcd, all on this machine, and the clients of load.py.
# A switchover, a crash of the leader's server, and the death of the leader's machine (SIGKILL of all its
# processes); then the ledger must balance. Prints TAP; nothing is left running.
#
#   test/ha/patroni.sh               with a synchronous standby
#   test/ha/patroni.sh KEEP_LOGS     the same; the logs are left in that directory
#
# Python is Debian's, because psycopg is. Root runs everything as user postgres. Packages: test/lib/setup.sh build ha.
set -euo pipefail
shopt -s inherit_errexit
source "$(dirname "${BASH_SOURCE[0]}")/../lib/common.sh"
source "$BACKFILL_ROOT/test/lib/cluster.sh"
source "$BACKFILL_ROOT/test/lib/tap.sh"

readonly members=(anna berta clara)
readonly deadline=${HA_TIMEOUT:-300} # seconds for anything to come true
work=''
servers='' # where clients find whichever takes writes
logs=${1:-}
declare -A pids ports rest
clients=()

# Called when the script ends. Patroni stops its server, and if it has none any more, we do.
before_cluster_stop() {
    local name
    kill -TERM "${clients[@]}" 2>/dev/null || true
    for name in "${members[@]}"; do
        [[ -z ${pids[$name]:-} ]] || kill -TERM "${pids[$name]}" 2>/dev/null || true
    done
    for name in "${members[@]}"; do
        [[ -z ${pids[$name]:-} ]] || wait "${pids[$name]}" 2>/dev/null || true
        [[ ! -f $work/$name/postmaster.pid ]] || as_server pg_ctl -D "$work/$name" -m immediate -w stop >/dev/null 2>&1 || true
    done
    [[ -z ${pids[etcd]:-} ]] || kill -TERM "${pids[etcd]}" 2>/dev/null || true
    wait "${pids[etcd]:-}" "${clients[@]}" 2>/dev/null || true
    [[ -z $work ]] || rm -rf -- "$work"
}

# The ports are free now, which is the best that can be had.
free_ports() {
    /usr/bin/python3 -c '
import socket, sys
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in held))' "$1"
}

# In the background, as the server's user; it ends with this script, however that ends.
# start NAME COMMAND...: sets pids[NAME], which is the command itself and no shell around it.
start() {
    local name=$1 as_user=()
    shift
    # runuser would be the parent of the command, and end it early.
    ((EUID != 0)) || as_user=(--reuid postgres --regid postgres --init-groups)
    (
        cd /
        exec setpriv "${as_user[@]}" --pdeathsig TERM env HOME="$work" "$@" 8>&-
    ) >>"$logs/$name.log" 2>&1 </dev/null &
    pids[$name]=$!
}

start_etcd() {
    start etcd etcd --name one --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$1" \
        --advertise-client-urls "http://127.0.0.1:$1" --listen-peer-urls "http://127.0.0.1:$2" \
        --initial-advertise-peer-urls "http://127.0.0.1:$2" --initial-cluster "one=http://127.0.0.1:$2"
}

# Patroni's configuration of a member: member_conf NAME ETCD_PORT
member_conf() {
    cat <<CONF
scope: backfill
name: $1
restapi: {listen: "127.0.0.1:${rest[$1]}", connect_address: "127.0.0.1:${rest[$1]}"}
etcd3: {hosts: "127.0.0.1:$2"}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 2
    retry_timeout: 5
    maximum_lag_on_failover: 1048576
    synchronous_mode: true
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        shared_preload_libraries: backfill
        max_worker_processes: 16
        max_connections: 60
        wal_log_hints: "on"
        wal_keep_size: 512MB
        backfill.max_executors: 3
  initdb: [{encoding: UTF8}, {locale: C.UTF-8}, {auth: trust}]
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
postgresql:
  listen: "127.0.0.1:${ports[$1]}"
  connect_address: "127.0.0.1:${ports[$1]}"
  data_dir: $work/$1
  bin_dir: $(server_dir bindir)
  pgpass: $work/$1.pgpass
  authentication:
    superuser: {username: postgres}
    replication: {username: postgres}
  parameters: {unix_socket_directories: "$work", log_line_prefix: "%m [%p] %b %e "}
watchdog: {mode: "off"}
CONF
}
start_member() { start "$1" patroni "$work/$1.yml"; }
patroni_control() { as_server patronictl -c "$work/anna.yml" "$@" </dev/null; }

# on NAME QUERY; on_leader QUERY
on() { psql -XqAt -h "$work" -p "${ports[$1]}" -U postgres -d postgres -v ON_ERROR_STOP=1 -c "$2"; }
on_leader() { psql -XqAt -d "$servers" -v ON_ERROR_STOP=1 -c "$1"; }
leader() {
    local port name
    port=$(on_leader 'SHOW port' 2>/dev/null) || return
    for name in "${members[@]}"; do
        [[ ${ports[$name]} != "$port" ]] || printf '%s\n' "$name"
    done
}
sync_standby() { on_leader "SELECT application_name FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') LIMIT 1"; }

# comes_true NAME COMMAND...: an assertion. What comes after would wait in vain, too.
comes_true() {
    local name=$1 until=$((SECONDS + deadline))
    shift
    until "$@" 2>/dev/null; do
        if ((SECONDS > until)); then
            verdict '' "$name" "$(show_state)"
            exit 1
        fi
        sleep 0.2
    done
    ok yes "$name"
}
show_state() {
    local name
    patroni_control list || true
    for name in "${members[@]}"; do
        sed "s/^/$name: /" "$logs/$name.log" | tail -n 15
    done
}

has_leader_with_sync() { [[ -n $(leader) && -n $(sync_standby) ]]; }
all_stream() { [[ $(on_leader "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 2 && -n $(sync_standby) ]]; }
is_led_by() { [[ $(leader) == "$1" ]]; }
is_led_by_other_than() { [[ -n $(leader) && $(leader) != "$1" ]]; }
# What is counted: "effects completions".
progress() { on_leader "SELECT (SELECT count(*) FROM effect) || ' ' || (SELECT count(*) FROM completion)"; }
has_gone_on() {
    local ran completed
    read -r ran completed < <(progress)
    ((ran > $1 + 200 && completed > $2 + 50))
}
work_goes_on() {
    local ran completed
    read -r ran completed < <(progress)
    comes_true "$1: jobs run and are completed" has_gone_on "$ran" "$completed"
}
# Standbys have no workers, the leader has a dispatcher.
check_workers() {
    local name count
    for name in "${members[@]}"; do
        count=$(on "$name" "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^backfill' AND pg_is_in_recovery() OR backend_type = 'backfill dispatcher' AND datname = 'postgres'")
        if is_led_by "$name"; then
            is "$count" 1 "$1: the leader $name has its dispatcher"
        else
            is "$count" 0 "$1: the standby $name has no workers"
        fi
    done
}

# Patroni, the server and all its processes: none can write another byte.
kill_member() {
    local postmaster children
    postmaster=$(head -n 1 "$work/$1/postmaster.pid")
    kill -STOP "${pids[$1]}" "$postmaster"
    children=$(ps -o pid= --ppid "$postmaster")
    # shellcheck disable=SC2086 # numbers
    kill -KILL "${pids[$1]}" $children "$postmaster"
    wait "${pids[$1]}" 2>/dev/null || true
}

start_client() {
    /usr/bin/python3 "$BACKFILL_ROOT/test/ha/load.py" "$1" "$2" "$servers" "$work/ledger" >>"$logs/clients.log" 2>&1 &
    clients+=($!)
}
stop_clients() {
    local pid orderly=yes
    kill -TERM "${clients[@]}"
    for pid in "${clients[@]}"; do
        wait "$pid" || orderly=''
    done
    clients=()
    ok "$orderly" 'the clients have had no error that they cannot mend'
}
no_jobs_of() { [[ $(on_leader "SELECT count(*) FROM backfill.job WHERE task_identifier ~ '$1'") == 0 ]]; }

main() {
    local name old etcd_port balance balances
    local -a free
    build_and_install
    PATH=$(server_dir bindir):$PATH
    cluster_set_traps
    work=$(new_server_dir)
    chmod 711 "$work" # the clients need not be the server's user
    logs=${logs:-$work/logs}
    mkdir -p "$logs" "$work/ledger"
    read -ra free < <(free_ports 8)
    etcd_port=${free[6]}
    start_etcd "$etcd_port" "${free[7]}"
    for name in "${members[@]}"; do
        ports[$name]=${free[0]} rest[$name]=${free[1]}
        free=("${free[@]:2}")
    done
    servers="host=127.0.0.1,127.0.0.1,127.0.0.1 port=${ports[anna]},${ports[berta]},${ports[clara]} user=postgres dbname=postgres target_session_attrs=read-write connect_timeout=5"
    for name in "${members[@]}"; do
        member_conf "$name" "$etcd_port" >"$work/$name.yml"
        start_member "$name"
    done
    comes_true 'three members stream' all_stream
    on_leader 'CREATE EXTENSION backfill'
    psql -XqAt -d "$servers" -v ON_ERROR_STOP=1 -f "$BACKFILL_ROOT/test/ha/load.sql" >/dev/null
    for name in 1 2 3 4; do start_client producer "producer$name"; done
    for name in 1 2; do start_client consumer "consumer$name"; done
    work_goes_on 'at first'
    check_workers 'at first'

    old=$(leader)
    patroni_control switchover --leader "$old" --candidate "$(sync_standby)" --force >>"$logs/patronictl.log" 2>&1 || show_state | sed 's/^/# /'
    comes_true 'switchover: there is another leader' is_led_by_other_than "$old"
    work_goes_on 'switchover'
    comes_true 'switchover: the old leader streams' all_stream
    check_workers 'switchover'

    old=$(leader)
    kill -KILL "$(head -n 1 "$work/$old/postmaster.pid")"
    comes_true 'crash of the server: there is a leader, with a synchronous standby' has_leader_with_sync
    say "# it is $(leader); it was $old"
    work_goes_on 'crash of the server'
    comes_true 'crash of the server: all stream' all_stream
    check_workers 'crash of the server'

    old=$(leader)
    kill_member "$old"
    comes_true 'death of the machine: there is another leader' is_led_by_other_than "$old"
    work_goes_on 'death of the machine'
    start_member "$old"
    comes_true 'death of the machine: the old leader is back and streams' all_stream
    check_workers 'death of the machine'
    patroni_control list | sed 's/^/# /'
    patroni_control history | sed 's/^/# /'

    stop_clients
    comes_true 'all SQL jobs have ended' no_jobs_of work
    start_client consumer the_last
    comes_true 'a last consumer is at work' test -e "$work/ledger/the_last"
    comes_true 'all jobs have ended' no_jobs_of .
    stop_clients
    balance=$(/usr/bin/python3 "$BACKFILL_ROOT/test/ha/load.py" check "$servers" "$work/ledger") && balances=yes || balances=''
    sed 's/^/# /' <<<"$balance"
    ok "$balances" 'the ledger balances'
    is "$(grep -h -E ' XX[0-9]{3} |PANIC:|TRAP:' "$logs"/{anna,berta,clara}.log || true)" '' 'the logs have no internal error'
    done_testing
}
main "$@"
