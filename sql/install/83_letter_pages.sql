-- Pages of dead letters, as pages of jobs: a search takes the index by which it sees all candidates, or walks down the
-- times of failure. Parameters of the texts: $1 task_identifier, $2 queue_name, $3 sqlstate, $4 failed_after, $5
-- failed_before, $6 job_key, $7 search, $8 and $9 the place to go on from, $10 how many rows may be seen.

CREATE FUNCTION backfill._page_letter_sources(task_identifier text, queue_name text, sqlstate text, job_key text)
RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 3 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 'SELECT d.* FROM backfill._letter d WHERE ' || w.condition || ' LIMIT $10'
      FROM (VALUES
           (1, _page_letter_sources.job_key IS NOT NULL, 'd.job_key >= $6 AND d.job_key <= $6 ORDER BY d.job_key, d.task_identifier'),
           (2, _page_letter_sources.task_identifier IS NOT NULL AND _page_letter_sources.sqlstate IS NOT NULL,
            'd.task_identifier = ANY (ARRAY[$1]) AND d.sqlstate = $3 AND d.failed_at >= coalesce($4, ''-infinity'')
             AND d.failed_at <= coalesce($5, ''infinity'') ORDER BY d.task_identifier, d.failed_at, d.id'),
           (3, _page_letter_sources.task_identifier IS NOT NULL AND _page_letter_sources.sqlstate IS NULL,
            'd.task_identifier >= $1 AND d.task_identifier <= $1 ORDER BY d.task_identifier, d.sqlstate, d.failed_at, d.id'),
           (4, _page_letter_sources.queue_name <> '', 'd.queue_name >= $2 AND d.queue_name <= $2 ORDER BY d.queue_name'),
           (5, true, 'd.failed_at >= coalesce($4, ''-infinity'') AND d.failed_at <= coalesce($5, ''infinity'') ORDER BY d.failed_at, d.id')
           ) AS w (place, fits, condition)
     WHERE w.fits ORDER BY w.place;
END;
COMMENT ON FUNCTION backfill._page_letter_sources(text, text, text, text) IS
    'The queries by which a search for dead letters looks, in this order, until one lists so few candidates that it can look at them all.';

CREATE FUNCTION backfill._page_letter_filter()
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT '($1 IS NULL OR d.task_identifier = $1) AND ($2 IS NULL OR coalesce(d.queue_name, '''') = $2) AND ($3 IS NULL OR d.sqlstate = $3)
        AND ($4 IS NULL OR d.failed_at >= $4) AND ($5 IS NULL OR d.failed_at < $5) AND ($6 IS NULL OR d.job_key = $6)
        AND ($7 IS NULL OR pg_catalog.strpos(pg_catalog.lower(d.failure_reason), pg_catalog.lower($7)) > 0)';
END;
COMMENT ON FUNCTION backfill._page_letter_filter() IS 'The text of the condition of a search for dead letters. failed_after is inclusive, failed_before exclusive, as elsewhere.';

CREATE FUNCTION backfill._page_find_letters(
    max_letters integer,
    task_identifier text,
    queue_name text,
    sqlstate text,
    failed_after timestamptz,
    failed_before timestamptz,
    job_key text,
    search text,
    before timestamptz,
    below bigint,
    OUT letter_ids bigint[],
    OUT next_at timestamptz,
    OUT next_id bigint,
    OUT cut_off boolean,
    OUT total jsonb)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cap constant integer := 10000;
    filtered constant boolean := pg_catalog.num_nonnulls(task_identifier, queue_name, sqlstate, job_key, search) > 0;
    max_rows integer := cap + 1;
    source text;
    seen bigint;
    matching bigint;
BEGIN
    FOR source IN SELECT * FROM backfill._page_letter_sources(task_identifier, queue_name, sqlstate, job_key) LOOP
        EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM (%s) d', source) INTO seen
          USING task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below, max_rows;
        EXIT WHEN seen <= cap;
    END LOOP;
    IF seen > cap THEN
        max_rows := CASE WHEN filtered THEN 20000 ELSE max_letters + 1 END;
        source := 'SELECT d.* FROM backfill._letter d WHERE (d.failed_at, d.id) < ($8, $9) AND d.failed_at >= coalesce($4, ''-infinity'')
                      AND d.failed_at <= coalesce($5, ''infinity'') ORDER BY d.failed_at DESC, d.id DESC LIMIT $10';
        -- The last one that it looks at, if there may be more.
        EXECUTE pg_catalog.format('SELECT d.failed_at, d.id FROM (%s) d LIMIT 1 OFFSET $10 - 1', source) INTO next_at, next_id
          USING task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below, max_rows;
    END IF;
    EXECUTE pg_catalog.format('SELECT pg_catalog.count(*), (pg_catalog.array_agg(d.id ORDER BY d.failed_at DESC, d.id DESC)
                                                            FILTER (WHERE (d.failed_at, d.id) < ($8, $9)))[1:$11] FROM (%s) d WHERE %s',
                              source, backfill._page_letter_filter())
       INTO matching, letter_ids
      USING task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below, max_rows, max_letters + 1;
    cut_off := next_id IS NOT NULL AND coalesce(pg_catalog.cardinality(letter_ids), 0) <= max_letters;
    IF NOT cut_off THEN
        SELECT d.failed_at, d.id INTO next_at, next_id FROM backfill._letter d
         WHERE d.id = letter_ids[max_letters] AND pg_catalog.cardinality(letter_ids) > max_letters;
    END IF;
    letter_ids := coalesce(letter_ids[1:max_letters], '{}');
    total := pg_catalog.jsonb_build_object('count', CASE WHEN seen <= cap OR filtered THEN matching ELSE cap END, 'capped', seen > cap);
END;
$$;
COMMENT ON FUNCTION backfill._page_find_letters(integer, text, text, text, timestamptz, timestamptz, text, text, timestamptz, bigint) IS
    'The newest dead letters behind a place that match a filter, from where to go on, and how many match in all, as far as that is known.';

CREATE FUNCTION backfill._page_letters_json(letter_ids bigint[], with_large_payloads boolean)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) ORDER BY s.failed_at DESC, s.id::bigint DESC), '[]')
      FROM (SELECT d.id::text, d.original_job_id::text, d.task_identifier,
                   CASE WHEN _page_letters_json.with_large_payloads OR NOT l.payload_is_large THEN d.payload END AS payload, l.payload_size,
                   d.queue_name, d.priority, d.job_key, d.max_attempts, d.failure_reason, d.failure_count, d.last_error,
                   d.original_created_at, d.original_run_at, d.failed_at, d.requeued_count, d.last_requeued_at, d.notes, d.headers,
                   EXISTS (SELECT FROM backfill._job j WHERE j.id = d.original_job_id) AS waiting
              FROM backfill.dlq d JOIN backfill._letter l ON l.id = d.id
             WHERE d.id = ANY (_page_letters_json.letter_ids) AND l.id = ANY (_page_letters_json.letter_ids)) s;
END;
COMMENT ON FUNCTION backfill._page_letters_json(bigint[], boolean) IS 'These dead letters as the caller may see them in backfill.dlq, as JSON.';

CREATE FUNCTION backfill._page_check_letter_filter(search text)
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF search IS NOT NULL AND NOT pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN
        RAISE EXCEPTION 'permission denied to search texts of errors'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave out search: only admins may read why jobs have failed.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._page_check_letter_filter(text) IS 'Refuses a filter of dead letters that asks for what the caller may not see.';

CREATE FUNCTION backfill.list_dlq(
    sqlstate text DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    job_key text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    search text DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place constant record := backfill._page_place('letters', cursor);
    found record;
BEGIN
    PERFORM backfill._page_check_letter_filter(search);
    found := backfill._page_find_letters(backfill._page_size("limit"), task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search,
                                         coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807));
    RETURN pg_catalog.jsonb_build_object('letters', backfill._page_letters_json(found.letter_ids, false),
                                         'next', CASE WHEN found.next_id IS NOT NULL THEN backfill._page_cursor('letters', found.next_at, found.next_id, NULL) END,
                                         'cut_off', found.cut_off, 'total', found.total);
END;
$$;
COMMENT ON FUNCTION backfill.list_dlq(text, text, text, text, timestamptz, timestamptz, text, text, integer) IS
    'A page of the dead letters, the newest first, as JSON. sqlstate empty: errors without one; queue_name empty: of no queue; search: a part of the reason, in whatever case; failed_after is inclusive, failed_before exclusive.';

CREATE FUNCTION backfill.find_dlq_ids(
    max_letters integer,
    sqlstate text DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    job_key text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    search text DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL UNSAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
    missing integer := max_letters;
    before timestamptz := timestamptz 'infinity';
    below bigint := 9223372036854775807;
BEGIN
    PERFORM backfill._page_check_letter_filter(search);
    PERFORM backfill._page_check_max('max_letters', max_letters);
    LOOP
        found := backfill._page_find_letters(missing, task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below);
        RETURN QUERY SELECT i.id FROM pg_catalog.unnest(found.letter_ids) AS i (id);
        missing := missing - pg_catalog.cardinality(found.letter_ids);
        before := found.next_at;
        below := found.next_id;
        EXIT WHEN missing <= 0 OR below IS NULL;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.find_dlq_ids(integer, text, text, text, text, timestamptz, timestamptz, text) IS
    'The ids of the dead letters that list_dlq() shows with this filter, the newest first, up to max_letters of them: to act on all. It goes on until it has max_letters or has seen all.';

CREATE FUNCTION backfill.dlq_groups(failed_after timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
    WITH RECURSIVE leap AS (
        (SELECT d.task_identifier, d.sqlstate FROM backfill._letter d ORDER BY d.task_identifier, d.sqlstate LIMIT 1)
        UNION ALL
        SELECT n.task_identifier, n.sqlstate
          FROM leap l
         CROSS JOIN LATERAL (SELECT d.task_identifier, d.sqlstate FROM backfill._letter d
                              WHERE (d.task_identifier, d.sqlstate) > (l.task_identifier, l.sqlstate)
                              ORDER BY d.task_identifier, d.sqlstate LIMIT 1) n),
    -- All counts together look at 50,000 letters or so.
    kind AS MATERIALIZED (
        SELECT l.task_identifier, l.sqlstate,
               (least(10000, 50000 / pg_catalog.count(*) OVER ()))::integer AS cap, pg_catalog.count(*) OVER () > 500 AS cut_off
          FROM (SELECT l.* FROM leap l LIMIT 501) l),
    counted AS (
        SELECT k.task_identifier, k.sqlstate, k.cap, c.letters, c.oldest, n.failed_at AS newest, n.message AS sample
          FROM (SELECT k.* FROM kind k LIMIT 500) k
         CROSS JOIN LATERAL (
               SELECT pg_catalog.count(*) AS letters, pg_catalog.min(s.failed_at) AS oldest
                 FROM (SELECT d.failed_at FROM backfill._letter d
                        WHERE d.task_identifier = ANY (ARRAY[k.task_identifier]) AND d.sqlstate = k.sqlstate
                          AND d.failed_at >= coalesce(dlq_groups.failed_after, '-infinity')
                          AND (dlq_groups.failed_before IS NULL OR d.failed_at < dlq_groups.failed_before)
                        ORDER BY d.task_identifier, d.failed_at, d.id LIMIT k.cap + 1) s) c
         CROSS JOIN LATERAL (
               SELECT d.failed_at, d.message FROM backfill._letter d
                WHERE d.task_identifier = ANY (ARRAY[k.task_identifier]) AND d.sqlstate = k.sqlstate
                  AND d.failed_at >= coalesce(dlq_groups.failed_after, '-infinity')
                  AND (dlq_groups.failed_before IS NULL OR d.failed_at < dlq_groups.failed_before)
                ORDER BY d.task_identifier DESC, d.failed_at DESC, d.id DESC LIMIT 1) n)
    SELECT pg_catalog.jsonb_build_object(
               'groups', coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                                              'task_identifier', c.task_identifier, 'sqlstate', nullif(c.sqlstate, ''),
                                              'letters', backfill._page_count(c.letters, c.cap), 'oldest', c.oldest, 'newest', c.newest, 'sample', c.sample)
                                              ORDER BY c.letters DESC, c.newest DESC, c.task_identifier, c.sqlstate) FROM counted c), '[]'),
               'cut_off', coalesce((SELECT k.cut_off FROM kind k LIMIT 1), false)));
END;
$$;
COMMENT ON FUNCTION backfill.dlq_groups(timestamptz, timestamptz) IS
    'The dead letters grouped by task and SQLSTATE, the largest group first, each with the newest message, as JSON. Of more than 500 groups only the first by name.';
