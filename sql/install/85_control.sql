-- Control over jobs from outside, and what a handler can say about its own job. Except for
-- cancel_job() these act on jobs that wait or have failed for good: one that runs or is leased is
-- passed over, never waited for.

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
    OUT created_at timestamptz)
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

CREATE FUNCTION backfill.complete_jobs(job_ids bigint[])
RETURNS SETOF backfill.job LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_complete_jobs';
COMMENT ON FUNCTION backfill.complete_jobs(bigint[]) IS
    'Count waiting and dead jobs as done without running them; returns their rows. Running jobs are passed over.';

CREATE FUNCTION backfill.cancel_job(job_id bigint)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cancel_job';
COMMENT ON FUNCTION backfill.cancel_job(bigint) IS
    'End a job, without a retry or a dead letter: a waiting or leased one is deleted, the worker that runs it is told to stop, at once and not only at the commit. False if there is no such job (any more). Called again after a second, it ends a worker that has not obeyed.';

CREATE FUNCTION backfill.remove_job(job_key text)
RETURNS SETOF backfill.job LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'backfill_remove_job';
COMMENT ON FUNCTION backfill.remove_job(text) IS
    'Delete the waiting job with this key and its dead letter, or else keep the running one from being retried, or else delete the dead letters with the key; returns the row. Roles that may enqueue the task may call it.';

CREATE FUNCTION backfill.permanently_fail_jobs(job_ids bigint[], error_message text DEFAULT NULL)
RETURNS SETOF backfill.job LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_permanently_fail_jobs';
COMMENT ON FUNCTION backfill.permanently_fail_jobs(bigint[], text) IS
    'Move waiting jobs to the dead letter queue, and change the reason of dead ones; returns their rows. Running jobs are passed over.';

CREATE FUNCTION backfill.fail_jobs(job_ids bigint[], reason text DEFAULT NULL)
RETURNS SETOF backfill.job LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_permanently_fail_jobs';
COMMENT ON FUNCTION backfill.fail_jobs(bigint[], text) IS 'The same as permanently_fail_jobs().';

CREATE FUNCTION backfill.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL,
    attempts integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL)
RETURNS SETOF backfill.job LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_reschedule_jobs';
COMMENT ON FUNCTION backfill.reschedule_jobs(bigint[], timestamptz, integer, integer, integer) IS
    'Change when and how waiting and dead jobs run; NULL leaves a value as it is. A dead job has used up its attempts: with some left it waits again; a waiting job with none left is dead. Returns their rows. Running jobs are passed over.';

CREATE FUNCTION backfill.force_unlock_workers(worker_ids text[])
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._take_leases(worker_ids);
END;
$$;
COMMENT ON FUNCTION backfill.force_unlock_workers(text[]) IS
    'End the leases of these external consumers as if they had run out now. The server''s own workers lock nothing that outlives them.';

-- The crate's housekeeping names. What can go stale here are leases of external consumers.
CREATE FUNCTION backfill.release_stale_job_locks(older_than interval DEFAULT '0')
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._expire_leases(coalesce(release_stale_job_locks.older_than, '0'));
END;
COMMENT ON FUNCTION backfill.release_stale_job_locks(interval) IS
    'End leases that ran out longer ago than this: each costs an attempt, and its job is ready again or dead. Returns how many. The dispatcher does it at once. Also releases the jobs of procedures whose worker is gone.';

CREATE FUNCTION backfill.release_stale_queue_locks(older_than interval DEFAULT '0')
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 0::bigint;
END;
COMMENT ON FUNCTION backfill.release_stale_queue_locks(interval) IS
    'Always 0: a queue''s permits are locks of the running transactions and cannot go stale. For users of the crate.';

CREATE FUNCTION backfill.process_failed_jobs()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.count(backfill._bury(j.id, 'no attempts left', j.last_error))
      FROM backfill.job j WHERE j.attempts >= j.max_attempts; -- leased ones are passed over
END;
COMMENT ON FUNCTION backfill.process_failed_jobs() IS
    'Move waiting jobs that have no attempts left (only an UPDATE by hand can do that to them) to the dead letter queue; returns how many.';

CREATE FUNCTION backfill.cleanup_permanently_failed_jobs()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill.process_failed_jobs();
END;
COMMENT ON FUNCTION backfill.cleanup_permanently_failed_jobs() IS
    'The same as process_failed_jobs(): failed jobs never stay among the waiting ones.';

CREATE FUNCTION backfill.startup_cleanup(OUT released_jobs bigint, OUT dead_lettered_jobs bigint, OUT deleted_letters bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    released_jobs := backfill.release_stale_job_locks();
    dead_lettered_jobs := backfill.process_failed_jobs();
    deleted_letters := backfill._apply_dlq_retention();
    DELETE FROM backfill.no_retry n WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = n.job_id);
END;
$$;
COMMENT ON FUNCTION backfill.startup_cleanup() IS
    'All housekeeping at once; the dispatcher does it every backfill.dlq_processor_interval.';
