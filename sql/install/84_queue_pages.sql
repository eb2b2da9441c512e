-- Pages of queues and tasks, by name. These show no payload: they run as the extension's owner.

-- What of a queue is not leased. Its jobs are counted range by range (task and priority), so that what is ready and what
-- is scheduled have counts of their own; of a hundred ranges it is known to be all. (The index ends a scan at the
-- bounds of columns behind =, not at those of a row comparison. A sort by queue_name is none where it must be =; where it must
-- be one of an array it is, and only one index has that order. A volatile function alone is no bound; a subquery's result is.)
CREATE FUNCTION backfill._overview_queue_depth(
    queue_name text, cap integer,
    OUT ready bigint, OUT scheduled bigint, OUT running bigint,
    OUT oldest_ready_at timestamptz,
    OUT complete boolean)
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.task_identifier, j.priority FROM backfill._job j
          WHERE j.queue_name >= _overview_queue_depth.queue_name AND j.queue_name <= _overview_queue_depth.queue_name
            AND j.queue_name <> '' AND j.lease_expires_at IS NULL
          ORDER BY j.queue_name, j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.task_identifier, n.priority
          FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.task_identifier, j.priority FROM backfill._job j
                WHERE (j.queue_name, j.task_identifier, j.priority) > (_overview_queue_depth.queue_name, l.task_identifier, l.priority)
                  AND j.queue_name <= _overview_queue_depth.queue_name AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.task_identifier, j.priority LIMIT 1) n),
    range AS MATERIALIZED (SELECT l.* FROM leap l LIMIT 101),
    due AS (
        SELECT d.run_at, backfill._claimed(d.tid, d.claimer) AS claimed
          FROM range r
         CROSS JOIN LATERAL (
               SELECT j.run_at, j.tid, j.claimer FROM backfill._job j
                WHERE j.queue_name = ANY (ARRAY[_overview_queue_depth.queue_name]) AND j.task_identifier = r.task_identifier AND j.priority = r.priority
                  AND j.run_at <= (SELECT backfill._now()) AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.run_at, j.id LIMIT _overview_queue_depth.cap + 1) d
         LIMIT 2 * (_overview_queue_depth.cap + 1)),
    later AS (
        SELECT s.run_at
          FROM range r
         CROSS JOIN LATERAL (
               SELECT j.run_at FROM backfill._job j
                WHERE j.queue_name = ANY (ARRAY[_overview_queue_depth.queue_name]) AND j.task_identifier = r.task_identifier AND j.priority = r.priority
                  AND j.run_at > (SELECT backfill._now()) AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.run_at, j.id LIMIT _overview_queue_depth.cap + 1) s
         LIMIT _overview_queue_depth.cap + 1)
    SELECT pg_catalog.count(*) FILTER (WHERE NOT d.claimed), (SELECT pg_catalog.count(*) FROM later),
           pg_catalog.count(*) FILTER (WHERE d.claimed), pg_catalog.min(d.run_at) FILTER (WHERE NOT d.claimed),
           (SELECT pg_catalog.count(*) FROM range) <= 100
      FROM due d;
END;
COMMENT ON FUNCTION backfill._overview_queue_depth(text, integer) IS 'How many jobs of a queue wait or run, up to a cap and one more, and whether that is of all of its ranges.';

-- cap: of each count. Leases are counted among 10,000 of all queues: procedures, then those that last longest.
CREATE FUNCTION backfill._overview_queues_json(queue_names text[], cap integer)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH lease AS MATERIALIZED (
        SELECT s.queue_name, s.run_at, s.state
          FROM (SELECT j.queue_name, j.run_at,
                       CASE WHEN j.lease_expires_at = 'infinity' THEN 'running'
                            WHEN j.lease_expires_at > backfill._now() THEN 'leased'
                            WHEN backfill._claimed(j.tid, j.claimer) THEN 'running'
                            WHEN j.run_at > backfill._now() THEN 'scheduled' ELSE 'ready' END AS state
                  FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at DESC LIMIT 10001) s),
    looked_at AS (SELECT pg_catalog.count(*) <= 10000 AS all_leases FROM lease)
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'queue_name', n.queue_name, 'concurrency', backfill._queue_limit(n.queue_name),
               'rate_limit', q.rate_limit, 'rate_period', extract(epoch FROM q.rate_period), 'max_depth', q.max_depth,
               'paused', coalesce(q.paused, false), 'automatic', coalesce(q.automatic, q.queue_name IS NULL AND n.queue_name NOT IN ('fast', 'bulk')),
               'ready', backfill._page_count(j.ready + l.ready, _overview_queues_json.cap, j.complete AND a.all_leases),
               'scheduled', backfill._page_count(j.scheduled + l.scheduled, _overview_queues_json.cap, j.complete AND a.all_leases),
               'running', j.running + l.running, 'leased', l.leased, 'cut_off', NOT (j.complete AND a.all_leases),
               'oldest_ready_at', least(j.oldest_ready_at, l.oldest_ready_at)) ORDER BY n.place), '[]')
      FROM looked_at a
     CROSS JOIN pg_catalog.unnest(_overview_queues_json.queue_names) WITH ORDINALITY AS n (queue_name, place)
      LEFT JOIN backfill.queue q ON q.queue_name = n.queue_name
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) FILTER (WHERE s.state = 'ready') AS ready, pg_catalog.count(*) FILTER (WHERE s.state = 'scheduled') AS scheduled,
                  pg_catalog.count(*) FILTER (WHERE s.state = 'running') AS running, pg_catalog.count(*) FILTER (WHERE s.state = 'leased') AS leased,
                  pg_catalog.min(s.run_at) FILTER (WHERE s.state = 'ready') AS oldest_ready_at
             FROM lease s WHERE s.queue_name = n.queue_name) l
     CROSS JOIN LATERAL backfill._overview_queue_depth(n.queue_name, _overview_queues_json.cap) j;
END;
COMMENT ON FUNCTION backfill._overview_queues_json(text[], integer) IS 'These queues, with their limits and how many jobs they have, as JSON.';

-- The next names in the order of names. Each source gives as many, so none that is missing could come before the last.
CREATE FUNCTION backfill._overview_queue_names(max_names integer, after text)
RETURNS SETOF text LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.queue_name FROM backfill._job j
          WHERE j.queue_name > _overview_queue_names.after AND j.queue_name <> '' AND j.lease_expires_at IS NULL
          ORDER BY j.queue_name, j.task_identifier LIMIT 1)
        UNION ALL
        SELECT n.queue_name FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.queue_name FROM backfill._job j
                WHERE j.queue_name > l.queue_name AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.task_identifier LIMIT 1) n)
    SELECT n.queue_name
      FROM ((SELECT l.queue_name FROM leap l LIMIT _overview_queue_names.max_names)
            UNION
            (SELECT q.queue_name FROM backfill.queue q WHERE q.queue_name > _overview_queue_names.after ORDER BY q.queue_name LIMIT _overview_queue_names.max_names)
            UNION
            SELECT l.queue_name
              FROM (SELECT j.queue_name FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at LIMIT 10001) l
             WHERE l.queue_name > _overview_queue_names.after
            UNION
            SELECT b.queue_name FROM (VALUES ('fast' COLLATE "C"), ('bulk')) AS b (queue_name) WHERE b.queue_name > _overview_queue_names.after) n
     ORDER BY n.queue_name LIMIT _overview_queue_names.max_names;
END;
COMMENT ON FUNCTION backfill._overview_queue_names(integer, text) IS 'The names of queues that are configured or have jobs: the next ones after a name.';

-- A name holds the text that is searched for, in whatever case.
CREATE FUNCTION backfill._overview_page_of_names(
    names text[],
    looked_at integer,
    size integer,
    search text,
    among text[],
    OUT page text[],
    OUT next text,
    OUT cut_off boolean)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.found[1:_overview_page_of_names.size], CASE WHEN c.cut_off THEN _overview_page_of_names.names[_overview_page_of_names.looked_at]
                                                WHEN pg_catalog.cardinality(f.found) > _overview_page_of_names.size THEN f.found[_overview_page_of_names.size] END, c.cut_off
      FROM (SELECT ARRAY(SELECT n.name FROM pg_catalog.unnest(_overview_page_of_names.names) WITH ORDINALITY AS n (name, place)
                          WHERE (_overview_page_of_names.search IS NULL OR pg_catalog.strpos(pg_catalog.lower(n.name), pg_catalog.lower(_overview_page_of_names.search)) > 0)
                            AND (_overview_page_of_names.among IS NULL OR n.name = ANY (_overview_page_of_names.among))
                          ORDER BY n.place) AS found) f
     CROSS JOIN LATERAL (SELECT pg_catalog.cardinality(f.found) <= _overview_page_of_names.size
                                AND pg_catalog.cardinality(_overview_page_of_names.names) >= _overview_page_of_names.looked_at AS cut_off) c;
END;
COMMENT ON FUNCTION backfill._overview_page_of_names(text[], integer, integer, text, text[]) IS
    'The first names that match, among these if any are given, and where to go on. cut_off: looked_at names were looked at, and may not have been all.';

CREATE FUNCTION backfill.list_queues(search text DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    looked_at constant integer := CASE WHEN search IS NULL THEN size + 1 ELSE 5000 END;
    found record;
BEGIN
    found := backfill._overview_page_of_names(ARRAY(SELECT n.* FROM backfill._overview_queue_names(looked_at, coalesce((backfill._page_place('queues', cursor)).name, '')) n),
                                     looked_at, size, search, NULL);
    -- All counts of a page together look at 50,000 jobs or so.
    RETURN pg_catalog.jsonb_build_object('queues', backfill._overview_queues_json(found.page, least(10000, 50000 / size)),
                                         'next', CASE WHEN found.next IS NOT NULL THEN backfill._page_cursor('queues', NULL, NULL, found.next) END,
                                         'cut_off', found.cut_off);
END;
$$;
COMMENT ON FUNCTION backfill.list_queues(text, text, integer) IS
    'A page of the queues that are configured or have jobs, by name, with their limits and counts, as JSON. search: a part of the name, in whatever case. The more queues a page has, the lower counts are capped.';

CREATE FUNCTION backfill.queue_details(queue_name text)
RETURNS jsonb LANGUAGE sql STABLE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT q.queue
      FROM (SELECT backfill._overview_queues_json(ARRAY[queue_details.queue_name], 10000) -> 0 AS queue) q
     WHERE queue_details.queue_name IN ('fast', 'bulk')
        OR EXISTS (SELECT FROM backfill.queue c WHERE c.queue_name = queue_details.queue_name)
        OR (q.queue -> 'ready' ->> 'count')::bigint + (q.queue -> 'scheduled' ->> 'count')::bigint
           + (q.queue ->> 'running')::bigint + (q.queue ->> 'leased')::bigint > 0;
END;
COMMENT ON FUNCTION backfill.queue_details(text) IS 'One queue as list_queues() shows it; NULL if it is not configured and has no jobs.';
