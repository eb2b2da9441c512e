-- What operators change by hand: a waiting job, and the dead letters that they have chosen.

CREATE FUNCTION backfill.update_job(
    job_id bigint,
    payload jsonb DEFAULT NULL,
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    headers jsonb DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'backfill_update_job';
COMMENT ON FUNCTION backfill.update_job(bigint, jsonb, text, integer, timestamptz, integer, text, interval, jsonb) IS
    'Change a waiting job, which keeps its id and its key; NULL leaves a value as it is, headers {} means none from now on. Returns the job; no row if it does not wait: a running or leased job, or one that another transaction is changing, is passed over, never waited for.';

-- Locks are taken in the order of requeue_dlq_jobs() by filters.
CREATE FUNCTION backfill.requeue_dlq_jobs(dlq_ids bigint[], notes text DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_ids bigint[] := ARRAY(SELECT d.id FROM backfill.dead_letter d WHERE d.id = ANY (dlq_ids)
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
                            backfill._dlq_filter(NULL, NULL, NULL, NULL, NULL, notes));
END;
$$;
COMMENT ON FUNCTION backfill.requeue_dlq_jobs(bigint[], text) IS
    'Requeue these dead letters, those that failed first before the others; returns the ids of the jobs. Letters whose job is waiting already, and ids of none, are passed over.';

CREATE FUNCTION backfill.delete_dlq_jobs(dlq_ids bigint[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
    letters text[] := ARRAY[]::text[];
    deleted bigint := 0;
BEGIN
    -- In the order of requeue_dlq_jobs().
    FOR letter_id IN
        WITH locked AS (SELECT d.id FROM backfill.dead_letter d WHERE d.id = ANY (dlq_ids)
                         ORDER BY d.failed_at, d.id FOR UPDATE)
        DELETE FROM backfill.dead_letter d USING locked l WHERE d.id = l.id RETURNING d.id
    LOOP
        deleted := deleted + 1;
        IF deleted <= 100 THEN
            letters := letters || letter_id::text;
        END IF;
    END LOOP;
    PERFORM backfill._audit('delete_dlq_jobs', 'dead_letter', letters, deleted, NULL, NULL);
    RETURN deleted;
END;
$$;
COMMENT ON FUNCTION backfill.delete_dlq_jobs(bigint[]) IS 'Delete these dead letters; returns how many of them there were.';
