-- Control over jobs from outside, and what a handler can say about its own job. What Graphile Worker
-- and the crate have for that is in 87_compatibility.sql.

CREATE FUNCTION backfill._bury(job_id bigint, reason text, last_error jsonb)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_bury';
COMMENT ON FUNCTION backfill._bury(bigint, text, jsonb) IS
    'Move a waiting job to the dead letter queue; returns the letter''s id, NULL if the job does not wait.';

CREATE FUNCTION backfill._builtin_error_rules(OUT id integer, OUT sqlstate text, OUT message_contains text, OUT decision text)
RETURNS SETOF record LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 30 AS 'MODULE_PATHNAME', 'backfill_builtin_error_rules';
COMMENT ON FUNCTION backfill._builtin_error_rules() IS 'The built-in rows of the view backfill.error_rules.';

CREATE VIEW backfill.error_rules AS
SELECT r.id, r.task_identifier, r.sqlstate, r.message_contains, r.decision, false AS builtin FROM backfill.error_rule r
UNION ALL
SELECT b.id, NULL, b.sqlstate, b.message_contains, b.decision, true FROM backfill._builtin_error_rules() b;
COMMENT ON VIEW backfill.error_rules IS 'How errors are classified: the built-in rules, and those in the table backfill.error_rule.';

CREATE FUNCTION backfill.classify_error(sqlstate text DEFAULT NULL, message text DEFAULT NULL, task_identifier text DEFAULT NULL)
RETURNS text LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_classify_error';
COMMENT ON FUNCTION backfill.classify_error(text, text, text) IS
    'What the rules in backfill.error_rules make of an error, by its SQLSTATE or else by its text: permanent, retry or free_retry.';

CREATE FUNCTION backfill.current_job(
    OUT id bigint,
    OUT task_identifier text,
    OUT payload jsonb,
    OUT queue_name text,
    OUT priority smallint,
    OUT run_at timestamptz,
    OUT attempt integer,
    OUT max_attempts integer,
    OUT job_key text,
    OUT last_error jsonb,
    OUT created_at timestamptz,
    OUT headers jsonb)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_current_job';
COMMENT ON FUNCTION backfill.current_job() IS 'The job whose handler calls this; last_error is that of the attempt before.';

CREATE FUNCTION backfill.snooze(delay interval)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_snooze';
COMMENT ON FUNCTION backfill.snooze(interval) IS
    'From a handler: when it returns, keep its effects and run the job again after the delay, which counts as 100 ms if it is shorter; costs no attempt.';

CREATE FUNCTION backfill.discard(reason text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_discard';
COMMENT ON FUNCTION backfill.discard(text) IS
    'From a handler: when it returns, keep its effects and move the job to the dead letter queue.';

CREATE FUNCTION backfill.get_job(job_id bigint)
RETURNS SETOF backfill.jobs
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT j.* FROM backfill.jobs j WHERE j.id = get_job.job_id;
END;
COMMENT ON FUNCTION backfill.get_job(bigint) IS 'One job that waits or runs; no row if it is done or dead.';

CREATE FUNCTION backfill.cancel_job(job_id bigint)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cancel_job';
COMMENT ON FUNCTION backfill.cancel_job(bigint) IS
    'End a job, without a retry or a dead letter: a waiting or leased one is deleted, the worker that runs it is told to stop, at once and not only at the commit. False if there is no such job (any more). Called again after a second, it ends a worker that has not obeyed.';
