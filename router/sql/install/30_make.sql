-- The functions of the surface are all made in the same few ways, by the functions below, which are dropped at the end of
-- the script. Each is two functions: _at_NAME, in PL/Proxy, calls NAME on one node; NAME chooses the node.
-- Arguments are given as in CREATE FUNCTION, without a comma in a default.

CREATE FUNCTION backfill._make_arguments(arguments text)
RETURNS TABLE (name text, type text, wire_type text, remote_type text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- What is an oid is sent as text, because it is another one there.
    SELECT d.name, d.type,
           CASE WHEN d.type = 'regrole' THEN 'text' ELSE d.type END,
           CASE WHEN d.type = 'regrole' THEN 'text::regrole' WHEN d.name IN ('handler', 'function') THEN 'text::regprocedure' ELSE d.type END
      FROM (SELECT p.words[1] AS name, p.words[2] AS type, a.ordinality
              FROM pg_catalog.regexp_split_to_table(_make_arguments.arguments, ', ') WITH ORDINALITY a (argument, ordinality)
             CROSS JOIN LATERAL pg_catalog.regexp_match(a.argument, '^(\S+) (.*?)( DEFAULT .*)?$') p (words)) d
     WHERE d.name IS NOT NULL ORDER BY d.ordinality;
END;

-- $1 is the number of the node, $2 its key, $3 its mark; if there is a slot it is $4, and $5 the headers that the session sets. The others have no names, because
-- PL/Proxy would put them wherever it meets these names.
CREATE FUNCTION backfill._make_call(name text, arguments text, result text, columns text DEFAULT NULL, with_slot boolean DEFAULT false, remote text DEFAULT NULL, checked boolean DEFAULT true)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    first integer := CASE WHEN with_slot THEN 6 ELSE 4 END;
    wire_types text;
    passed text;
    call text;
    listed text := pg_catalog.regexp_replace(columns, '(^|, )(\S+)[^,]*', '\1f.\2', 'g');
    -- The node checks before it does anything: of a CASE the condition is evaluated first, and what FROM has before SELECT.
    check_call text := pg_catalog.format('backfill._routed($2::uuid, $3::bigint, %L%s)',
        (SELECT pg_catalog.substring(e.extversion, '^\d+\.\d+') FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill_router'), CASE WHEN with_slot THEN ', $4::integer, $5::text' ELSE '' END);
BEGIN
    SELECT pg_catalog.concat_ws(', ', 'integer', 'uuid', 'bigint', CASE WHEN with_slot THEN 'integer, text' END, pg_catalog.string_agg(a.wire_type, ', ' ORDER BY a.n)),
           pg_catalog.string_agg(pg_catalog.format('$%s::%s', first + a.n - 1, a.remote_type), ', ' ORDER BY a.n)
      INTO wire_types, passed FROM (SELECT m.*, pg_catalog.row_number() OVER () AS n FROM backfill._make_arguments(arguments) m) a;
    call := pg_catalog.format('backfill.%s(%s)', name, passed);
    call := coalesce(pg_catalog.replace(remote, '{call}', call), call);
    EXECUTE pg_catalog.format($f$CREATE FUNCTION backfill._at_%s(%s%s) RETURNS %s LANGUAGE plproxy VOLATILE AS %L$f$,
        name, wire_types, coalesce(', ' || pg_catalog.regexp_replace(columns, '(^|, )', '\1OUT ', 'g'), ''), CASE WHEN columns IS NULL THEN result ELSE 'SETOF record' END,
        'CLUSTER ''backfill''; RUN ON $1; SELECT ' || CASE
            WHEN NOT checked THEN CASE WHEN columns IS NULL THEN call ELSE pg_catalog.format('%s FROM %s f', listed, call) END
            WHEN columns IS NOT NULL THEN pg_catalog.format('%s FROM %s CROSS JOIN LATERAL %s f', listed, check_call, call)
            WHEN result ~ '^SETOF' THEN pg_catalog.format('%s FROM %s', call, check_call)
            ELSE pg_catalog.format('CASE WHEN %s THEN %s END', check_call, call) END || ';');
    EXECUTE pg_catalog.format('COMMENT ON FUNCTION backfill._at_%s(%s) IS %L', name, wire_types, pg_catalog.format('Calls %s on a node.', name));
END;
$$;

-- The public function: `body` is in PL/pgSQL; in it {call} is the call of _at_NAME on the node n, {slot_call} the same with a slot,
-- {ids_call} with those of job_ids or dlq_ids that the node may have, {page_call} with the node's cursor, {choose} the
-- statements that make n the node of to_slot (NULL: any that takes jobs, but none of those tried), and {failed} the handler of errors up
-- to the point where it raises.
CREATE FUNCTION backfill._make_function(name text, arguments text, result text, comment text, declarations text, body text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    passed text := (SELECT pg_catalog.string_agg(CASE WHEN a.type = a.wire_type THEN pg_catalog.format('%s.%s', name, a.name) ELSE pg_catalog.format('%s.%s::%s', name, a.name, a.wire_type) END, ', ')
                      FROM backfill._make_arguments(arguments) a WHERE a.name <> 'on_node');
    handler text := 'EXCEPTION WHEN OTHERS OR query_canceled THEN
            GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
            time_is_up := m ~ ''^PL/Proxy function [^:]*: query timeout'';';
    -- Each routed enqueue does this: to call a function for it would cost more than it does itself.
    choose text := 'IF to_slot IS NULL THEN
            SELECT c.* INTO n FROM backfill.slot p JOIN backfill.node c ON c.number = p.node
             WHERE p.slot < 0 AND p.slot = -1 - p.node AND p.moving_to IS NULL AND p.node <> ALL (tried)
             ORDER BY c.silent_since IS NOT NULL, pg_catalog.random() LIMIT 1;
        ELSE
            SELECT c.* INTO n FROM backfill.slot p JOIN backfill.node c ON c.number = p.node WHERE p.slot = to_slot;
        END IF;
        IF NOT FOUND THEN
            PERFORM backfill._raise_no_node();
        END IF;';
BEGIN
    body := pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(body,
        '{call}', pg_catalog.format('backfill._at_%s(%s)', name, pg_catalog.concat_ws(', ', 'n.number', 'n.key', 'n.mark', passed))),
        '{ids_call}', pg_catalog.format('backfill._at_%s(%s)', name, pg_catalog.concat_ws(', ', 'n.number', 'n.key', 'n.mark', pg_catalog.regexp_replace(passed, '^\w+\.\w+_ids', 'n.ids')))),
        '{page_call}', pg_catalog.format('backfill._at_%s(%s)', name, pg_catalog.concat_ws(', ', 'n.number', 'n.key', 'n.mark', pg_catalog.replace(passed, name || '.cursor', '(cursors ->> n.number::text)')))),
        '{slot_call}', pg_catalog.format('backfill._at_%s(%s)', name, pg_catalog.concat_ws(', ', 'n.number', 'n.key', 'n.mark', 'coalesce(to_slot, -1 - n.number)', 'backfill._headers()', passed))),
        '{choose}', choose), '{failed}', handler), '{raise}', 'PERFORM backfill._raise(n.name, s, m, d, h);');
    EXECUTE pg_catalog.format('CREATE FUNCTION backfill.%s(%s) RETURNS %s LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS %L',
        name, arguments, result, pg_catalog.format('
#variable_conflict use_column
DECLARE
    n record;
    s text;
    m text;
    d text;
    h text;
    time_is_up boolean := false; -- a statement''s time limit ends one wait: another one would last for ever
    %s
BEGIN
    %s
END;', declarations, body));
    EXECUTE pg_catalog.format('COMMENT ON FUNCTION backfill.%s(%s) IS %L', name, (SELECT pg_catalog.string_agg(a.type, ', ') FROM backfill._make_arguments(arguments) a), comment);
END;
$$;

-- The text of a loop over nodes that does the same on each. One that fails does not keep the others from doing it; all failures are
-- in the error at the end.
CREATE FUNCTION backfill._make_loop(name text, nodes text, body text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.format('FOR n IN %s LOOP
        IF time_is_up THEN
            failures := failures || pg_catalog.format(''"%%s": not called, because the time was up'', n.name);
            CONTINUE;
        END IF;
        BEGIN
            BEGIN
                %s
            {failed}
                {raise}
            END;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, h = PG_EXCEPTION_HINT;
            failures := failures || pg_catalog.format(''"%%s": %%s'', n.name, m);
            first_state := coalesce(first_state, s);
            hint := coalesce(hint, nullif(h, ''''));
        END;
    END LOOP;
    PERFORM backfill._raise_failures(%L, failures, first_state, hint);
    ', _make_loop.nodes, _make_loop.body, _make_loop.name);
END;

-- To the node of a slot, which is the value of an expression over the arguments, and job_queue: the queue of a task if queue_name is
-- NULL, both given as expressions, too. NULL: to any node.
CREATE FUNCTION backfill._make_by_slot(name text, arguments text, result text, slot text, comment text, columns text DEFAULT NULL, before text DEFAULT '', remote text DEFAULT NULL, task text DEFAULT NULL, queue text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, result, columns, true, remote);
    PERFORM backfill._make_function(name, arguments, result, comment,
        pg_catalog.format('%s to_slot smallint := %s; tried smallint[] := ''{}''; %s',
               CASE WHEN task IS NOT NULL THEN pg_catalog.format('job_queue text := coalesce(%s, (SELECT t.queue_name FROM backfill.task_queue t WHERE t.task_identifier = %s));', queue, task) ELSE '' END, slot,
               CASE WHEN columns IS NOT NULL AND result !~ '^SETOF' THEN pg_catalog.format('r %s;', result) ELSE '' END), before || pg_catalog.format('LOOP
        {choose}
        BEGIN
            %s
        {failed}
            tried := backfill._tried(to_slot, n.number, n.name, tried, s, m, d, h);
        END;
    END LOOP;', CASE WHEN columns IS NOT NULL AND result ~ '^SETOF' THEN 'RETURN QUERY SELECT f.*, n.name::text FROM {slot_call} f; RETURN;'
                     WHEN columns IS NOT NULL THEN 'SELECT f.*, n.name::text AS node INTO r FROM {slot_call} f; RETURN r;'
                     WHEN result ~ '^SETOF' THEN 'RETURN QUERY SELECT f FROM {slot_call} f; RETURN;'
                     WHEN result = 'void' THEN 'PERFORM {slot_call}; RETURN;'
                     ELSE 'RETURN {slot_call};' END));
END;
$$;

-- To the node of the id that is the first argument; if it has no such job, to those that its jobs were moved to. not_here: what
-- a node says that does not have it, as a condition over r. Of such answers the first counts, or the last that is `better`, which
-- is a condition over r, too.
CREATE FUNCTION backfill._make_by_id(name text, arguments text, result text, comment text, columns text DEFAULT NULL, not_here text DEFAULT NULL, better text DEFAULT 'false')
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, result, columns);
    PERFORM backfill._make_function(name, arguments, result, comment,
        CASE WHEN columns IS NULL THEN pg_catalog.format('r %s; first_answer %s;', result, result) ELSE '' END,
        pg_catalog.format('FOR n IN SELECT c.* FROM backfill._nodes_of(ARRAY[%s.%s]) c LOOP
        BEGIN
            %s
        {failed}
            -- No such letter, no such job that waits: another node may have it.
            IF n.is_last OR s NOT IN (''42704'', ''55000'') THEN
                {raise}
            END IF;
        END;
    END LOOP;
    %s', name, pg_catalog.split_part(arguments, ' ', 1),
        CASE WHEN columns IS NULL THEN pg_catalog.format('r := {call}%s;
            IF NOT (%s) THEN RETURN r; END IF;
            IF first_answer IS NULL OR %s THEN first_answer := r; END IF;', CASE result WHEN 'jsonb' THEN ' || pg_catalog.jsonb_build_object(''node'', n.name)' ELSE '' END,
                                        coalesce(not_here, 'r IS NULL'), better)
             ELSE 'RETURN QUERY SELECT f.*, n.name::text FROM {call} f;
            IF FOUND THEN RETURN; END IF;' END,
        CASE WHEN columns IS NULL THEN pg_catalog.format('RETURN coalesce(first_answer, %s);', CASE result WHEN 'boolean' THEN 'false' ELSE 'NULL' END) ELSE '' END));
END;
$$;

-- To the nodes that may have the ids of the first argument, each with those that it may have; as _make_every().
CREATE FUNCTION backfill._make_by_ids(name text, arguments text, result text, comment text, columns text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    ids text := pg_catalog.format('%s.%s', name, pg_catalog.split_part(arguments, ' ', 1));
BEGIN
    PERFORM backfill._make_call(name, arguments, result, columns);
    PERFORM backfill._make_function(name, arguments, result, comment,
        pg_catalog.format('failures text[] := ''{}''; first_state text; hint text; %s',
               CASE result WHEN 'bigint' THEN pg_catalog.format('r bigint := CASE WHEN %s IS NOT NULL THEN 0 END;', ids) ELSE '' END),
        backfill._make_loop(name, pg_catalog.format('SELECT c.* FROM backfill._nodes_of(%s) c', ids),
            CASE WHEN columns IS NOT NULL THEN 'RETURN QUERY SELECT f.*, n.name::text FROM {ids_call} f;'
                 WHEN result = 'bigint' THEN 'r := r + {ids_call};'
                 ELSE 'RETURN QUERY SELECT f FROM {ids_call} f;' END)
        || CASE result WHEN 'bigint' THEN 'RETURN r;' ELSE '' END);
END;
$$;

CREATE FUNCTION backfill._make_by_token(name text, arguments text, result text, comment text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, result);
    PERFORM backfill._make_function(name, arguments, result, comment, '', pg_catalog.format('n := backfill._node_of_token(%s.claim_token);
    BEGIN
        %s
    {failed}
        {raise}
    END;', name, CASE WHEN result ~ '^SETOF' THEN 'RETURN QUERY SELECT f FROM {call} f;' ELSE 'RETURN {call};' END));
END;
$$;

-- On the node whose number is the first argument, on_node. checked: whether the node must be what the router takes it for.
CREATE FUNCTION backfill._make_on_node(name text, arguments text, result text, comment text, columns text DEFAULT NULL, checked boolean DEFAULT true)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, result, columns, checked => checked);
    PERFORM backfill._make_function(name, pg_catalog.concat_ws(', ', 'on_node smallint', nullif(arguments, '')), result, comment, '', pg_catalog.format('SELECT c.* INTO n FROM backfill.node c WHERE c.number = %s.on_node;
    BEGIN
        %s
    {failed}
        {raise}
    END;', name, CASE WHEN columns IS NOT NULL THEN 'RETURN QUERY SELECT f.* FROM {call} f;' WHEN result = 'void' THEN 'PERFORM {call};' ELSE 'RETURN {call};' END));
END;
$$;

-- Rows of every node, with its name; a node that fails is left out, with a warning.
CREATE FUNCTION backfill._make_rows(name text, arguments text, columns text, comment text, remote text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, NULL, columns, false, remote);
    PERFORM backfill._make_function(name, arguments, pg_catalog.format('TABLE (%s, node text)', columns), comment, '', 'FOR n IN SELECT c.* FROM backfill._nodes() c LOOP
        IF time_is_up THEN
            RAISE WARNING ''node "%" was not asked, because the time was up; its rows are missing'', n.name;
            CONTINUE;
        END IF;
        BEGIN
            RETURN QUERY SELECT f.*, n.name::text FROM {call} f;
        {failed}
            PERFORM backfill._warn(n.name, s, m, d, h);
        END;
    END LOOP;');
END;
$$;

CREATE FUNCTION backfill._make_view(name text, columns text, comment text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_rows('_' || name, '', columns, pg_catalog.format('The rows of the view backfill.%s.', name), pg_catalog.format('(SELECT v.* FROM backfill.%s v)', name));
    EXECUTE pg_catalog.format('CREATE VIEW backfill.%s AS SELECT f.* FROM backfill._%s() f', name, name);
    EXECUTE pg_catalog.format('COMMENT ON VIEW backfill.%s IS %L', name, comment);
END;
$$;

-- On every node. Numbers are added up, and a boolean is true if it is on one of them.
CREATE FUNCTION backfill._make_every(name text, arguments text, result text, comment text, columns text DEFAULT NULL, before text DEFAULT '', remote text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF remote IS DISTINCT FROM '' THEN -- else there is the call already
        PERFORM backfill._make_call(name, arguments, result, columns, false, remote);
    END IF;
    PERFORM backfill._make_function(name, arguments, result, comment,
        CASE WHEN result IN ('boolean', 'bigint') THEN pg_catalog.format('r %s := %s;', result, CASE result WHEN 'bigint' THEN '0' ELSE 'false' END) ELSE '' END
        || ' failures text[] := ''{}''; first_state text; hint text;',
        before || '
    ' || backfill._make_loop(name, 'SELECT c.* FROM backfill._nodes() c',
            CASE WHEN columns IS NOT NULL THEN 'RETURN QUERY SELECT f.*, n.name::text FROM {call} f;'
                 WHEN result ~ '^SETOF' THEN 'RETURN QUERY SELECT f FROM {call} f;'
                 WHEN result = 'bigint' THEN 'r := r + coalesce({call}, 0);'
                 WHEN result = 'boolean' THEN 'r := r OR coalesce({call}, false);'
                 ELSE 'PERFORM {call};' END)
        || CASE WHEN result IN ('boolean', 'bigint') THEN 'RETURN r;' ELSE '' END);
END;
$$;

-- Of a queue, which is on one node, unless it is fast or bulk.
CREATE FUNCTION backfill._make_queue(name text, arguments text, result text, comment text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    passed text := (SELECT pg_catalog.string_agg(pg_catalog.format('%s.%s', name, a.name), ', ') FROM backfill._make_arguments(arguments) a);
    remote text := (SELECT pg_catalog.string_agg(pg_catalog.format('%s => $%s::%s', a.name, 3 + a.n, a.type), ', ')
                      FROM (SELECT m.*, pg_catalog.row_number() OVER () AS n FROM backfill._make_arguments(arguments) m) a);
BEGIN
    PERFORM backfill._make_every(pg_catalog.format('_%s_everywhere', name), arguments, result, pg_catalog.format('%s() for queues that are on every node.', name),
                                 remote => pg_catalog.format('backfill.%s(%s)', name, remote));
    PERFORM backfill._make_by_slot(name, arguments, result, pg_catalog.format('backfill._slot_of(%s.queue_name, NULL)', name), comment,
        before => pg_catalog.format('IF to_slot IS NULL THEN %s backfill._%s_everywhere(%s); %s END IF;
    ', CASE result WHEN 'void' THEN 'PERFORM' ELSE 'RETURN' END, name, passed, CASE result WHEN 'void' THEN 'RETURN;' ELSE '' END));
END;
$$;

-- On any node: what they all answer in the same way.
CREATE FUNCTION backfill._make_any(name text, arguments text, result text, comment text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, result);
    PERFORM backfill._make_function(name, arguments, result, comment, 'to_slot smallint; tried smallint[] := ''{}'';', 'LOOP
        {choose}
        BEGIN
            RETURN {call};
        {failed}
            tried := backfill._tried(to_slot, n.number, n.name, tried, s, m, d, h);
        END;
    END LOOP;');
END;
$$;

-- What all nodes answer, put together: pages is what each has answered, and `merge` the statements that make one answer of them. What
-- is wrong with the call is an error; a node that fails is left out, with a warning. list: there is a cursor, of this list.
CREATE FUNCTION backfill._make_merged(name text, arguments text, result text, merge text, comment text, list text DEFAULT NULL, remote text DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    PERFORM backfill._make_call(name, arguments, CASE WHEN remote IS NULL THEN 'jsonb' ELSE 'bigint[]' END, remote => remote);
    PERFORM backfill._make_function(name, arguments, result, comment,
        pg_catalog.format('pages jsonb := ''[]''; cursors jsonb := %s;', CASE WHEN list IS NULL THEN '''{}''' ELSE pg_catalog.format('backfill._page_cursors(%L, %s.cursor)', list, name) END),
        'FOR n IN SELECT c.* FROM backfill._nodes() c LOOP
        CONTINUE WHEN pg_catalog.jsonb_typeof(cursors -> n.number::text) <> ''string'';
        IF time_is_up THEN
            RAISE WARNING ''node "%" was not asked, because the time was up; its rows are missing'', n.name;
            pages := pages || pg_catalog.jsonb_build_object(''number'', n.number, ''node'', n.name, ''missing'', true);
            CONTINUE;
        END IF;
        BEGIN
            pages := pages || pg_catalog.jsonb_build_object(''number'', n.number, ''node'', n.name, ''page'', {page_call});
        {failed}
            IF s ~ ''^(22|42)'' THEN
                {raise}
            END IF;
            PERFORM backfill._warn(n.name, s, m, d, h);
            pages := pages || pg_catalog.jsonb_build_object(''number'', n.number, ''node'', n.name, ''missing'', true);
        END;
    END LOOP;
    ' || merge);
END;
$$;

CREATE FUNCTION backfill._warn(node text, state text, message text, detail text, hint text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m text;
    d text;
BEGIN
    PERFORM backfill._raise(node, state, message, detail, hint);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL;
    RAISE WARNING '%; its rows are missing', m USING DETAIL = d, ERRCODE = SQLSTATE;
END;
$$;
COMMENT ON FUNCTION backfill._warn(text, text, text, text, text) IS 'Say that the rows of a node are missing, and why.';

CREATE FUNCTION backfill._raise_failures(name text, failures text[], state text, hint text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_catalog.cardinality(failures) > 0 THEN
        RAISE EXCEPTION '%() has failed on % of % nodes: %', name, pg_catalog.cardinality(failures),
                        (SELECT pg_catalog.count(*) FROM backfill._nodes()), pg_catalog.array_to_string(failures, '; ')
            USING ERRCODE = state, HINT = coalesce(hint, 'Call it again when they can do it: the others have done it, and it does no harm to do it twice.');
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._raise_failures(text, text[], text, text) IS 'Raise what has failed on some nodes.';
