-- Pages (docs/pages.md) over all nodes: each node gives its page, and they are put together. A cursor of the router has one of each
-- node, so that the next page goes on at each where this one has stopped. Nodes that could not be asked are in "missing".

CREATE FUNCTION backfill._page_cursors(list text, cursor text)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cursors jsonb := '{}';
BEGIN
    IF cursor IS NULL THEN
        RETURN cursors;
    END IF;
    BEGIN
        cursors := NULL;
        IF pg_catalog.starts_with(cursor, 'nodes.' || list || '.') THEN
            cursors := pg_catalog.convert_from(pg_catalog.decode(pg_catalog.substr(cursor, pg_catalog.length(list) + 8), 'hex'),
                                               pg_catalog.getdatabaseencoding())::jsonb;
        END IF;
    EXCEPTION WHEN data_exception THEN
        NULL;
    END;
    IF pg_catalog.jsonb_typeof(cursors) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'cursor is not valid: "%"', pg_catalog.left(cursor, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = pg_catalog.format('Give what the last page of the same list (%s) of this router had as "next", or leave it out for the first page.', list);
    END IF;
    RETURN cursors;
END;
$$;
COMMENT ON FUNCTION backfill._page_cursors(text, text) IS
    'What a cursor of the router has for each node: a text is the node''s cursor; anything else says that the node has no more, and how many it had in all.';

-- As backfill._page_cursor() makes them on a node.
CREATE FUNCTION backfill._page_cursor_behind(list text, item jsonb)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT _page_cursor_behind.list || '.' || pg_catalog.encode(pg_catalog.convert_to((CASE _page_cursor_behind.list
               WHEN 'jobs' THEN pg_catalog.jsonb_build_array(NULL, (_page_cursor_behind.item ->> 'id')::bigint, NULL)
               WHEN 'letters' THEN pg_catalog.jsonb_build_array(_page_cursor_behind.item -> 'failed_at', (_page_cursor_behind.item ->> 'id')::bigint, NULL)
               WHEN 'history' THEN pg_catalog.jsonb_build_array(_page_cursor_behind.item -> 'finished_at', (_page_cursor_behind.item ->> 'id')::bigint, NULL)
               WHEN 'audit' THEN pg_catalog.jsonb_build_array(_page_cursor_behind.item -> 'at', (_page_cursor_behind.item ->> 'id')::bigint, NULL)
               WHEN 'queues' THEN pg_catalog.jsonb_build_array(NULL, NULL, _page_cursor_behind.item -> 'queue_name')
               WHEN 'tasks' THEN pg_catalog.jsonb_build_array(NULL, NULL, _page_cursor_behind.item -> 'task_identifier') END)::text,
               pg_catalog.getdatabaseencoding()), 'hex');
END;
COMMENT ON FUNCTION backfill._page_cursor_behind(text, jsonb) IS 'The cursor of a node''s list that goes on behind this item.';

CREATE FUNCTION backfill._page_stop(next text, OUT at timestamptz, OUT name text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT (p.place ->> 0)::timestamptz, p.place ->> 2
      FROM (SELECT pg_catalog.convert_from(pg_catalog.decode(pg_catalog.split_part(_page_stop.next, '.', 2), 'hex'), pg_catalog.getdatabaseencoding())::jsonb AS place) p;
END;
COMMENT ON FUNCTION backfill._page_stop(text) IS 'Up to where a node has looked whose list goes on at this cursor; a list of jobs does not say.';

-- Each node's items come in its order; the next one is that of the node whose next one is the newest, or the first by name. Where a node
-- has not looked at all that it has, nothing behind that place is shown.
CREATE FUNCTION backfill._page_merge(list text, size integer, pages jsonb, cursors jsonb)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    items constant text := CASE list WHEN 'audit' THEN 'entries' ELSE list END;
    by_time constant text := CASE list WHEN 'jobs' THEN 'created_at' WHEN 'letters' THEN 'failed_at' WHEN 'history' THEN 'finished_at' WHEN 'audit' THEN 'at' END;
    by_name constant text := CASE list WHEN 'queues' THEN 'queue_name' WHEN 'tasks' THEN 'task_identifier' END;
    merged jsonb;
BEGIN
    WITH page AS MATERIALIZED (
        SELECT p.number, p.node, p.page, p.page ->> 'next' AS next, (p.page ->> 'cut_off')::boolean AS cut_off, coalesce(p.missing, false) AS missing
          FROM pg_catalog.jsonb_to_recordset(pages) AS p (number integer, node text, page jsonb, missing boolean)),
    item AS (
        SELECT p.number, i.place, i.item || pg_catalog.jsonb_build_object('node', p.node) AS item,
               (i.item ->> by_time)::timestamptz AS at, i.item ->> by_name AS name
          FROM page p CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(p.page -> items) WITH ORDINALITY AS i (item, place)
        UNION ALL
        SELECT p.number, 1000000, NULL, s.at, s.name
          FROM page p CROSS JOIN LATERAL backfill._page_stop(p.next) s WHERE p.cut_off AND p.next IS NOT NULL AND list <> 'jobs'),
    ordered AS (
        SELECT i.number, i.place, i.item, pg_catalog.row_number() OVER w AS nr, pg_catalog.count(*) FILTER (WHERE i.item IS NULL) OVER w AS stops
          FROM (SELECT k.*, pg_catalog.min(k.at) OVER (PARTITION BY k.number ORDER BY k.place) AS key FROM item k) i
        WINDOW w AS (ORDER BY i.key DESC, i.name COLLATE "C", i.number, i.place ROWS UNBOUNDED PRECEDING)),
    shown AS MATERIALIZED (SELECT o.* FROM ordered o WHERE o.stops = 0 AND o.nr <= size),
    went_on AS MATERIALIZED (
        SELECT p.*, n.shown,
               CASE WHEN p.missing THEN cursors -> p.number::text
                    WHEN n.shown = pg_catalog.jsonb_array_length(p.page -> items) THEN coalesce(pg_catalog.to_jsonb(p.next), p.page -> 'total', 'null')
                    WHEN n.shown = 0 THEN cursors -> p.number::text
                    ELSE pg_catalog.to_jsonb(backfill._page_cursor_behind(list, p.page -> items -> (n.shown::integer - 1))) END AS cursor,
               NOT p.missing AND (p.next IS NOT NULL OR n.shown < pg_catalog.jsonb_array_length(p.page -> items)) AS has_more
          FROM page p CROSS JOIN LATERAL (SELECT pg_catalog.count(*) AS shown FROM shown s WHERE s.number = p.number) n),
    total AS (
        SELECT (p.page -> 'total' ->> 'count')::bigint AS count, p.missing OR (p.page -> 'total' ->> 'capped')::boolean AS capped FROM page p
        UNION ALL
        SELECT (c.value ->> 'count')::bigint, (c.value ->> 'capped')::boolean FROM pg_catalog.jsonb_each(cursors) c WHERE pg_catalog.jsonb_typeof(c.value) = 'object')
    SELECT pg_catalog.jsonb_build_object(
               items, coalesce((SELECT pg_catalog.jsonb_agg(s.item ORDER BY s.nr) FROM shown s), '[]'),
               'next', CASE WHEN (SELECT pg_catalog.bool_or(w.has_more) FROM went_on w) THEN
                   'nodes.' || list || '.' || pg_catalog.encode(pg_catalog.convert_to((cursors ||
                       (SELECT pg_catalog.jsonb_object_agg(w.number, w.cursor) FROM went_on w WHERE w.cursor IS NOT NULL))::text, pg_catalog.getdatabaseencoding()), 'hex') END,
               'cut_off', coalesce((SELECT pg_catalog.bool_or(w.has_more) AND (SELECT pg_catalog.count(*) FROM shown) < size
                                           OR pg_catalog.bool_or(w.cut_off AND w.next IS NULL) FROM went_on w), false),
               'missing', coalesce((SELECT pg_catalog.jsonb_agg(p.node ORDER BY p.number) FROM page p WHERE p.missing), '[]'))
           || CASE WHEN list IN ('jobs', 'letters') THEN pg_catalog.jsonb_build_object('total',
                   (SELECT pg_catalog.jsonb_build_object('count', coalesce(pg_catalog.sum(t.count), 0), 'capped', coalesce(pg_catalog.bool_or(t.capped), false)) FROM total t))
                   ELSE '{}' END
      INTO merged;
    RETURN merged;
END;
$$;
COMMENT ON FUNCTION backfill._page_merge(text, integer, jsonb, jsonb) IS 'One page of those that the nodes have given.';

SELECT backfill._make_merged('list_jobs', 'task_identifier text DEFAULT NULL, payload jsonb DEFAULT NULL, queue_name text DEFAULT NULL, min_priority integer DEFAULT NULL, max_priority integer DEFAULT NULL, job_key text DEFAULT NULL, state text DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50',
    'jsonb', 'RETURN backfill._page_merge(''jobs'', coalesce(list_jobs."limit", 50), pages, cursors);', 'A page of the jobs of all nodes, those that were created last first.', 'jobs');
SELECT backfill._make_merged('list_dlq', 'sqlstate text DEFAULT NULL, task_identifier text DEFAULT NULL, queue_name text DEFAULT NULL, job_key text DEFAULT NULL, failed_after timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL, search text DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50',
    'jsonb', 'RETURN backfill._page_merge(''letters'', coalesce(list_dlq."limit", 50), pages, cursors);', 'A page of the dead letters of all nodes, the newest first.', 'letters');
SELECT backfill._make_merged('list_history', 'task_identifier text DEFAULT NULL, queue_name text DEFAULT NULL, job_key text DEFAULT NULL, outcome text DEFAULT NULL, finished_after timestamptz DEFAULT NULL, finished_before timestamptz DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50',
    'jsonb', 'RETURN backfill._page_merge(''history'', coalesce(list_history."limit", 50), pages, cursors);', 'A page of the jobs that have ended on any node, the latest first.', 'history');
SELECT backfill._make_merged('list_audit', 'actor text DEFAULT NULL, action text DEFAULT NULL, object text DEFAULT NULL, after timestamptz DEFAULT NULL, before timestamptz DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50',
    'jsonb', 'RETURN backfill._page_merge(''audit'', coalesce(list_audit."limit", 50), pages, cursors);', 'A page of the view audit, the newest first.', 'audit');
SELECT backfill._make_merged('list_queues', 'search text DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50',
    'jsonb', 'RETURN backfill._page_merge(''queues'', coalesce(list_queues."limit", 50), pages, cursors);', 'A page of the queues of all nodes, by name: those that are on several nodes are there once for each.', 'queues');
SELECT backfill._make_merged('list_tasks', 'search text DEFAULT NULL, problem_only boolean DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50',
    'jsonb', 'RETURN backfill._page_merge(''tasks'', coalesce(list_tasks."limit", 50), pages, cursors);', 'A page of the tasks of all nodes, by name, each once for each node.', 'tasks');

-- Those that come first on each node come first.
SELECT backfill._make_merged('find_job_ids', 'max_jobs integer, task_identifier text DEFAULT NULL, payload jsonb DEFAULT NULL, queue_name text DEFAULT NULL, min_priority integer DEFAULT NULL, max_priority integer DEFAULT NULL, job_key text DEFAULT NULL, state text DEFAULT NULL',
    'SETOF bigint', 'RETURN QUERY SELECT f FROM backfill._page_ids(pages, find_job_ids.max_jobs) f;', 'The ids of the jobs of all nodes that list_jobs() shows with this filter.', remote => 'ARRAY(SELECT f FROM {call} f)');
SELECT backfill._make_merged('find_dlq_ids', 'max_letters integer, sqlstate text DEFAULT NULL, task_identifier text DEFAULT NULL, queue_name text DEFAULT NULL, job_key text DEFAULT NULL, failed_after timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL, search text DEFAULT NULL',
    'SETOF bigint', 'RETURN QUERY SELECT f FROM backfill._page_ids(pages, find_dlq_ids.max_letters) f;', 'The ids of the dead letters of all nodes that list_dlq() shows with this filter.', remote => 'ARRAY(SELECT f FROM {call} f)');
CREATE FUNCTION backfill._page_ids(pages jsonb, max_ids integer)
RETURNS SETOF bigint LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT i.id::bigint
      FROM pg_catalog.jsonb_to_recordset(_page_ids.pages) AS p (number integer, page jsonb)
     CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(p.page) WITH ORDINALITY AS i (id, place)
     ORDER BY i.place, p.number LIMIT _page_ids.max_ids;
END;
COMMENT ON FUNCTION backfill._page_ids(jsonb, integer) IS 'The ids that the nodes have found.';

-- --- What is added up ---

CREATE FUNCTION backfill._page_sum(pages jsonb, VARIADIC path text[])
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object('count', coalesce(pg_catalog.sum((p.page #>> (_page_sum.path || 'count'::text))::bigint), 0),
                                         'capped', coalesce(pg_catalog.bool_or(p.missing OR (p.page #>> (_page_sum.path || 'capped'::text))::boolean), false))
      FROM pg_catalog.jsonb_to_recordset(_page_sum.pages) AS p (page jsonb, missing boolean);
END;
COMMENT ON FUNCTION backfill._page_sum(jsonb, text[]) IS 'A count of all nodes; capped: it is more, because a node does not know, or is missing.';

CREATE FUNCTION backfill._page_missing(pages jsonb)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(p.node ORDER BY p.number), '[]')
      FROM pg_catalog.jsonb_to_recordset(_page_missing.pages) AS p (number integer, node text, missing boolean) WHERE p.missing;
END;
COMMENT ON FUNCTION backfill._page_missing(jsonb) IS 'The nodes that could not be asked.';

CREATE FUNCTION backfill._page_items(pages jsonb, items text)
RETURNS TABLE (number integer, place bigint, item jsonb)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT p.number, i.place, i.item || pg_catalog.jsonb_build_object('node', p.node)
      FROM pg_catalog.jsonb_to_recordset(_page_items.pages) AS p (number integer, node text, page jsonb)
     CROSS JOIN LATERAL pg_catalog.jsonb_array_elements(p.page -> _page_items.items) WITH ORDINALITY AS i (item, place);
END;
COMMENT ON FUNCTION backfill._page_items(jsonb, text) IS 'What the nodes list, with their names.';

CREATE FUNCTION backfill._page_groups(pages jsonb)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'groups', coalesce(pg_catalog.jsonb_agg(g.entry ORDER BY g.letters DESC, g.newest DESC, g.task_identifier, g.sqlstate), '[]'),
               'cut_off', (SELECT coalesce(pg_catalog.bool_or((p.page ->> 'cut_off')::boolean), false) FROM pg_catalog.jsonb_to_recordset(_page_groups.pages) AS p (page jsonb)),
               'missing', backfill._page_missing(_page_groups.pages))
      FROM (SELECT i.item ->> 'task_identifier' AS task_identifier, i.item ->> 'sqlstate' AS sqlstate,
                   pg_catalog.sum((i.item #>> '{letters,count}')::bigint) AS letters, pg_catalog.max((i.item ->> 'newest')::timestamptz) AS newest,
                   pg_catalog.jsonb_build_object(
                       'task_identifier', i.item ->> 'task_identifier', 'sqlstate', i.item ->> 'sqlstate',
                       'letters', pg_catalog.jsonb_build_object('count', pg_catalog.sum((i.item #>> '{letters,count}')::bigint),
                                                                'capped', pg_catalog.bool_or((i.item #>> '{letters,capped}')::boolean)),
                       'oldest', pg_catalog.min((i.item ->> 'oldest')::timestamptz), 'newest', pg_catalog.max((i.item ->> 'newest')::timestamptz),
                       'sample', (pg_catalog.array_agg(i.item -> 'sample' ORDER BY (i.item ->> 'newest')::timestamptz DESC))[1]) AS entry
              FROM backfill._page_items(_page_groups.pages, 'groups') i GROUP BY i.item ->> 'task_identifier', i.item ->> 'sqlstate') g;
END;
COMMENT ON FUNCTION backfill._page_groups(jsonb) IS 'The groups of dead letters of all nodes.';
SELECT backfill._make_merged('dlq_groups', 'failed_after timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL', 'jsonb', 'RETURN backfill._page_groups(pages);', 'The dead letters of all nodes by task and SQLSTATE, the largest group first.');

CREATE FUNCTION backfill._page_schedules(pages jsonb)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object('schedules', coalesce(pg_catalog.jsonb_agg(i.item ORDER BY i.item ->> 'name' COLLATE "C", i.number), '[]'),
                                         'missing', backfill._page_missing(_page_schedules.pages))
      FROM backfill._page_items(_page_schedules.pages, 'schedules') i;
END;
COMMENT ON FUNCTION backfill._page_schedules(jsonb) IS 'The schedules of all nodes.';
SELECT backfill._make_merged('list_schedules', '', 'jsonb', 'RETURN backfill._page_schedules(pages);', 'The schedules of all nodes.');

-- What a handler enqueues stays on its node, so that a queue may have jobs also where it has no limits.
CREATE FUNCTION backfill._page_queue(pages jsonb, home smallint)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT (pg_catalog.array_agg(p.page ORDER BY p.number = _page_queue.home DESC NULLS LAST, p.number) FILTER (WHERE p.page IS NOT NULL))[1]
           || pg_catalog.jsonb_build_object(
               'ready', backfill._page_sum(_page_queue.pages, 'ready'), 'scheduled', backfill._page_sum(_page_queue.pages, 'scheduled'),
               'running', pg_catalog.sum((p.page ->> 'running')::bigint), 'leased', pg_catalog.sum((p.page ->> 'leased')::bigint),
               'oldest_ready_at', pg_catalog.min((p.page ->> 'oldest_ready_at')::timestamptz),
               'node', (pg_catalog.array_agg(p.node) FILTER (WHERE p.number = _page_queue.home))[1],
               'missing', backfill._page_missing(_page_queue.pages))
      FROM pg_catalog.jsonb_to_recordset(_page_queue.pages) AS p (number integer, node text, page jsonb);
END;
COMMENT ON FUNCTION backfill._page_queue(jsonb, smallint) IS 'One queue: its limits where it has them, its jobs wherever they are.';
SELECT backfill._make_merged('queue_details', 'queue_name text', 'jsonb',
    'RETURN backfill._page_queue(pages, (SELECT p.node FROM backfill.slot p WHERE p.slot = backfill._slot_of(queue_details.queue_name, NULL)));',
    'One queue, with its jobs on all nodes; node: that of its slot, none for fast and bulk, whose limits are those of each node.');

-- How many took how long: the buckets have the same bounds everywhere; a node whose library is not preloaded has none.
CREATE FUNCTION backfill._page_histogram(pages jsonb, histogram text)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'bounds', coalesce((SELECT p.page -> _page_histogram.histogram -> 'bounds' FROM pg_catalog.jsonb_to_recordset(_page_histogram.pages) AS p (page jsonb)
                                    ORDER BY pg_catalog.jsonb_array_length(p.page -> _page_histogram.histogram -> 'bounds') DESC NULLS LAST LIMIT 1), '[]'),
               'counts', (SELECT coalesce(pg_catalog.jsonb_agg(b.jobs ORDER BY b.place), '[]')
                            FROM (SELECT c.place, pg_catalog.sum(c.jobs::numeric) AS jobs
                                    FROM pg_catalog.jsonb_to_recordset(_page_histogram.pages) AS p (page jsonb)
                                   CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(p.page -> _page_histogram.histogram -> 'counts') WITH ORDINALITY AS c (jobs, place)
                                   GROUP BY c.place) b));
END;
COMMENT ON FUNCTION backfill._page_histogram(jsonb, text) IS 'A histogram of all nodes.';

CREATE FUNCTION backfill._page_overview(pages jsonb)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
        'at', pg_catalog.clock_timestamp(), 'database', pg_catalog.current_database(), 'version', backfill.version(),
        'server_version', pg_catalog.current_setting('server_version'), 'in_recovery', pg_catalog.pg_is_in_recovery(),
        'queues', (SELECT coalesce(pg_catalog.jsonb_agg(q.item ORDER BY (q.item #>> '{ready,count}')::bigint DESC, q.place, q.number), '[]')
                     FROM (SELECT i.* FROM backfill._page_items(_page_overview.pages, 'queues') i
                            ORDER BY (i.item #>> '{ready,count}')::bigint DESC, i.place, i.number LIMIT 10) q),
        'workers', (SELECT coalesce(pg_catalog.jsonb_agg(i.item ORDER BY i.number, i.place), '[]') FROM backfill._page_items(_page_overview.pages, 'workers') i),
        'jobs', pg_catalog.jsonb_build_object(
            'ready', backfill._page_sum(_page_overview.pages, 'jobs', 'ready'), 'scheduled', backfill._page_sum(_page_overview.pages, 'jobs', 'scheduled'),
            'running', coalesce(pg_catalog.sum((p.page #>> '{jobs,running}')::bigint), 0), 'leased', coalesce(pg_catalog.sum((p.page #>> '{jobs,leased}')::bigint), 0),
            'estimated', pg_catalog.sum((p.page #>> '{jobs,estimated}')::bigint), 'dead', backfill._page_sum(_page_overview.pages, 'jobs', 'dead')),
        'bands', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('band', b.band, 'ready', b.ready) ORDER BY b.place), '[]')
                    FROM (SELECT i.item ->> 'band' AS band, pg_catalog.min(i.place) AS place,
                                 pg_catalog.jsonb_build_object('count', pg_catalog.sum((i.item #>> '{ready,count}')::bigint),
                                                               'capped', pg_catalog.bool_or((i.item #>> '{ready,capped}')::boolean)) AS ready
                            FROM backfill._page_items(_page_overview.pages, 'bands') i GROUP BY i.item ->> 'band') b),
        'oldest_ready_at', pg_catalog.min((p.page ->> 'oldest_ready_at')::timestamptz),
        'dead_today', backfill._page_sum(_page_overview.pages, 'dead_today'),
        'counters', (SELECT coalesce(pg_catalog.jsonb_object_agg(c.key, c.jobs::text), '{}')
                       FROM (SELECT k.key, pg_catalog.sum(k.value::numeric) AS jobs
                               FROM pg_catalog.jsonb_to_recordset(_page_overview.pages) AS n (page jsonb)
                              CROSS JOIN LATERAL pg_catalog.jsonb_each_text(n.page -> 'counters') k GROUP BY k.key) c),
        'wait', backfill._page_histogram(_page_overview.pages, 'wait'), 'run', backfill._page_histogram(_page_overview.pages, 'run'),
        'missing', backfill._page_missing(_page_overview.pages))
      FROM pg_catalog.jsonb_to_recordset(_page_overview.pages) AS p (page jsonb);
END;
COMMENT ON FUNCTION backfill._page_overview(jsonb) IS 'The overviews of all nodes as one.';
SELECT backfill._make_merged('overview', '', 'jsonb', 'RETURN backfill._page_overview(pages);', 'The overview of all nodes together.');
