-- Pages of jobs. A search looks for an index by which it sees at most 10,000 candidates, all of them, and sorts what
-- matches: then the count is exact. Where every index leads to more, it walks down the ids from the newest job on, and
-- ends after 50,000 of them. (The queries are put together from fixed texts; values are parameters of theirs.)

-- Where a search looks. Parameters: $1 task_identifier, $2 payload, $3 queue_name, $4 and $5 priorities, $6 job_key,
-- $7 state, $8 the time, $9 and $10 the ranges, $11 a row more than may be seen. Each text has the order of one index,
-- and ranges where = would do, so that no other index, whatever the statistics say, can serve it.
CREATE FUNCTION backfill._page_job_source(source text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE _page_job_source.source
           WHEN 'all' THEN
               '(SELECT j.* FROM backfill._job j ORDER BY j.id DESC LIMIT $11)'
           WHEN 'key' THEN
               '(SELECT j.* FROM backfill._job j WHERE j.job_key >= $6 AND j.job_key <= $6 ORDER BY j.job_key LIMIT $11)'
           WHEN 'queue' THEN
               '(SELECT j.* FROM backfill._job j
                  WHERE j.queue_name >= $3 AND j.queue_name <= $3 AND j.queue_name <> '''' AND j.lease_expires_at IS NULL
                  ORDER BY j.queue_name, j.task_identifier, j.priority, j.run_at, j.id LIMIT $11)'
           WHEN 'ranges' THEN
               '(SELECT j.* FROM ROWS FROM (pg_catalog.unnest($9::text[]), pg_catalog.unnest($10::smallint[])) AS r (task_identifier, priority)
                  CROSS JOIN LATERAL (SELECT j.* FROM backfill._job j
                        WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                          AND (coalesce($7, ''scheduled'') = ''scheduled'' OR j.run_at <= $8)
                          AND (coalesce($7, ''ready'') <> ''scheduled'' OR j.run_at > $8)
                        ORDER BY j.run_at, j.id LIMIT $11) j LIMIT $11)'
           WHEN 'fronts' THEN -- where the running jobs are likely to be
               '(SELECT j.* FROM ROWS FROM (pg_catalog.unnest($9::text[]), pg_catalog.unnest($10::smallint[])) AS r (task_identifier, priority)
                  CROSS JOIN LATERAL (SELECT j.* FROM backfill._job j
                        WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                        ORDER BY j.run_at, j.id LIMIT 1000) j LIMIT $11)
                UNION ALL (SELECT j.* FROM backfill._job j WHERE j.id = ANY (ARRAY(SELECT w.job_id FROM backfill._workers() w)))'
           WHEN 'leases' THEN
               '(SELECT j.* FROM backfill._job j
                  WHERE j.lease_expires_at IS NOT NULL AND (coalesce($7, ''leased'') NOT IN (''scheduled'', ''ready'') OR j.lease_expires_at <= $8)
                  ORDER BY j.lease_expires_at LIMIT $11)'
           END;
END;
COMMENT ON FUNCTION backfill._page_job_source(text) IS 'The text of a query that lists candidates of a search for jobs by one index.';

-- What matches; the parameters are the same.
CREATE FUNCTION backfill._page_job_filter()
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT '($1 IS NULL OR j.task_identifier = $1) AND ($3 IS NULL OR j.queue_name = $3) AND ($6 IS NULL OR j.job_key = $6)
        AND ($4 IS NULL OR j.priority >= $4) AND ($5 IS NULL OR j.priority <= $5)
        AND ($7 IS NULL OR $7 = CASE WHEN j.lease_expires_at = ''infinity'' THEN ''running''
                                     WHEN j.lease_expires_at > $8 THEN ''leased''
                                     WHEN backfill._claimed(j.tid, j.claimer) THEN ''running''
                                     WHEN j.run_at > $8 THEN ''scheduled''
                                     ELSE ''ready'' END)
        AND ($2 IS NULL OR j.payload @> $2)';
END;
COMMENT ON FUNCTION backfill._page_job_filter() IS 'The text of the condition of a search for jobs; the states are those of the view backfill.jobs.';

-- The ways to look, the best first. is_exact: it lists nothing that the filter refuses. may_be_cut: it may miss some.
CREATE FUNCTION backfill._page_job_sources(
    task_identifier text,
    payload jsonb,
    queue_name text,
    min_priority integer,
    max_priority integer,
    job_key text,
    state text,
    ranges_known boolean,
    OUT name text,
    OUT query text,
    OUT is_exact boolean,
    OUT may_be_cut boolean)
RETURNS SETOF record LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 3 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT w.name, backfill._page_job_source(w.name) || CASE WHEN w.and_leases THEN ' UNION ALL ' || backfill._page_job_source('leases') ELSE '' END,
           w.is_exact AND _page_job_sources.payload IS NULL, w.name = 'fronts'
      FROM (VALUES
           (1, 'key', false, job_key IS NOT NULL, false),
           (1, 'leases', false, job_key IS NULL AND state = 'leased', pg_catalog.num_nonnulls(task_identifier, queue_name, min_priority, max_priority) = 0),
           (1, 'queue', true, job_key IS NULL AND state IS DISTINCT FROM 'leased' AND queue_name <> '',
            pg_catalog.num_nonnulls(task_identifier, state, min_priority, max_priority) = 0),
           (2, 'ranges', true, job_key IS NULL AND state IS DISTINCT FROM 'leased' AND ranges_known
                           AND pg_catalog.num_nonnulls(task_identifier, state, min_priority, max_priority) > 0, queue_name IS NULL AND state IS DISTINCT FROM 'running'),
           (3, 'all', false, job_key IS NULL AND state IS DISTINCT FROM 'leased',
            pg_catalog.num_nonnulls(task_identifier, queue_name, state, min_priority, max_priority) = 0),
           (4, 'fronts', true, job_key IS NULL AND state = 'running', false)) AS w (place, name, and_leases, fits, is_exact)
     WHERE w.fits
     ORDER BY w.place;
END;
COMMENT ON FUNCTION backfill._page_job_sources(text, jsonb, text, integer, integer, text, text, boolean) IS
    'The queries by which a search for jobs looks, in this order, until one lists so few candidates that it can look at them all.';

CREATE FUNCTION backfill._page_check_job_filter(state text, payload jsonb)
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._page_check_word('state', state, '{scheduled,ready,running,leased}');
    IF payload IS NOT NULL AND NOT pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN
        RAISE EXCEPTION 'permission denied to search payloads'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave out payload: only consumers and admins may read payloads.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._page_check_job_filter(text, jsonb) IS 'Refuses a filter of jobs that says nothing, or asks for what the caller may not see.';

-- Down the ids, as long as that may take.
CREATE FUNCTION backfill._page_walk_jobs(
    max_jobs integer,
    task_identifier text,
    payload jsonb,
    queue_name text,
    min_priority integer,
    max_priority integer,
    job_key text,
    state text,
    below bigint,
    OUT job_ids bigint[],
    OUT next bigint,
    OUT cut_off boolean)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stop bigint; -- the first job that is not looked at
BEGIN
    IF payload IS NOT NULL THEN
        stop := (SELECT w.id
                   FROM (SELECT j.id, pg_catalog.row_number() OVER newer AS jobs, pg_catalog.sum(j.payload_size) OVER newer AS bytes
                           FROM backfill._job j WHERE j.id < below
                         WINDOW newer AS (ORDER BY j.id DESC ROWS UNBOUNDED PRECEDING)) w
                  WHERE w.jobs > 10000 OR w.bytes > 8 * 1024 * 1024 AND w.jobs > 1
                  ORDER BY w.id DESC LIMIT 1);
    ELSIF pg_catalog.num_nonnulls(task_identifier, queue_name, job_key, state, min_priority, max_priority) > 0 THEN
        stop := (SELECT j.id FROM backfill._job j WHERE j.id < below ORDER BY j.id DESC LIMIT 1 OFFSET 50000);
    END IF;
    EXECUTE pg_catalog.format(
        'SELECT ARRAY(SELECT j.id FROM backfill._job j WHERE j.id < $9 AND j.id > $10 AND %s ORDER BY j.id DESC LIMIT $11)', backfill._page_job_filter())
       INTO job_ids
      USING task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, backfill._now(), below,
            coalesce(stop, -9223372036854775808), max_jobs + 1;
    cut_off := stop IS NOT NULL AND pg_catalog.cardinality(job_ids) <= max_jobs;
    next := CASE WHEN cut_off THEN stop + 1 ELSE job_ids[max_jobs + 1] + 1 END;
    job_ids := job_ids[1:max_jobs];
END;
$$;
COMMENT ON FUNCTION backfill._page_walk_jobs(integer, text, jsonb, text, integer, integer, text, text, bigint) IS
    'The newest jobs below an id that match, among at most 50,000 (10,000, and 8 MB, if payloads are searched).';

-- total: how many jobs match in all, as far as that is known.
CREATE FUNCTION backfill._page_find_jobs(
    max_jobs integer,
    task_identifier text,
    payload jsonb,
    queue_name text,
    min_priority integer,
    max_priority integer,
    job_key text,
    state text,
    below bigint,
    OUT job_ids bigint[],
    OUT next bigint,
    OUT cut_off boolean,
    OUT total jsonb)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cap constant integer := 10000;
    ranges record;
    source record;
    seen bigint;
    unleased bigint;
    bytes bigint;
    at_least integer := 0;
BEGIN
    ranges := backfill._page_job_ranges(2000, task_identifier, min_priority, max_priority);
    FOR source IN SELECT * FROM backfill._page_job_sources(task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, ranges.complete) LOOP
        EXECUTE pg_catalog.format('SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE j.lease_expires_at IS NULL),
                                          coalesce(pg_catalog.sum(CASE WHEN $2 IS NOT NULL THEN j.payload_size END), 0) FROM (%s) j', source.query)
           INTO seen, unleased, bytes
          USING task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, backfill._now(),
                ranges.task_identifiers, ranges.priorities, cap + 1;
        IF source.may_be_cut OR seen <= cap AND bytes <= 8 * 1024 * 1024 THEN
            EXECUTE pg_catalog.format('SELECT ARRAY(SELECT DISTINCT j.id FROM (%s) j WHERE %s ORDER BY j.id DESC)', source.query, backfill._page_job_filter())
               INTO job_ids
              USING task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, backfill._now(),
                    ranges.task_identifiers, ranges.priorities, cap + 1;
            cut_off := source.may_be_cut;
            total := pg_catalog.jsonb_build_object('count', pg_catalog.cardinality(job_ids), 'capped', cut_off);
            job_ids := ARRAY(SELECT i.id FROM pg_catalog.unnest(job_ids) i (id) WHERE i.id < below LIMIT max_jobs + 1);
            next := job_ids[max_jobs + 1] + 1;
            job_ids := job_ids[1:max_jobs];
            RETURN;
        END IF;
        at_least := greatest(at_least, CASE WHEN source.is_exact AND (unleased > cap OR source.name IN ('leases', 'all')) THEN cap END);
    END LOOP;
    SELECT w.job_ids, w.next, w.cut_off INTO job_ids, next, cut_off
      FROM backfill._page_walk_jobs(max_jobs, task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, below) w;
    total := pg_catalog.jsonb_build_object('count', greatest(at_least, pg_catalog.cardinality(job_ids)), 'capped', true);
END;
$$;
COMMENT ON FUNCTION backfill._page_find_jobs(integer, text, jsonb, text, integer, integer, text, text, bigint) IS
    'The newest jobs below an id that match a filter, from where to go on, and how many match in all.';

-- Jobs as JSON, the newest first. A list shows no payload, and no headers, of more than 2 kB.
CREATE FUNCTION backfill._page_jobs_json(job_ids bigint[], with_large_payloads boolean)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) ORDER BY s.id::bigint DESC), '[]')
      FROM (SELECT j.id::text, j.task_identifier,
                   CASE WHEN _page_jobs_json.with_large_payloads OR NOT l.payload_is_large THEN j.payload END AS payload, l.payload_size,
                   j.queue_name, j.priority, j.priority_band, j.run_at, j.attempts, j.max_attempts, j.job_key, j.retry_policy, j.state,
                   j.last_error, j.worker, j.lease_expires_at, extract(epoch FROM j.timeout) AS timeout, j.created_at,
                   j.progress, j.progress_message, j.flags,
                   CASE WHEN _page_jobs_json.with_large_payloads OR pg_catalog.pg_column_size(j.headers) <= 2048 THEN j.headers END AS headers
              FROM backfill.jobs j JOIN backfill._job l ON l.id = j.id
             WHERE j.id = ANY (_page_jobs_json.job_ids) AND l.id = ANY (_page_jobs_json.job_ids)) s;
END;
COMMENT ON FUNCTION backfill._page_jobs_json(bigint[], boolean) IS 'These jobs as the caller may see them in backfill.jobs, as JSON.';

CREATE FUNCTION backfill.list_jobs(
    task_identifier text DEFAULT NULL,
    payload jsonb DEFAULT NULL,
    queue_name text DEFAULT NULL,
    min_priority integer DEFAULT NULL,
    max_priority integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    state text DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
BEGIN
    PERFORM backfill._page_check_job_filter(state, payload);
    found := backfill._page_find_jobs(backfill._page_size("limit"), task_identifier, payload, queue_name, min_priority, max_priority, job_key, state,
                                 coalesce((backfill._page_place('jobs', cursor)).id, 9223372036854775807));
    RETURN pg_catalog.jsonb_build_object('jobs', backfill._page_jobs_json(found.job_ids, false),
                                         'next', CASE WHEN found.next IS NOT NULL THEN backfill._page_cursor('jobs', NULL, found.next, NULL) END,
                                         'cut_off', found.cut_off, 'total', found.total);
END;
$$;
COMMENT ON FUNCTION backfill.list_jobs(text, jsonb, text, integer, integer, text, text, text, integer) IS
    'A page of the jobs that wait or run, the newest first, as JSON. payload: what they must contain (@>); queue_name empty: jobs in no queue. Never reads the whole table.';

CREATE FUNCTION backfill.find_job_ids(
    max_jobs integer,
    task_identifier text DEFAULT NULL,
    payload jsonb DEFAULT NULL,
    queue_name text DEFAULT NULL,
    min_priority integer DEFAULT NULL,
    max_priority integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    state text DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL UNSAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
    missing integer := max_jobs;
    below bigint := 9223372036854775807;
BEGIN
    PERFORM backfill._page_check_job_filter(state, payload);
    PERFORM backfill._page_check_max('max_jobs', max_jobs);
    LOOP
        found := backfill._page_find_jobs(missing, task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, below);
        RETURN QUERY SELECT i.id FROM pg_catalog.unnest(found.job_ids) i (id);
        missing := missing - pg_catalog.cardinality(found.job_ids);
        below := found.next;
        EXIT WHEN missing <= 0 OR below IS NULL;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.find_job_ids(integer, text, jsonb, text, integer, integer, text, text) IS
    'The ids of the jobs that list_jobs() shows with this filter, the newest first, up to max_jobs of them: to act on all. It goes on until it has max_jobs or has seen all (of running jobs among very many others: all that list_jobs() finds).';
