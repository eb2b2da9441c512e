-- Moving slots from one node to another. What happens on the nodes is in sql/install/84_moves.sql.
--
--   draining   The old node takes no more jobs of the slots from the router. What waits is taken out of its tables;
--              what runs is waited for. If that takes too long, everything is put back.
--   copying    Everything has left the tables of the old node. Batch by batch it is put into those of the new one,
--              and forgotten on the old. There is no way back.
--   (none)     The new node holds the slots, and the router sends there.
--
-- Each step is a transaction of the router that calls one or two nodes, whose transactions are committed before it.
-- Whatever dies, the next call of the same step finds what has been done, and does the rest.

SELECT backfill._make_on_node('_move_close', 'slots integer[]', 'void', 'Take no more jobs of these slots.');
SELECT backfill._make_on_node('_move_hold', 'slots integer[]', 'void', 'Take jobs of these slots.');
SELECT backfill._make_on_node('_move_freeze', 'slots integer[]', 'bigint', 'Take what belongs to these slots out of its tables; returns how many of their jobs still run.');
SELECT backfill._make_on_node('_move_undo', 'slots integer[]', 'void', 'Put what belongs to these slots back.');
SELECT backfill._make_on_node('_move_read', 'slots integer[], max_rows integer', 'jsonb', 'The next rows that have to go to the new node.');
SELECT backfill._make_on_node('_move_insert', 'moved jsonb', 'bigint', 'Put rows of another node into their tables.');
SELECT backfill._make_on_node('_move_forget', 'moved jsonb', 'bigint', 'Forget rows that the new node has.');

CREATE FUNCTION backfill._node_number_of(name text)
RETURNS smallint
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_number smallint := (SELECT n.number FROM backfill.node n WHERE n.name = _node_number_of.name AND NOT n.removed);
BEGIN
    IF found_number IS NULL THEN
        RAISE EXCEPTION 'there is no node "%"', coalesce(name, 'NULL') USING ERRCODE = 'undefined_object', HINT = 'See backfill.nodes.';
    END IF;
    RETURN found_number;
END;
$$;
COMMENT ON FUNCTION backfill._node_number_of(text) IS 'The number of a node.';

-- Does the next step for some of the slots, which it locks. Returns done, again, wait or gave up.
CREATE FUNCTION backfill._move_step(slots integer[], target smallint, give_up_at timestamptz)
RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source smallint;
    at_phase text;
    part integer[];
    other smallint;
    rows jsonb;
BEGIN
    PERFORM FROM backfill.slot s WHERE s.slot = ANY (slots) ORDER BY s.slot FOR UPDATE;
    SELECT s.moving_to INTO other FROM backfill.slot s WHERE s.slot = ANY (slots) AND s.moving_to <> target LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'some of the slots are being moved to node "%"', (SELECT n.name FROM backfill.node n WHERE n.number = other)
            USING ERRCODE = 'object_in_use', HINT = 'Call move_slots() with that node to finish it.';
    END IF;
    SELECT s.node, s.phase INTO source, at_phase FROM backfill.slot s
     WHERE s.slot = ANY (slots) AND (s.node <> target OR s.moving_to IS NOT NULL) ORDER BY s.phase, s.node LIMIT 1;
    IF NOT FOUND THEN
        RETURN 'done';
    END IF;
    part := ARRAY(SELECT s.slot FROM backfill.slot s
                   WHERE s.slot = ANY (slots) AND s.node = source AND s.phase IS NOT DISTINCT FROM at_phase ORDER BY s.slot);
    IF at_phase IS NULL THEN
        UPDATE backfill.slot s SET moving_to = target, phase = 'draining' WHERE s.slot = ANY (part);
        RETURN 'again';
    ELSIF at_phase = 'draining' THEN
        PERFORM backfill._move_close(source, part);
        IF backfill._move_freeze(source, part) = 0 THEN
            UPDATE backfill.slot s SET phase = 'copying' WHERE s.slot = ANY (part);
            RETURN 'again';
        END IF;
        IF pg_catalog.clock_timestamp() < give_up_at THEN
            RETURN 'wait';
        END IF;
        PERFORM backfill._move_undo(source, part);
        UPDATE backfill.slot s SET moving_to = NULL, phase = NULL WHERE s.slot = ANY (part);
        RETURN 'gave up';
    END IF;
    rows := backfill._move_read(source, part, 1000);
    IF rows IS NOT NULL THEN
        PERFORM backfill._move_insert(target, rows);
        PERFORM backfill._move_forget(source, (SELECT pg_catalog.jsonb_agg(r - 'content') FROM pg_catalog.jsonb_array_elements(rows) r));
        RETURN 'again';
    END IF;
    PERFORM backfill._move_hold(target, part);
    UPDATE backfill.slot s SET node = target, moving_to = NULL, phase = NULL WHERE s.slot = ANY (part);
    INSERT INTO backfill.moved (number, node)
    SELECT h.number, target FROM (SELECT source AS number UNION SELECT m.number FROM backfill.moved m WHERE m.node = source) h
     WHERE h.number <> target ON CONFLICT DO NOTHING;
    RETURN 'again';
END;
$$;
COMMENT ON FUNCTION backfill._move_step(integer[], smallint, timestamptz) IS 'Do the next step of moving slots to a node.';

CREATE FUNCTION backfill._check_slots(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong integer := (SELECT s FROM pg_catalog.unnest(slots) s WHERE s NOT IN (SELECT k.slot FROM backfill.slot k) LIMIT 1);
BEGIN
    IF slots IS NULL OR wrong IS NOT NULL THEN
        RAISE EXCEPTION 'there is no slot %', coalesce(wrong::text, 'NULL') USING ERRCODE = 'invalid_parameter_value', HINT = 'Slots are 0 to 255.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._check_slots(integer[]) IS 'Refuses what is no slot.';

CREATE FUNCTION backfill._gave_up(max_wait interval)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'some jobs of the slots still ran after %: nothing of these slots was moved', max_wait
        USING ERRCODE = 'lock_not_available', HINT = 'Give it more time by max_wait, or cancel the jobs: see backfill.jobs.';
END;
$$;
COMMENT ON FUNCTION backfill._gave_up(interval) IS 'Raise that a move took too long.';

-- No SET clause: the procedures commit between their steps.
CREATE PROCEDURE backfill.move_slots(slots integer[], to_node text, max_wait interval DEFAULT '1 minute')
LANGUAGE plpgsql
AS $$
DECLARE
    target smallint := backfill._node_number_of(to_node);
    give_up_at timestamptz := pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) max_wait;
    step text;
BEGIN
    PERFORM backfill._check_slots(slots);
    LOOP
        step := backfill._move_step(slots, target, give_up_at);
        COMMIT;
        EXIT WHEN step OPERATOR(pg_catalog.=) 'done';
        IF step OPERATOR(pg_catalog.=) 'gave up' THEN
            PERFORM backfill._gave_up(max_wait);
        ELSIF step OPERATOR(pg_catalog.=) 'wait' THEN
            PERFORM pg_catalog.pg_sleep(0.05);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE backfill.move_slots(integer[], text, interval) IS
    'Move slots, with all jobs, letters, queues and schedules that belong to them, to a node. Killed at any point, it is called again. If jobs of the slots still run after max_wait, it fails, and nothing has happened.';

CREATE PROCEDURE backfill.move_slot(slot integer, to_node text, max_wait interval DEFAULT '1 minute')
LANGUAGE plpgsql
AS $$
BEGIN
    CALL backfill.move_slots(ARRAY[slot], to_node, max_wait);
END;
$$;
COMMENT ON PROCEDURE backfill.move_slot(integer, text, interval) IS 'Move one slot to a node.';

-- The next slots to move, so that all nodes have the same number of them; those of a move that was killed come first.
CREATE FUNCTION backfill._next_move(OUT slots integer[], OUT to_node text)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    richest record;
    poorest record;
    surplus bigint;
BEGIN
    SELECT pg_catalog.array_agg(s.slot::integer), n.name INTO slots, to_node
      FROM backfill.slot s JOIN backfill.node n ON n.number = s.moving_to WHERE s.slot >= 0 GROUP BY n.name LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT n.number, n.slots INTO richest FROM backfill.nodes n ORDER BY n.slots DESC, n.number LIMIT 1;
    SELECT n.name, n.slots INTO poorest FROM backfill.nodes n ORDER BY n.slots, n.number LIMIT 1;
    surplus := least(richest.slots - 256 / (SELECT pg_catalog.count(*) FROM backfill.nodes), (richest.slots - poorest.slots) / 2);
    IF richest.slots - poorest.slots > 1 THEN
        slots := ARRAY(SELECT s.slot::integer FROM backfill.slot s WHERE s.slot >= 0 AND s.node = richest.number ORDER BY s.slot LIMIT greatest(surplus, 1));
        to_node := poorest.name;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._next_move() IS 'What rebalance() moves next; NULL: nothing.';

CREATE PROCEDURE backfill.rebalance(max_wait interval DEFAULT '1 minute')
LANGUAGE plpgsql
AS $$
DECLARE
    next_slots integer[];
    next_node text;
BEGIN
    LOOP
        SELECT m.slots, m.to_node INTO next_slots, next_node FROM backfill._next_move() m;
        EXIT WHEN next_slots IS NULL;
        CALL backfill.move_slots(next_slots, next_node, max_wait);
    END LOOP;
END;
$$;
COMMENT ON PROCEDURE backfill.rebalance(interval) IS 'Move slots until all nodes have the same number of them, or one more. Finishes moves that were killed.';
