-- Errors that are not the handler's fault cost no attempt, up to backfill.max_free_retries of them.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE FUNCTION raise(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'state %', payload->>'state' USING ERRCODE = payload->>'state', DETAIL = coalesce(payload->>'detail', '');
END;
$$;
SELECT backfill.set_retry_policy('exact', 3, '1 hour', '1 day', 2, 0);
SELECT backfill.register_task('raise', 'raise(jsonb)', retry_policy => 'exact');
-- Runs the job again and again until it is dead, at most so often; each line is what a run left.
CREATE PROCEDURE runs(payload jsonb, n int) LANGUAGE plpgsql AS $$
DECLARE
    job_id bigint := backfill.enqueue('raise', payload);
    left_over record;
    ran bigint;
BEGIN
    SET client_min_messages = error;
    FOR i IN 1 .. n LOOP
        UPDATE backfill.job SET run_at = now() - interval '1 s' WHERE id = job_id;
        CALL backfill.process_available_jobs(1, processed => ran);
        SELECT attempts, free_retries, date_trunc('hour', run_at - now() + interval '1 minute') AS delay INTO left_over FROM backfill.job WHERE id = job_id;
        IF NOT FOUND THEN
            left_over := NULL;
            EXIT;
        END IF;
    END LOOP;
    SET client_min_messages = notice;
    IF left_over IS NOT NULL THEN
        RAISE NOTICE 'attempts %, free retries %, delay %', left_over.attempts, left_over.free_retries, left_over.delay;
    ELSE
        RAISE NOTICE 'dead: %', (SELECT failure_reason || ', failures ' || failure_count FROM backfill.dlq WHERE original_job_id = job_id);
    END IF;
    DELETE FROM backfill.job;
END;
$$;

SHOW backfill.max_free_retries;
CALL runs('{"state": "40001"}', 1);
CALL runs('{"state": "40001"}', 20);
-- From then on they cost an attempt each and wait as long as any other.
CALL runs('{"state": "40001"}', 21);
CALL runs('{"state": "40P01"}', 22);
CALL runs('{"state": "55P03"}', 23);
CALL runs('{"state": "55P03"}', 100);
-- Others do not get any.
CALL runs('{"state": "55006"}', 1);
CALL runs('{"state": "40002"}', 2);
CALL runs('{"state": "40003"}', 99);
-- A replaced job starts anew.
SELECT backfill.enqueue('raise', '{"state": "40001"}', job_key => 'k') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs(1);
SELECT free_retries FROM backfill.job;
SELECT backfill.enqueue('raise', '{"state": "40001"}', job_key => 'k') IS NOT NULL AS enqueued;
SELECT free_retries, attempts FROM backfill.job;
DELETE FROM backfill.job;

-- JB003, retry after: the delay is in the detail; it costs an attempt.
CALL runs('{"state": "JB003", "detail": "5 hours"}', 1);
CALL runs('{"state": "JB003", "detail": "5 hours"}', 2);
CALL runs('{"state": "JB003", "detail": "5 hours"}', 3);
-- Without a detail, or with one that is no interval, or too long, the policy's delay.
CALL runs('{"state": "JB003"}', 1);
CALL runs('{"state": "JB003", "detail": "soon"}', 2);
CALL runs('{"state": "JB003", "detail": "1000000 years"}', 1);
-- A negative one means at once.
CALL runs('{"state": "JB003", "detail": "-5 hours"}', 1);
-- JB002, never retry.
CALL runs('{"state": "JB002"}', 5);

-- Rules of one's own change both; for one task or for all.
INSERT INTO backfill.error_rule (task_identifier, sqlstate, decision) VALUES ('raise', '40', 'permanent'), ('other', '22', 'retry');
CALL runs('{"state": "40001"}', 5);
CALL runs('{"state": "22000"}', 5);
INSERT INTO backfill.error_rule (task_identifier, sqlstate, decision) VALUES ('raise', '22', 'retry'), ('raise', 'JB002', 'free_retry');
CALL runs('{"state": "22000"}', 1);
CALL runs('{"state": "JB002"}', 3);
DELETE FROM backfill.error_rule;
CALL runs('{"state": "40001"}', 2);
CALL runs('{"state": "22000"}', 5);
-- Rules are part of the transaction that makes them.
BEGIN;
INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('P0001', 'permanent');
SELECT backfill.classify_error('P0001');
ROLLBACK;
SELECT backfill.classify_error('P0001');
