-- A job's max_attempts is its own number, its policy's another: a job that has more goes on with the
-- policy's longest delay until its own attempts are used up.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET client_min_messages = error;
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'boom'; END $$;
SELECT backfill.set_retry_policy('short', 2, '1 hour', '3 hours', 2, 0);
SELECT backfill.register_task('fail', 'fail(jsonb)', retry_policy => 'short'), backfill.register_task('external'),
       backfill.register_task('fail often', 'fail(jsonb)', retry_policy => 'short', max_attempts => 5);

-- Runs until the job is dead; tells the delay that each failure brought, in whole minutes.
CREATE FUNCTION delays() RETURNS TABLE (job bigint, attempts int, delay interval) LANGUAGE plpgsql AS $$
DECLARE
    ran bigint;
BEGIN
    FOR n IN 1..10 LOOP
        UPDATE backfill.job SET run_at = '2001-01-01';
        CALL backfill.process_available_jobs(NULL, NULL, ran);
        RETURN QUERY SELECT j.id, j.attempts::int, date_trunc('minute', j.run_at - clock_timestamp() + interval '30 seconds')
                       FROM backfill.job j ORDER BY j.id;
    END LOOP;
END $$;
SELECT backfill.enqueue('fail', max_attempts => 6) AS own, backfill.enqueue('fail often') AS task_s,
       backfill.enqueue('fail') AS policy_s, (backfill.add_job('fail', max_attempts => 4)).id AS graphile_s;
SELECT * FROM delays() ORDER BY job, attempts;
SELECT original_job_id, max_attempts, failure_count, failure_reason FROM backfill.dlq ORDER BY original_job_id;

-- Attempts that were set from outside, and failures that consumers report.
SELECT backfill.enqueue('fail', max_attempts => 30, retry_policy => 'fast') AS id \gset
SELECT attempts FROM backfill.reschedule_jobs(ARRAY[:id], attempts => 20);
CALL backfill.process_available_jobs();
SELECT attempts, run_at - clock_timestamp() BETWEEN '20 s' AND '40 s' AS longest_delay FROM backfill.jobs WHERE id = :id;
SELECT backfill.enqueue('external', max_attempts => 30, retry_policy => 'short') AS id \gset
SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[:id], attempts => 10);
SELECT claim_token AS token FROM backfill.claim_jobs('worker') \gset
SELECT backfill.fail_job(:id, :token, 'no answer');
SELECT attempts, date_trunc('minute', run_at - clock_timestamp() + interval '30 seconds') AS delay FROM backfill.jobs WHERE id = :id;

RESET client_min_messages;
-- What a policy says by itself is what backoff_delay() answers.
SELECT n, backfill.backoff_delay(n, 'short') FROM generate_series(0, 3) n;
CALL refused($$backfill.set_retry_policy('odd', 3, '1 day', '1 second')$$);
CALL refused($$backfill.set_retry_policy('short', initial_delay => '1 day')$$);
