-- Whatever is told about a failure is kept in part: in the letter, the history and the answers. It
-- is cut between two characters.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET client_min_messages = error;
CREATE FUNCTION shout(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', repeat('é', 3000000) USING ERRCODE = '22000', DETAIL = repeat('d', 20000), HINT = repeat('h', 20000); END $$;
CREATE FUNCTION give_up(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM backfill.discard(repeat('é', 3000000)); END $$;
SELECT backfill.register_task('shout', 'shout(jsonb)', keep_history => '1 hour'),
       backfill.register_task('give_up', 'give_up(jsonb)', keep_history => '1 hour'),
       backfill.register_task('external', keep_history => '1 hour');

SELECT backfill.enqueue('shout'), backfill.enqueue('give_up'), backfill.enqueue('external') AS external,
       backfill.enqueue('external', run_at => '2100-01-01') AS bury, backfill.enqueue('external', run_at => '2100-01-01') AS fail \gset
CALL backfill.process_available_jobs();
SELECT claim_token AS token FROM backfill.claim_jobs('worker') \gset
SELECT backfill.fail_job(:external, :token, repeat('y', 5000000), true);
SELECT backfill.add_to_dlq(:bury, repeat('z', 5000000)) IS NOT NULL AS buried;
SELECT count(*) FROM backfill.fail_jobs(ARRAY[:fail::bigint], repeat('é', 5000000));
SELECT original_job_id AS job, left(failure_reason, 40) AS reason, octet_length(failure_reason) BETWEEN 1000 AND 8192 AS is_cut,
       pg_column_size(last_error) < 40000 AS error_is_cut
  FROM backfill.dlq ORDER BY original_job_id;
SELECT id, outcome, pg_column_size(error) < 40000 AS is_cut FROM backfill.history ORDER BY id, finished_at;

RESET client_min_messages;
-- Names in messages.
CALL refused($$backfill.claim_jobs('a' || repeat('é', 200))$$);
CALL refused($$backfill.set_retry_policy(repeat('é', 200))$$);
CALL refused($$backfill.register_task('t', notify_channel => repeat('é', 200))$$);
CALL refused($$backfill.set_queue('q', rate_limit => 1, rate_period => make_interval(months => -7116797))$$);
CALL refused($$backfill.set_queue('q', rate_limit => 1, rate_period => make_interval(years => 178000000))$$);
