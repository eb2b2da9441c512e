-- Pages of the history, and the schedules with the times that come next.

CREATE FUNCTION backfill.list_history(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    job_key text DEFAULT NULL,
    outcome text DEFAULT NULL,
    finished_after timestamptz DEFAULT NULL,
    finished_before timestamptz DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    place record := backfill._page_place('history', cursor);
    max_rows constant integer := CASE WHEN pg_catalog.num_nonnulls(task_identifier, queue_name, job_key, outcome) = 0 THEN size + 1 ELSE 20000 END;
    stop record;
    found backfill._attempt[];
    is_cut_off boolean;
BEGIN
    PERFORM backfill._page_check_word('outcome', outcome, '{completed,dead,discarded,cancelled,superseded}');
    -- The last run that it looks at, if there may be more.
    SELECT a.finished_at, a.job_id INTO stop
      FROM backfill._attempt a
     WHERE (a.finished_at, a.job_id) < (coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807)) AND a.outcome <> 'retried'
       AND a.finished_at >= coalesce(finished_after, '-infinity') AND a.finished_at <= coalesce(finished_before, 'infinity')
     ORDER BY a.finished_at DESC, a.job_id DESC LIMIT 1 OFFSET max_rows - 1;
    found := ARRAY(SELECT a FROM backfill._attempt a
                    WHERE (a.finished_at, a.job_id) < (coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807)) AND a.outcome <> 'retried'
                      AND (a.finished_at, a.job_id) >= (coalesce(stop.finished_at, '-infinity'), coalesce(stop.job_id, -9223372036854775808))
                      AND a.finished_at >= coalesce(finished_after, '-infinity')
                      AND (finished_before IS NULL OR a.finished_at < finished_before)
                      AND (list_history.task_identifier IS NULL OR a.task_identifier = list_history.task_identifier)
                      AND (list_history.queue_name IS NULL OR coalesce(a.queue_name, '') = list_history.queue_name)
                      AND (list_history.job_key IS NULL OR a.job_key = list_history.job_key)
                      AND (list_history.outcome IS NULL OR a.outcome = list_history.outcome)
                    ORDER BY a.finished_at DESC, a.job_id DESC LIMIT size + 1);
    is_cut_off := stop.job_id IS NOT NULL AND pg_catalog.cardinality(found) <= size;
    RETURN pg_catalog.jsonb_build_object(
        'history', backfill._page_endings_json(found[1:size]),
        'next', CASE WHEN is_cut_off THEN backfill._page_cursor('history', stop.finished_at, stop.job_id, NULL)
                     WHEN pg_catalog.cardinality(found) > size THEN backfill._page_cursor('history', found[size].finished_at, found[size].job_id, NULL) END,
        'cut_off', is_cut_off);
END;
$$;
COMMENT ON FUNCTION backfill.list_history(text, text, text, text, timestamptz, timestamptz, text, integer) IS
    'A page of the jobs that have ended, of tasks that keep a history, the latest first, as JSON. finished_after is inclusive, finished_before exclusive.';

CREATE FUNCTION backfill._page_endings_json(runs backfill._attempt[])
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(h) || pg_catalog.jsonb_build_object(
                        'id', h.id::text, 'result', CASE WHEN pg_catalog.pg_column_size(h.result) <= 2048 THEN h.result END,
                        'result_size', pg_catalog.pg_column_size(h.result)) ORDER BY h.finished_at DESC, h.id DESC), '[]')
      FROM backfill.history h
     WHERE h.id = ANY (ARRAY(SELECT r.job_id FROM pg_catalog.unnest(_page_endings_json.runs) AS r))
       AND EXISTS (SELECT FROM pg_catalog.unnest(_page_endings_json.runs) AS r WHERE r.job_id = h.id AND r.finished_at = h.finished_at);
END;
COMMENT ON FUNCTION backfill._page_endings_json(backfill._attempt[]) IS 'These ends of jobs as the caller may see them in backfill.history, as JSON.';

CREATE FUNCTION backfill.list_schedules()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object('schedules', coalesce(pg_catalog.jsonb_agg(
               pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object(
                   'timeout', extract(epoch FROM s.timeout), 'fill', extract(epoch FROM s.fill),
                   'next_runs', (WITH RECURSIVE due AS (
                                     SELECT s.next_run_at AS at, 1 AS place WHERE s.next_run_at IS NOT NULL
                                     UNION ALL
                                     SELECT n.at, d.place + 1 FROM due d
                                      CROSS JOIN LATERAL (SELECT backfill._next_run_at(s.cron, s.time_zone, d.at) AS at) n
                                      WHERE d.place < 5 AND n.at IS NOT NULL)
                                 SELECT coalesce(pg_catalog.jsonb_agg(d.at ORDER BY d.place), '[]') FROM due d))
               ORDER BY s.name), '[]'))
      FROM backfill.schedules s;
END;
COMMENT ON FUNCTION backfill.list_schedules() IS 'All schedules, each with the five times at which it is due next, as JSON.';
