/* From 0.1.0 to 0.2.0: what CREATE EXTENSION makes of sql/install today, and 0.1.0 had not.
 * A change of sql/install goes in here, too; test/t/135_upgrade.pl says what is missing. */
\echo Use "ALTER EXTENSION backfill UPDATE" to load this file. \quit

-- The number of a node is above these bounds (include/backfill/core/claim_token.hpp).
ALTER SEQUENCE backfill.claim_token_seq NO MAXVALUE NO CYCLE;

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
    last bigint := ((number + 1)::bigint << 47) - 1;
    sequence text;
    present bigint;
BEGIN
    FOREACH sequence IN ARRAY '{job_id_seq,dead_letter_id_seq,claim_token_seq}'::text[] LOOP
        EXECUTE pg_catalog.format('SELECT CASE WHEN s.is_called THEN s.last_value + 1 ELSE s.last_value END FROM backfill.%I s', sequence) INTO present;
        EXECUTE pg_catalog.format('ALTER SEQUENCE backfill.%I MINVALUE %s MAXVALUE %s START %s RESTART %s', sequence, first, last, first,
            greatest(first, CASE WHEN present >> 47 = number THEN present END, CASE WHEN at_least >> 47 = number THEN at_least END));
    END LOOP;
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
BEGIN
    IF state.router_id <> router_id OR present <> number THEN
        RAISE EXCEPTION 'database "%" is a node already: "%", number %, of router %', pg_catalog.current_database(), state.name, present, state.router_id
            USING ERRCODE = 'object_in_use', HINT = 'Remove it from its router first.';
    END IF;
    IF present IS NULL AND state.number NOT IN (0, number) THEN
        RAISE EXCEPTION 'the ids of database "%" have the number % already', pg_catalog.current_database(), state.number
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'It was a node, or is restored from a backup of one. Add a new database.';
    END IF;
    IF present IS NULL AND NOT state.numbers <@ ARRAY[number] THEN
        RAISE EXCEPTION 'database "%" has jobs or dead letters whose ids have the numbers %', pg_catalog.current_database(), state.numbers
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Jobs of before can stay if the database is added as number 0, which a router can have one of.';
    END IF;
    PERFORM backfill._node_number(number, NULL);
    DELETE FROM backfill.node_identity;
    INSERT INTO backfill.node_identity (number, name, router_id, key) VALUES (number, name, router_id, key);
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
    DELETE FROM backfill.node_identity;
END;
$$;
COMMENT ON FUNCTION backfill._node_leave() IS 'This database is no node any more. Its sequences stay where they are.';

-- Moving slots to another node: what happens on the two nodes. The router has the plan (router/sql/install/40_moves.sql)
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

CREATE FUNCTION backfill._move_close(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slot integer;
BEGIN
    PERFORM backfill._move_commits_durably();
    -- Waits for the producers that are at work in the slot; later ones find it closed.
    FOR slot IN SELECT s FROM pg_catalog.unnest(slots) s ORDER BY s LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(1650549611, slot);
    END LOOP;
    DELETE FROM backfill.held_slot h WHERE h.slot = ANY (slots);
END;
$$;
COMMENT ON FUNCTION backfill._move_close(integer[]) IS 'Take no more jobs of these slots from the router.';

CREATE FUNCTION backfill._move_hold(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._move_commits_durably();
    DELETE FROM backfill.arrived a WHERE a.slot = ANY (slots);
    INSERT INTO backfill.held_slot (slot) SELECT s FROM pg_catalog.unnest(slots) s ON CONFLICT DO NOTHING;
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

-- The outbox: a job for a router's cluster (or any other database with this extension) that is enqueued in a
-- transaction here. It is a local job whose handler forwards it, at least once, under an id that was made with it; the
-- database that gets it keeps the id in the transaction in which it enqueues. So it has one effect.

CREATE TABLE backfill.forwarded (
    id uuid PRIMARY KEY,
    slot smallint, -- where its sender finds it again after a move; NULL: without a router
    job_id bigint,
    created_at timestamptz NOT NULL -- by the sender's clock
);
CREATE INDEX forwarded_created_at_idx ON backfill.forwarded (created_at);
COMMENT ON TABLE backfill.forwarded IS 'What outboxes have forwarded to this database in the last 30 days, so that it is enqueued once.';
CREATE TABLE backfill.outbox (
    server text COLLATE "C" PRIMARY KEY
);
CREATE UNIQUE INDEX outbox_one_idx ON backfill.outbox ((true));
COMMENT ON TABLE backfill.outbox IS 'Where enqueue_via_outbox() forwards to: a foreign server of dblink_fdw. One row at most.';
SELECT pg_catalog.pg_extension_config_dump('backfill.forwarded', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.outbox', '');

-- --- The side that gets them ---

CREATE FUNCTION backfill._note_forwarded(id uuid, created_at timestamptz, slot integer, job_id bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known bigint;
BEGIN
    IF job_id IS NOT NULL THEN
        UPDATE backfill.forwarded f SET job_id = _note_forwarded.job_id WHERE f.id = _note_forwarded.id AND f.job_id IS NULL;
        RETURN job_id;
    END IF;
    -- A letter that an operator requeues after months: it is not known any more whether it was forwarded.
    IF created_at < pg_catalog.now() - interval '29 days' THEN
        RAISE EXCEPTION 'job % was put into its outbox at %, too long ago to know whether it was forwarded', id, created_at
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Look whether it was; if not, enqueue it anew.';
    END IF;
    DELETE FROM backfill.forwarded f
     WHERE f.id IN (SELECT o.id FROM backfill.forwarded o WHERE o.created_at < pg_catalog.now() - interval '30 days' LIMIT 10 FOR UPDATE SKIP LOCKED);
    INSERT INTO backfill.forwarded AS f (id, slot, created_at) VALUES (id, slot, created_at) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT coalesce(f.job_id, 0) INTO known FROM backfill.forwarded f WHERE f.id = _note_forwarded.id;
    END IF;
    RETURN known;
END;
$$;
COMMENT ON FUNCTION backfill._note_forwarded(uuid, timestamptz, integer, bigint) IS
    'Without a job_id: note that a job is forwarded; returns NULL if it is the first time, else the id of the job (0: a hook has skipped it). With one: that is its id.';

CREATE FUNCTION backfill._enqueue_once(id uuid, created_at timestamptz, job jsonb, slot integer DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job_id bigint := backfill._note_forwarded(id, created_at, slot, NULL);
BEGIN
    IF job_id IS NULL THEN
        job_id := (SELECT j FROM backfill.enqueue_jobs(pg_catalog.jsonb_build_array(job)) j);
        PERFORM backfill._note_forwarded(id, created_at, slot, job_id) WHERE job_id IS NOT NULL;
    END IF;
    RETURN job_id;
END;
$$;
COMMENT ON FUNCTION backfill._enqueue_once(uuid, timestamptz, jsonb, integer) IS
    'Enqueue what an outbox forwards, unless that has been done; returns the id of the job. job is an object as in enqueue_jobs().';

-- --- The side that sends them ---

CREATE FUNCTION backfill.enqueue_via_outbox(
    task_identifier text,
    payload jsonb DEFAULT '{}',
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    job_key_mode text DEFAULT 'replace',
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    headers jsonb DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF task_identifier IS NULL THEN
        RAISE EXCEPTION 'task_identifier must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    RETURN backfill.enqueue('backfill.outbox', pg_catalog.jsonb_build_object(
               'id', pg_catalog.gen_random_uuid(), 'created_at', pg_catalog.now(),
               'job', pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                   'task_identifier', task_identifier, 'queue_name', queue_name, 'priority', priority, 'run_at', run_at,
                   'max_attempts', max_attempts, 'job_key', job_key, 'job_key_mode', job_key_mode, 'retry_policy', retry_policy,
                   'timeout', timeout::text))
               || pg_catalog.jsonb_build_object('payload', coalesce(payload, '{}'))
               || CASE WHEN headers IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('headers', headers) END),
           priority => priority);
END;
$$;
COMMENT ON FUNCTION backfill.enqueue_via_outbox(text, jsonb, text, integer, timestamptz, integer, text, text, text, interval, jsonb) IS
    'Enqueue a job, in the current transaction, that is forwarded to the database that set_outbox() has named, and enqueued there once. Returns the id of the local job that forwards it.';

CREATE FUNCTION backfill._forward(job jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    server text := (SELECT o.server FROM backfill.outbox o);
    dblink text := (SELECT n.nspname FROM pg_catalog.pg_extension e
                      JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'dblink');
    connected boolean;
    job_id bigint;
BEGIN
    -- One connection for all jobs that this executor forwards. After an error there is a new one.
    EXECUTE pg_catalog.format('SELECT coalesce(''backfill_outbox'' = ANY (%I.dblink_get_connections()), false)', dblink) INTO connected;
    IF NOT connected THEN
        EXECUTE pg_catalog.format('SELECT %I.dblink_connect(''backfill_outbox'', %L)', dblink, server);
    END IF;
    BEGIN
        EXECUTE pg_catalog.format('SELECT f.job_id FROM %I.dblink(''backfill_outbox'', $1) f (job_id bigint)', dblink) INTO job_id
          USING pg_catalog.format('SELECT backfill._enqueue_once(%L, %L, %L)', job ->> 'id', job ->> 'created_at', job -> 'job');
    EXCEPTION WHEN OTHERS THEN
        EXECUTE pg_catalog.format('SELECT %I.dblink_disconnect(''backfill_outbox'')', dblink);
        RAISE;
    END;
    RETURN pg_catalog.jsonb_build_object('job_id', job_id);
END;
$$;
COMMENT ON FUNCTION backfill._forward(jsonb) IS 'The handler of the task backfill.outbox.';

CREATE FUNCTION backfill.set_outbox(server text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM pg_catalog.pg_extension e WHERE e.extname = 'dblink';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'an outbox needs the extension dblink' USING ERRCODE = 'undefined_object', HINT = 'CREATE EXTENSION dblink;';
    END IF;
    PERFORM FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
      WHERE s.srvname = server AND w.fdwname = 'dblink_fdw';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no foreign server "%" of dblink_fdw', coalesce(server, 'NULL')
            USING ERRCODE = 'undefined_object',
                  HINT = 'CREATE SERVER ... FOREIGN DATA WRAPPER dblink_fdw; CREATE USER MAPPING FOR the role that calls set_outbox().';
    END IF;
    DELETE FROM backfill.outbox;
    INSERT INTO backfill.outbox (server) VALUES (server);
    -- After 30 days it is not known any more what was forwarded.
    PERFORM backfill.register_task('backfill.outbox', 'backfill._forward(jsonb)', max_attempts => 32767);
END;
$$;
COMMENT ON FUNCTION backfill.set_outbox(text) IS
    'Forward what enqueue_via_outbox() enqueues to this foreign server of dblink_fdw, as the role that calls this and its user mapping.';

CREATE OR REPLACE FUNCTION backfill._bundle(bundle text, OUT kind text, OUT object_name text, OUT privilege text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- A procedure or function by name (every overload), a view or a table.
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           p.oid::pg_catalog.regprocedure::text, 'EXECUTE'
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'producer' THEN p.proname = ANY ('{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,add_job,add_jobs,remove_job,enqueue_via_outbox,_enqueue_once,_note_forwarded,_routed,_lock_job_keys,current_job,snooze,discard,set_progress,set_result,await_job,priority,priority_band,backoff_delay,version}'::name[])
           WHEN 'consumer' THEN p.oid = 'backfill.complete_jobs(bigint[],bigint)'::pg_catalog.regprocedure
               OR p.proname = ANY ('{claim_jobs,_oldest_ready_job,_routed,heartbeat,fail_job,snooze_job,release_jobs,wait_for_jobs,process_available_jobs,current_job,snooze,discard,set_progress,set_result,await_job,get_job,priority,priority_band,backoff_delay,version,_workers,_claimed,_now,_queue_limit}'::name[])
           WHEN 'monitor' THEN p.proname = ANY ('{priority,priority_band,backoff_delay,classify_error,version,dlq_stats,cron_next,_next_run_at,metrics,prometheus_metrics,why_not_running,health,_routed,_node_state,_workers,_claimed,_now,_queue_limit,_retry_policies,_builtin_error_rules}'::name[])
           WHEN 'admin' THEN p.proname <> ALL ('{grant_producer,grant_consumer,grant_monitor,grant_admin,_bundle,_grant,_requeue,_bury,_letter_deleted,_dlq_matches,_apply_dlq_retention,_config_changed,_limits_changed,_installed,_cron_tick,_expire_leases,_take_leases,_functions,_owner_is_trusted,_pg_cron_job,_clock_problem,_login_problem,_caller_may_read_jobs,set_outbox,_forward}'::name[])
               AND p.proname !~ '^_(health|move|node)_' OR p.proname = '_node_state'
           END
    UNION ALL
    SELECT 'TABLE', c.oid::pg_catalog.regclass::text, 'SELECT'
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'consumer' THEN c.relname = ANY ('{jobs,queues,tasks,job}'::name[])
           WHEN 'monitor' THEN c.relkind = 'v'
           WHEN 'admin' THEN c.relkind IN ('v', 'r')
           END;
END;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA backfill FROM PUBLIC;
