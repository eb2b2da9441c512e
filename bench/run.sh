#!/bin/bash
# Measures backfill on a throwaway server with fsync on, each time beside others on the same
# server in the same state, and prints a table with ratios. JSON goes to bench/results/.
#
#   bench/run.sh [MEASURE...]       (default: all)
#
#   latency    from an enqueue to the start of the job, on an idle system
#   enqueue    one job per transaction, with 1, 8 and 16 clients
#   external   the same for jobs of consumers, with 8 clients
#   bulk       many jobs in one statement
#   drain      of no-op jobs            insert     of jobs that insert one row
#   snapshot   drain while an old snapshot keeps all dead rows alive
#   backlog    claims while many more jobs wait
#   scheduled  claims beside jobs that are scheduled for next week, at the best priority
#   wal        bytes of WAL per job     idle       transactions while nothing happens
#   xids       transaction ids that jobs use up
#   queues     drain of jobs in very many serial queues
#   router     an enqueue through a router beside one on the node; how even keys are over nodes
#   urgent     start of EMERGENCY jobs while executors are busy with others
#   pages      what dashboards ask for, beside five million jobs (only if it is named)
#   steady     the same load for half an hour (only if it is named)
#   limits     what the machine and the server can do at all
#
# From the environment: RUNS (3), JOBS (200000), INSERT_JOBS (50000), WORKERS ("1 2"), BULK_JOBS
# (100000), HELD_JOBS (500000), BACKLOGS ("1000 100000 1000000"; BIG=1 adds five million), CLAIMS
# (50000), SCHEDULED (1000000), WAL_JOBS (20000), QUEUE_JOBS (50000), QUEUE_COUNTS ("1000
# 10000 100000"; BIG=1 adds a million), PAGE_JOBS (5000000), PAGE_CALLS (15), ROUTER_JOBS (5000), URGENT_JOBS (1000000), STEADY_SECONDS (1800), STEADY_RATE (50000
# jobs/s), SECONDS_EACH (6), SAMPLES (300), IDLE_SECONDS (60). PEERS=0 leaves the other queues out; QUICK=1 makes everything small, to see whether it works.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")"
source ../test/lib/common.sh
source ../test/lib/cluster.sh
source lib.sh
source measures.sh
source router.sh

all_measures=(latency enqueue external bulk drain insert snapshot backlog scheduled wal idle xids queues router urgent limits)
if [[ ${QUICK:-0} != 0 ]]; then
    : "${RUNS:=1}" "${JOBS:=20000}" "${INSERT_JOBS:=4000}" "${BULK_JOBS:=20000}" "${HELD_JOBS:=40000}" "${BACKLOGS:=1000 20000}" "${CLAIMS:=10000}"
    : "${SCHEDULED:=50000}" "${WAL_JOBS:=4000}" "${SECONDS_EACH:=2}" "${SAMPLES:=40}" "${IDLE_SECONDS:=10}" "${QUEUE_JOBS:=2000}" "${QUEUE_COUNTS:=100}" "${URGENT_JOBS:=100000}" "${PAGE_JOBS:=100000}" "${PAGE_CALLS:=5}" "${STEADY_SECONDS:=30}" "${STEADY_RATE:=5000}" "${IDLE_SETTLE:=3}" "${ROUTER_JOBS:=500}"
fi
runs=${RUNS:-3}
jobs=${JOBS:-200000}
insert_jobs=${INSERT_JOBS:-50000}
worker_counts=${WORKERS:-1 2}
bulk_jobs=${BULK_JOBS:-100000}
held_jobs=${HELD_JOBS:-500000}
backlogs=${BACKLOGS:-1000 100000 1000000}
[[ ${BIG:-0} == 0 ]] || backlogs+=' 5000000'
claims=${CLAIMS:-50000}
scheduled=${SCHEDULED:-1000000}
wal_jobs=${WAL_JOBS:-20000}
seconds_each=${SECONDS_EACH:-6}
samples=${SAMPLES:-300}
queue_jobs=${QUEUE_JOBS:-50000}
queue_counts=${QUEUE_COUNTS:-1000 10000 100000}
[[ ${BIG:-0} == 0 ]] || queue_counts+=' 1000000'
urgent_jobs=${URGENT_JOBS:-1000000}
page_jobs=${PAGE_JOBS:-5000000}
page_calls=${PAGE_CALLS:-15}
router_jobs=${ROUTER_JOBS:-5000}
steady_seconds=${STEADY_SECONDS:-1800}
steady_rate=${STEADY_RATE:-50000}
idle_seconds=${IDLE_SECONDS:-60}
idle_settle=${IDLE_SETTLE:-75}

# What a reader must know to compare: the machine, its load, the versions, what was measured.
write_results() {
    local stamp commit
    mkdir -p results
    stamp=results/$(date -u +%Y-%m-%dT%H%M%SZ)
    commit=$(git -C "$BACKFILL_ROOT" describe --always --dirty 2>/dev/null || printf 'unknown')
    psql -XqAt -v ON_ERROR_STOP=1 -v commit="$commit" -v cpus="$(nproc)" -v jobs="$jobs" -v load="$load_before $(cut -d' ' -f1-3 /proc/loadavg)" >"$stamp.json" <<'SQL'
SELECT jsonb_pretty(jsonb_build_object(
    'measured_at', now(), 'commit', :'commit', 'cpus', :cpus, 'load_before_and_after', string_to_array(:'load', ' '), 'jobs', :jobs,
    'postgresql', current_setting('server_version'), 'backfill', backfill.version(), 'fsync', current_setting('fsync'),
    'synchronous_commit', current_setting('synchronous_commit'),
    'results', (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('measure', measure, 'unit', unit, 'runs', runs, 'subject', subject,
                    'value', round(value, 3), 'lowest_value', round(lowest_value, 3), 'highest_value', round(highest_value, 3),
                    'rival', rival, 'rival_value', round(rival_value, 3),
                    'ratio', round(ratio, 3), 'lowest_ratio', round(lowest, 3), 'highest_ratio', round(highest, 3))) ORDER BY position) FROM bench.summary)));
SQL
    say "written to bench/$stamp.json"
    if [[ $(sql 'SELECT count(*) FROM bench.progress') != 0 ]]; then
        psql -XqAt -F $'\t' -c 'SELECT series, round(seconds, 3), done FROM bench.progress ORDER BY series, seconds' >"$stamp.progress.tsv"
        say "and to bench/$stamp.progress.tsv, which \"bench/plot.sh drain\" reads"
    fi
}

print_table() {
    say ""
    psql -XAt -F '|' -c "SELECT measure, unit, subject, trim_scale(round(value, d)), coalesce(rival, ''), coalesce(trim_scale(round(rival_value, d))::text, ''),
                                coalesce(round(ratio, 2)::text, ''), CASE WHEN runs > 1 THEN round(lowest, 2) || ' to ' || round(highest, 2) END
                           FROM bench.summary CROSS JOIN LATERAL (SELECT CASE WHEN unit = 'ms' THEN 2 WHEN unit = '/min' THEN 1 ELSE 0 END AS d) digits ORDER BY position" |
        awk -F '|' 'BEGIN { printf "%-54s %6s  %-16s %9s  %-25s %9s %7s  %s\n", "", "unit", "subject", "", "beside", "", "ratio", "range" }
                    { printf "%-54s %6s  %-16s %9s  %-25s %9s %7s  %s\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
    say ""
    say "Of ms, us, B, MB, ids, pages and /min less is better, of the others more. Medians of $(plural "$runs" run); the ratio is that of the median run."
    say "$(nproc) CPUs, PostgreSQL $(sql 'SHOW server_version'), fsync $(sql 'SHOW fsync'); load before $load_before, after $(cut -d' ' -f1-3 /proc/loadavg)."
}

main() {
    local measures=("$@") measure run
    ((${#measures[@]})) || measures=("${all_measures[@]}")
    for measure in "${measures[@]}"; do
        [[ " ${all_measures[*]} pages steady " == *" $measure "* ]] || die "unknown measure \"$measure\"; there are ${all_measures[*]} pages steady"
    done
    load_before=$(cut -d' ' -f1-3 /proc/loadavg)
    start_server
    start_peers
    for measure in "${measures[@]}"; do
        for ((run = 1; run <= runs; run++)); do
            say "$measure, run $run of $runs"
            "measure_$measure"
        done
    done
    print_table
    write_results
}
main "$@"
