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
DECLARE
    before jsonb := (SELECT pg_catalog.to_jsonb(o) FROM backfill.outbox o);
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
    PERFORM backfill._audit('set_outbox', 'outbox', ARRAY[server], 1, before, pg_catalog.jsonb_build_object('server', server));
END;
$$;
COMMENT ON FUNCTION backfill.set_outbox(text) IS
    'Forward what enqueue_via_outbox() enqueues to this foreign server of dblink_fdw, as the role that calls this and its user mapping.';
