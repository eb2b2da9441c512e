-- The history of ended jobs: every outcome, results, the errors of earlier attempts; and what
-- set_progress(), set_result(), await_job() and why_not_running() refuse. With executors: 087_progress.pl.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW ended AS
SELECT id, task_identifier, outcome, attempts, result, error->>'message' AS error, worker ~ '^session \d+$' AS by_session,
       jsonb_path_query_array(earlier_errors, '$[*].error.message') AS earlier_errors,
       created_at <= finished_at AND started_at <= finished_at AS in_order, keep_until - finished_at AS kept_for
  FROM backfill.history ORDER BY finished_at;

-- Only tasks that want one have a history.
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.enqueue('note');
CALL backfill.process_available_jobs();
SELECT * FROM ended;

-- Completed, with and without a result.
CREATE FUNCTION compute(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.set_progress(0.5, 'half way');
    PERFORM backfill.set_result(payload->'set') WHERE payload ? 'set';
    PERFORM backfill.set_result(NULL) WHERE payload ? 'unset';
    IF payload ? 'fail' THEN RAISE '%', payload->>'fail'; END IF;
    PERFORM backfill.discard('no need') WHERE payload ? 'discard';
    RETURN payload->'return';
END $$;
SELECT backfill.register_task('note', 'note(jsonb)', keep_history => '1 hour');
SELECT backfill.register_task('compute', 'compute(jsonb)', keep_history => '30 days', max_attempts => 1);
SELECT count(*) FROM backfill.enqueue_jobs('[
    {"task_identifier": "note"},
    {"task_identifier": "compute", "payload": {"return": {"a": [1, null]}}},
    {"task_identifier": "compute", "payload": {}},
    {"task_identifier": "compute", "payload": {"return": "returned", "set": "set"}},
    {"task_identifier": "compute", "payload": {"return": "returned", "set": "set", "unset": 1}},
    {"task_identifier": "compute", "payload": {"set": 1, "fail": "no luck"}},
    {"task_identifier": "compute", "payload": {"set": 1, "discard": 1}}]');
CALL backfill.process_available_jobs();
SELECT * FROM ended;
-- A result of a block that is rolled back is none; that of before counts again.
TRUNCATE backfill.job_history;
CREATE FUNCTION try(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.set_result(payload->'first') WHERE payload ? 'first';
    BEGIN
        BEGIN
            PERFORM backfill.set_result(CASE WHEN payload->'inner' <> 'null' THEN payload->'inner' END);
            IF payload ? 'inner_error' THEN RAISE 'inner'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
        IF payload ? 'error' THEN RAISE 'outer'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    RETURN '"returned"';
END $$;
SELECT backfill.register_task('try', 'try(jsonb)', keep_history => '1 hour');
SELECT count(*) FROM backfill.enqueue_jobs('[
    {"task_identifier": "try", "payload": {"inner": 1}},
    {"task_identifier": "try", "payload": {"inner": 1, "inner_error": true}},
    {"task_identifier": "try", "payload": {"inner": 1, "error": true}},
    {"task_identifier": "try", "payload": {"first": 0, "inner": 1}},
    {"task_identifier": "try", "payload": {"first": 0, "inner": 1, "inner_error": true}},
    {"task_identifier": "try", "payload": {"first": 0, "inner": 1, "error": true}},
    {"task_identifier": "try", "payload": {"first": 0, "inner": null}},
    {"task_identifier": "try", "payload": {"first": 0, "inner": null, "error": true}}]');
CALL backfill.process_available_jobs();
SELECT result FROM backfill.history ORDER BY id;
-- A large result comes back whole.
TRUNCATE backfill.job_history;
SELECT backfill.enqueue('compute', jsonb_build_object('return', repeat('long ', 100000))) AS id \gset
CALL backfill.process_available_jobs();
SELECT length(result #>> '{}') FROM backfill.history WHERE id = :id;

-- Attempts before the last one. Of very many only the last 20 are kept.
TRUNCATE backfill.job_history;
SELECT backfill.set_retry_policy('at once', 40, '0', '0', 1, 0);
SELECT backfill.register_task('compute', 'compute(jsonb)', keep_history => '30 days', retry_policy => 'at once');
SELECT backfill.enqueue('compute', '{"fail": "again"}', max_attempts => 3);
CALL backfill.process_available_jobs();
SELECT * FROM ended;
SELECT backfill.enqueue('compute', '{"fail": "often"}') AS id \gset
CALL backfill.process_available_jobs();
SELECT outcome, attempts, jsonb_array_length(earlier_errors), earlier_errors->0->'attempt' AS first_kept FROM backfill.history WHERE id = :id;

-- Cancelled, buried, superseded by a newer job with its key.
TRUNCATE backfill.job_history;
SELECT backfill.enqueue('note', run_at => 'tomorrow') AS cancelled, backfill.enqueue('note', run_at => 'tomorrow', job_key => 'k') AS removed,
       backfill.enqueue('note', run_at => 'tomorrow') AS buried, backfill.enqueue('note', run_at => 'tomorrow', job_key => 'r') AS replaced \gset
SELECT backfill.cancel_job(:cancelled);
SELECT count(*) FROM backfill.remove_job('k');
SELECT count(*) FROM backfill.fail_jobs(ARRAY[:buried]::bigint[], 'not wanted');
SELECT backfill.enqueue('note', job_key => 'r') = :replaced AS same_job;
SELECT id - :cancelled AS n, outcome, attempts, started_at, worker, error FROM backfill.history ORDER BY 1;
-- Consumers.
TRUNCATE backfill.job_history, backfill.job;
SELECT backfill.register_task('external', keep_history => '1 hour');
SELECT backfill.enqueue('external') AS done, backfill.enqueue('external', max_attempts => 2) AS failing \gset
SELECT claim_token AS token FROM backfill.claim_jobs('consumer 1', max_jobs => 2) LIMIT 1 \gset
SELECT backfill.complete_jobs(ARRAY[:done]::bigint[], :token) = :done AS done;
SELECT backfill.fail_job(:failing, :token, 'network down');
UPDATE backfill.job SET run_at = now();
SELECT claim_token AS token FROM backfill.claim_jobs('consumer 2') \gset
-- In one transaction, so that a dispatcher's sweep does not find the expired lease.
BEGIN;
UPDATE backfill.job SET lease_expires_at = now() - interval '1 hour';
SELECT backfill.release_stale_job_locks();
COMMIT;
SELECT outcome, attempts, worker, error->>'message' AS error, earlier_errors->0->>'worker' AS earlier_worker, earlier_errors->0->'error'->>'message' AS earlier_error
  FROM backfill.history ORDER BY finished_at;

-- What is rolled back has not happened.
TRUNCATE backfill.job_history;
SELECT backfill.enqueue('note');
BEGIN;
CALL backfill.process_available_jobs();
SELECT outcome FROM ended;
ROLLBACK;
SELECT outcome FROM ended;
CALL backfill.process_available_jobs();
SELECT outcome FROM ended;

-- await_job(): of jobs that have ended; of one that does not; where it cannot wait.
SELECT id FROM backfill.history \gset
CALL backfill.await_job(:id);
SELECT backfill.enqueue('compute', '{"return": 42}') AS id \gset
CALL backfill.process_available_jobs();
CALL backfill.await_job(:id, '1 s');
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.enqueue('note') AS id \gset
CALL backfill.await_job(:id, '0');
CALL backfill.process_available_jobs();
CALL backfill.await_job(:id, '1 min');
CALL backfill.await_job(NULL);
CALL backfill.await_job(1, NULL);
CALL backfill.await_job(1, '-1 s');
CALL backfill.await_job(1, '25 days');
BEGIN;
CALL backfill.await_job(1);
ROLLBACK;
-- The result is for roles that may enqueue the task.
SELECT max(id) AS id FROM backfill.history WHERE task_identifier = 'compute' \gset
CREATE ROLE regress_producer;
SELECT backfill.grant_producer('regress_producer', '{note}');
SET ROLE regress_producer;
CALL backfill.await_job(:id);
RESET ROLE;
SELECT backfill.grant_producer('regress_producer', '{compute}');
SET ROLE regress_producer;
CALL backfill.await_job(:id);
RESET ROLE;
DROP OWNED BY regress_producer;
DROP ROLE regress_producer;
-- A consumer may not enqueue at all.
CREATE ROLE regress_consumer;
SELECT backfill.grant_consumer('regress_consumer');
SET ROLE regress_consumer;
CALL backfill.await_job(:id);
RESET ROLE;
DROP OWNED BY regress_consumer;
DROP ROLE regress_consumer;

-- Arguments.
CALL refused($$backfill.set_progress(0.5)$$);
CALL refused($$backfill.set_result('1')$$);
CALL refused($$backfill.register_task('t', keep_history => '0')$$);
CALL refused($$backfill.register_task('t', keep_history => '-1 day')$$);
CALL refused($$backfill.register_task('t', keep_history => '200 years')$$);
CREATE FUNCTION progress(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.set_progress((payload->>'fraction')::float8, payload->>'message');
END $$;
SELECT backfill.register_task('progress', 'progress(jsonb)', keep_history => '1 hour', max_attempts => 1);
TRUNCATE backfill.job_history, backfill.job;
SELECT count(*) FROM backfill.enqueue_many('progress', ARRAY['{"fraction": 0}', '{"fraction": 1}', '{"fraction": 1.01}', '{"fraction": -0.1}',
    '{"fraction": "NaN"}', '{"message": "only a message"}', '{}']::jsonb[]);
CALL backfill.process_available_jobs();
SELECT outcome, error->>'message' AS error FROM backfill.history ORDER BY id;
SELECT backfill.why_not_running(NULL);

-- A year is 360 days, as in every other length of time but that of cleanup_dlq().
SELECT backfill.register_task('note', 'note(jsonb)', keep_history => '1 year 1 month');
TRUNCATE backfill.job_history;
SELECT backfill.enqueue('note') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs();
SELECT task_identifier, kept_for FROM ended;
