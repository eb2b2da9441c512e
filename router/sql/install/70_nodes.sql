-- Nodes come, are looked after, and go.

SELECT backfill._make_on_node('_node_state', '', 'TABLE (version text, router_id uuid, name text, number integer, last_job_id bigint, numbers integer[], in_recovery boolean)',
    'What a database says of itself.', 'version text, router_id uuid, name text, number integer, last_job_id bigint, numbers integer[], in_recovery boolean', checked => false);
SELECT backfill._make_on_node('_node_join', 'router_id uuid, number integer, name text, key uuid, slots integer[]', 'void', 'Make a database a node.', checked => false);
SELECT backfill._make_on_node('_node_leave', '', 'void', 'A database is no node any more.', checked => false);
SELECT backfill._make_on_node('_node_number', 'number integer, at_least bigint', 'void', 'Have a node give only ids above one.', checked => false);

-- The foreign server is no member of the extension, because pg_dump would not dump its options.
CREATE FUNCTION backfill._set_partition(number smallint, conninfo text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nowhere text := 'host=/nonexistent dbname=no_such_node';
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_foreign_server s WHERE s.srvname = 'backfill') THEN
        EXECUTE (SELECT pg_catalog.format('CREATE SERVER backfill FOREIGN DATA WRAPPER plproxy OPTIONS (%s)',
                        pg_catalog.string_agg(pg_catalog.format('p%s %L', p, coalesce((SELECT n.conninfo FROM backfill._nodes() n WHERE n.number = p), nowhere)), ', ' ORDER BY p))
                   FROM pg_catalog.generate_series(0, 63) p);
        -- PL/Proxy looks at it when a call is canceled, by statement_timeout or otherwise: without it a node that is silent is waited for.
        ALTER SERVER backfill OPTIONS (ADD query_timeout '30');
        CREATE USER MAPPING FOR PUBLIC SERVER backfill;
        GRANT USAGE ON FOREIGN SERVER backfill TO PUBLIC;
    END IF;
    EXECUTE pg_catalog.format('ALTER SERVER backfill OPTIONS (SET p%s %L)', number, coalesce(conninfo, nowhere));
END;
$$;
COMMENT ON FUNCTION backfill._set_partition(smallint, text) IS 'Tell PL/Proxy where a node is; NULL: nowhere.';

CREATE FUNCTION backfill._check_conninfo(conninfo text)
RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF conninfo IS NULL OR conninfo !~ '^\s*\w+\s*=' THEN
        RAISE EXCEPTION 'conninfo must be a list of keyword=value: %', coalesce(conninfo, 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'For example host=db1 port=5432 dbname=app.';
    END IF;
    -- Every role can read it, and each connects as itself.
    IF conninfo ~* '(user|password|passfile|service|servicefile)\s*=' THEN
        RAISE EXCEPTION 'conninfo must not name a user or a password'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'Every role can read it, and each connects as itself.', HINT = 'CREATE USER MAPPING FOR role SERVER backfill OPTIONS (password ...).';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._check_conninfo(text) IS 'Refuses what must not be in the conninfo of a node.';

CREATE FUNCTION backfill.add_node(name text, conninfo text, number integer DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    router_id uuid;
    known smallint;
    free smallint;
    state record;
    new_key uuid := pg_catalog.gen_random_uuid();
    slots integer[];
BEGIN
    IF name IS NULL OR name = '' THEN
        RAISE EXCEPTION 'name must not be empty' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM backfill._check_conninfo(conninfo);
    LOCK TABLE backfill.node IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO backfill.router (id) SELECT pg_catalog.gen_random_uuid() WHERE NOT EXISTS (SELECT FROM backfill.router);
    router_id := (SELECT r.id FROM backfill.router r);
    SELECT n.number INTO known FROM backfill.node n WHERE n.name = add_node.name AND NOT n.removed;
    SELECT pg_catalog.min(p) INTO free FROM pg_catalog.generate_series(1, 63) p WHERE p NOT IN (SELECT n.number FROM backfill.node n);
    IF coalesce(known, free) IS NULL THEN
        RAISE EXCEPTION 'all numbers of nodes are used' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    state := backfill._probe(coalesce(known, free), conninfo);
    number := coalesce(known, CASE WHEN state.router_id = router_id THEN state.number END, number, CASE WHEN state.numbers = '{0}' THEN 0 ELSE free END);
    IF number NOT BETWEEN 0 AND 63 OR EXISTS (SELECT FROM backfill.node n WHERE n.number = add_node.number AND n.number IS DISTINCT FROM known) THEN
        RAISE EXCEPTION 'number % is used, or was used, by another node', number
            USING ERRCODE = 'duplicate_object', HINT = 'A database that has jobs of before can be added as number 0 only, and a router can have one of them.';
    END IF;
    INSERT INTO backfill.node AS n (number, name, conninfo, key) VALUES (number, name, conninfo, new_key)
        ON CONFLICT ON CONSTRAINT node_pkey DO UPDATE SET conninfo = excluded.conninfo, key = excluded.key;
    PERFORM backfill._set_partition(coalesce(known, free), NULL);
    PERFORM backfill._set_partition(number::smallint, conninfo);
    -- The first node has all slots.
    INSERT INTO backfill.slot (slot, node) SELECT s, number FROM pg_catalog.generate_series(0, 255) s ON CONFLICT DO NOTHING;
    INSERT INTO backfill.slot (slot, node) VALUES (-1 - number, number) ON CONFLICT DO NOTHING;
    slots := ARRAY(SELECT s.slot FROM backfill.slot s WHERE s.node = add_node.number AND s.moving_to IS NULL);
    PERFORM backfill._node_join(number::smallint, router_id, number, name, new_key, slots);
    RETURN number;
END;
$$;
COMMENT ON FUNCTION backfill.add_node(text, text, integer) IS
    'Make a database a node, and return the number that its ids will have. The first node has all slots; a further one gets its share by rebalance(). With the name of a node: it is to be reached by this conninfo from now on.';

CREATE FUNCTION backfill._probe(partition smallint, conninfo text)
RETURNS record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record;
    s text;
    m text;
    d text;
    h text;
BEGIN
    PERFORM backfill._set_partition(partition, conninfo);
    BEGIN
        SELECT f.* INTO state FROM backfill._at__node_state(partition, NULL, NULL) f;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
        IF s IN ('3F000', '42883') THEN
            RAISE EXCEPTION 'the database has no extension backfill of version %', backfill.version()
                USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = m, HINT = 'CREATE EXTENSION backfill; there.';
        END IF;
        PERFORM backfill._raise(conninfo, s, m, d, h);
    END;
    IF state.version NOT LIKE pg_catalog.regexp_replace(backfill.version(), '\.\d+$', '') || '.%' THEN
        RAISE EXCEPTION 'the database has version % of backfill, and the router is of version %', state.version, backfill.version()
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Upgrade the older one.';
    END IF;
    IF state.in_recovery THEN
        RAISE EXCEPTION 'the database is a standby' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'List all servers of the node in conninfo, with target_session_attrs=read-write.';
    END IF;
    RETURN state;
END;
$$;
COMMENT ON FUNCTION backfill._probe(smallint, text) IS 'What a database says of itself that is to be a node; refuses one that cannot be.';

CREATE FUNCTION backfill._set_mark(number smallint, mark bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE backfill.node n SET mark = _set_mark.mark WHERE n.number = _set_mark.number AND n.mark < _set_mark.mark;
END;
$$;
COMMENT ON FUNCTION backfill._set_mark(smallint, bigint) IS 'A node has given this id.';

CREATE FUNCTION backfill._set_silent(number smallint, silent boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE backfill.node n SET silent_since = CASE WHEN silent THEN pg_catalog.now() END
     WHERE n.number = _set_silent.number AND silent <> (n.silent_since IS NOT NULL);
END;
$$;
COMMENT ON FUNCTION backfill._set_silent(smallint, boolean) IS 'A node answers, or does not.';

CREATE FUNCTION backfill.check_nodes(OUT node text, OUT status text, OUT detail text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n backfill.node;
    state record;
    silent boolean;
    time_is_up boolean := false;
BEGIN
    FOR n IN SELECT c.* FROM backfill._nodes() c LOOP
        node := n.name;
        IF time_is_up THEN
            status := 'warning';
            detail := 'not asked, because the time was up';
            RETURN NEXT;
            CONTINUE;
        END IF;
        status := 'critical';
        silent := false;
        BEGIN
            SELECT f.* INTO state FROM backfill._node_state(n.number) f;
            IF state.router_id IS DISTINCT FROM (SELECT r.id FROM backfill.router r) OR state.number <> n.number THEN
                detail := 'it is not the node that was added';
            ELSIF state.version NOT LIKE pg_catalog.regexp_replace(backfill.version(), '\.\d+$', '') || '.%' THEN
                detail := pg_catalog.format('it has version %s of backfill', state.version);
            ELSIF state.last_job_id < n.mark THEN
                detail := pg_catalog.format('it has gone back in time: the last id that it has given is %s, but the router knows of %s', state.last_job_id, n.mark);
            ELSE
                PERFORM backfill._set_mark(n.number, state.last_job_id) WHERE state.last_job_id > n.mark;
                status := 'ok';
                detail := pg_catalog.format('version %s', state.version);
            END IF;
        EXCEPTION WHEN OTHERS OR query_canceled THEN
            GET STACKED DIAGNOSTICS detail = MESSAGE_TEXT;
            silent := SQLSTATE IN ('08001', '08007', '57014');
            time_is_up := SQLSTATE = '57014' OR detail ~ 'has not answered in time';
        END;
        PERFORM backfill._set_silent(n.number, silent) WHERE silent <> (n.silent_since IS NOT NULL);
        RETURN NEXT;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.check_nodes() IS
    'Whether each node can be reached, is what it was, and has not gone back in time. Remembers how far its ids are: a node that is behind that later is refused. To be called every minute.';

CREATE FUNCTION backfill.accept_node(name text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    known smallint := backfill._node_number_of(accept_node.name);
    at_least bigint;
    held integer[] := ARRAY(SELECT s.slot FROM backfill.slot s WHERE s.node = known AND s.phase IS NULL);
BEGIN
    SELECT greatest(n.mark, f.last_job_id) + 1000000 INTO at_least FROM backfill.node n CROSS JOIN LATERAL backfill._node_state(known) f WHERE n.number = known;
    PERFORM backfill._node_number(known, known::integer, at_least);
    UPDATE backfill.node n SET mark = at_least - 1 WHERE n.number = known;
    PERFORM backfill._move_close(known, ARRAY(SELECT s.slot::integer FROM backfill.slot s WHERE s.slot <> ALL (held)));
    PERFORM backfill._move_hold(known, held);
    RETURN at_least;
END;
$$;
COMMENT ON FUNCTION backfill.accept_node(text) IS
    'Take a node back that was restored from a backup: it goes on with ids that it cannot have given before, and holds the slots that the router has for it. Returns the first of these ids. Read docs/scale-out.md first.';

CREATE FUNCTION backfill._removal(name text, OUT slots integer[], OUT to_node text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old smallint := backfill._node_number_of(name);
    others bigint := (SELECT pg_catalog.count(*) FROM backfill.nodes n WHERE n.number <> old);
    its bigint := (SELECT pg_catalog.count(*) FROM backfill.slot s WHERE s.node = old AND s.slot >= 0);
BEGIN
    IF others = 0 THEN
        RAISE EXCEPTION '"%" is the only node', name USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT n.name INTO to_node FROM backfill.nodes n WHERE n.number <> old ORDER BY n.slots, n.number LIMIT 1;
    SELECT coalesce(pg_catalog.max(n.name), to_node) INTO to_node FROM backfill.slot s JOIN backfill.node n ON n.number = s.moving_to WHERE s.node = old;
    slots := ARRAY(SELECT s.slot FROM backfill.slot s WHERE s.node = old AND s.slot >= 0 ORDER BY s.phase, s.slot LIMIT (its + others - 1) / others);
END;
$$;
COMMENT ON FUNCTION backfill._removal(text) IS 'The next slots that remove_node() moves away from a node, and where to.';

CREATE FUNCTION backfill._remove(name text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old smallint := backfill._node_number_of(name);
BEGIN
    PERFORM backfill._node_leave(old);
    DELETE FROM backfill.slot s WHERE s.slot = -1 - old;
    UPDATE backfill.node n SET removed = true, conninfo = '' WHERE n.number = old;
    DELETE FROM backfill.moved m WHERE m.node = old;
    PERFORM backfill._set_partition(old, NULL);
END;
$$;
COMMENT ON FUNCTION backfill._remove(text) IS 'Forget a node that has nothing any more.';

CREATE FUNCTION backfill._own_slot(name text)
RETURNS integer[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old smallint := backfill._node_number_of(name);
BEGIN
    -- If a handler has enqueued one more since they were moved, they are moved again.
    UPDATE backfill.slot s SET node = old WHERE s.slot = -1 - old AND s.moving_to IS NULL;
    RETURN ARRAY[-1 - old];
END;
$$;
COMMENT ON FUNCTION backfill._own_slot(text) IS 'The slot of the jobs of a node that have no queue and no key.';

CREATE PROCEDURE backfill.remove_node(name text, max_wait interval DEFAULT '1 minute')
LANGUAGE plpgsql
AS $$
DECLARE
    next_slots integer[];
    next_node text;
BEGIN
    LOOP
        SELECT r.slots, r.to_node INTO next_slots, next_node FROM backfill._removal(name) r;
        EXIT WHEN next_slots OPERATOR(pg_catalog.=) '{}';
        CALL backfill.move_slots(next_slots, next_node, max_wait);
    END LOOP;
    next_slots := backfill._own_slot(name);
    COMMIT;
    CALL backfill.move_slots(next_slots, next_node, max_wait);
    PERFORM backfill._remove(name);
    COMMIT;
END;
$$;
COMMENT ON PROCEDURE backfill.remove_node(text, interval) IS 'Move everything that a node has to the others, and forget it. Killed at any point, it is called again.';

-- --- Health ---

SELECT backfill._make_rows('_health', 'max_wait interval, max_dead_rows bigint', 'check_name text, status text, detail text, hint text', 'The checks of each node.', 'backfill.health($4::interval, $5::bigint)');
CREATE FUNCTION backfill.health(
    max_wait interval DEFAULT '5 minutes',
    max_dead_rows bigint DEFAULT 100000,
    OUT check_name text,
    OUT status text,
    OUT detail text,
    OUT hint text,
    OUT node text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    moving bigint := (SELECT pg_catalog.count(*) FROM backfill.slot s WHERE s.moving_to IS NOT NULL);
BEGIN
    RETURN QUERY SELECT 'node'::text, c.status, c.detail, CASE WHEN c.status <> 'ok' THEN 'See docs/scale-out.md, "What fails".' END, c.node FROM backfill.check_nodes() c;
    RETURN QUERY SELECT 'moving_slots'::text, CASE WHEN moving > 0 THEN 'warning' ELSE 'ok' END, pg_catalog.format('%s slots are being moved', moving),
                        CASE WHEN moving > 0 THEN 'If no session moves them, call backfill.rebalance().' END, NULL::text;
    RETURN QUERY SELECT h.check_name, h.status, h.detail, h.hint, h.node FROM backfill._health(health.max_wait, health.max_dead_rows) h;
    RETURN QUERY SELECT 'time_limit'::text, CASE WHEN l.reset_val = '0' THEN 'warning' ELSE 'ok' END, pg_catalog.format('statement_timeout is %s ms', l.reset_val),
                        CASE WHEN l.reset_val = '0' THEN 'Without one, calls of a node that does not answer wait for ever: ALTER DATABASE ... SET statement_timeout = ''30s''.' END, NULL::text
                   FROM pg_catalog.pg_settings l WHERE l.name = 'statement_timeout';
    -- Tasks are registered on all nodes; one that was down then has another, or none.
    RETURN QUERY SELECT 'same_tasks'::text, 'warning'::text, pg_catalog.format('task "%s" is not the same on all nodes', t.task_identifier),
                        'Register it again when all nodes can be reached.'::text, NULL::text
                   FROM backfill._tasks() t WHERE t.kind <> 'unregistered'
                  GROUP BY t.task_identifier
                 HAVING pg_catalog.count(DISTINCT (t.kind, t.handler, t.queue_name, t.priority, t.max_attempts, t.retry_policy, t.timeout)) > 1
                     OR pg_catalog.count(*) < (SELECT pg_catalog.count(*) FROM backfill._nodes());
END;
$$;
COMMENT ON FUNCTION backfill.health(interval, bigint) IS 'What an operator must know of the router and of all nodes. Calls check_nodes().';
