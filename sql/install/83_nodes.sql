-- A database that is a node of a router (docs/scale-out.md): what the router asks of it. The router is an
-- extension of its own, backfill_router, in another database; each of its calls is a transaction here.
--
-- A slot is a number that decides where a job goes. 0 to 255 are hashes of names: of a queue, else of a job's key.
-- Jobs without either stay on the node that got them: that is slot -1 - number of the node. A node takes jobs
-- from the router only for slots that it holds, so that a router that is mistaken can do no harm.

CREATE TABLE backfill.node_identity (
    number smallint PRIMARY KEY CHECK (number BETWEEN 0 AND 63),
    name text COLLATE "C" NOT NULL,
    router_id uuid NOT NULL,
    key uuid NOT NULL -- the router says it with each call
);
CREATE UNIQUE INDEX node_identity_one_idx ON backfill.node_identity ((true));
COMMENT ON TABLE backfill.node_identity IS 'If this database is a node of a router: which one. One row at most.';

CREATE TABLE backfill.held_slot (
    slot smallint PRIMARY KEY CHECK (slot BETWEEN -64 AND 255)
);
COMMENT ON TABLE backfill.held_slot IS 'The slots whose jobs this node takes from its router.';

-- A row is in departing from when it has left its table until its new node has it, and in arrived on the new node
-- until the move is over: whatever dies meanwhile, the rest of the move is done again, and does nothing twice.
CREATE TABLE backfill.departing (
    slot smallint NOT NULL,
    kind smallint NOT NULL, -- in the order in which they are put into their tables: queue, schedule, letter, job, forwarded
    name text COLLATE "C" NOT NULL,
    content jsonb NOT NULL,
    PRIMARY KEY (slot, kind, name)
);
COMMENT ON TABLE backfill.departing IS 'What leaves this node because its slot is moved to another; it waits for the router to take it there.';
CREATE TABLE backfill.arrived (
    slot smallint NOT NULL,
    kind smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (slot, kind, name)
);
COMMENT ON TABLE backfill.arrived IS 'What has come to this node by a move that is not over, so that none of it comes twice.';

SELECT pg_catalog.pg_extension_config_dump('backfill.node_identity', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.held_slot', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.departing', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.arrived', '');

-- The router has the same function. The seeds keep a queue and a key of one name apart.
CREATE FUNCTION backfill._slot_of(queue_name text, job_key text)
RETURNS smallint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF queue_name NOT IN ('', 'fast', 'bulk') THEN
        RETURN pg_catalog.hashtextextended(queue_name COLLATE "C", 1) & 255;
    END IF;
    RETURN pg_catalog.hashtextextended(job_key COLLATE "C", 0) & 255;
END;
$$;
COMMENT ON FUNCTION backfill._slot_of(text, text) IS 'The slot of a job: by its queue, unless that is fast or bulk, else by its job_key; NULL: it stays where it is.';

CREATE FUNCTION backfill._slot_of_schedule(name text, queue_name text, job_key text)
RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(backfill._slot_of(_slot_of_schedule.queue_name, _slot_of_schedule.job_key),
                    (pg_catalog.hashtextextended(_slot_of_schedule.name COLLATE "C", 2) & 255)::smallint);
END;
COMMENT ON FUNCTION backfill._slot_of_schedule(text, text, text) IS 'The slot of a schedule: that of its jobs, else by its name.';

CREATE FUNCTION backfill._routed(node_key uuid, mark bigint, router_version text, slot integer DEFAULT NULL, headers text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own record;
BEGIN
    -- A move that closes the slot waits until this transaction has ended. What it has closed is seen after the lock.
    IF slot IS NOT NULL THEN
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(1650549611, slot);
    END IF;
    SELECT i.name, i.key, s.last_value, EXISTS (SELECT FROM backfill.held_slot h WHERE h.slot = _routed.slot) AS holds INTO own
      FROM backfill.job_id_seq s LEFT JOIN backfill.node_identity i ON true;
    IF node_key IS DISTINCT FROM own.key THEN
        RAISE EXCEPTION 'database "%" is not the node that the router takes it for', pg_catalog.current_database()
            USING ERRCODE = 'JB008',
                  HINT = 'See backfill.nodes in the router''s database. A database that was added is a node, and no copy of it.';
    END IF;
    IF backfill.version() NOT LIKE router_version || '.%' THEN
        RAISE EXCEPTION 'node "%" has version % of backfill, and its router is of version %', own.name, backfill.version(), router_version
            USING ERRCODE = 'JB008', HINT = 'Upgrade the older one.';
    END IF;
    IF own.last_value < mark THEN
        RAISE EXCEPTION 'node "%" has gone back in time: the last id that it has given is %, but the router knows of %', own.name, own.last_value, mark
            USING ERRCODE = 'JB008',
                  DETAIL = 'It was restored from a backup, or promoted without its last transactions.',
                  HINT = 'Call backfill.accept_node() in the router''s database.';
    END IF;
    IF slot IS NOT NULL AND NOT own.holds THEN
        RAISE EXCEPTION 'node "%" does not hold slot %', own.name, slot
            USING ERRCODE = 'JB007', HINT = 'The slot is being moved: try again.';
    END IF;
    IF headers IS NOT NULL THEN
        PERFORM pg_catalog.set_config('backfill.headers', headers, true);
    END IF;
    RETURN true;
END;
$$;
COMMENT ON FUNCTION backfill._routed(uuid, bigint, text, integer, text) IS 'Refuses a call of a router that is mistaken about this node, or about a slot. Every call of a router begins with it.';

CREATE FUNCTION backfill._oldest_ready_job(tasks text[], queues text[])
RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.min(r.run_at)
      FROM (SELECT t.task_identifier FROM backfill.task t WHERE _oldest_ready_job.tasks IS NULL AND t.handler_name IS NULL
            UNION SELECT pg_catalog.unnest(_oldest_ready_job.tasks)) k
     CROSS JOIN LATERAL (SELECT j.run_at FROM backfill.job j
                          WHERE j.task_identifier = k.task_identifier AND j.lease_expires_at IS NULL AND j.run_at <= backfill._now()
                            AND (_oldest_ready_job.queues IS NULL OR j.queue_name = ANY (_oldest_ready_job.queues))
                          ORDER BY j.priority, j.run_at, j.id LIMIT 1) r;
END;
COMMENT ON FUNCTION backfill._oldest_ready_job(text[], text[]) IS 'run_at of the oldest of the first jobs of these external tasks: a router claims from the node that has the oldest.';

CREATE FUNCTION backfill._node_state(
    OUT version text,
    OUT router_id uuid,
    OUT name text,
    OUT number integer,
    OUT last_job_id bigint,
    OUT numbers integer[],
    OUT in_recovery boolean)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill.version(), i.router_id, i.name, (s.last_value >> 47)::integer,
           CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END,
           ARRAY(SELECT DISTINCT (j.id >> 47)::integer FROM backfill.job j
                 UNION SELECT (d.id >> 47)::integer FROM backfill.dead_letter d
                 UNION SELECT (d.original_job_id >> 47)::integer FROM backfill.dead_letter d),
           pg_catalog.pg_is_in_recovery()
      FROM backfill.job_id_seq s LEFT JOIN backfill.node_identity i ON true;
END;
COMMENT ON FUNCTION backfill._node_state() IS 'What a router asks before it adds this database as a node, and when it checks it. number: that of the ids to come; numbers: those in the ids of its jobs and letters.';

CREATE FUNCTION backfill._node_number(number integer, at_least bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := greatest(number::bigint << 47, 1);
    last bigint := ((number::bigint + 1) << 47) - 1;
    sequence text;
    present bigint;
BEGIN
    IF number NOT BETWEEN 0 AND 63 OR at_least >> 47 <> number THEN
        RAISE EXCEPTION 'a node cannot have the number % and ids from %', number, coalesce(at_least, first)
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Numbers are 0 to 63; ids have that of their node from bit 47 on.';
    END IF;
    -- Back to a number that it had, its ids would begin anew.
    SELECT (s.last_value >> 47) INTO present FROM backfill.job_id_seq s;
    IF present NOT IN (0, number) THEN
        RAISE EXCEPTION 'the ids of database "%" have the number % already', pg_catalog.current_database(), present
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'It was a node, or is restored from a backup of one. Add a new database.';
    END IF;
    FOR sequence IN SELECT pg_catalog.unnest('{job_id_seq,dead_letter_id_seq,claim_token_seq}'::text[]) LOOP
        EXECUTE pg_catalog.format('SELECT CASE WHEN s.is_called THEN s.last_value + 1 ELSE s.last_value END FROM backfill.%I s', sequence) INTO present;
        EXECUTE pg_catalog.format('ALTER SEQUENCE backfill.%I MINVALUE %s MAXVALUE %s START %s RESTART %s', sequence, first, last, first,
            greatest(first, CASE WHEN present >> 47 = number THEN present END, CASE WHEN at_least >> 47 = number THEN at_least END));
    END LOOP;
    PERFORM backfill._audit('accept_node', 'node', ARRAY[i.name], 1, NULL, pg_catalog.jsonb_build_object('at_least', at_least::text))
       FROM backfill.node_identity i WHERE at_least IS NOT NULL;
END;
$$;
COMMENT ON FUNCTION backfill._node_number(integer, bigint) IS 'Give ids and tokens this number, in bits 47 to 52; at_least: no id or token below it is given.';

CREATE FUNCTION backfill._node_join(router_id uuid, number integer, name text, key uuid, slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record := backfill._node_state();
    present integer := (SELECT i.number FROM backfill.node_identity i);
    before jsonb := (SELECT pg_catalog.to_jsonb(i) - 'key' FROM backfill.node_identity i);
BEGIN
    IF state.router_id <> router_id OR present <> number THEN
        RAISE EXCEPTION 'database "%" is a node already: "%", number %, of router %', pg_catalog.current_database(), state.name, present, state.router_id
            USING ERRCODE = 'object_in_use', HINT = 'Remove it from its router first.';
    END IF;
    IF present IS NULL AND NOT state.numbers <@ ARRAY[number] THEN
        RAISE EXCEPTION 'database "%" has jobs or dead letters whose ids have the numbers %', pg_catalog.current_database(), state.numbers
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Jobs of before can stay if the database is added as number 0, which a router can have one of.';
    END IF;
    PERFORM backfill._node_number(number, NULL);
    DELETE FROM backfill.node_identity;
    INSERT INTO backfill.node_identity (number, name, router_id, key) VALUES (number, name, router_id, key);
    PERFORM backfill._audit('add_node', 'node', ARRAY[name], 1, before, (SELECT pg_catalog.to_jsonb(i) - 'key' FROM backfill.node_identity i));
    PERFORM backfill._move_hold(slots);
END;
$$;
COMMENT ON FUNCTION backfill._node_join(uuid, integer, text, uuid, integer[]) IS 'Make this database a node; called again, it changes the name and the key.';

CREATE FUNCTION backfill._node_leave()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record := backfill._node_state();
BEGIN
    IF pg_catalog.cardinality(state.numbers) > 0 OR EXISTS (SELECT FROM backfill.held_slot) OR EXISTS (SELECT FROM backfill.departing) THEN
        RAISE EXCEPTION 'database "%" still has jobs, dead letters or slots of its router', pg_catalog.current_database()
            USING ERRCODE = 'object_in_use';
    END IF;
    PERFORM backfill._audit('remove_node', 'node', ARRAY[i.name], 1, pg_catalog.to_jsonb(i) - 'key', NULL) FROM backfill.node_identity i;
    DELETE FROM backfill.node_identity;
END;
$$;
COMMENT ON FUNCTION backfill._node_leave() IS 'This database is no node any more. Its sequences stay where they are.';
