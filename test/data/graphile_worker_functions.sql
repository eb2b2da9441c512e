-- A stand-in for the functions of Graphile Worker 0.17, written after what they do (their SQL is not
-- copied), on the tables of graphile_worker.sql. Locks never expire here. To try the real ones, let
-- Graphile Worker install its schema, and load only the functions take(), finish() and fail().
CREATE TYPE graphile_worker.job_spec AS (
    identifier text, payload json, queue_name text, run_at timestamptz, max_attempts smallint, job_key text, priority smallint, flags text[]);

-- The job with a key that waits is overwritten; one that is locked, or has failed for good, loses its
-- key and all further attempts, and there is a new job.
CREATE FUNCTION graphile_worker.add_jobs(specs graphile_worker.job_spec[], job_key_preserve_run_at boolean DEFAULT false)
RETURNS SETOF graphile_worker._private_jobs LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    spec graphile_worker.job_spec;
    old graphile_worker._private_jobs;
    new graphile_worker._private_jobs;
BEGIN
    FOREACH spec IN ARRAY specs LOOP
        INSERT INTO graphile_worker._private_tasks (identifier) VALUES (spec.identifier) ON CONFLICT DO NOTHING;
        INSERT INTO graphile_worker._private_job_queues (queue_name) SELECT spec.queue_name WHERE spec.queue_name IS NOT NULL ON CONFLICT DO NOTHING;
        UPDATE graphile_worker._private_jobs j SET key = NULL, attempts = max_attempts WHERE j.key = spec.job_key AND NOT j.is_available;
        SELECT j.* INTO old FROM graphile_worker._private_jobs j WHERE j.key = spec.job_key;
        new.task_id := (SELECT t.id FROM graphile_worker._private_tasks t WHERE t.identifier = spec.identifier);
        new.job_queue_id := (SELECT q.id FROM graphile_worker._private_job_queues q WHERE q.queue_name = spec.queue_name);
        new.payload := coalesce(spec.payload, '{}');
        new.run_at := coalesce(spec.run_at, now());
        new.max_attempts := coalesce(spec.max_attempts, 25);
        new.priority := coalesce(spec.priority, 0);
        new.flags := (SELECT jsonb_object_agg(f, true) FROM unnest(spec.flags) f);
        IF old.id IS NULL THEN
            INSERT INTO graphile_worker._private_jobs AS j (task_id, job_queue_id, payload, run_at, max_attempts, priority, flags, key)
            VALUES (new.task_id, new.job_queue_id, new.payload, new.run_at, new.max_attempts, new.priority, new.flags, spec.job_key)
            RETURNING j.* INTO new;
        ELSE
            IF json_typeof(old.payload) = 'array' AND json_typeof(new.payload) = 'array' THEN
                new.payload := (old.payload::jsonb || new.payload::jsonb)::json;
            END IF;
            IF job_key_preserve_run_at AND old.attempts = 0 THEN
                new.run_at := old.run_at;
            END IF;
            UPDATE graphile_worker._private_jobs j
               SET task_id = new.task_id, job_queue_id = new.job_queue_id, payload = new.payload, run_at = new.run_at, max_attempts = new.max_attempts,
                   priority = new.priority, flags = new.flags, attempts = 0, last_error = NULL, revision = j.revision + 1
             WHERE j.id = old.id
            RETURNING j.* INTO new;
        END IF;
        RETURN NEXT new;
    END LOOP;
END;
$$;

CREATE FUNCTION graphile_worker.add_job(
    identifier text, payload json DEFAULT NULL, queue_name text DEFAULT NULL, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL, priority integer DEFAULT NULL, flags text[] DEFAULT NULL, job_key_mode text DEFAULT 'replace')
RETURNS graphile_worker._private_jobs LANGUAGE plpgsql AS $$
DECLARE
    job graphile_worker._private_jobs;
BEGIN
    -- unsafe_dedupe: whatever has the key, running or failed, stays as it is.
    IF job_key_mode = 'unsafe_dedupe' THEN
        SELECT j.* INTO job FROM graphile_worker._private_jobs j WHERE j.key = add_job.job_key;
        IF FOUND THEN
            RETURN job;
        END IF;
    END IF;
    SELECT a.* INTO job
      FROM graphile_worker.add_jobs(ARRAY[ROW(identifier, payload, queue_name, run_at, max_attempts, job_key, priority, flags)::graphile_worker.job_spec],
                                    job_key_mode = 'preserve_run_at') a;
    RETURN job;
END;
$$;

CREATE FUNCTION graphile_worker.complete_jobs(job_ids bigint[]) RETURNS SETOF graphile_worker._private_jobs LANGUAGE sql AS $$
    DELETE FROM graphile_worker._private_jobs j WHERE j.id = ANY (job_ids) AND j.locked_at IS NULL RETURNING j.*
$$;

CREATE FUNCTION graphile_worker.permanently_fail_jobs(job_ids bigint[], error_message text DEFAULT NULL)
RETURNS SETOF graphile_worker._private_jobs LANGUAGE sql AS $$
    UPDATE graphile_worker._private_jobs j
       SET attempts = j.max_attempts, last_error = coalesce(error_message, 'Manually marked as failed')
     WHERE j.id = ANY (job_ids) AND j.locked_at IS NULL
    RETURNING j.*
$$;

CREATE FUNCTION graphile_worker.reschedule_jobs(
    job_ids bigint[], run_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL, attempts integer DEFAULT NULL, max_attempts integer DEFAULT NULL)
RETURNS SETOF graphile_worker._private_jobs LANGUAGE sql AS $$
    UPDATE graphile_worker._private_jobs j
       SET run_at = coalesce(reschedule_jobs.run_at, j.run_at), priority = coalesce(reschedule_jobs.priority, j.priority),
           attempts = coalesce(reschedule_jobs.attempts, j.attempts), max_attempts = coalesce(reschedule_jobs.max_attempts, j.max_attempts)
     WHERE j.id = ANY (job_ids) AND j.locked_at IS NULL
    RETURNING j.*
$$;

CREATE FUNCTION graphile_worker.remove_job(job_key text) RETURNS graphile_worker._private_jobs LANGUAGE plpgsql STRICT AS $$
DECLARE
    job graphile_worker._private_jobs;
BEGIN
    DELETE FROM graphile_worker._private_jobs j WHERE j.key = job_key AND j.locked_at IS NULL RETURNING j.* INTO job;
    IF NOT FOUND THEN
        UPDATE graphile_worker._private_jobs j SET key = NULL, attempts = j.max_attempts WHERE j.key = job_key RETURNING j.* INTO job;
    END IF;
    RETURN job;
END;
$$;

-- What its workers do, by statements of their own: take a job, finish it, fail it.
CREATE FUNCTION graphile_worker.take(job_id bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE graphile_worker._private_jobs j SET attempts = j.attempts + 1, locked_at = now(), locked_by = 'w' WHERE j.id = job_id AND j.is_available
$$;
CREATE FUNCTION graphile_worker.finish(job_id bigint) RETURNS void LANGUAGE sql AS $$
    DELETE FROM graphile_worker._private_jobs j WHERE j.id = job_id AND j.locked_by = 'w'
$$;
CREATE FUNCTION graphile_worker.fail(job_id bigint, message text) RETURNS void LANGUAGE sql AS $$
    UPDATE graphile_worker._private_jobs j
       SET last_error = message, locked_at = NULL, locked_by = NULL, run_at = greatest(now(), j.run_at) + exp(least(j.attempts, 10)) * interval '1 second'
     WHERE j.id = job_id AND j.locked_by = 'w'
$$;
