-- The names of Graphile Worker and of the crate: calls of theirs stay as they are, only the schema
-- changes. The arguments and their order are those of the originals. They act on jobs that wait, and on dead
-- letters; a job that runs or is leased is passed over, never waited for.

-- --- Graphile Worker ---

CREATE FUNCTION backfill.add_job(
    identifier text,
    payload json DEFAULT NULL,
    queue_name text DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    priority integer DEFAULT NULL,
    flags text[] DEFAULT NULL,
    job_key_mode text DEFAULT 'replace')
RETURNS backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_add_job';
COMMENT ON FUNCTION backfill.add_job(text, json, text, timestamptz, integer, text, integer, text[], text) IS
    'Graphile Worker''s add_job: 25 attempts, priority 0, no queue (fully parallel), its backoff. A named queue without limits of its own becomes serial. Returns the job. For its users; see enqueue().';

CREATE TYPE backfill.job_spec AS (
    identifier text,
    payload json,
    queue_name text,
    run_at timestamptz,
    max_attempts smallint,
    job_key text,
    priority smallint,
    flags text[]);
COMMENT ON TYPE backfill.job_spec IS 'A job for add_jobs().';

CREATE FUNCTION backfill._lock_job_keys(job_keys text[])
RETURNS void LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_lock_job_keys';
COMMENT ON FUNCTION backfill._lock_job_keys(text[]) IS 'Keep other producers of these keys away until the end of the transaction.';

-- Of several specifications with one key the last counts.
CREATE FUNCTION backfill.add_jobs(specs backfill.job_spec[], job_key_preserve_run_at boolean DEFAULT false)
RETURNS SETOF backfill.jobs
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    spec record;
BEGIN
    PERFORM backfill._lock_job_keys(ARRAY(SELECT s.job_key FROM pg_catalog.unnest(specs) s WHERE s.job_key IS NOT NULL));
    FOR spec IN
        SELECT l.*
          FROM (SELECT s.*, pg_catalog.max(s.ordinality) OVER (PARTITION BY s.job_key) AS last
                  FROM pg_catalog.unnest(specs) WITH ORDINALITY s) l
         WHERE l.job_key IS NULL OR l.ordinality = l.last
         ORDER BY l.ordinality
    LOOP
        RETURN NEXT backfill.add_job(spec.identifier, spec.payload, spec.queue_name, spec.run_at, spec.max_attempts,
                                     spec.job_key, spec.priority, spec.flags,
                                     CASE WHEN job_key_preserve_run_at THEN 'preserve_run_at' ELSE 'replace' END);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.add_jobs(backfill.job_spec[], boolean) IS
    'Graphile Worker''s add_jobs: many at once, with job_key_mode replace or preserve_run_at. For its users; see enqueue_jobs().';

CREATE FUNCTION backfill.complete_jobs(job_ids bigint[])
RETURNS SETOF backfill.jobs LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_complete_jobs';
COMMENT ON FUNCTION backfill.complete_jobs(bigint[]) IS
    'Graphile Worker''s complete_jobs: ends waiting and dead jobs without a run. The history and await_job() call that cancelled. Returns them; running and leased jobs are passed over. A consumer completes its jobs with the claim_token.';

CREATE FUNCTION backfill.remove_job(job_key text)
RETURNS SETOF backfill.jobs LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'backfill_remove_job';
COMMENT ON FUNCTION backfill.remove_job(text) IS
    'Graphile Worker''s remove_job: deletes the waiting job with this key and its dead letter, or else keeps the running one from being retried, or else deletes the dead letters with the key. Returns it. Roles that may enqueue the task may call it.';

CREATE FUNCTION backfill.permanently_fail_jobs(job_ids bigint[], error_message text DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_permanently_fail_jobs';
COMMENT ON FUNCTION backfill.permanently_fail_jobs(bigint[], text) IS
    'Graphile Worker''s permanently_fail_jobs: moves waiting jobs to the dead letter queue, and changes the reason of dead ones. Returns them; running and leased jobs are passed over.';

CREATE FUNCTION backfill.fail_jobs(job_ids bigint[], reason text DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_permanently_fail_jobs';
COMMENT ON FUNCTION backfill.fail_jobs(bigint[], text) IS 'The same as permanently_fail_jobs(), and not fail_job() for many: a consumer calls that for a job that it has run.';

CREATE FUNCTION backfill.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL,
    attempts integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_reschedule_jobs';
COMMENT ON FUNCTION backfill.reschedule_jobs(bigint[], timestamptz, integer, integer, integer) IS
    'Graphile Worker''s reschedule_jobs: changes when and how waiting and dead jobs run; NULL leaves a value as it is. A dead job has used up its attempts: with some left it waits again; a waiting job with none left is dead. Returns them; running and leased jobs are passed over.';

CREATE FUNCTION backfill.force_unlock_workers(worker_ids text[])
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released bigint := backfill._take_leases(worker_ids);
BEGIN
    PERFORM backfill._audit('force_unlock_workers', 'job', NULL, released, NULL,
                            pg_catalog.jsonb_build_object('worker_ids', worker_ids));
END;
$$;
COMMENT ON FUNCTION backfill.force_unlock_workers(text[]) IS
    'Graphile Worker''s force_unlock_workers: ends the leases of these external consumers as if they had run out now. The server''s own workers lock nothing that outlives them.';

-- --- The crate ---

CREATE FUNCTION backfill.init_dlq()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT;
END;
COMMENT ON FUNCTION backfill.init_dlq() IS 'Does nothing: the dead letter queue is part of the extension. For users of the crate.';

-- What can go stale are leases of external consumers.
CREATE FUNCTION backfill.release_stale_job_locks(older_than interval DEFAULT '0')
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released bigint := backfill._expire_leases(coalesce(older_than, '0'));
BEGIN
    PERFORM backfill._audit('release_stale_job_locks', 'job', NULL, released, NULL, NULL);
    RETURN released;
END;
$$;
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

CREATE FUNCTION backfill._bury_exhausted()
RETURNS text[]
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.array_agg(b.id::text) FILTER (WHERE b.letter IS NOT NULL), '{}')
      FROM (SELECT j.id, backfill._bury(j.id, 'no attempts left', j.last_error) AS letter
              FROM backfill.job j WHERE j.attempts >= j.max_attempts) b; -- leased ones are passed over
END;
COMMENT ON FUNCTION backfill._bury_exhausted() IS 'Move waiting jobs that have no attempts left to the dead letter queue; returns their ids.';

CREATE FUNCTION backfill.process_failed_jobs()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    jobs text[] := backfill._bury_exhausted();
BEGIN
    PERFORM backfill._audit('process_failed_jobs', 'job', jobs, NULL, NULL, NULL);
    RETURN pg_catalog.cardinality(jobs);
END;
$$;
COMMENT ON FUNCTION backfill.process_failed_jobs() IS
    'Move waiting jobs that have no attempts left (only an UPDATE by hand can do that to them) to the dead letter queue; returns how many.';

CREATE FUNCTION backfill.cleanup_permanently_failed_jobs()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    jobs text[] := backfill._bury_exhausted();
BEGIN
    PERFORM backfill._audit('cleanup_permanently_failed_jobs', 'job', jobs, NULL, NULL, NULL);
    RETURN pg_catalog.cardinality(jobs);
END;
$$;
COMMENT ON FUNCTION backfill.cleanup_permanently_failed_jobs() IS
    'The same as process_failed_jobs(): failed jobs never stay among the waiting ones.';

CREATE FUNCTION backfill.startup_cleanup(OUT released_jobs bigint, OUT dead_lettered_jobs bigint, OUT deleted_letters bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    released_jobs := backfill._expire_leases('0');
    dead_lettered_jobs := pg_catalog.cardinality(backfill._bury_exhausted());
    deleted_letters := backfill._apply_dlq_retention();
    DELETE FROM backfill.no_retry n WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = n.job_id);
    PERFORM backfill._audit('startup_cleanup', 'job', NULL, released_jobs + dead_lettered_jobs + deleted_letters, NULL,
                            pg_catalog.jsonb_build_object('released_jobs', released_jobs, 'dead_lettered_jobs', dead_lettered_jobs,
                                                          'deleted_letters', deleted_letters));
END;
$$;
COMMENT ON FUNCTION backfill.startup_cleanup() IS
    'All housekeeping at once; the dispatcher does it every backfill.dlq_processor_interval.';
