# shellcheck shell=bash
# The measurements, one function each. Sourced by run.sh.

# --- latency -----------------------------------------------------------------------------------

# From the enqueueing transaction to the first statement of the handler, on an idle system:
# counted from before the enqueue statement, with its commit, and from the commit's return.
measure_latency() {
    local ours commit percentile i=0 graphile=() classic=()
    set_executors 4
    clean_slate
    sql "CALL bench.latency_probe('SELECT backfill.enqueue_fast(''bench_latency'', jsonb_build_object(''n'', \$1))', $samples, 20)"
    until [[ $(sql 'SELECT count(*) FROM bench.seen') == $((samples + 20)) ]]; do sleep 0.02; done
    ours=$(sql "SELECT array_to_string(percentile_cont('{0.5, 0.95, 0.99}'::float8[]) WITHIN GROUP (ORDER BY 1000 * e.started - s.sent), ' ') || ' ' ||
                       array_to_string(percentile_cont('{0.5, 0.95, 0.99}'::float8[]) WITHIN GROUP (ORDER BY 1000 * e.started - s.acknowledged), ' ')
                  FROM bench.seen e JOIN bench.sent s USING (n) WHERE n > 0")
    set_executors 0
    sql "CALL bench.latency_probe('INSERT INTO bench.raw_job (run_at, created_at, priority, attempts, max_attempts, task_identifier, queue_name, payload)
         VALUES (now(), now(), -5, 0, 8, ''bench_latency'', ''fast'', jsonb_build_object(''n'', \$1))', $samples, 20)"
    commit=$(sql "SELECT array_to_string(percentile_cont('{0.5, 0.95, 0.99}'::float8[]) WITHIN GROUP (ORDER BY acknowledged - sent), ' ') FROM bench.sent WHERE n > 0")
    if has_peer graphile; then
        classic=("$(peer graphile latency "$samples" classic)")
        graphile=("$(peer graphile latency "$samples")")
    fi
    for percentile in 50 95 99; do
        record "enqueue to start, idle system, p$percentile" ms backfill "$(field $((i + 1)) "$ours")" "commit of an INSERT" "$(field $((i + 1)) "$commit")"
        if has_peer graphile; then
            record "enqueue to start, idle system, p$percentile" ms backfill "$(field $((i + 1)) "$ours")" graphile-worker "$(from_json "statement.$i" "${classic[0]}")"
            record "enqueue to start, idle system, p$percentile" ms backfill "$(field $((i + 1)) "$ours")" "graphile-worker, batching" "$(from_json "statement.$i" "${graphile[0]}")"
            record "commit's return to start, p$percentile" ms backfill "$(field $((i + 4)) "$ours")" graphile-worker "$(from_json "commit.$i" "${classic[0]}")"
            record "commit's return to start, p$percentile" ms backfill "$(field $((i + 4)) "$ours")" "graphile-worker, batching" "$(from_json "commit.$i" "${graphile[0]}")"
        else
            record "commit's return to start, p$percentile" ms backfill "$(field $((i + 4)) "$ours")"
        fi
        i=$((i + 1))
    done
}

# --- enqueue -----------------------------------------------------------------------------------

# Transactions per second of a pgbench script during two seconds: rate_of SCRIPT CLIENTS DATABASE
rate_of() {
    pgbench -n -M prepared -c "$2" -j "$(($2 < 2 ? $2 : 2))" -T 2 -f "$1" "$3" 2>/dev/null | sed -nE 's/^tps = ([0-9]+).*/\1/p'
}

# One job per transaction; no worker runs them meanwhile. All take turns every two seconds: how
# long a disk takes to sync changes by the minute, and must change for all.
measure_enqueue() {
    local clients turn turns=$((seconds_each / 2)) name
    local -A sum
    set_executors 0
    for clients in 1 8 16; do
        clean_slate
        sum=([insert]=0 [enqueue]=0 [graphile]=0 [pgq]=0)
        for ((turn = 0; turn < turns; turn++)); do
            sum[enqueue]=$((sum[enqueue] + $(rate_of enqueue.pgbench "$clients" postgres)))
            sum[insert]=$((sum[insert] + $(rate_of insert.pgbench "$clients" postgres)))
            for name in graphile pgq; do
                ! has_peer "$name" || sum[$name]=$((sum[$name] + $(rate_of "$name.pgbench" "$clients" "$name")))
            done
        done
        for name in insert graphile pgq; do
            [[ $name == insert ]] || has_peer "$name" || continue
            record "enqueue, one per transaction, $(plural "$clients" client)" jobs/s backfill $((sum[enqueue] / turns)) \
                "$([[ $name == insert ]] && printf 'INSERT' || peer_name "$name")" $((sum[$name] / turns))
        done
    done
}

# The same for jobs that consumers claim, with eight producers, while one consumer listens: beside
# an INSERT that notifies no session, and one with a trigger that notifies.
measure_external() {
    local turn turns=$((seconds_each / 2)) what='enqueue for consumers, one per transaction, 8 clients' name
    local -A sum=([external]=0 [insert]=0 [notify]=0)
    set_executors 0
    clean_slate
    start_listener
    for ((turn = 0; turn < turns; turn++)); do
        for name in external insert notify; do
            sum[$name]=$((sum[$name] + $(rate_of "$name.pgbench" 8 postgres)))
        done
    done
    stop_listener
    for name in backfill bench; do
        (($(count_notifications "$name") > 0)) || die "the consumer was not notified on channel \"$name\""
    done
    say "    the consumer got $(count_notifications backfill) notifications from backfill, $(count_notifications bench) from the trigger"
    record "$what" jobs/s backfill $((sum[external] / turns)) INSERT $((sum[insert] / turns))
    record "$what" jobs/s "trigger, NOTIFY" $((sum[notify] / turns)) INSERT $((sum[insert] / turns))
    record "$what" jobs/s backfill $((sum[external] / turns)) "trigger, NOTIFY" $((sum[notify] / turns))
}

# Rows per second of one statement that makes ROWS rows: statement_rate ROWS SQL
statement_rate() {
    clean_slate
    psql -XqAt -v ON_ERROR_STOP=1 <<<"SELECT clock_timestamp() AS started \\gset
        $2;
        SELECT round($1 / extract(epoch FROM clock_timestamp() - :'started'))" | tail -n 1
}

# Many jobs in one statement.
measure_bulk() {
    local ours peer shape columns='run_at, created_at, priority, attempts, max_attempts, task_identifier, queue_name, payload'
    shape="SELECT now() AS run_at, now() AS created_at, 0 AS priority, 0 AS attempts, 8 AS max_attempts, 'bench_noop' AS task, 'bulk' AS queue, p AS payload FROM unnest($(payloads "$bulk_jobs")) p"
    set_executors 0
    fill 5000
    fill_raw 5000
    ours=$(statement_rate "$bulk_jobs" "SELECT count(*) FROM backfill.enqueue_many('bench_noop', $(payloads "$bulk_jobs"))")
    record "bulk enqueue of $bulk_jobs" jobs/s backfill "$ours" "INSERT ... SELECT" "$(statement_rate "$bulk_jobs" "INSERT INTO bench.raw_job ($columns) $shape")"
    sql "COPY ($shape) TO '$CLUSTER_DIR/data/bench.copy'"
    record "bulk enqueue of $bulk_jobs" jobs/s backfill "$ours" "COPY from a file" "$(statement_rate "$bulk_jobs" "COPY bench.raw_job ($columns) FROM '$CLUSTER_DIR/data/bench.copy'")"
    rm -f "$CLUSTER_DIR/data/bench.copy"
    for peer in graphile pg_boss; do
        ! has_peer "$peer" || record "bulk enqueue of $bulk_jobs" jobs/s backfill "$ours" "$(peer_name "$peer")" "$(from_json rate "$(peer "$peer" fill "$bulk_jobs")")"
    done
    ! has_peer pgq || record "bulk enqueue of $bulk_jobs" jobs/s backfill "$ours" PGQ \
        "$(PGDATABASE=pgq statement_rate_pgq)"
}
statement_rate_pgq() {
    sql "CHECKPOINT"
    psql -XqAt -v ON_ERROR_STOP=1 <<<"SELECT clock_timestamp() AS started \\gset
        SELECT count(pgq.insert_event('bench', 'bench_noop', p::text)) FROM unnest($(payloads "$bulk_jobs")) p;
        SELECT round($bulk_jobs / extract(epoch FROM clock_timestamp() - :'started'))" | tail -n 1
    sql "SELECT pgq.ticker('bench')" >/dev/null
}

# --- drain -------------------------------------------------------------------------------------

# drain_all TASK LABEL JOBS: with every number of workers, against every rival.
drain_all() {
    local workers ours peer jobs=$3 first='' first_pages=''
    for workers in $worker_counts; do
        drain_rate "$workers" "$jobs" "$1"
        ours=$rate
        # What executors have read in vain, because others run it.
        [[ -z $first ]] || record "looked at per job, $2, $(plural "$workers" worker)" pages backfill "$pages" "itself with ${worker_counts%% *}" "$first_pages"
        first_pages=${first_pages:-$pages}
        raw_drain_rate "$workers" "$jobs" "$1"
        record "drain of $2, $(plural "$workers" worker)" jobs/s backfill "$ours" "SKIP LOCKED loop" "$rate"
        for peer in graphile pg_boss; do
            has_peer "$peer" || continue
            peer_drain "$peer" "{\"task\": \"$1\", \"jobs\": $jobs, \"workers\": $workers}"
            record "drain of $2, $(plural "$workers" worker)" jobs/s backfill "$ours" "$(peer_name "$peer")" "$rate"
        done
        if has_peer pgq && ((workers == 1)); then # its consumers would each get all events
            pgq_drain_rate "$jobs" "$1"
            record "drain of $2, $(plural "$workers" worker)" jobs/s backfill "$ours" "PGQ" "$rate"
        fi
        [[ -z $first ]] || record "drain of $2, $(plural "$workers" worker)" jobs/s backfill "$ours" "itself with ${worker_counts%% *}" "$first"
        first=${first:-$ours}
    done
}
measure_drain() { drain_all bench_noop 'no-op jobs' "$jobs"; }
measure_insert() { drain_all bench_insert 'jobs that insert a row' "$insert_jobs"; }

# --- transaction ids ----------------------------------------------------------------------------

# A server that has used up autovacuum_freeze_max_age of them must read its tables to the end.
next_xid() { sql "SELECT pg_snapshot_xmax(pg_current_snapshot())"; }

measure_xids() {
    local before ours workers=${worker_counts##* }
    before=$(next_xid)
    drain_rate "$workers" "$insert_jobs" bench_insert
    ours=$(awk -v n=$(($(next_xid) - before)) -v jobs="$insert_jobs" 'BEGIN { printf "%.1f", 1000 * n / jobs }')
    before=$(next_xid)
    raw_drain_rate "$workers" "$insert_jobs" bench_insert
    record "transaction ids per 1,000 jobs that insert a row" ids backfill "$ours" "SKIP LOCKED loop" \
        "$(awk -v n=$(($(next_xid) - before)) -v jobs="$insert_jobs" 'BEGIN { printf "%.1f", 1000 * n / jobs }')"
}

# --- many queues --------------------------------------------------------------------------------

# Jobs in serial queues that take turns: queues_rate QUEUES JOBS. Sets `rate`.
queues_rate() {
    local left from
    set_executors 0
    clean_slate
    sql "DELETE FROM backfill.queue"
    for ((from = 0; from < $2; from += 50000)); do
        sql "SELECT count(backfill.enqueue_serial('bench_noop', jsonb_build_object('n', n), 'queue ' || n % $1))
               FROM generate_series($from, least($from + 50000, $2) - 1) n" >/dev/null
    done
    settle
    set_executors "${worker_counts##* }"
    rate=$(sql "CALL bench.watch_executors($2, '60 s')")
    set_executors 0
    left=$(sql "SELECT count(*) FROM backfill.job")
    [[ $left == 0 ]] || warn "backfill: $left of $2 jobs were not done in time"
}

# Beside the same number of jobs in one serial queue.
measure_queues() {
    local queues count one counted=0
    for queues in $queue_counts; do
        count=$((queues > queue_jobs ? queues : queue_jobs))
        if ((count != counted)); then
            queues_rate 1 "$count"
            one=$rate
            counted=$count
        fi
        queues_rate "$queues" "$count"
        record "drain of $count jobs in $queues serial queues" jobs/s backfill "$rate" "in one serial queue" "$one"
    done
}

# --- pages --------------------------------------------------------------------------------------

# Each function that returns a page, beside very many jobs, and beside the same number of jobs by their ids.
measure_pages() {
    local call figures scans what="page beside $page_jobs jobs"
    set_executors 0
    clean_slate
    if [[ $(sql "SELECT to_regclass('bench.page') IS NULL") == t ]]; then
        psql -Xq -v ON_ERROR_STOP=1 -v jobs="$page_jobs" -f pages.sql -o /dev/null
    else
        die "pages can be measured once in a run: RUNS=1"
    fi
    sql "VACUUM ANALYZE backfill.job, backfill.dead_letter, backfill.job_history"
    sql "CHECKPOINT"
    scans=$(sql "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'backfill.job'::regclass")
    while read -r call; do
        figures=$(psql -XqAt -F ' ' -v ON_ERROR_STOP=1 -v call="SELECT backfill.$call" -v runs="$page_calls" <<'SQL'
SELECT bench.median_ms(:'call', :runs), bench.median_ms($$SELECT jsonb_agg(j) FROM backfill.jobs j WHERE j.id = ANY (ARRAY(SELECT n * 997 FROM generate_series(1, 50) n))$$, :runs)
SQL
        )
        record "$what: $call" ms backfill "$(field 1 "$figures")" "50 jobs by id" "$(field 2 "$figures")"
    done < <(sql "SELECT call FROM bench.page ORDER BY place")
    sleep 1 # sessions that end tell of their scans
    say "    sequential scans of backfill.job meanwhile: $(($(sql "SELECT seq_scan FROM pg_stat_user_tables WHERE relid = 'backfill.job'::regclass") - scans))"
    sql "TRUNCATE backfill.dead_letter, backfill.job_history, backfill.queue"
}

# --- urgent jobs --------------------------------------------------------------------------------

# A client commits an EMERGENCY job a hundred times a second until stop_urgent. Sets `urgent_client`.
start_urgent() {
    sql "TRUNCATE bench.urgent"
    rm -f "$CLUSTER_DIR"/urgent.*
    pgbench -n -c 1 -R 100 -T 3600 -f urgent.pgbench -l --log-prefix="$CLUSTER_DIR/urgent" postgres >/dev/null 2>&1 &
    urgent_client=$!
    until [[ $(sql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") == 1 ]]; do sleep 0.02; done
}
stop_urgent() {
    kill "$urgent_client"
    wait "$urgent_client" || true
    until [[ $(sql "SELECT count(*) FROM backfill.job WHERE task_identifier = 'bench_urgent'") == 0 ]]; do sleep 0.02; done
}

# From before the enqueue to the start: p50, p99, and the number of jobs; then of the producer's own call, to the end of its commit:
# p50, p99. It is over before the job can start; most of it is the flush of the commit, and executors flush, too.
urgent_figures() {
    sql "SELECT array_to_string(percentile_cont('{0.5, 0.99}'::float8[]) WITHIN GROUP (ORDER BY 1000 * (started - sent)), ' ') || ' ' || count(*)
           FROM bench.urgent WHERE sent BETWEEN $1 AND $2"
    awk -v first="$1" -v last="$2" '{ end = $5 + $6 / 1e6 } end >= first && end <= last { print ($3 - $7) / 1000 }' "$CLUSTER_DIR"/urgent.* |
        sort -n | awk '{ ms[NR] = $1 } END { print ms[int((NR + 1) / 2)], ms[int(NR * 0.99 + 0.5)] }'
}
epoch() { sql "SELECT extract(epoch FROM clock_timestamp())"; }

record_urgent() { # MEASURE FIGURES IDLE-FIGURES
    set -- "$1" "${2//$'\n'/ }" "${3//$'\n'/ }"
    record "$1, p50" ms backfill "$(field 1 "$2")" "on an idle system" "$(field 1 "$3")"
    record "$1, p99" ms backfill "$(field 2 "$2")" "on an idle system" "$(field 2 "$3")"
    record "$1: the enqueue alone, p99" ms backfill "$(field 5 "$2")" "on an idle system" "$(field 5 "$3")"
    say "$1: $(field 3 "$2") jobs, on an idle system $(field 3 "$3")"
}

# Executors that drain fast jobs, and executors that are all held up but the reserved one.
measure_urgent() {
    local from idle fast slow workers=${worker_counts##* }
    clean_slate
    set_executors "$workers"
    start_urgent
    sleep 0.5
    from=$(epoch)
    sleep "$seconds_each"
    idle=$(urgent_figures "$from" "$(epoch)")
    stop_urgent

    set_executors 0
    clean_slate
    fill "$urgent_jobs"
    settle
    start_urgent
    set_executors "$workers"
    until [[ $(sql "SELECT count(*) FROM bench.urgent") -gt 0 ]]; do sleep 0.02; done # they are at work
    from=$(epoch)
    until [[ $(sql "SELECT count(*) FROM (SELECT FROM backfill.job WHERE task_identifier = 'bench_noop' LIMIT 1) j") == 0 ]]; do sleep 0.05; done
    fast=$(urgent_figures "$from" "$(epoch)")
    stop_urgent

    set_executors 0
    clean_slate
    fill $((15 * workers * seconds_each)) bench_slow
    cluster_reload backfill.reserved_urgent_executors=1
    set_executors $((workers + 1))
    start_urgent
    until [[ $(sql "SELECT count(*) FROM backfill.workers WHERE task_identifier = 'bench_slow'") == "$workers" ]]; do sleep 0.02; done
    sleep 0.5
    from=$(epoch)
    sleep "$seconds_each"
    slow=$(urgent_figures "$from" "$(epoch)")
    stop_urgent
    set_executors 0
    cluster_reload backfill.reserved_urgent_executors=0
    record_urgent "urgent start while $(plural "$workers" executor) drain fast jobs" "$fast" "$idle"
    record_urgent "urgent start while all but the reserved run slow jobs" "$slow" "$idle"
}

# --- the same load for long ---------------------------------------------------------------------

# CPU time of the processes of backfill, in seconds.
cpu_seconds() {
    local pid total=0 hz
    hz=$(getconf CLK_TCK)
    for pid in $(sql "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'backfill %'"); do
        total=$((total + $(awk '{ print $14 + $15 }' "/proc/$pid/stat")))
    done
    awk -v t="$total" -v hz="$hz" 'BEGIN { print t / hz }'
}

# One part of the time: steady_part SECONDS. Sets `part`: the largest size of table and indexes, the
# p99 of the start in ms, µs of CPU time per job.
steady_part() {
    local from until cpu jobs size=0 now figures
    from=$(epoch)
    cpu=$(cpu_seconds)
    jobs=$(sql "SELECT sum(jobs_done) FROM backfill.workers")
    until=$((SECONDS + $1))
    while ((SECONDS < until)); do
        sleep 1
        now=$(sql "SELECT pg_total_relation_size('backfill.job')")
        size=$((now > size ? now : size))
    done
    figures=$(urgent_figures "$from" "$(epoch)")
    part="$size $(field 2 "${figures%%$'\n'*}") $(awk -v cpu="$(cpu_seconds)" -v before="$cpu" \
        -v jobs="$(sql "SELECT sum(jobs_done) FROM backfill.workers")" -v earlier="$jobs" 'BEGIN { print 1e6 * (cpu - before) / (jobs - earlier) }')"
}

# Enqueued in statements of 500, a hundred times as rare as the rate; autovacuum is as in the
# installation. The last sixth of the time beside the first.
measure_steady() {
    local first part=$((steady_seconds / 6)) producer
    clean_slate
    set_executors "${worker_counts##* }"
    start_urgent
    pgbench -n -c 2 -j 1 -R $((steady_rate / 500)) -T $((steady_seconds + 60)) -f steady.pgbench postgres >/dev/null 2>&1 &
    producer=$!
    sleep 2
    local seconds=$part
    steady_part "$seconds"
    first=$part
    sleep $((steady_seconds - 2 * seconds))
    steady_part "$seconds"
    kill "$producer"
    wait "$producer" || true
    stop_urgent
    set_executors 0
    record "$steady_rate jobs/s for $steady_seconds s: table and indexes, last sixth" MB backfill "$(awk '{ print $1 / 1e6 }' <<<"$part")" "first sixth" "$(awk '{ print $1 / 1e6 }' <<<"$first")"
    record "$steady_rate jobs/s for $steady_seconds s: enqueue to start, p99, last sixth" ms backfill "$(field 2 "$part")" "first sixth" "$(field 2 "$first")"
    record "$steady_rate jobs/s for $steady_seconds s: CPU time per job, last sixth" us backfill "$(field 3 "$part")" "first sixth" "$(field 3 "$first")"
}

# --- an old snapshot ---------------------------------------------------------------------------

# How much of its speed a queue keeps while another session's old snapshot keeps all dead rows alive.
# The hand-written loop is given some seconds only; it would take minutes.
measure_snapshot() {
    local workers=${worker_counts##* } with without name series
    sql "TRUNCATE bench.progress" # the plot shows the last run
    name="drain of $held_jobs, $(plural "$workers" worker), old snapshot"
    series="'backfill'" drain_rate "$workers" "$held_jobs"
    without=$rate
    series="'backfill, old snapshot'" drain_rate "$workers" "$held_jobs" bench_noop hold
    with=$rate
    record "$name" jobs/s backfill "$with" "itself without" "$without"
    if has_peer graphile; then
        series="'graphile-worker'" peer_drain graphile "{\"jobs\": $held_jobs, \"workers\": $workers, \"limit\": 60}"
        without=$rate
        series="'graphile-worker, old snapshot'" peer_drain graphile "{\"jobs\": $held_jobs, \"workers\": $workers, \"limit\": 60, \"hold\": true}"
        record "$name" jobs/s graphile-worker "$rate" "itself without" "$without"
        record "$name" jobs/s backfill "$with" graphile-worker "$rate"
    fi
    raw_drain_rate "$workers" "$held_jobs"
    without=$rate
    RAW_LIMIT='10 s' raw_drain_rate "$workers" "$held_jobs" bench_noop hold
    record "$name" jobs/s "SKIP LOCKED loop" "$rate" "itself without" "$without"
}

# --- the backlog -------------------------------------------------------------------------------

# Jobs per second that one session claims and runs in calls of a thousand jobs, of a backlog
# that is much longer, or is filled up again before each call: claim_rate BACKLOG
claim_rate() {
    local call calls=$((claims / 1000)) refill=0
    (($1 / 1000 > calls)) || refill=1
    {
        printf '%s\n' "CALL backfill.process_available_jobs(1000);"
        for ((call = 0; call < calls; call++)); do
            ((!refill)) || printf '%s\n' "SELECT count(*) FROM backfill.enqueue_many('bench_noop', $(payloads 1000)) \\g /dev/null"
            printf '%s\n' "SELECT clock_timestamp() AS started \\gset" "CALL backfill.process_available_jobs(1000);" \
                "SELECT 'took', extract(epoch FROM clock_timestamp() - :'started');"
        done
    } | psql -XqAt -F ' ' -v ON_ERROR_STOP=1 | awk -v jobs=$((calls * 1000)) '$1 == "took" { took += $2 } $1 == 1000 { ran += $1 }
        END { if (ran < jobs) exit 1; printf "%d", jobs / took }' || die "the calls did not find a thousand jobs each"
}

measure_backlog() {
    local backlog smallest='' rate
    set_executors 0
    for backlog in $backlogs; do
        clean_slate
        fill "$backlog"
        settle
        rate=$(claim_rate "$backlog")
        if [[ -z $smallest ]]; then
            smallest=$rate
            record "claims at a backlog of $backlog" jobs/s backfill "$rate"
        else
            record "claims at a backlog of $backlog" jobs/s backfill "$rate" "at ${backlogs%% *}" "$smallest"
        fi
    done
}

measure_scheduled() {
    local with without
    set_executors 0
    clean_slate
    fill $((claims * 2))
    settle
    without=$(claim_rate $((claims * 2)))
    clean_slate
    fill "$scheduled" bench_noop "NULL, -20, now() + interval '7 days'"
    fill $((claims * 2))
    settle
    with=$(claim_rate $((claims * 2)))
    record "claims beside $scheduled scheduled EMERGENCY jobs" jobs/s backfill "$with" "without them" "$without"
}

# --- WAL ---------------------------------------------------------------------------------------

wal_position() { sql "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"; }

# Bytes of WAL per job, from an empty table to an empty table without a checkpoint between,
# so that no page is written in full: wal_per_job bulk|singles|raw_bulk|raw_singles
wal_per_job() {
    local before analyze
    set_executors 0
    clean_slate
    before=$(wal_position)
    case $1 in
    bulk) fill "$wal_jobs" ;;
    raw_bulk) fill_raw "$wal_jobs" ;;
    singles) pgbench -n -M prepared -c 8 -j 2 -t $((wal_jobs / 8)) -f enqueue.pgbench >/dev/null 2>&1 ;;
    raw_singles) pgbench -n -M prepared -c 8 -j 2 -t $((wal_jobs / 8)) -f insert.pgbench >/dev/null 2>&1 ;;
    esac
    analyze=$(wal_position) # what ANALYZE writes counts for no rival
    sql "ANALYZE"
    before=$((before + $(wal_position) - analyze))
    case $1 in
    raw_*)
        sql "CALL bench.drain_skip_locked('bench_noop', '60 s')" &
        sql "CALL bench.drain_skip_locked('bench_noop', '60 s')" &
        wait
        ;;
    *)
        set_executors 2
        sql "CALL bench.watch_executors($wal_jobs, '60 s')" >/dev/null
        set_executors 0
        ;;
    esac
    [[ $(sql "SELECT (SELECT count(*) FROM backfill.job) + (SELECT count(*) FROM bench.raw_job)") == 0 ]] || die "not all jobs were done"
    printf '%d' $((($(wal_position) - before) / wal_jobs))
}

measure_wal() {
    local how ours peer wal_jobs=$((wal_jobs / 8 * 8))
    for how in bulk singles; do
        ours=$(wal_per_job "$how")
        record "WAL per job, enqueued $([[ $how == bulk ]] && printf 'in bulk' || printf 'one by one')" B backfill "$ours" "SKIP LOCKED loop" "$(wal_per_job "raw_$how")"
        for peer in graphile pg_boss; do
            has_peer "$peer" || continue
            peer_drain "$peer" "{\"jobs\": $wal_jobs, \"workers\": 2, \"countWal\": true, \"singles\": $([[ $how == bulk ]] && printf false || printf true)}"
            record "WAL per job, enqueued $([[ $how == bulk ]] && printf 'in bulk' || printf 'one by one')" B backfill "$ours" "$(peer_name "$peer")" $(($(from_json wal "$drained") / wal_jobs))
        done
    done
}

# --- idle --------------------------------------------------------------------------------------

# Transactions in a minute in which nothing happens, after executors that had nothing to do have ended
# (backfill.executor_idle_timeout; that takes some twenty, once); other queues' workers wait. They
# are looked at from a database of its own; an empty one shows what the server does by itself.
measure_idle() {
    local figures peer
    set_executors 4
    clean_slate
    fill 1000
    sql "CALL bench.watch_executors(1000, '60 s')" >/dev/null
    for peer in graphile pg_boss; do
        has_peer "$peer" || continue
        start_idle_peer "$peer"
    done
    sql "SELECT 'CREATE DATABASE ' || d FROM unnest('{idle_empty,idle_watch}'::text[]) d WHERE d NOT IN (SELECT datname FROM pg_database)" | while read -r statement; do sql "$statement"; done
    sleep "$idle_settle"
    figures=$(PGDATABASE=idle_watch psql -XqAt -F ' ' -v ON_ERROR_STOP=1 <<SQL
CREATE TEMP TABLE before AS SELECT datname, xact_commit + xact_rollback AS xacts FROM pg_stat_database;
SELECT pg_sleep($idle_seconds) \g /dev/null
SELECT d.datname, round((d.xact_commit + d.xact_rollback - b.xacts) * 60.0 / $idle_seconds, 1)
  FROM pg_stat_database d JOIN before b USING (datname);
SQL
    )
    stop_idle_peers
    set_executors 0
    for peer in idle_empty graphile pg_boss; do
        [[ $peer == idle_empty ]] || has_peer "$peer" || continue
        record "transactions per idle minute" /min backfill "$(awk '$1 == "postgres" { print $2 }' <<<"$figures")" \
            "$([[ $peer == idle_empty ]] && printf 'an empty database' || peer_name "$peer")" "$(awk -v d="$peer" '$1 == d { print $2 }' <<<"$figures")"
    done
}

# --- limits ------------------------------------------------------------------------------------

# How often per second SESSIONS sessions together do what the SQL of each does TIMES times; SESSION in it is the number of the session,
# from 0: sessions_rate SESSIONS TIMES SQL
sessions_rate() {
    local session pids=() file=$CLUSTER_DIR/times
    rm -f "$file".*
    for ((session = 0; session < $1; session++)); do
        psql -XqAt -v ON_ERROR_STOP=1 <<<"SELECT extract(epoch FROM clock_timestamp()) AS started \\gset
            ${3//SESSION/$session};
            SELECT :started, extract(epoch FROM clock_timestamp())" -F ' ' >"$file.$session" &
        pids+=($!)
    done
    wait "${pids[@]}"
    awk -v times="$2" '{ if (!first || $1 < first) first = $1; if ($2 > last) last = $2 } END { printf "%d\n", NR * times / (last - first) }' "$file".*
}

# Calls of a no-op plpgsql function: call_rate SESSIONS CALLS, of each
call_rate() { sessions_rate "$1" "$2" "DO \$\$ BEGIN FOR n IN 1..$2 LOOP PERFORM bench.noop('{}'); END LOOP; END \$\$"; }

# Jobs deleted and run, by a statement of each session for its part of them: delete_rate SESSIONS JOBS
delete_rate() {
    local first part=$(($2 / $1))
    clean_slate
    fill_raw $((part * $1))
    settle
    first=$(sql "SELECT min(id) FROM bench.raw_job")
    sessions_rate "$1" "$part" "DO \$\$ DECLARE p jsonb; BEGIN
        FOR p IN DELETE FROM bench.raw_job WHERE id BETWEEN $first + SESSION * $part AND $first + (SESSION + 1) * $part - 1 RETURNING payload LOOP
            PERFORM bench.noop(p);
        END LOOP; END \$\$"
}

# What this machine and this server can do at all; docs/performance.md compares with it.
measure_limits() {
    local file clients rows=$jobs column
    set_executors 0
    clean_slate
    file=$CLUSTER_DIR/data/fsync.test
    record "fdatasync of one page" /s "the disk" \
        "$(as_server "$(server_dir bindir)/pg_test_fsync" -s 1 -f "$file" 2>/dev/null | sed -nE '/^Compare file sync methods using one/,/^Compare file sync methods using two/s/^ +fdatasync +([0-9]+)\..*/\1/p')"
    for clients in 1 8 16; do
        record "INSERT and commit, $(plural "$clients" client)" /s PostgreSQL "$(rate_of commit.pgbench "$clients" postgres)"
    done
    record "plpgsql no-op, called by one SELECT" /s PostgreSQL "$(statement_rate "$rows" "SELECT count(bench.noop(p)) FROM unnest($(payloads "$rows")) p")"
    column=$(payloads "$rows")
    record "plpgsql no-op, PERFORMed in a loop" /s PostgreSQL "$(statement_rate "$rows" "DO \$\$ DECLARE p jsonb; BEGIN FOREACH p IN ARRAY $column LOOP PERFORM bench.noop(p); END LOOP; END \$\$")"
    record "plpgsql no-op in a loop, two sessions" /s PostgreSQL "$(call_rate 2 $((5 * rows)))" "one session" "$(call_rate 1 $((5 * rows)))"
    record "PERFORMed in a loop, in a subtransaction each" /s PostgreSQL "$(statement_rate "$rows" "DO \$\$ DECLARE p jsonb; BEGIN FOREACH p IN ARRAY $column LOOP BEGIN PERFORM bench.noop(p); EXCEPTION WHEN OTHERS THEN RAISE; END; END LOOP; END \$\$")"
    record "rows inserted, INSERT ... SELECT, no index" /s PostgreSQL "$(statement_rate "$rows" "INSERT INTO bench.effect SELECT generate_series(1, $rows)")"
    record "jobs inserted, INSERT ... SELECT, 4 indexes" /s PostgreSQL "$(statement_rate "$rows" "INSERT INTO bench.raw_job (run_at, created_at, priority, attempts, max_attempts, task_identifier, queue_name, payload)
        SELECT now(), now(), 0, 0, 8, 'bench_noop', 'bulk', p FROM unnest($column) p")"
    record "jobs deleted and run, one statement each of two sessions" /s PostgreSQL "$(delete_rate 2 $((5 * rows)))" "one session" "$(delete_rate 1 $((5 * rows)))"
    clean_slate
    fill_raw "$rows"
    settle
    record "jobs deleted by one DELETE" /s PostgreSQL "$(psql -XqAt -v ON_ERROR_STOP=1 <<<"SELECT clock_timestamp() AS started \\gset
        DELETE FROM bench.raw_job;
        SELECT round($rows / extract(epoch FROM clock_timestamp() - :'started'))")"
    clean_slate
    fill_raw "$rows"
    settle
    record "jobs deleted and run in subtransactions, one statement" /s PostgreSQL "$(psql -XqAt -v ON_ERROR_STOP=1 <<<"SELECT clock_timestamp() AS started \\gset
        DO \$\$ DECLARE p jsonb; BEGIN
            FOR p IN DELETE FROM bench.raw_job RETURNING payload LOOP
                BEGIN PERFORM bench.noop(p); EXCEPTION WHEN OTHERS THEN RAISE; END;
            END LOOP; END \$\$;
        SELECT round($rows / extract(epoch FROM clock_timestamp() - :'started'))")"
}
