-- The way to a node. PL/Proxy's cluster "backfill" is a foreign server that add_node() makes: its partition N is the
-- node with number N, so nothing shifts when nodes come and go. A session has one connection to each node that it has
-- called, as the role that it acts as.

-- A routed enqueue costs little if what it calls is inlined: so some of these have no SET clause, which their bodies do not need.
CREATE FUNCTION backfill._slot_of(queue_name text, job_key text)
RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT (CASE WHEN _slot_of.queue_name NOT IN ('', 'fast', 'bulk') THEN pg_catalog.hashtextextended(_slot_of.queue_name COLLATE "C", 1)
                 ELSE pg_catalog.hashtextextended(_slot_of.job_key COLLATE "C", 0) END & 255)::smallint;
END;
COMMENT ON FUNCTION backfill._slot_of(text, text) IS 'The slot of a job: by its queue, unless that is fast or bulk, else by its job_key; NULL: any node.';

CREATE FUNCTION backfill._slot_of_schedule(name text, queue_name text, job_key text)
RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(backfill._slot_of(_slot_of_schedule.queue_name, _slot_of_schedule.job_key),
                    (pg_catalog.hashtextextended(_slot_of_schedule.name COLLATE "C", 2) & 255)::smallint);
END;
COMMENT ON FUNCTION backfill._slot_of_schedule(text, text, text) IS 'The slot of a schedule: that of its jobs, else by its name.';

CREATE FUNCTION backfill._queue_of(task_identifier text, queue_name text)
RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce(queue_name, (SELECT t.queue_name FROM backfill.task_queue t WHERE t.task_identifier = _queue_of.task_identifier));
END;
$$;
COMMENT ON FUNCTION backfill._queue_of(text, text) IS 'The queue of a job that names this one (NULL: none): else that of its task.';

CREATE FUNCTION backfill._headers()
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT nullif(pg_catalog.current_setting('backfill.headers', true), '');
END;
COMMENT ON FUNCTION backfill._headers() IS 'The headers that this session gives to its jobs.';

-- --- What can go wrong ---

CREATE FUNCTION backfill._failure(state text, message text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN _failure.state = 'XX000' AND _failure.message ~ '^PL/Proxy function [^:]*: \[[^]]*\] PQconnect' THEN 'unreachable'
                WHEN _failure.state = 'XX000' AND _failure.message ~ '^PL/Proxy function [^:]*: (\[[^]]*\] PQ|Lost result|Unfinished|query timeout|run_tag)' THEN 'unknown'
                WHEN _failure.state = '57014' AND _failure.message !~ '\] REMOTE [^:]*: ' THEN 'canceled'
                WHEN _failure.state IN ('57P01', '57P02', '57P03', '57P05', '25P03') AND _failure.message ~ '\] REMOTE [^:]*: ' THEN 'unknown'
                WHEN _failure.state = 'JB007' THEN 'moved'
                ELSE 'refused' END;
END;
COMMENT ON FUNCTION backfill._failure(text, text) IS 'What an error of a call of a node means: nothing was sent (unreachable), its outcome is not known (unknown; or canceled, because the caller was), the slot is elsewhere (moved), nothing was done (refused).';

CREATE FUNCTION backfill._raise(node text, state text, message text, detail text, hint text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    CASE backfill._failure(state, message)
    WHEN 'unreachable' THEN
        RAISE EXCEPTION 'node "%" cannot be reached', node
            USING ERRCODE = 'sqlclient_unable_to_establish_sqlconnection',
                  DETAIL = pg_catalog.regexp_replace(message, '^PL/Proxy function [^:]*: \[[^]]*\] \w+: ', ''), HINT = 'Nothing was done there.';
    WHEN 'unknown' THEN
        RAISE EXCEPTION 'node "%" %: it may have done it, or not', node,
            CASE WHEN message ~ 'query timeout$' THEN 'has not answered in time' ELSE 'was lost during the call' END
            USING ERRCODE = 'transaction_resolution_unknown',
                  DETAIL = pg_catalog.regexp_replace(message, '^PL/Proxy function [^:]*: ', ''),
                  HINT = 'With a job_key the call can be repeated safely.';
    WHEN 'canceled' THEN
        RAISE EXCEPTION 'canceled while node "%" was to answer: it may have done it, or not', node
            USING ERRCODE = 'query_canceled', DETAIL = message, HINT = 'With a job_key the call can be repeated safely.';
    WHEN 'moved' THEN
        RAISE EXCEPTION 'the slot that this belongs to is being moved'
            USING ERRCODE = 'serialization_failure', DETAIL = pg_catalog.regexp_replace(message, '^.*\] REMOTE [^:]*: ', ''),
                  HINT = 'Try again.';
    ELSE
        RAISE EXCEPTION '%', pg_catalog.regexp_replace(message, '^(backfill\.)?_at_[^:]*: \[[^]]*\] REMOTE [^:]*: ', '')
            USING ERRCODE = state,
                  DETAIL = pg_catalog.concat_ws(' ', nullif(pg_catalog.regexp_replace(detail, '^Remote detail: ', ''), ''), pg_catalog.format('At node "%s".', node)),
                  HINT = pg_catalog.regexp_replace(hint, '^Remote hint: ', '');
    END CASE;
END;
$$;
COMMENT ON FUNCTION backfill._raise(text, text, text, text, text) IS 'Raise an error of a call of a node again, so that it names the node and says what may have been done.';

-- --- Which node ---

CREATE FUNCTION backfill._raise_no_node()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the router has no node that takes jobs'
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'See backfill.nodes, and backfill.add_node().';
END;
$$;
COMMENT ON FUNCTION backfill._raise_no_node() IS 'Say that there is no node for a job.';

-- Says what to do after a failure, by what it adds to `tried`: a node that cannot be reached, or -1 for a look at a slot
-- that was being moved. Then the caller tries again. Else it raises.
CREATE FUNCTION backfill._tried(slot smallint, node smallint, name text, tried smallint[], state text, message text, detail text, hint text)
RETURNS smallint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failure text := backfill._failure(state, message);
    wait interval := coalesce(nullif(pg_catalog.current_setting('backfill_router.slot_wait', true), ''), '10 s');
BEGIN
    IF failure = 'unreachable' AND slot IS NULL
       AND EXISTS (SELECT FROM backfill.slot s WHERE s.slot = -1 - s.node AND s.moving_to IS NULL AND s.node <> ALL (tried || _tried.node)) THEN
        RETURN tried || node;
    END IF;
    -- A snapshot that is kept would show the old node for ever.
    IF failure = 'moved' AND pg_catalog.current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')
       AND (SELECT pg_catalog.count(*) FROM pg_catalog.unnest(tried) t WHERE t = -1) < extract(epoch FROM wait) * 20 THEN
        PERFORM pg_catalog.pg_sleep(0.05);
        RETURN tried || -1::smallint;
    END IF;
    PERFORM backfill._raise(name, state, message, detail, hint);
END;
$$;
COMMENT ON FUNCTION backfill._tried(smallint, smallint, text, smallint[], text, text, text, text) IS 'Whether to try again after a failure, and where not.';

CREATE FUNCTION backfill._nodes()
RETURNS SETOF backfill.node LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT n.* FROM backfill.node n WHERE NOT n.removed ORDER BY n.silent_since IS NOT NULL, n.number;
END;
COMMENT ON FUNCTION backfill._nodes() IS 'All nodes; those that are silent come last.';

CREATE FUNCTION backfill._nodes_of(wanted bigint[])
RETURNS TABLE (number smallint, name text, key uuid, mark bigint, ids bigint[], is_last boolean)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT n.number, n.name::text, n.key, n.mark, c.ids, pg_catalog.row_number() OVER w = pg_catalog.count(*) OVER ()
      FROM (SELECT p.node, pg_catalog.bool_or(p.home) AS home, pg_catalog.array_agg(p.id ORDER BY p.position) AS ids
              FROM (SELECT i.id, i.position, m.node, false AS home
                      FROM pg_catalog.unnest(wanted) WITH ORDINALITY i (id, position) JOIN backfill.moved m ON m.number = i.id >> 47
                    UNION
                    SELECT i.id, i.position, (i.id >> 47), true
                      FROM pg_catalog.unnest(wanted) WITH ORDINALITY i (id, position) WHERE i.id >> 47 BETWEEN 0 AND 63) p
             GROUP BY p.node) c
      JOIN backfill.node n ON n.number = c.node AND NOT n.removed
    WINDOW w AS (ORDER BY c.home DESC, n.number ROWS UNBOUNDED PRECEDING)
     ORDER BY c.home DESC, n.number;
END;
$$;
COMMENT ON FUNCTION backfill._nodes_of(bigint[]) IS 'The nodes that may have jobs with these ids, those in the ids first, each with the ids that it may have.';

CREATE FUNCTION backfill._node_of_token(claim_token bigint)
RETURNS backfill.node
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    node backfill.node;
BEGIN
    SELECT n.* INTO node FROM backfill.node n WHERE n.number = claim_token >> 47 AND NOT n.removed;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'claim_token % is of no node of this router', coalesce(claim_token::text, 'NULL') USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN node;
END;
$$;
COMMENT ON FUNCTION backfill._node_of_token(bigint) IS 'The node that has issued a claim token. What was claimed is not moved.';
