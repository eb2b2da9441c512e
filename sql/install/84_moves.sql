-- Moving slots to another node: what happens on the two nodes. The router has the plan (router/sql/install/60_moves.sql)
-- and calls these functions, each in a transaction of its own. Any of them may be called again.

-- A job and what belongs to it must not be on two nodes after a crash of either.
CREATE FUNCTION backfill._move_commits_durably()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_catalog.current_setting('synchronous_commit') = 'off' THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._move_commits_durably() IS 'Have this transaction wait until its commit is on disk.';

CREATE FUNCTION backfill._move_note(slots smallint[], held boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._audit('move_slots', 'slot', slots::text[], NULL, NULL, pg_catalog.jsonb_build_object('held', held));
END;
$$;
COMMENT ON FUNCTION backfill._move_note(smallint[], boolean) IS 'Note in backfill.audit that this node holds slots, or holds them no more.';

CREATE FUNCTION backfill._move_close(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slot integer;
    held smallint[];
BEGIN
    PERFORM backfill._move_commits_durably();
    -- Waits for the producers that are at work in the slot; later ones find it closed.
    FOR slot IN SELECT s FROM pg_catalog.unnest(slots) s ORDER BY s LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(1650549611, slot);
    END LOOP;
    WITH RECURSIVE gone AS (DELETE FROM backfill.held_slot h WHERE h.slot = ANY (slots) RETURNING h.slot)
    SELECT pg_catalog.array_agg(g.slot ORDER BY g.slot) INTO held FROM gone g;
    PERFORM backfill._move_note(held, false);
END;
$$;
COMMENT ON FUNCTION backfill._move_close(integer[]) IS 'Take no more jobs of these slots from the router.';

CREATE FUNCTION backfill._move_hold(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held smallint[];
BEGIN
    PERFORM backfill._move_commits_durably();
    DELETE FROM backfill.arrived a WHERE a.slot = ANY (slots);
    WITH RECURSIVE come AS (
        INSERT INTO backfill.held_slot AS h (slot) SELECT s FROM pg_catalog.unnest(slots) s ON CONFLICT DO NOTHING RETURNING h.slot)
    SELECT pg_catalog.array_agg(c.slot ORDER BY c.slot) INTO held FROM come c;
    PERFORM backfill._move_note(held, true);
END;
$$;
COMMENT ON FUNCTION backfill._move_hold(integer[]) IS 'Take jobs of these slots from the router: all that belongs to them is here.';

-- Jobs that run are passed over, and counted: the rest of their slots waits for them, because a queue must not run on two
-- nodes, and a job that fails comes back. A DELETE by SQL does not tell executors of a rollback of it; their sweep finds the rows.
CREATE FUNCTION backfill._move_freeze(slots integer[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own integer := -1 - (SELECT i.number FROM backfill.node_identity i);
    remaining bigint;
BEGIN
    PERFORM backfill._move_commits_durably();
    WITH RECURSIVE gone AS (
        DELETE FROM backfill.job j
         USING (SELECT w.ctid AS tid FROM backfill.job w
                 WHERE w.lease_expires_at IS NULL AND coalesce(backfill._slot_of(w.queue_name, w.job_key), own) = ANY (slots)
                   FOR UPDATE SKIP LOCKED) waiting
         WHERE j.ctid = waiting.tid
        RETURNING coalesce(backfill._slot_of(j.queue_name, j.job_key), own) AS slot, j.id, pg_catalog.to_jsonb(j) AS content)
    INSERT INTO backfill.departing (slot, kind, name, content) SELECT g.slot, 4, g.id, g.content FROM gone g;
    SELECT pg_catalog.count(*) INTO remaining FROM backfill.job j
     WHERE coalesce(backfill._slot_of(j.queue_name, j.job_key), own) = ANY (slots);
    IF remaining = 0 THEN
        PERFORM backfill._move_freeze_rest(slots, own);
    END IF;
    RETURN remaining;
END;
$$;
COMMENT ON FUNCTION backfill._move_freeze(integer[]) IS 'Take what belongs to these slots out of its tables; returns how many of their jobs still run.';

CREATE FUNCTION backfill._move_freeze_rest(slots integer[], own integer)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH RECURSIVE gone AS (DELETE FROM backfill.queue q WHERE backfill._slot_of(q.queue_name, NULL) = ANY (slots) RETURNING q.*)
    INSERT INTO backfill.departing (slot, kind, name, content)
    SELECT backfill._slot_of(g.queue_name, NULL), 1, g.queue_name, pg_catalog.to_jsonb(g) - 'id' FROM gone g;

    WITH RECURSIVE gone AS (
        DELETE FROM backfill.cron_schedule c
         USING (SELECT s.name, backfill._slot_of_schedule(s.name, coalesce(s.queue_name, t.queue_name), s.job_key) AS slot
                  FROM backfill.cron_schedule s LEFT JOIN backfill.task t ON t.task_identifier = s.task_identifier) p
         WHERE p.name = c.name AND p.slot = ANY (slots)
        RETURNING p.slot, c.name, pg_catalog.to_jsonb(c) AS content)
    INSERT INTO backfill.departing (slot, kind, name, content) SELECT g.slot, 2, g.name, g.content FROM gone g;

    WITH RECURSIVE gone AS (DELETE FROM backfill.dead_letter d WHERE coalesce(backfill._slot_of(d.queue_name, d.job_key), own) = ANY (slots) RETURNING d.*)
    INSERT INTO backfill.departing (slot, kind, name, content)
    SELECT coalesce(backfill._slot_of(g.queue_name, g.job_key), own), 3, g.id, pg_catalog.to_jsonb(g) FROM gone g;

    WITH RECURSIVE gone AS (DELETE FROM backfill.forwarded f WHERE f.slot = ANY (slots) RETURNING f.*)
    INSERT INTO backfill.departing (slot, kind, name, content)
    SELECT g.slot, 5, g.id, pg_catalog.to_jsonb(g) FROM gone g;
END;
$$;
COMMENT ON FUNCTION backfill._move_freeze_rest(integer[], integer) IS 'The same for what is not a job: queues, schedules, dead letters, what outboxes have forwarded.';

CREATE FUNCTION backfill._move_read(slots integer[], max_rows integer)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_agg(d) FROM (
        SELECT p.slot, p.kind, p.name, p.content FROM backfill.departing p WHERE p.slot = ANY (_move_read.slots)
         ORDER BY p.kind, p.slot, p.name LIMIT _move_read.max_rows) d;
END;
COMMENT ON FUNCTION backfill._move_read(integer[], integer) IS 'The next rows of these slots that have to go to the new node; NULL: there are none.';

CREATE FUNCTION backfill._move_forget(moved jsonb)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM backfill.departing d
     USING pg_catalog.jsonb_to_recordset(moved) AS m (slot smallint, kind smallint, name text)
     WHERE d.slot = m.slot AND d.kind = m.kind AND d.name = m.name;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END;
$$;
COMMENT ON FUNCTION backfill._move_forget(jsonb) IS 'Forget rows that the new node has.';

CREATE FUNCTION backfill._move_insert(moved jsonb)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fresh jsonb;
BEGIN
    PERFORM backfill._move_commits_durably();
    WITH RECURSIVE a AS (
        INSERT INTO backfill.arrived AS i (slot, kind, name)
        SELECT r.slot, r.kind, r.name FROM pg_catalog.jsonb_to_recordset(moved) AS r (slot smallint, kind smallint, name text)
            ON CONFLICT DO NOTHING RETURNING i.*)
    SELECT pg_catalog.jsonb_agg(m) INTO fresh
      FROM pg_catalog.jsonb_to_recordset(moved) AS m (slot smallint, kind smallint, name text, content jsonb)
      JOIN a ON a.slot = m.slot AND a.kind = m.kind AND a.name = m.name;
    PERFORM backfill._move_put(fresh);
    RETURN coalesce(pg_catalog.jsonb_array_length(fresh), 0);
END;
$$;
COMMENT ON FUNCTION backfill._move_insert(jsonb) IS 'Put rows of another node into their tables here; those that came before are left out. Returns how many were new.';

CREATE FUNCTION backfill._move_put(moved jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT r.* FROM pg_catalog.jsonb_to_recordset(moved) AS r (kind smallint, name text, content jsonb) ORDER BY r.kind LOOP
        CASE item.kind
        WHEN 1 THEN
            INSERT INTO backfill.queue AS q (queue_name, concurrency, rate_limit, rate_period, max_depth, paused, automatic)
            SELECT r.queue_name, r.concurrency, r.rate_limit, r.rate_period, r.max_depth, r.paused, r.automatic
              FROM pg_catalog.jsonb_populate_record(NULL::backfill.queue, item.content) r
                ON CONFLICT (queue_name) DO UPDATE SET concurrency = excluded.concurrency, rate_limit = excluded.rate_limit,
                   rate_period = excluded.rate_period, max_depth = excluded.max_depth, paused = excluded.paused, automatic = excluded.automatic;
        WHEN 2 THEN
            DELETE FROM backfill.cron_schedule c WHERE c.name = item.name;
            INSERT INTO backfill.cron_schedule SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.cron_schedule, item.content) r;
        WHEN 3 THEN
            -- A handler of this node may have enqueued a job with that key, which has failed, too: both letters are kept.
            INSERT INTO backfill.dead_letter
            SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.dead_letter, item.content
                       || CASE WHEN EXISTS (SELECT FROM backfill.dead_letter d WHERE d.job_key = item.content ->> 'job_key'
                                               AND d.task_identifier = item.content ->> 'task_identifier') THEN '{"job_key": null}' ELSE '{}' END::jsonb) r;
        WHEN 4 THEN
            INSERT INTO backfill.job SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.job, item.content) r;
        WHEN 5 THEN
            INSERT INTO backfill.forwarded SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.forwarded, item.content) r;
        END CASE;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill._move_put(jsonb) IS 'Put rows that were taken out by _move_freeze() into their tables.';

CREATE FUNCTION backfill._move_undo(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rows jsonb;
BEGIN
    LOOP
        rows := backfill._move_read(slots, 1000);
        EXIT WHEN rows IS NULL;
        PERFORM backfill._move_put(rows);
        PERFORM backfill._move_forget(rows);
    END LOOP;
    PERFORM backfill._move_hold(slots);
END;
$$;
COMMENT ON FUNCTION backfill._move_undo(integer[]) IS 'What was to be moved stays: put it back, and take jobs of these slots again.';
