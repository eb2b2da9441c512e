-- All that is known of one job: as it waits or runs, its dead letter, its history, and what has happened to it. A caller
-- sees of that what it may see in the views.

CREATE VIEW backfill._attempt AS
SELECT h.job_id,
       h.task_identifier,
       h.queue_name,
       h.job_key,
       h.attempt,
       h.outcome,
       h.created_at,
       h.started_at,
       h.finished_at,
       h.worker,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.error
            WHEN h.error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', h.error -> 'sqlstate') END AS error
  FROM backfill.job_history h;
COMMENT ON VIEW backfill._attempt IS 'What job_details() and list_history() read: the runs in the history, also of jobs that have not ended. Users see backfill.history.';

CREATE FUNCTION backfill._page_history_json(job_id bigint)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.to_jsonb(h) || pg_catalog.jsonb_build_object('id', h.id::text)
      FROM backfill.history h WHERE h.id = _page_history_json.job_id ORDER BY h.finished_at DESC LIMIT 1;
END;
COMMENT ON FUNCTION backfill._page_history_json(bigint) IS 'How a job ended the last time, as the caller may see it in backfill.history, as JSON.';

CREATE FUNCTION backfill._page_runs_json(job_id bigint)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_agg(a.*) FROM backfill._attempt a WHERE a.job_id = _page_runs_json.job_id;
END;
COMMENT ON FUNCTION backfill._page_runs_json(bigint) IS 'The runs of a job that are in the history, as JSON; NULL: there are none.';

-- Without a history only the last error is known, and not when it occurred.
CREATE FUNCTION backfill._page_job_timeline(job_id bigint, job jsonb, letter jsonb, runs jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
    WITH run AS (
        SELECT a.* FROM pg_catalog.jsonb_to_recordset(_page_job_timeline.runs)
               AS a (attempt integer, outcome text, created_at timestamptz, started_at timestamptz, finished_at timestamptz, worker text, error jsonb))
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('at', e.at, 'event', e.event, 'attempt', e.attempt, 'worker', e.worker,
                                                                       'error', e.error, 'outcome', e.outcome)
                                         ORDER BY e.place > 1, coalesce(e.at, e.after), e.place), '[]')
      FROM (SELECT 1 AS place, coalesce((_page_job_timeline.job ->> 'created_at')::timestamptz, (_page_job_timeline.letter ->> 'original_created_at')::timestamptz,
                                        (SELECT pg_catalog.min(r.created_at) FROM run r)) AS at, NULL::timestamptz AS after,
                   'created' AS event, NULL::integer AS attempt, NULL::text AS worker, NULL::jsonb AS error, NULL::text AS outcome
            UNION ALL
            SELECT 2, r.started_at, NULL, 'started', r.attempt, r.worker, NULL, NULL FROM run r
             WHERE r.started_at IS NOT NULL AND r.outcome NOT IN ('retried', 'cancelled', 'superseded')
            UNION ALL
            SELECT 3, r.finished_at, NULL, CASE r.outcome WHEN 'retried' THEN 'attempt_failed' WHEN 'dead' THEN 'dead' WHEN 'discarded' THEN 'dead' ELSE 'ended' END,
                   r.attempt, r.worker, r.error, r.outcome FROM run r
            UNION ALL
            SELECT 3, NULL, (_page_job_timeline.job ->> 'created_at')::timestamptz, 'attempt_failed', (_page_job_timeline.job ->> 'attempts')::integer, NULL,
                   _page_job_timeline.job -> 'last_error', NULL
             WHERE pg_catalog.jsonb_typeof(_page_job_timeline.job -> 'last_error') = 'object' AND NOT EXISTS (SELECT FROM run r)
            UNION ALL
            SELECT 4, (_page_job_timeline.letter ->> 'failed_at')::timestamptz, NULL, 'dead', (_page_job_timeline.letter ->> 'failure_count')::integer, NULL,
                   _page_job_timeline.letter -> 'last_error', 'dead'
             WHERE _page_job_timeline.letter IS NOT NULL AND NOT EXISTS (SELECT FROM run r WHERE r.outcome IN ('dead', 'discarded'))
            UNION ALL
            SELECT 5, (_page_job_timeline.letter ->> 'last_requeued_at')::timestamptz, NULL, 'requeued', NULL, NULL, NULL, NULL
             WHERE _page_job_timeline.letter ->> 'last_requeued_at' IS NOT NULL
            UNION ALL
            SELECT 6, w.state_since, NULL, 'started', w.attempt, w.kind || ' ' || w.pid, NULL, NULL FROM backfill._workers() w
             WHERE w.job_id = _page_job_timeline.job_id AND _page_job_timeline.job ->> 'state' = 'running'
            UNION ALL
            SELECT 7, (_page_job_timeline.job ->> 'run_at')::timestamptz, NULL, 'next_run', (_page_job_timeline.job ->> 'attempts')::integer + 1, NULL, NULL, NULL
             WHERE _page_job_timeline.job ->> 'state' IN ('scheduled', 'ready')) e
     WHERE e.at IS NOT NULL OR e.after IS NOT NULL);
END;
$$;
COMMENT ON FUNCTION backfill._page_job_timeline(bigint, jsonb, jsonb, jsonb) IS 'What has happened to a job, the oldest first, and when it runs next.';

CREATE FUNCTION backfill.job_details(job_id bigint)
RETURNS jsonb LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job constant jsonb := backfill._page_jobs_json(ARRAY[job_id], true) -> 0;
    letter jsonb;
    history jsonb;
    runs jsonb;
    why text;
BEGIN
    IF pg_catalog.has_table_privilege('backfill.dlq', 'SELECT') THEN
        letter := backfill._page_letters_json(ARRAY(SELECT d.id FROM backfill.dlq d WHERE d.original_job_id = job_details.job_id
                                                ORDER BY d.failed_at DESC, d.id DESC LIMIT 1), true) -> 0;
    END IF;
    IF pg_catalog.has_table_privilege('backfill.history', 'SELECT') THEN
        history := backfill._page_history_json(job_id);
        runs := backfill._page_runs_json(job_id);
    END IF;
    IF job IS NOT NULL AND pg_catalog.has_function_privilege('backfill.why_not_running(bigint)', 'EXECUTE') THEN
        why := backfill.why_not_running(job_id);
    END IF;
    IF coalesce(job, letter, history, runs) IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'state', coalesce(job ->> 'state', CASE WHEN letter IS NOT NULL THEN 'dead' ELSE 'ended' END),
        'job', job, 'why', why, 'letter', letter, 'history', history,
        'timeline', backfill._page_job_timeline(job_id, job, letter, runs));
END;
$$;
COMMENT ON FUNCTION backfill.job_details(bigint) IS
    'All that is known of a job, as JSON: the job, why it does not run, its dead letter, its history and a timeline, each if the caller may see it. NULL: no such job is known (any more).';
