-- cancel_job() and time limits, as far as they need no workers (test/t/070_cancel.pl has the rest), and
-- what a session does with the jobs of procedures.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET client_min_messages = error; -- failures of jobs are logged as warnings
CREATE FUNCTION dawdle(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    PERFORM pg_sleep(3600);
END $$;
CREATE FUNCTION catch(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    PERFORM pg_sleep(3600);
EXCEPTION WHEN query_canceled THEN
    PERFORM test.note('"caught"');
END $$;
CREATE PROCEDURE commit_often(payload jsonb) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.effect (payload) VALUES (payload);
    COMMIT;
END $$;
SELECT backfill.set_retry_policy('hourly', 3, '1 hour', '1 hour', 1, 0);
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.register_task('dawdle', 'dawdle(jsonb)', retry_policy => 'hourly', timeout => '1 hour');
SELECT backfill.register_task('catch', 'catch(jsonb)', retry_policy => 'hourly', timeout => '20 ms');
SELECT backfill.register_task('procedure', 'commit_often(jsonb)');

-- A limit per job beats the task's.
SELECT backfill.enqueue('dawdle', timeout => '10 ms'), backfill.enqueue('note', timeout => '24 days'), backfill.enqueue('note');
SELECT backfill.enqueue_many('note', ARRAY['1']::jsonb[], timeout => '1.5 s');
SELECT backfill.enqueue_jobs('[{"task_identifier": "note", "timeout": "2 minutes"}, {"task_identifier": "note", "timeout": null}]');
SELECT backfill.enqueue('catch', '"catch"');
SELECT id, task_identifier, timeout FROM backfill.jobs ORDER BY id;
CALL backfill.process_available_jobs();
SELECT task_identifier, attempts, state, last_error->>'sqlstate' AS sqlstate, last_error->>'message' AS message FROM backfill.jobs ORDER BY id;
SELECT payload, count(*) FROM effect GROUP BY 1 ORDER BY 1;

-- ... also with a statement_timeout of the session, which ends the statement and no job.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT backfill.enqueue('dawdle', timeout => '10 ms');
BEGIN;
SET LOCAL statement_timeout = '1h';
CALL backfill.process_available_jobs();
COMMIT;
SELECT attempts, last_error->>'message' AS message FROM backfill.jobs;
SELECT backfill.enqueue('dawdle', timeout => '1 h');
SET statement_timeout = '50 ms';
CALL backfill.process_available_jobs();
RESET statement_timeout;
SELECT attempts FROM backfill.jobs WHERE state = 'ready';

-- The limit outlives retries, and the dead letter queue.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT backfill.enqueue('dawdle', max_attempts => 2, timeout => '10 ms');
CALL backfill.process_available_jobs();
UPDATE backfill.job SET run_at = now();
CALL backfill.process_available_jobs();
SELECT task_identifier, failure_reason FROM backfill.dlq;
SELECT backfill.requeue_dlq_job(id) FROM backfill.dlq;
SELECT id, timeout FROM backfill.jobs;

-- Errors.
SELECT backfill.enqueue('note', timeout => '0');
SELECT backfill.enqueue('note', timeout => '-1 s');
SELECT backfill.enqueue('note', timeout => '25 days');
SELECT backfill.enqueue_many('note', '{}', timeout => '1 us');
SELECT backfill.enqueue_jobs('[{"task_identifier": "note", "timeout": 5}]');
SELECT backfill.enqueue_jobs('[{"task_identifier": "note", "timeout": "soon"}]');

-- A waiting job is deleted; a leased one, too, and its consumer learns it.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.set_queue('one', concurrency => 1);
SELECT backfill.enqueue('mail', queue_name => 'one') FROM generate_series(1, 2);
SELECT backfill.enqueue('note', run_at => now() + '1 day');
SELECT id, claim_token FROM backfill.claim_jobs('w', tasks => '{mail}', max_jobs => 2) \gset claim_
SELECT :claim_id AS claimed, count(*) AS another FROM backfill.claim_jobs('w', tasks => '{mail}');
SELECT backfill.cancel_job(3), backfill.cancel_job(3), backfill.cancel_job(NULL);
BEGIN;
SELECT backfill.cancel_job(1);
ROLLBACK;
SELECT backfill.heartbeat(:claim_claim_token);
SELECT backfill.cancel_job(1);
SELECT backfill.heartbeat(:claim_claim_token);
SELECT backfill.complete_jobs('{1}', :claim_claim_token);
SELECT backfill.fail_job(1, :claim_claim_token, 'too late');
SELECT id AS next_one FROM backfill.claim_jobs('w', tasks => '{mail}');
SELECT backfill.cancel_job(2), count(*) AS dead FROM backfill.dead_letter;
SELECT id, state FROM backfill.jobs;

-- A job that was cancelled while it ran, and whose executor died: it does not run again, key or no key.
SELECT backfill.register_task('note', 'note(jsonb)', keep_history => '1 day');
SELECT backfill.enqueue('note', '"cancelled"') AS id \gset
SELECT backfill.enqueue('note', '"removed"') AS removed_id \gset
SELECT backfill.enqueue('note', '"another"') IS NOT NULL;
INSERT INTO backfill.no_retry VALUES (:id, true), (:removed_id, false);
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
SELECT count(*) AS notes FROM backfill.no_retry;
SELECT id = :id AS cancelled, outcome FROM backfill.history WHERE id IN (:id, :removed_id) ORDER BY id;

-- A handler asks after its own job, whose row its transaction has deleted.
CREATE FUNCTION ask(payload jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_array(backfill.why_not_running(id), backfill.cancel_job(id)) FROM backfill.current_job() $$;
SELECT backfill.register_task('ask', 'ask(jsonb)', keep_history => '1 day');
SELECT backfill.enqueue('ask') IS NOT NULL;
CALL backfill.process_available_jobs();
SELECT outcome, result FROM backfill.history WHERE task_identifier = 'ask';

-- Sessions leave the jobs of procedures to the workers.
TRUNCATE effect;
SELECT task_identifier, kind, handler, handler_exists FROM backfill.tasks WHERE task_identifier = 'procedure';
SELECT backfill.enqueue('procedure', '"p"') AS id \gset
SELECT backfill.enqueue('note', '"f"') IS NOT NULL;
CALL backfill.process_available_jobs();
CALL backfill.process_available_jobs(tasks => '{procedure}');
SELECT payload FROM effect;
SELECT backfill.claim_jobs('w', tasks => '{procedure}');

-- A procedure's job that a worker runs, as its row looks then. No token of a consumer reaches it; as
-- there is no such worker, its claim is void.
UPDATE backfill.job SET lease_expires_at = 'infinity', claim_token = 1000, lease_permit = 0, worker = 'executor 1' WHERE id = :id;
SELECT state, worker, lease_expires_at FROM backfill.jobs;
SELECT backfill.heartbeat(1000);
SELECT backfill.complete_jobs(ARRAY[:id], 1000);
SELECT backfill.fail_job(:id, 1000, 'no');
SELECT backfill.force_unlock_workers('{executor 1}');
SELECT count(*) AS completed FROM backfill.complete_jobs(ARRAY[:id]);
SELECT state, worker, attempts FROM backfill.jobs;
SELECT backfill.cancel_job(:id) AS cancelled, (SELECT count(*) FROM backfill.no_retry) AS notes;
SELECT backfill.release_stale_job_locks();
SELECT state, worker, attempts FROM backfill.jobs;
SELECT backfill.cancel_job(:id);
SELECT count(*) FROM backfill.jobs;
