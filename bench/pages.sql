-- What pages are measured with: :jobs waiting jobs, four fifths of one task and the others of 300, in 3,000 queues; a
-- twentieth is scheduled. 100,000 dead letters, as many ended jobs, and counters of as many label sets as there are.
SELECT count(backfill.register_task('page_' || n, keep_history => '1 day')) FROM generate_series(0, 250) n;
SELECT count(backfill.set_queue('customer_' || n, 1)) FROM generate_series(0, 2999) n;
SELECT count(backfill.enqueue('page_' || n % 300, queue_name => 'customer_' || n)) FROM generate_series(0, 2999) n;
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload, job_key)
SELECT now() + CASE WHEN n % 20 = 7 THEN interval '1 week' ELSE n * interval '-1 ms' END, now(), CASE WHEN n % 997 = 0 THEN -10 WHEN n % 10 = 0 THEN 5 ELSE 0 END, 0, 8, 0,
       CASE WHEN n % 5 = 0 THEN 'page_' || n / 5 % 300 ELSE 'bench_noop' END, CASE WHEN n % 5 = 0 THEN 'customer_' || n / 5 % 3000 ELSE 'bulk' END,
       jsonb_build_object('n', n, 'text', 'what a job is about'), CASE WHEN n % 100 = 0 THEN 'key_' || n END
  FROM generate_series(1, :jobs) n;
INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, queue_name, priority, max_attempts, failure_reason, failure_count, last_error,
                                  original_created_at, original_run_at, failed_at)
SELECT 100000000 + n, 'page_' || n % 20, jsonb_build_object('n', n), 'bulk', 0, 8, 'all 8 attempts failed: number ' || n, 8,
       jsonb_build_object('sqlstate', (ARRAY['22012', '40001', 'P0001'])[1 + n % 3], 'message', 'number ' || n, 'context', repeat('PL/pgSQL function f(jsonb) line 3 ', 10)),
       now(), now(), now() - n * interval '10 s'
  FROM generate_series(1, 100000) n;
INSERT INTO backfill.job_history (job_id, finished_at, keep_until, created_at, priority, attempt, max_attempts, outcome, task_identifier, queue_name)
SELECT 200000000 + n, now() - n * interval '1 s', now() + interval '1 day', now(), 0, 1, 8, 'completed', 'page_' || n % 250, 'bulk' FROM generate_series(1, 100000) n;

CREATE TABLE bench.page (place serial, call text);
INSERT INTO bench.page (call) VALUES
    ('overview()'), ('list_jobs()'), ('list_jobs(state => ''ready'')'), ('list_jobs(state => ''scheduled'')'), ('list_jobs(state => ''running'')'),
    ('list_jobs(state => ''leased'')'), ('list_jobs(''bench_noop'')'), ('list_jobs(''page_7'')'), ('list_jobs(queue_name => ''customer_7'')'), ('list_jobs(queue_name => ''bulk'')'),
    ('list_jobs(''page_7'', queue_name => ''bulk'')'), ('list_jobs(max_priority => -5)'), ('list_jobs(min_priority => 5, state => ''ready'')'), ('list_jobs(job_key => ''key_1000'')'),
    ('list_jobs(payload => ''{"n": 1}'')'), ('list_jobs(''page_7'', payload => ''{"n": 1}'', state => ''ready'', max_priority => 0)'), ('list_jobs("limit" => 500)'),
    ('job_details(1000000)'), ('list_queues()'), ('list_queues(search => ''_299'')'), ('list_queues(search => ''no such'')'), ('list_queues("limit" => 500)'), ('queue_details(''bulk'')'),
    ('list_tasks()'), ('list_tasks(problem_only => true)'), ('list_dlq()'), ('list_dlq(task_identifier => ''page_7'')'), ('list_dlq(''40001'', ''page_7'')'), ('list_dlq(''40001'')'),
    ('list_dlq(search => ''number 777'')'), ('list_dlq(failed_before => now() - interval ''5 days'')'), ('dlq_groups()'), ('list_history()'), ('list_history(''page_7'')'), ('list_schedules()');

-- Medians in ms: of a call, and of 50 jobs by their ids, as the view has them.
CREATE FUNCTION bench.median_ms(statement text, runs integer) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    begun timestamptz;
    times numeric[] := '{}';
BEGIN
    EXECUTE statement;
    FOR i IN 1 .. runs LOOP
        begun := clock_timestamp();
        EXECUTE statement;
        times := times || 1000 * extract(epoch FROM clock_timestamp() - begun);
    END LOOP;
    RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(times) t);
END;
$$;
