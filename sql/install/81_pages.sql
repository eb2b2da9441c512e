-- Pages: what a dashboard or a tool shows of queues that may hold millions of jobs. The functions of this and the next
-- files return JSON, a page at a time, and look at a bounded number of rows however many there are (of schedules, at all): none
-- reads backfill.job from end to end. A count that would take longer is capped, and says so: {"count": 10000, "capped": true}
-- means at least 10,000. A search that ends before it has seen all says "cut_off", and goes on from the cursor "next".
-- Numbers that may exceed 2^53 are strings, as JavaScript rounds others; intervals are seconds.

-- --- What all of them share ---

CREATE FUNCTION backfill._page_count(number bigint, cap bigint, is_complete boolean DEFAULT true)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN pg_catalog.jsonb_build_object('count', least(number, cap), 'capped', number > cap OR NOT is_complete);
END;
$$;
COMMENT ON FUNCTION backfill._page_count(bigint, bigint, boolean) IS
    'A count as pages show it: beyond the cap, or if not all was looked at, it is only known that there are not fewer.';

CREATE FUNCTION backfill._page_size(asked integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF asked NOT BETWEEN 1 AND 500 THEN
        RAISE EXCEPTION 'limit is out of range: %', asked
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It must be between 1 and 500.';
    END IF;
    RETURN coalesce(asked, 50);
END;
$$;
COMMENT ON FUNCTION backfill._page_size(integer) IS 'How many things a page has: the limit that the caller gave, or 50.';

CREATE FUNCTION backfill._page_check_max(argument text, number integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF number IS NULL THEN
        RAISE EXCEPTION '% must not be null', argument
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Say how many at most, between 1 and 10000.';
    ELSIF number NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION '% is out of range: %', argument, number
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It must be between 1 and 10000.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._page_check_max(text, integer) IS 'Refuses a number of things to act on that is null or out of range.';

CREATE FUNCTION backfill._page_check_word(argument text, word text, words text[])
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF word <> ALL (words) THEN
        RAISE EXCEPTION '% is not valid: "%"', argument, word
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = pg_catalog.format('It must be one of %s.', pg_catalog.array_to_string(words, ', '));
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._page_check_word(text, text, text[]) IS 'Refuses a word that a filter does not know; NULL is no filter.';

-- A cursor is the place of the last thing of a page in the order of its list: a time, a number, a name, of which the
-- list uses what it needs. Callers see it as an opaque text, in hexadecimal digits, which need no quoting in an address.
CREATE FUNCTION backfill._page_cursor(list text, at timestamptz, id bigint, name text)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT _page_cursor.list || '.' || pg_catalog.encode(pg_catalog.convert_to(
        pg_catalog.jsonb_build_array(_page_cursor.at, _page_cursor.id, _page_cursor.name)::text, pg_catalog.getdatabaseencoding()), 'hex');
END;
COMMENT ON FUNCTION backfill._page_cursor(text, timestamptz, bigint, text) IS 'The cursor of a list that goes on behind this place.';

CREATE FUNCTION backfill._page_place(list text, cursor text, OUT at timestamptz, OUT id bigint, OUT name text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts jsonb;
BEGIN
    IF cursor IS NULL THEN
        RETURN;
    END IF;
    -- Whatever a caller has made up fails as an error of class 22, or leaves nothing to go on from.
    BEGIN
        IF pg_catalog.length(cursor) < 10000 AND pg_catalog.starts_with(cursor, list || '.') THEN
            parts := pg_catalog.convert_from(pg_catalog.decode(pg_catalog.substr(cursor, pg_catalog.length(list) + 2), 'hex'),
                                             pg_catalog.getdatabaseencoding())::jsonb;
            at := (parts ->> 0)::timestamptz;
            id := (parts ->> 1)::bigint;
            name := parts ->> 2;
        END IF;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        parts := NULL;
    END;
    IF parts IS NULL OR (list IN ('jobs', 'letters', 'history', 'audit')) = (id IS NULL) OR (list IN ('letters', 'history', 'audit')) = (at IS NULL)
       OR (list IN ('queues', 'tasks')) = (name IS NULL) THEN
        RAISE EXCEPTION 'cursor is not valid: "%"', pg_catalog.left(cursor, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = pg_catalog.format('Give what the last page of the same list (%s) had as "next", or leave it out for the first page.', list);
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._page_place(text, text) IS 'The place that a cursor stands for; refuses what is not a cursor of this list.';

-- The table of jobs as searches read it. It has no expression that would keep them from its indexes, as the state in the
-- view jobs does. Rights are those of that view.
CREATE VIEW backfill._job AS
SELECT j.id,
       j.task_identifier,
       j.queue_name, -- empty: none
       j.job_key,
       j.priority,
       j.run_at,
       j.lease_expires_at,
       j.ctid AS tid,
       j.xmax AS claimer,
       CASE WHEN (SELECT pg_catalog.has_table_privilege('backfill.job', 'SELECT')) THEN j.payload END AS payload,
       pg_catalog.pg_column_size(j.payload) AS payload_size,
       pg_catalog.pg_column_size(j.payload) > 2048 OR pg_catalog.pg_column_compression(j.payload) IS NOT NULL AS payload_is_large
  FROM backfill.job j;
COMMENT ON VIEW backfill._job IS 'The jobs, as list_jobs() searches them. Users see backfill.jobs.';

-- A task's jobs of one priority are a range of the index of ready jobs. This leaps from one range to the next.
CREATE FUNCTION backfill._page_job_ranges(
    max_ranges integer,
    task_identifier text,
    min_priority integer,
    max_priority integer,
    OUT task_identifiers text[],
    OUT priorities smallint[],
    OUT complete boolean)
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.task_identifier, j.priority FROM backfill._job j
          WHERE j.lease_expires_at IS NULL
            AND (j.task_identifier, j.priority) >= (coalesce(_page_job_ranges.task_identifier, ''), (-32768)::smallint)
          ORDER BY j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.task_identifier, n.priority
          FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.task_identifier, j.priority FROM backfill._job j
                WHERE j.lease_expires_at IS NULL AND (j.task_identifier, j.priority) > (l.task_identifier, l.priority)
                ORDER BY j.task_identifier, j.priority LIMIT 1) n
         WHERE _page_job_ranges.task_identifier IS NULL OR n.task_identifier = _page_job_ranges.task_identifier)
    SELECT pg_catalog.array_agg(r.task_identifier) FILTER (WHERE r.matches), pg_catalog.array_agg(r.priority) FILTER (WHERE r.matches),
           pg_catalog.count(*) < _page_job_ranges.max_ranges
      FROM (SELECT l.task_identifier, l.priority,
                   (_page_job_ranges.task_identifier IS NULL OR l.task_identifier = _page_job_ranges.task_identifier)
                   AND (_page_job_ranges.min_priority IS NULL OR l.priority >= _page_job_ranges.min_priority)
                   AND (_page_job_ranges.max_priority IS NULL OR l.priority <= _page_job_ranges.max_priority) AS matches
              FROM leap l LIMIT _page_job_ranges.max_ranges) r;
END;
COMMENT ON FUNCTION backfill._page_job_ranges(integer, text, integer, integer) IS
    'The ranges of jobs that are not leased, by task and priority: those among the first max_ranges that match, and whether there are no more.';

-- The same for dead letters.
CREATE VIEW backfill._letter AS
SELECT d.id,
       d.task_identifier,
       d.queue_name,
       d.job_key,
       d.failed_at,
       pg_catalog."left"(coalesce(d.last_error ->> 'sqlstate', ''), 5) AS sqlstate, -- empty: a consumer has told of the error, or an operator
       CASE WHEN (SELECT pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT')) THEN d.failure_reason END AS failure_reason,
       CASE WHEN (SELECT pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT')) THEN d.last_error ->> 'message' END AS message,
       pg_catalog.pg_column_size(d.payload) AS payload_size,
       pg_catalog.pg_column_size(d.payload) > 2048 OR pg_catalog.pg_column_compression(d.payload) IS NOT NULL AS payload_is_large
  FROM backfill.dead_letter d;
COMMENT ON VIEW backfill._letter IS 'The dead letters, as list_dlq() searches them. Users see backfill.dlq.';
