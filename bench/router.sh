# shellcheck shell=bash
# What a router costs (docs/scale-out.md). Sourced by run.sh.

# --- router ------------------------------------------------------------------------------------

# A router before two nodes, all of them databases of this server, which runs no workers there. The
# sessions' CPU time is read from /proc.
start_router() {
    local database
    for database in bench_router bench_node_a bench_node_b; do
        sql "CREATE DATABASE $database"
        PGDATABASE=$database sql "CREATE EXTENSION $([[ $database == bench_router ]] && printf 'backfill_router CASCADE' || printf 'backfill')" 2>/dev/null
        PGDATABASE=$database sql "CREATE FUNCTION cpu_us() RETURNS numeric LANGUAGE sql AS \$\$
            SELECT sum(split_part(pg_read_file('/proc/' || pid || '/schedstat'), ' ', 1)::numeric) / 1000
              FROM pg_stat_activity WHERE datname ~ '^bench_(router|node)' AND backend_type = 'client backend' \$\$;
            CREATE PROCEDURE enqueue(jobs int, keyed boolean) LANGUAGE plpgsql AS \$\$
            BEGIN
                FOR i IN 1 .. jobs LOOP
                    PERFORM backfill.enqueue('bench_noop', jsonb_build_object('n', i), job_key => CASE WHEN keyed THEN 'key ' || i || ' ' || clock_timestamp() END);
                    COMMIT;
                END LOOP;
            END \$\$"
    done
    PGDATABASE=bench_router sql "SELECT backfill.add_node('a', 'host=$PGHOST dbname=bench_node_a'), backfill.add_node('b', 'host=$PGHOST dbname=bench_node_b')" >/dev/null
    PGDATABASE=bench_router sql 'CALL backfill.rebalance()'
}

# Flushes, and transactions on nodes, until now. Sessions count theirs at the latest when they end.
router_statistics() {
    sql "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname ~ '^bench_(router|node)' AND backend_type = 'client backend'" >/dev/null
    sql "SELECT wal_sync || ' ' || (SELECT sum(xact_commit) FROM pg_stat_database WHERE datname ~ '^bench_node') FROM pg_stat_wal"
}

# CPU in us, WAL in bytes, flushes and transactions on nodes, each per enqueue in a transaction of its own; CPU and WAL with all
# connections made: enqueue_cost DATABASE KEYED
enqueue_cost() {
    local before after cost
    before=$(router_statistics)
    cost=$(PGDATABASE=$1 psql -XqAt -F ' ' -v ON_ERROR_STOP=1 -v jobs="$router_jobs" -v keyed="$2" <<'SQL'
CALL enqueue(200, :keyed);
SELECT cpu_us() AS cpu, pg_current_wal_insert_lsn() AS lsn \gset
CALL enqueue(:jobs, :keyed);
SELECT round((cpu_us() - :cpu) / :jobs, 1), round((pg_current_wal_insert_lsn() - :'lsn') / :jobs);
SQL
    )
    after=$(router_statistics)
    awk -v cost="$cost" -v before="$before" -v after="$after" -v jobs="$router_jobs" 'BEGIN {
        split(before, b); split(after, a)
        printf "%s %.2f %.2f\n", cost, (a[1] - b[1]) / (jobs + 200), (a[2] - b[2]) / (jobs + 200) }'
}

measure_router() {
    local keyed what routed direct nodes
    if [[ ! -f $(server_dir sharedir)/extension/plproxy.control ]]; then
        warn "without the router: \"test/lib/setup.sh bench\" installs PL/Proxy"
        return 0
    fi
    [[ $(sql "SELECT count(*) FROM pg_database WHERE datname = 'bench_router'") != 0 ]] || start_router
    set_executors 0
    for keyed in true false; do
        clean_slate
        direct=$(enqueue_cost bench_node_a "$keyed")
        routed=$(enqueue_cost bench_router "$keyed")
        what=$([[ $keyed == true ]] && printf 'with a key' || printf 'without a key')
        record "enqueue $what, CPU" us "through a router" "$(field 1 "$routed")" "on the node" "$(field 1 "$direct")"
        record "enqueue $what, WAL" B "through a router" "$(field 2 "$routed")" "on the node" "$(field 2 "$direct")"
        record "enqueue $what, flushes" "" "through a router" "$(field 3 "$routed")" "on the node" "$(field 3 "$direct")"
        record "enqueue $what, transactions on nodes" "" "through a router" "$(field 4 "$routed")" "on the node" "$(field 4 "$direct")"
    done
    # Beside the value that one in twenty random distributions exceeds.
    for nodes in 2 4 8; do
        record "a million keys over $nodes nodes, chi-squared" "" "slots by hash" \
            "$(sql "SELECT round(sum((o - e) ^ 2 / e), 2) FROM (
                        SELECT count(*)::numeric AS o, 1000000.0 / $nodes AS e FROM generate_series(1, 1000000) i
                         GROUP BY (hashtextextended(('key ' || i) COLLATE \"C\", 0) & 255) * $nodes / 256) n")" \
            "random, 95 %" "$(case $nodes in 2) printf 3.84 ;; 4) printf 7.81 ;; 8) printf 14.07 ;; esac)"
    done
}
