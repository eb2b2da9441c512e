#!/bin/bash
# Measures backfill on a throwaway server with fsync on, each time next to a baseline on the
# same server in the same state, and prints a table with ratios. JSON goes to bench/results/.
#
#   bench/run.sh [latency] [enqueue] [drain]      (default: all three)
#
# RUNS (3), JOBS (100000), SECONDS_EACH (6) and SAMPLES (300) change how much is measured.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh
source ../test/lib/cluster.sh

runs=${RUNS:-3}
jobs=${JOBS:-100000}
seconds_each=${SECONDS_EACH:-6}
samples=${SAMPLES:-300}

sql() { psql -XqAt -v ON_ERROR_STOP=1 -c "$1"; }

# record MEASURE UNIT OURS BASELINE
record() {
    [[ -n $3 && -n $4 ]] || die "no figure for \"$1\": ours \"$3\", baseline \"$4\""
    sql "INSERT INTO bench.result (measure, unit, ours, baseline) VALUES ('$1', '$2', $3, $4)"
}

# Both sides start each measurement with empty tables and nothing left to write.
clean_slate() {
    sql "TRUNCATE backfill.job, bench.raw_job, bench.seen, bench.raw_insert, bench.raw_drain"
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

# From before the enqueue statement to the first statement of the handler, against the
# commit of a plain INSERT. The first job only gets an executor started.
bench_latency() {
    local percentile
    set_executors 4
    clean_slate
    sql "SELECT backfill.enqueue_fast('bench_latency', '{\"sent\": 0}')" >/dev/null
    until [[ $(sql 'SELECT count(*) FROM bench.seen') == 1 ]]; do sleep 0.02; done
    sql 'TRUNCATE bench.seen'
    pgbench -n -M prepared -c 1 -t "$samples" -f latency.pgbench >/dev/null 2>&1
    for percentile in 50 95 99; do
        record "latency on an idle system, p$percentile" ms \
            "$(sql "SELECT round(1000 * percentile_cont(0.$percentile) WITHIN GROUP (ORDER BY started - sent)::numeric, 3) FROM bench.seen")" \
            "$(sql "SELECT round(1000 * percentile_cont(0.$percentile) WITHIN GROUP (ORDER BY duration)::numeric, 3) FROM bench.raw_insert")"
    done
    [[ $(sql 'SELECT count(*) FROM bench.seen') == "$samples" ]] || die "not every job of the latency benchmark ran once"
}

# Transactions per second of a pgbench script during two seconds: rate_of SCRIPT CLIENTS
rate_of() {
    pgbench -n -M prepared -c "$2" -j "$(($2 < 2 ? $2 : 2))" -T 2 -f "$1" 2>/dev/null | sed -nE 's/^tps = ([0-9]+).*/\1/p'
}

# The mean rates of both sides, which take turns every two seconds: how long a disk takes to
# sync changes by the minute, and must change for both. transaction_rates CLIENTS
transaction_rates() {
    local turn turns=$((seconds_each / 2)) ours=0 baseline=0
    clean_slate
    for ((turn = 0; turn < turns; turn++)); do
        ours=$((ours + $(rate_of enqueue.pgbench "$1")))
        baseline=$((baseline + $(rate_of insert.pgbench "$1")))
    done
    printf '%d %d\n' $((ours / turns)) $((baseline / turns))
}

# Rows per second of one statement that makes all jobs: statement_rate SQL
statement_rate() {
    clean_slate
    psql -XqAt -v ON_ERROR_STOP=1 <<<"SELECT clock_timestamp() AS started \\gset
        $1;
        SELECT round($jobs / extract(epoch FROM clock_timestamp() - :'started'))" | tail -n 1
}

# One job per transaction, and many jobs in one statement. Nobody runs them meanwhile.
bench_enqueue() {
    local clients ours baseline payloads="ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, $jobs) n)"
    set_executors 0
    for clients in 1 8; do
        read -r ours baseline <<<"$(transaction_rates "$clients")"
        record "enqueue, one per transaction, $clients client$( ((clients == 1)) || printf s)" jobs/s "$ours" "$baseline"
    done
    record "enqueue_many" jobs/s \
        "$(statement_rate "SELECT count(*) FROM backfill.enqueue_many('bench_noop', $payloads)")" \
        "$(statement_rate "INSERT INTO bench.raw_job (run_at, created_at, priority, attempts, max_attempts, task_identifier, queue_name, payload)
             SELECT now(), now(), 0, 0, 8, 'bench_noop', 'bulk', p FROM unnest($payloads) p")"
}

# Jobs per second that a number of executors finish; what is not done after a minute does
# not count.
drain_rate() {
    set_executors 0
    clean_slate
    sql "SELECT count(*) FROM backfill.enqueue_many('bench_noop', ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, $jobs) n))" >/dev/null
    sql "ANALYZE backfill.job"
    sql "CHECKPOINT"
    set_executors "$1"
    sql "CALL bench.watch_executors($jobs, '60 s')"
}

# The same with sessions that run the usual loop.
raw_drain_rate() {
    local session pids=()
    clean_slate
    sql "INSERT INTO bench.raw_job (run_at, created_at, priority, attempts, max_attempts, task_identifier, queue_name, payload)
         SELECT now(), now(), 0, 0, 8, 'bench_noop', 'bulk', jsonb_build_object('n', n) FROM generate_series(1, $jobs) n"
    sql "ANALYZE bench.raw_job"
    sql "CHECKPOINT"
    for ((session = 0; session < $1; session++)); do
        sql 'CALL bench.drain_skip_locked()' &
        pids+=($!)
    done
    wait "${pids[@]}"
    [[ $(sql 'SELECT sum(jobs) FROM bench.raw_drain') == "$jobs" ]] || die "the baseline did not run every job once"
    sql "SELECT round($jobs / extract(epoch FROM max(ended) - min(started))) FROM bench.raw_drain"
}

bench_drain() {
    local workers
    for workers in 1 2; do
        record "drain of no-op jobs, $workers worker$( ((workers == 1)) || printf s)" jobs/s "$(drain_rate "$workers")" "$(raw_drain_rate "$workers")"
    done
    bench_drain_under_old_snapshot
}

# The same while somebody's transaction, a dump say, keeps every dead row alive. Fewer jobs:
# a queue that walks over its dead rows takes quadratic time.
bench_drain_under_old_snapshot() {
    local jobs=$((jobs / 5)) holder
    PGAPPNAME=holder psql -XqAt -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' -c 'SELECT 1' -c 'SELECT pg_sleep(600)' >/dev/null 2>&1 &
    holder=$!
    record "the same, 1 worker, old snapshot open" jobs/s "$(drain_rate 1)" "$(raw_drain_rate 1)"
    sql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'holder'" >/dev/null
    wait "$holder" || true # its session was ended
}

# What a reader must know to compare: the machine, the versions, what was measured.
write_json() {
    local file commit
    mkdir -p results
    file=results/$(date -u +%Y-%m-%dT%H%M%SZ).json
    commit=$(git -C "$BACKFILL_ROOT" describe --always --dirty 2>/dev/null || printf 'unknown')
    psql -XqAt -v ON_ERROR_STOP=1 -v commit="$commit" -v cpus="$(nproc)" -v jobs="$jobs" >"$file" <<'SQL'
SELECT jsonb_pretty(jsonb_build_object(
    'measured_at', now(), 'commit', :'commit', 'cpus', :cpus, 'jobs', :jobs,
    'postgresql', current_setting('server_version'), 'backfill', backfill.version(), 'fsync', current_setting('fsync'),
    'results', (SELECT jsonb_agg(jsonb_build_object('measure', measure, 'unit', unit, 'runs', runs, 'backfill', round(ours, 3),
                                 'baseline', round(baseline, 3), 'ratio', round(ratio, 3), 'lowest_ratio', round(lowest, 3), 'highest_ratio', round(highest, 3)) ORDER BY position) FROM bench.summary)));
SQL
    say "written to bench/$file"
}

print_table() {
    say ""
    psql -XAt -F '|' -c "SELECT measure, unit, CASE unit WHEN 'ms' THEN round(ours, 2) ELSE round(ours) END,
                                CASE unit WHEN 'ms' THEN round(baseline, 2) ELSE round(baseline) END, round(ratio, 2),
                                round(lowest, 2) || ' to ' || round(highest, 2),
                                CASE unit WHEN 'ms' THEN 'lower is better' ELSE 'higher is better' END
                           FROM bench.summary ORDER BY position" |
        awk -F '|' 'BEGIN { printf "%-42s %6s %9s %9s %6s  %-12s\n", "", "unit", "backfill", "baseline", "ratio", "range" }
                    { printf "%-42s %6s %9s %9s %6s  %-12s  %s\n", $1, $2, $3, $4, $5, $6, $7 }'
    say "Baselines: commit of a plain INSERT; the same INSERT; INSERT ... SELECT; a SKIP LOCKED loop."
    say "Medians of $runs runs; the ratio is that of the median run. $jobs jobs; $(nproc) CPUs, PostgreSQL $(sql 'SHOW server_version'), fsync $(sql 'SHOW fsync')."
}

main() {
    local benches=("$@") bench run
    ((${#benches[@]})) || benches=(latency enqueue drain)
    for bench in "${benches[@]}"; do
        [[ $bench =~ ^(latency|enqueue|drain)$ ]] || die "unknown benchmark \"$bench\"; there are latency, enqueue and drain"
    done
    # An executor that ends takes its counter with it, so none may reach its number of jobs.
    cluster_start shared_buffers=256MB max_wal_size=4GB backfill.max_executors=0 backfill.executor_max_jobs=0
    psql -Xq -v ON_ERROR_STOP=1 -f schema.sql -o /dev/null
    for bench in "${benches[@]}"; do
        for ((run = 1; run <= runs; run++)); do
            say "$bench, run $run of $runs"
            "bench_$bench"
        done
    done
    print_table
    write_json
}
main "$@"
