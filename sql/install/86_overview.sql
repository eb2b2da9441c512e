-- overview(): what the first page of a dashboard shows, in one call that is cheap enough to be made every second.

-- cap: of each count. A band's jobs are counted by an index alone, as long as the table's visibility map allows that; whether
-- a job runs is only looked up where the count stays below the cap.
CREATE FUNCTION backfill._overview_bands(task_identifiers text[], priorities smallint[], cap integer,
    OUT place bigint, OUT band text, OUT ready bigint, OUT running bigint)
RETURNS SETOF record LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 6 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT b.place, b.band, CASE WHEN c.jobs <= _overview_bands.cap THEN d.ready ELSE c.jobs END, d.running
      FROM (SELECT p.place, backfill.priority_band(p.priority) AS band
              FROM pg_catalog.unnest('{-20,-10,-5,0,5,10}'::smallint[]) WITH ORDINALITY AS p (priority, place)) b
     CROSS JOIN LATERAL (
           SELECT coalesce(pg_catalog.array_agg(r.task_identifier), '{}') AS tasks, coalesce(pg_catalog.array_agg(r.priority), '{}') AS priorities
             FROM ROWS FROM (pg_catalog.unnest(_overview_bands.task_identifiers), pg_catalog.unnest(_overview_bands.priorities)) AS r (task_identifier, priority)
            WHERE backfill.priority_band(r.priority) = b.band) g
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) AS jobs
             FROM (SELECT FROM ROWS FROM (pg_catalog.unnest(g.tasks), pg_catalog.unnest(g.priorities)) AS r (task_identifier, priority)
                    CROSS JOIN LATERAL (
                          SELECT FROM backfill._job j
                           WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                             AND j.run_at <= (SELECT backfill._now()) ORDER BY j.run_at, j.id LIMIT _overview_bands.cap + 1) j
                    LIMIT _overview_bands.cap + 1) s) c
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) FILTER (WHERE NOT s.claimed) AS ready, pg_catalog.count(*) FILTER (WHERE s.claimed) AS running
             FROM (SELECT backfill._claimed(j.tid, j.claimer) AS claimed
                     FROM ROWS FROM (pg_catalog.unnest(g.tasks), pg_catalog.unnest(g.priorities)) AS r (task_identifier, priority)
                    CROSS JOIN LATERAL (
                          SELECT j.tid, j.claimer FROM backfill._job j
                           WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                             AND j.run_at <= (SELECT backfill._now()) ORDER BY j.run_at, j.id LIMIT _overview_bands.cap + 1) j
                    WHERE c.jobs <= _overview_bands.cap) s) d;
END;
COMMENT ON FUNCTION backfill._overview_bands(text[], smallint[], integer) IS 'How many jobs are ready in each priority band, up to a cap and one more, and how many of them run.';

-- The queues that most jobs wait in, found by a sample of 300 jobs where there are many.
CREATE FUNCTION backfill._overview_longest_queues(max_queues integer)
RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := (SELECT j.id FROM backfill._job j ORDER BY j.id LIMIT 1);
    last bigint := (SELECT j.id FROM backfill._job j ORDER BY j.id DESC LIMIT 1);
    sample text[];
BEGIN
    IF last IS NULL OR NOT EXISTS (SELECT FROM backfill._job j ORDER BY j.id OFFSET 3000) THEN
        sample := ARRAY(SELECT j.queue_name FROM (SELECT j.queue_name FROM backfill._job j ORDER BY j.id LIMIT 3000) j);
    ELSE
        sample := ARRAY(SELECT s.queue_name
                          FROM (SELECT DISTINCT j.id, j.queue_name
                                  FROM pg_catalog.generate_series(0, 299) n
                                 CROSS JOIN LATERAL (SELECT j.id, j.queue_name FROM backfill._job j
                                                      WHERE j.id >= first + (last - first) / 300 * n ORDER BY j.id LIMIT 1) j) s);
    END IF;
    RETURN ARRAY(SELECT s.queue_name FROM pg_catalog.unnest(sample) s (queue_name) WHERE s.queue_name <> ''
                  GROUP BY s.queue_name ORDER BY pg_catalog.count(*) DESC, s.queue_name COLLATE "C" LIMIT max_queues);
END;
$$;
COMMENT ON FUNCTION backfill._overview_longest_queues(integer) IS 'The names of the queues that most jobs wait in, as far as a sample tells.';

CREATE FUNCTION backfill._overview_jobs()
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cap constant integer := 10000;
    now constant timestamptz := backfill._now();
    ranges record;
    lease record;
    ready record;
    later bigint;
    oldest timestamptz;
BEGIN
    ranges := backfill._page_job_ranges(1000, NULL, NULL, NULL);
    SELECT pg_catalog.sum(least(b.ready, cap)) AS jobs, pg_catalog.bool_or(b.ready > cap) AS capped, pg_catalog.sum(b.running) AS running,
           pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('band', b.band, 'ready', backfill._page_count(b.ready, cap, ranges.complete)) ORDER BY b.place) AS bands
      INTO ready FROM backfill._overview_bands(ranges.task_identifiers, ranges.priorities, cap) b;
    later := (SELECT pg_catalog.count(*)
                FROM (SELECT FROM ROWS FROM (pg_catalog.unnest(ranges.task_identifiers), pg_catalog.unnest(ranges.priorities)) AS r (task_identifier, priority)
                       CROSS JOIN LATERAL (
                             SELECT FROM backfill._job j
                              WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                                AND j.run_at > now ORDER BY j.run_at, j.id LIMIT cap + 1) j
                       LIMIT cap + 1) s);
    oldest := (SELECT pg_catalog.min(j.run_at)
                 FROM ROWS FROM (pg_catalog.unnest(ranges.task_identifiers), pg_catalog.unnest(ranges.priorities)) AS r (task_identifier, priority)
                CROSS JOIN LATERAL (
                      SELECT j.run_at FROM backfill._job j
                       WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                         AND j.run_at <= now AND NOT backfill._claimed(j.tid, j.claimer) ORDER BY j.run_at, j.id LIMIT 1) j);
    SELECT pg_catalog.count(*) FILTER (WHERE j.lease_expires_at = 'infinity') AS procedures,
           pg_catalog.count(*) FILTER (WHERE j.lease_expires_at > now AND j.lease_expires_at < 'infinity') AS leased,
           pg_catalog.count(*) >= cap AS cut_off
      INTO lease
      FROM (SELECT j.lease_expires_at FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at DESC LIMIT cap) j;
    RETURN pg_catalog.jsonb_build_object(
        'jobs', pg_catalog.jsonb_build_object(
            'ready', pg_catalog.jsonb_build_object('count', ready.jobs, 'capped', ready.capped OR NOT ranges.complete),
            'scheduled', backfill._page_count(later, cap, ranges.complete),
            -- What ran before in an executor's transaction still counts; where not all jobs are looked at, each executor runs one.
            'running', lease.procedures + greatest(ready.running, (SELECT pg_catalog.count(w.job_id) FROM backfill._workers() w) - lease.procedures),
            'leased', lease.leased,
            'cut_off', lease.cut_off OR NOT ranges.complete,
            'estimated', (SELECT pg_catalog.round(c.reltuples * pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::integer / c.relpages)
                            FROM pg_catalog.pg_class c WHERE c.oid = 'backfill.job'::pg_catalog.regclass AND c.reltuples >= 0 AND c.relpages > 0),
            'dead', (SELECT backfill._page_count(pg_catalog.count(*), cap) FROM (SELECT FROM backfill._letter d ORDER BY d.id LIMIT cap + 1) d)),
        'bands', ready.bands, 'oldest_ready_at', oldest,
        'dead_today', (SELECT backfill._page_count(pg_catalog.count(*), cap)
                         FROM (SELECT FROM backfill._letter d WHERE d.failed_at >= pg_catalog.date_trunc('day', now)
                                ORDER BY d.failed_at, d.id LIMIT cap + 1) d));
END;
$$;
COMMENT ON FUNCTION backfill._overview_jobs() IS 'The part of overview() that counts jobs and dead letters.';

CREATE FUNCTION backfill._overview_totals(
    OUT name text,
    OUT labels jsonb,
    OUT value double precision,
    OUT sum double precision,
    OUT bucket_bounds double precision[],
    OUT bucket_counts bigint[])
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'backfill_counter_totals';
COMMENT ON FUNCTION backfill._overview_totals() IS
    'What _counters() has for each task, queue and priority band, of all of them together; no rows if there is no shared memory.';

-- A histogram of metrics() counts cumulatively: bucket n holds what took at most its bound.
CREATE FUNCTION backfill._overview_counters()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH c AS MATERIALIZED (
        SELECT k.* FROM backfill._overview_totals() k
         WHERE k.name = ANY ('{backfill_jobs_enqueued,backfill_jobs_completed,backfill_jobs_failed,backfill_retries_attempted,backfill_dlq_jobs_added,backfill_jobs_wait_time_seconds,backfill_jobs_duration_seconds}'))
    SELECT pg_catalog.jsonb_build_object('counters',
               (SELECT pg_catalog.jsonb_object_agg(n.key, coalesce((SELECT pg_catalog.sum(c.value) FROM c WHERE c.name = n.name), 0)::bigint::text)
                  FROM (VALUES ('enqueued', 'backfill_jobs_enqueued'), ('completed', 'backfill_jobs_completed'), ('failed', 'backfill_jobs_failed'),
                               ('retried', 'backfill_retries_attempted'), ('dead', 'backfill_dlq_jobs_added')) AS n (key, name)))
        || (SELECT pg_catalog.jsonb_object_agg(n.key, pg_catalog.jsonb_build_object(
                       'bounds', coalesce((SELECT pg_catalog.to_jsonb(c.bucket_bounds) FROM c WHERE c.name = n.name LIMIT 1), '[]'),
                       'counts', (SELECT coalesce(pg_catalog.jsonb_agg(b.jobs ORDER BY b.place), '[]')
                                    FROM (SELECT x.place, pg_catalog.sum(x.jobs) AS jobs
                                            FROM c CROSS JOIN LATERAL (
                                                 SELECT u.place, u.jobs - coalesce(pg_catalog.lag(u.jobs) OVER (ORDER BY u.place), 0) AS jobs
                                                   FROM pg_catalog.unnest(c.bucket_counts || c.value::bigint) WITH ORDINALITY AS u (jobs, place)) x
                                           WHERE c.name = n.name GROUP BY x.place) b)))
              FROM (VALUES ('wait', 'backfill_jobs_wait_time_seconds'), ('run', 'backfill_jobs_duration_seconds')) AS n (key, name));
END;
COMMENT ON FUNCTION backfill._overview_counters() IS 'The part of overview() that comes from the counters in shared memory, which begin anew when the server starts.';

CREATE FUNCTION backfill.overview()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'at', pg_catalog.clock_timestamp(), 'database', pg_catalog.current_database(), 'version', backfill.version(),
               'server_version', pg_catalog.current_setting('server_version'), 'in_recovery', pg_catalog.pg_is_in_recovery(),
               'queues', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                                     'queue_name', q.queue -> 'queue_name', 'ready', q.queue -> 'ready', 'running', q.queue -> 'running',
                                     'paused', q.queue -> 'paused', 'concurrency', q.queue -> 'concurrency')
                                     ORDER BY (q.queue -> 'ready' ->> 'count')::bigint DESC, q.place), '[]')
                            FROM pg_catalog.jsonb_array_elements(backfill._overview_queues_json(backfill._overview_longest_queues(10), 1000)) WITH ORDINALITY AS q (queue, place)),
               'workers', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(w) || pg_catalog.jsonb_build_object('job_id', w.job_id::text)
                                                                ORDER BY w.kind, w.pid), '[]')
                             FROM backfill.workers w))
        || backfill._overview_jobs() || backfill._overview_counters();
END;
COMMENT ON FUNCTION backfill.overview() IS
    'Jobs by state and band, the longest queues, workers, dead letters and counters of this database, in one call that costs little, as JSON: for a dashboard that looks every second.';
