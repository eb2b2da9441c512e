#!/bin/bash
# How much a paused queue with many ready jobs slows the drain of another queue. The paused
# jobs have the better priority, so that they always come first. Each round drains twice,
# without and with the paused backlog, in turn first; prints the ratio of the two rates, the
# median of the rounds. It should be at least 0.95.
#
#   bench/paused_queue.sh
#
# RUNS (5), JOBS (100000), BACKLOG (100000) and EXECUTORS (2) change how much is measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh
source ../test/lib/cluster.sh
source lib.sh

runs=${RUNS:-5}
jobs=${JOBS:-100000}
backlog=${BACKLOG:-100000}
executors=${EXECUTORS:-2}

# Jobs per second that the executors finish while BACKLOG paused jobs wait: drain_beside BACKLOG
drain_beside() {
    local rate left
    set_executors 0
    sql "TRUNCATE backfill.job, bench.seen"
    sql "SELECT count(*) FROM backfill.enqueue_many('bench_noop', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, $1)), 'paused', -20)" >/dev/null
    sql "SELECT count(*) FROM backfill.enqueue_many('bench_noop', ARRAY(SELECT '{}'::jsonb FROM generate_series(1, $jobs)))" >/dev/null
    sql "ANALYZE backfill.job"
    sql "CHECKPOINT"
    set_executors "$executors"
    rate=$(sql "CALL bench.watch_executors($jobs, '120 s')")
    set_executors 0 # the last batch counts as done a moment before it is committed
    left=$(sql "SELECT count(*) FROM backfill.job")
    [[ $left == "$1" ]] || die "$left jobs are left; it should be the $1 paused ones"
    echo "$rate"
}

main() {
    local run with without ratios=()
    # An executor that ends takes its counter with it, so none may reach its number of jobs.
    cluster_start shared_buffers=256MB max_wal_size=4GB backfill.max_executors=0 backfill.executor_max_jobs=0
    psql -Xq -v ON_ERROR_STOP=1 -f schema.sql -o /dev/null
    sql "SELECT backfill.pause_queue('paused')" >/dev/null
    for ((run = 1; run <= runs; run++)); do
        if ((run % 2)); then
            without=$(drain_beside 0)
            with=$(drain_beside "$backlog")
        else
            with=$(drain_beside "$backlog")
            without=$(drain_beside 0)
        fi
        ratios+=("$(awk "BEGIN { printf \"%.3f\", $with / $without }")")
        say "run $run of $runs: $without jobs/s alone, $with jobs/s beside $backlog paused jobs, ratio ${ratios[-1]}"
    done
    say "median ratio: $(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p")  ($jobs jobs, $executors executors, $(nproc) CPUs, fsync $(sql 'SHOW fsync'))"
}
main "$@"
