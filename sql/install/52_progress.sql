-- How far a running job is, what came of it, and waiting for that.

CREATE FUNCTION backfill.set_progress(fraction double precision, message text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_progress';
COMMENT ON FUNCTION backfill.set_progress(double precision, text) IS
    'From a handler: how much of the job is done, 0 to 1 (NULL: unknown), and what it is doing. Others see it at once in backfill.jobs and backfill.workers.';

CREATE FUNCTION backfill.set_result(result jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_result';
COMMENT ON FUNCTION backfill.set_result(jsonb) IS
    'From a handler: what came of the job, shown by backfill.history and await_job(); the last call counts. A handler that returns jsonb need not call it. Kept if its task is registered with keep_history.';

-- No SET clause: the procedure ends its transaction before it waits.
CREATE PROCEDURE backfill.await_job(
    job_id bigint,
    timeout interval DEFAULT '30 seconds',
    INOUT outcome text DEFAULT NULL,
    INOUT result jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_await_job';
COMMENT ON PROCEDURE backfill.await_job(bigint, interval, text, jsonb) IS
    'Wait until a job has ended, however often it is retried before: completed, dead, discarded, cancelled, superseded, gone (no such job: it ended before and its outcome was not kept, or its transaction was rolled back) or timeout. Holds no snapshot while it waits. result: if its task keeps a history, and the caller may enqueue it.';

CREATE VIEW backfill.history AS
SELECT h.job_id AS id,
       h.task_identifier,
       h.queue_name,
       h.priority,
       h.job_key,
       h.outcome,
       h.attempt AS attempts,
       h.max_attempts,
       h.created_at,
       h.started_at,
       h.finished_at,
       h.worker,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.result END AS result,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.error
            WHEN h.error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', h.error -> 'sqlstate') END AS error,
       e.earlier_errors,
       h.keep_until,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.headers END AS headers
  FROM backfill.job_history h
 CROSS JOIN LATERAL (
     SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                'attempt', a.attempt, 'started_at', a.started_at, 'failed_at', a.finished_at, 'worker', a.worker,
                'error', CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN a.error
                              WHEN a.error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', a.error -> 'sqlstate') END)
                ORDER BY a.finished_at) AS earlier_errors
       FROM backfill.job_history a WHERE a.job_id = h.job_id AND a.outcome = 'retried') e
 WHERE h.outcome <> 'retried';
COMMENT ON VIEW backfill.history IS 'Jobs that have ended, of tasks registered with keep_history.';
COMMENT ON COLUMN backfill.history.outcome IS 'completed, dead (in the dead letter queue), discarded (by its handler), cancelled or superseded (by a newer job with its key)';
COMMENT ON COLUMN backfill.history.attempts IS 'How many times it was run; after free retries that number does not grow.';
COMMENT ON COLUMN backfill.history.started_at IS 'When the last run began; NULL for external consumers.';
COMMENT ON COLUMN backfill.history.result IS 'What the handler returned or set; NULL for roles that may not read it (monitors).';
COMMENT ON COLUMN backfill.history.error IS 'Of the last run, if it failed; only its sqlstate for roles that may not read results (monitors).';
COMMENT ON COLUMN backfill.history.earlier_errors IS 'The attempts that failed before, the last 20 of them: attempt, started_at, failed_at, worker and error of each.';
COMMENT ON COLUMN backfill.history.keep_until IS 'When it is deleted.';
COMMENT ON COLUMN backfill.history.headers IS 'What the job carried besides its payload; NULL for roles that may not read it (monitors).';
