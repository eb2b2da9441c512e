-- The labels for parallel plans. What reads the configuration takes a snapshot of its own, which a
-- parallel plan forbids, also in the leader; so it must be PARALLEL UNSAFE. Here every plan is a
-- parallel one that may be, and the configuration has to be read again for each statement.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.set_queue('q', concurrency => 1);
SELECT backfill.enqueue('note', queue_name => 'q', run_at => '2100-01-01');
-- It is named debug_parallel_query since PostgreSQL 16.
SELECT count(set_config(name, 'on', false)) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');

-- A statement's trigger makes the configuration stale, whether or not there are rows.
\set stale 'UPDATE backfill.task SET priority = 1 WHERE false; UPDATE backfill.queue SET concurrency = 1 WHERE false;'
-- Whole rows: a column that is not asked for is not computed.
SELECT :'stale', format('SELECT count(v) >= 0 AS %I FROM backfill.%1$I v', relname) FROM pg_class
 WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'v' ORDER BY relname \gexec

-- Every function that may be called in a parallel plan.
SELECT p.oid::regprocedure, p.proparallel FROM pg_proc p
 WHERE p.pronamespace = 'backfill'::regnamespace AND p.proparallel <> 'u' ORDER BY p.proname COLLATE "C", p.oid;
SELECT :'stale', format('SELECT count(*) >= 0 AS called FROM backfill.%s', call) FROM unnest(ARRAY[
    '_builtin_error_rules()', '_counters()', '_metric_catalogue()', '_set_aside()', '_caller_may_read_jobs()', '_login_problem(10)', '_workers()', '_server_state()', '_now()', '_claimed(''(0,1)'', ''1'')',
    'job c, backfill._claimed(c.ctid, c.xmax)',
    'get_job(1)', 'get_dlq_job(1)', 'list_dlq_jobs()', 'dlq_stats()', 'cron_next(''* * * * *'')', '_next_run_at(''* * * * *'', ''UTC'', now())', 'priority(''BULK_DEFAULT'')', 'priority_band(0)', 'version()']) call \gexec
-- And what users call that may not.
SELECT :'stale', format('SELECT count(*) >= 0 AS called FROM backfill.%s', call) FROM unnest(ARRAY[
    'metrics()', 'prometheus_metrics()', 'health()', 'classify_error(''23505'')', 'backoff_delay(1, ''default'')', 'why_not_running(1)']) call \gexec
