-- The dead letter queue as operators use it: look, fix, requeue, delete.

CREATE FUNCTION backfill._requeue(
    job_id bigint,
    dead_letter_id bigint,
    task_identifier text,
    payload jsonb,
    queue_name text,
    priority integer,
    max_attempts integer,
    job_key text,
    retry_policy text,
    timeout_ms integer,
    flags text[],
    headers jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_requeue';
COMMENT ON FUNCTION backfill._requeue(bigint, bigint, text, jsonb, text, integer, integer, text, text, integer, text[], jsonb) IS
    'Insert a job again under its old id; requeue_dlq_job() calls it.';

-- A filter of dead letters: the one place for its meaning.
CREATE FUNCTION backfill._dlq_matches(
    letter backfill.dead_letter,
    task_identifier text,
    queue_name text,
    failed_after timestamptz,
    failed_before timestamptz)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT (_dlq_matches.task_identifier IS NULL OR (letter).task_identifier = _dlq_matches.task_identifier)
       AND (_dlq_matches.queue_name IS NULL OR (letter).queue_name = _dlq_matches.queue_name)
       AND (_dlq_matches.failed_after IS NULL OR (letter).failed_at >= _dlq_matches.failed_after)
       AND (_dlq_matches.failed_before IS NULL OR (letter).failed_at < _dlq_matches.failed_before);
END;
COMMENT ON FUNCTION backfill._dlq_matches(backfill.dead_letter, text, text, timestamptz, timestamptz) IS
    'Whether a dead letter passes the filters of list_dlq_jobs(), requeue_dlq_jobs() and cleanup_dlq(). failed_after is inclusive, failed_before exclusive.';

CREATE FUNCTION backfill.list_dlq_jobs(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    "limit" integer DEFAULT 50,
    "offset" integer DEFAULT 0)
RETURNS TABLE (
    id bigint,
    original_job_id bigint,
    task_identifier text,
    payload jsonb,
    queue_name text,
    priority smallint,
    job_key text,
    max_attempts smallint,
    failure_reason text,
    failure_count integer,
    last_error jsonb,
    original_created_at timestamptz,
    original_run_at timestamptz,
    failed_at timestamptz,
    requeued_count integer,
    last_requeued_at timestamptz,
    notes text,
    headers jsonb,
    total bigint)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.id, d.original_job_id, d.task_identifier, d.payload, d.queue_name, d.priority, d.job_key, d.max_attempts,
           d.failure_reason, d.failure_count, d.last_error, d.original_created_at, d.original_run_at, d.failed_at,
           d.requeued_count, d.last_requeued_at, d.notes, d.headers, pg_catalog.count(*) OVER ()
      FROM backfill.dead_letter d
     WHERE backfill._dlq_matches(d, list_dlq_jobs.task_identifier, list_dlq_jobs.queue_name,
                                 list_dlq_jobs.failed_after, list_dlq_jobs.failed_before)
     ORDER BY d.failed_at DESC, d.id DESC
     LIMIT list_dlq_jobs."limit" OFFSET list_dlq_jobs."offset";
END;
COMMENT ON FUNCTION backfill.list_dlq_jobs(text, text, timestamptz, timestamptz, integer, integer) IS
    'Dead letters, newest first; total is how many match in all. failed_after is inclusive, failed_before exclusive.';

CREATE FUNCTION backfill.get_dlq_job(dlq_id bigint)
RETURNS SETOF backfill.dlq
LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.* FROM backfill.dlq d WHERE d.id = get_dlq_job.dlq_id;
END;
COMMENT ON FUNCTION backfill.get_dlq_job(bigint) IS 'One dead letter; no row if there is none with that id.';

CREATE FUNCTION backfill._dlq_change(payload jsonb, notes text, given_payload jsonb, given_notes text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT nullif(CASE WHEN given_payload IS NOT NULL THEN pg_catalog.jsonb_build_object('payload', payload) ELSE '{}' END
                  || CASE WHEN given_notes IS NOT NULL THEN pg_catalog.jsonb_build_object('notes', notes) ELSE '{}' END, '{}');
END;
COMMENT ON FUNCTION backfill._dlq_change(jsonb, text, jsonb, text) IS 'What is noted of a letter: those of its values that a call has given.';

CREATE FUNCTION backfill._dlq_filter(task_identifier text, queue_name text, failed_after timestamptz, failed_before timestamptz, older_than interval, notes text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT nullif(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'task_identifier', task_identifier, 'queue_name', queue_name, 'failed_after', failed_after,
        'failed_before', failed_before, 'older_than', older_than, 'notes', notes)), '{}');
END;
COMMENT ON FUNCTION backfill._dlq_filter(text, text, timestamptz, timestamptz, interval, text) IS 'What is noted of a call with filters: those that were given.';

CREATE FUNCTION backfill._requeue_letter(dlq_id bigint, payload jsonb, notes text)
RETURNS backfill.dead_letter
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    SELECT d.* INTO letter FROM backfill.dead_letter d WHERE d.id = _requeue_letter.dlq_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dead letter % does not exist', coalesce(dlq_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'See backfill.list_dlq_jobs() for the ids.';
    END IF;
    PERFORM backfill._requeue(letter.original_job_id, letter.id, letter.task_identifier,
                              coalesce(_requeue_letter.payload, letter.payload), letter.queue_name, letter.priority,
                              letter.max_attempts, letter.job_key, letter.retry_policy, letter.timeout_ms, letter.flags,
                              letter.headers);
    UPDATE backfill.dead_letter d
       SET requeued_count = d.requeued_count + 1,
           last_requeued_at = backfill._now(),
           payload = coalesce(_requeue_letter.payload, d.payload),
           notes = coalesce(_requeue_letter.notes, d.notes)
     WHERE d.id = letter.id;
    RETURN letter;
END;
$$;
COMMENT ON FUNCTION backfill._requeue_letter(bigint, jsonb, text) IS 'Requeue a dead letter and return it as it was; the functions that requeue call it.';

CREATE FUNCTION backfill.requeue_dlq_job(dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter := backfill._requeue_letter(dlq_id, payload, notes);
BEGIN
    PERFORM backfill._audit('requeue_dlq_job', 'dead_letter', ARRAY[letter.id::text], 1,
                            backfill._dlq_change(letter.payload, letter.notes, payload, notes),
                            backfill._dlq_change(payload, notes, payload, notes));
    RETURN letter.original_job_id;
END;
$$;
COMMENT ON FUNCTION backfill.requeue_dlq_job(bigint, jsonb, text) IS
    'Give a dead job its attempts back and run it again under its old id, with a corrected payload if one is given. The letter stays until the job succeeds.';

-- Of one letter that is deleted.
CREATE FUNCTION backfill._about_letter(letter backfill.dead_letter)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'original_job_id', (letter).original_job_id::text, 'task_identifier', (letter).task_identifier,
        'queue_name', (letter).queue_name, 'job_key', (letter).job_key, 'failed_at', (letter).failed_at,
        'failure_reason', (letter).failure_reason, 'notes', (letter).notes))
        || pg_catalog.jsonb_build_object('payload',
            CASE WHEN pg_catalog.pg_column_size((letter).payload) <= 4096 AND pg_catalog.pg_column_compression((letter).payload) IS NULL THEN (letter).payload
                 ELSE pg_catalog.jsonb_build_object('omitted_bytes', pg_catalog.pg_column_size((letter).payload)) END);
END;
COMMENT ON FUNCTION backfill._about_letter(backfill.dead_letter) IS 'What is noted of a letter that is gone.';

CREATE FUNCTION backfill.delete_dlq_job(dlq_id bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    DELETE FROM backfill.dead_letter d WHERE d.id = delete_dlq_job.dlq_id RETURNING d.* INTO letter;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM backfill._audit('delete_dlq_job', 'dead_letter', ARRAY[dlq_id::text], 1, backfill._about_letter(letter), NULL);
    RETURN true;
END;
$$;
COMMENT ON FUNCTION backfill.delete_dlq_job(bigint) IS 'Delete a dead letter; returns false if there is none with that id.';

CREATE FUNCTION backfill.dlq_stats(
    OUT total_jobs bigint,
    OUT total_failures bigint,
    OUT requeued_jobs bigint,
    OUT oldest_failed_at timestamptz,
    OUT newest_failed_at timestamptz,
    OUT jobs_by_task jsonb,
    OUT jobs_by_queue jsonb)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.count(*),
           coalesce(pg_catalog.sum(d.failure_count), 0),
           pg_catalog.count(*) FILTER (WHERE d.requeued_count > 0),
           pg_catalog.min(d.failed_at),
           pg_catalog.max(d.failed_at),
           coalesce((SELECT pg_catalog.jsonb_object_agg(t.task_identifier, t.n)
                       FROM (SELECT e.task_identifier, pg_catalog.count(*) AS n
                               FROM backfill.dead_letter e GROUP BY e.task_identifier) t), '{}'),
           coalesce((SELECT pg_catalog.jsonb_object_agg(q.queue_name, q.n)
                       FROM (SELECT e.queue_name, pg_catalog.count(*) AS n
                               FROM backfill.dead_letter e WHERE e.queue_name IS NOT NULL GROUP BY e.queue_name) q), '{}')
      FROM backfill.dead_letter d;
END;
COMMENT ON FUNCTION backfill.dlq_stats() IS 'How many dead letters there are, by task and queue, and since when.';

CREATE FUNCTION backfill.requeue_dlq_jobs(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    notes text DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- In this order, and the keys of their jobs next and all at once: so no two calls come to wait for each other.
    letter_ids bigint[] := ARRAY(SELECT d.id FROM backfill.dead_letter d
                                  WHERE backfill._dlq_matches(d, requeue_dlq_jobs.task_identifier, requeue_dlq_jobs.queue_name,
                                                              requeue_dlq_jobs.failed_after, requeue_dlq_jobs.failed_before)
                                  ORDER BY d.failed_at, d.id FOR UPDATE);
    letter_id bigint;
    letter backfill.dead_letter;
    letters text[] := ARRAY[]::text[];
    n bigint := 0;
BEGIN
    PERFORM backfill._lock_job_keys(ARRAY(SELECT d.job_key FROM backfill.dead_letter d
                                           WHERE d.id = ANY (letter_ids) AND d.job_key IS NOT NULL));
    FOREACH letter_id IN ARRAY letter_ids LOOP
        BEGIN
            letter := backfill._requeue_letter(letter_id, NULL, requeue_dlq_jobs.notes);
            RETURN NEXT letter.original_job_id;
            n := n + 1;
            IF n <= 100 THEN
                letters := letters || letter_id::text;
            END IF;
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
            NULL; -- its job, or another one with its key, is waiting already
        END;
    END LOOP;
    PERFORM backfill._audit('requeue_dlq_jobs', 'dead_letter', letters, n, NULL,
                            backfill._dlq_filter(task_identifier, queue_name, failed_after, failed_before, NULL, notes));
END;
$$;
COMMENT ON FUNCTION backfill.requeue_dlq_jobs(text, text, timestamptz, timestamptz, text) IS
    'Requeue all dead letters that match, the oldest first; returns the ids of the jobs. Letters whose job is waiting already are passed over.';

CREATE FUNCTION backfill.update_dlq_job(dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    SELECT d.* INTO letter FROM backfill.dead_letter d WHERE d.id = update_dlq_job.dlq_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE backfill.dead_letter d
       SET payload = coalesce(update_dlq_job.payload, d.payload),
           notes = coalesce(update_dlq_job.notes, d.notes)
     WHERE d.id = update_dlq_job.dlq_id;
    PERFORM backfill._audit('update_dlq_job', 'dead_letter', ARRAY[dlq_id::text], 1,
                            backfill._dlq_change(letter.payload, letter.notes, payload, notes),
                            backfill._dlq_change(payload, notes, payload, notes));
    RETURN true;
END;
$$;
COMMENT ON FUNCTION backfill.update_dlq_job(bigint, jsonb, text) IS
    'Correct the payload or the notes of a dead letter before it is requeued; false if there is none with that id.';

CREATE FUNCTION backfill.delete_dlq_by_job_key(job_key text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
    letters text[] := ARRAY[]::text[];
BEGIN
    FOR letter_id IN
        DELETE FROM backfill.dead_letter d WHERE d.job_key = delete_dlq_by_job_key.job_key RETURNING d.id
    LOOP
        letters := letters || letter_id::text; -- one of each task
    END LOOP;
    PERFORM backfill._audit('delete_dlq_by_job_key', 'dead_letter', letters, NULL,
                            pg_catalog.jsonb_build_object('job_key', job_key), NULL);
    RETURN pg_catalog.cardinality(letters) > 0;
END;
$$;
COMMENT ON FUNCTION backfill.delete_dlq_by_job_key(text) IS 'Delete the dead letters with this job_key, of whatever task; false if there is none.';

CREATE FUNCTION backfill.add_to_dlq(job_id bigint, reason text, last_error jsonb DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter bigint := backfill._bury(job_id, reason, last_error);
BEGIN
    IF letter IS NULL THEN
        RAISE EXCEPTION 'job % is not waiting', coalesce(job_id::text, 'NULL')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'It is running, done, or never was; see backfill.jobs.';
    END IF;
    PERFORM backfill._audit('add_to_dlq', 'job', ARRAY[job_id::text], 1, NULL,
                            pg_catalog.jsonb_build_object('dlq_id', letter::text, 'reason', reason, 'last_error', last_error));
    RETURN letter;
END;
$$;
COMMENT ON FUNCTION backfill.add_to_dlq(bigint, text, jsonb) IS 'Move a waiting job to the dead letter queue; returns the letter''s id.';

CREATE FUNCTION backfill.cleanup_dlq(
    older_than interval DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
    letters text[] := ARRAY[]::text[];
    deleted bigint := 0;
BEGIN
    -- A parameter that happens to be NULL must not empty the dead letter queue.
    IF older_than IS NULL AND task_identifier IS NULL AND queue_name IS NULL THEN
        RAISE EXCEPTION 'cleanup_dlq() needs at least one condition that is not null'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'To delete every dead letter, call backfill.cleanup_dlq(older_than => ''0'').';
    END IF;
    IF older_than < '0' THEN
        RAISE EXCEPTION 'older_than must not be negative: %', older_than
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR letter_id IN
        DELETE FROM backfill.dead_letter d
         WHERE backfill._dlq_matches(d, cleanup_dlq.task_identifier, cleanup_dlq.queue_name, NULL,
                                     backfill._now() - older_than)
        RETURNING d.id
    LOOP
        deleted := deleted + 1;
        IF deleted <= 100 THEN
            letters := letters || letter_id::text;
        END IF;
    END LOOP;
    PERFORM backfill._audit('cleanup_dlq', 'dead_letter', letters, deleted, NULL,
                            backfill._dlq_filter(task_identifier, queue_name, NULL, NULL, older_than, NULL));
    RETURN deleted;
END;
$$;
COMMENT ON FUNCTION backfill.cleanup_dlq(interval, text, text) IS
    'Delete dead letters that failed longer ago than this (NULL: whenever) and match; returns how many.';

CREATE FUNCTION backfill._apply_dlq_retention(max_letters bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retention interval := pg_catalog.current_setting('backfill.dlq_retention', true)::interval;
    deleted bigint := 0;
BEGIN
    IF retention > '0' THEN
        -- Letters that a session is working on are left for the next time.
        DELETE FROM backfill.dead_letter d
         WHERE d.id IN (SELECT l.id FROM backfill.dead_letter l
                         WHERE l.failed_at < backfill._now() - retention
                         LIMIT max_letters
                           FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS deleted = ROW_COUNT;
    END IF;
    RETURN deleted;
END;
$$;
COMMENT ON FUNCTION backfill._apply_dlq_retention(bigint) IS 'Delete the dead letters that backfill.dlq_retention no longer keeps, at most max_letters of them.';
