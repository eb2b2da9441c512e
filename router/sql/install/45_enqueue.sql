-- Enqueue. Each returns the id of the job, which is committed on its node by then.

SELECT backfill._make_by_slot('enqueue', 'task_identifier text, payload jsonb DEFAULT ''{}'', queue_name text DEFAULT NULL, priority integer DEFAULT NULL, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL, job_key text DEFAULT NULL, job_key_mode text DEFAULT ''replace'', retry_policy text DEFAULT NULL, timeout interval DEFAULT NULL, headers jsonb DEFAULT NULL',
    'bigint', 'backfill._slot_of(job_queue, enqueue.job_key)',
    'Enqueue a job on the node of its queue, else of its job_key, else any. It is committed when this returns: a rollback does not undo it.',
    task => 'enqueue.task_identifier', queue => 'enqueue.queue_name');
SELECT backfill._make_by_slot('enqueue_serial', 'task_identifier text, payload jsonb, queue_name text, job_key text DEFAULT NULL',
    'bigint', 'backfill._slot_of(enqueue_serial.queue_name, enqueue_serial.job_key)',
    'Enqueue in a serial queue, on the node of the queue.');
SELECT backfill._make_by_slot('enqueue_many', 'task_identifier text, payloads jsonb[], queue_name text DEFAULT NULL, priority integer DEFAULT NULL, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL, retry_policy text DEFAULT NULL, timeout interval DEFAULT NULL, headers jsonb DEFAULT NULL',
    'SETOF bigint', 'backfill._slot_of(job_queue, NULL)',
    'Enqueue one job per payload: all on one node, all or none.', task => 'enqueue_many.task_identifier', queue => 'enqueue_many.queue_name');
SELECT backfill._make_by_slot('add_job', 'identifier text, payload json DEFAULT NULL, queue_name text DEFAULT NULL, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL, job_key text DEFAULT NULL, priority integer DEFAULT NULL, flags text[] DEFAULT NULL, job_key_mode text DEFAULT ''replace''',
    'backfill.jobs', 'backfill._slot_of(add_job.queue_name, add_job.job_key)',
    'Graphile Worker''s add_job, on the node of the queue, else of the job_key, else any.', backfill._make_job_columns());

CREATE FUNCTION backfill.enqueue_fast(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN backfill.enqueue(task_identifier, payload, 'fast', -5, job_key => job_key); END; $$;
COMMENT ON FUNCTION backfill.enqueue_fast(text, jsonb, text) IS 'Enqueue in queue fast with priority FAST_DEFAULT.';

CREATE FUNCTION backfill.enqueue_bulk(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN backfill.enqueue(task_identifier, payload, 'bulk', 0, job_key => job_key); END; $$;
COMMENT ON FUNCTION backfill.enqueue_bulk(text, jsonb, text) IS 'Enqueue in queue bulk with priority BULK_DEFAULT.';

CREATE FUNCTION backfill.enqueue_emergency(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN backfill.enqueue(task_identifier, payload, 'fast', -20, job_key => job_key); END; $$;
COMMENT ON FUNCTION backfill.enqueue_emergency(text, jsonb, text) IS 'Enqueue in queue fast with priority EMERGENCY.';

CREATE FUNCTION backfill.enqueue_critical(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN backfill.enqueue(task_identifier, payload, 'fast', -10, job_key => job_key, retry_policy => 'aggressive'); END; $$;
COMMENT ON FUNCTION backfill.enqueue_critical(text, jsonb, text) IS 'Enqueue in queue fast with priority FAST_HIGH and retry policy aggressive.';

CREATE FUNCTION backfill.enqueue_fast_with_retries(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN backfill.enqueue(task_identifier, payload, 'fast', -10, job_key => job_key, retry_policy => 'fast'); END; $$;
COMMENT ON FUNCTION backfill.enqueue_fast_with_retries(text, jsonb, text) IS 'Enqueue in queue fast with priority FAST_HIGH and retry policy fast.';

CREATE FUNCTION backfill.enqueue_bulk_with_retries(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$ BEGIN RETURN backfill.enqueue(task_identifier, payload, 'bulk', 0, job_key => job_key, retry_policy => 'conservative'); END; $$;
COMMENT ON FUNCTION backfill.enqueue_bulk_with_retries(text, jsonb, text) IS 'Enqueue in queue bulk with priority BULK_DEFAULT and retry policy conservative.';

-- --- Many at once: those of a slot are one call, and one transaction on its node ---

SELECT backfill._make_call('enqueue_jobs', 'jobs jsonb', 'SETOF bigint', NULL, true);
SELECT backfill._make_function('_enqueue_jobs_of_slot', 'jobs jsonb, jobs_slot smallint', 'SETOF bigint', 'Enqueue jobs of one slot; NULL: on any node.',
    'to_slot smallint := jobs_slot; tried smallint[] := ''{}'';', 'LOOP
        {choose}
        BEGIN
            RETURN QUERY SELECT f FROM backfill._at_enqueue_jobs(n.number, n.key, n.mark, coalesce(to_slot, -1 - n.number), backfill._headers(), jobs) f;
            RETURN;
        {failed}
            tried := backfill._tried(to_slot, n.number, n.name, tried, s, m, d, h);
        END;
    END LOOP;');

CREATE FUNCTION backfill.enqueue_jobs(jobs jsonb)
RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part record;
    job record;
    ids bigint[] := '{}';
    done bigint := 0;
    m text;
    d text;
    h text;
BEGIN
    -- What is no array of objects is refused by a node, as it would be there.
    IF pg_catalog.jsonb_typeof(jobs) IS DISTINCT FROM 'array'
       OR EXISTS (SELECT FROM pg_catalog.jsonb_array_elements(jobs) j WHERE pg_catalog.jsonb_typeof(j) <> 'object') THEN
        RETURN QUERY SELECT f FROM backfill._enqueue_jobs_of_slot(jobs, NULL) f;
        RETURN;
    END IF;
    FOR part IN
        SELECT j.slot, pg_catalog.jsonb_agg(j.job ORDER BY j.position) AS jobs, pg_catalog.array_agg(j.position ORDER BY j.position) AS positions
          FROM (SELECT e.job, e.position,
                       backfill._slot_of(backfill._queue_of(e.job ->> 'task_identifier', e.job ->> 'queue_name'), e.job ->> 'job_key') AS slot
                  FROM pg_catalog.jsonb_array_elements(jobs) WITH ORDINALITY e (job, position)) j
         GROUP BY j.slot ORDER BY j.slot
    LOOP
        BEGIN
            FOR job IN SELECT e AS id, pg_catalog.row_number() OVER () AS nr FROM backfill._enqueue_jobs_of_slot(part.jobs, part.slot) e LOOP
                ids[part.positions[job.nr]] := job.id;
                done := done + 1;
            END LOOP;
        EXCEPTION WHEN OTHERS OR query_canceled THEN
            IF done = 0 THEN
                RAISE;
            END IF;
            GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
            RAISE EXCEPTION '%', m USING ERRCODE = SQLSTATE, HINT = h,
                DETAIL = pg_catalog.concat_ws(' ', nullif(d, ''), pg_catalog.format('%s of %s jobs were enqueued before, on other nodes: %s.',
                    done, pg_catalog.jsonb_array_length(jobs), pg_catalog.array_remove(ids, NULL)));
        END;
    END LOOP;
    RETURN QUERY SELECT i FROM pg_catalog.unnest(ids) i;
END;
$$;
COMMENT ON FUNCTION backfill.enqueue_jobs(jsonb) IS 'Enqueue jobs, each on its node. Those of one slot are all or none; an error says which were enqueued before it.';

CREATE TYPE backfill.job_spec AS (
    identifier text,
    payload json,
    queue_name text,
    run_at timestamptz,
    max_attempts smallint,
    job_key text,
    priority smallint,
    flags text[]);
COMMENT ON TYPE backfill.job_spec IS 'A job for add_jobs().';

CREATE FUNCTION backfill.add_jobs(specs backfill.job_spec[], job_key_preserve_run_at boolean DEFAULT false)
RETURNS SETOF backfill.jobs
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    spec record;
BEGIN
    FOR spec IN
        SELECT l.*
          FROM (SELECT s.*, pg_catalog.max(s.ordinality) OVER (PARTITION BY s.job_key) AS last
                  FROM pg_catalog.unnest(specs) WITH ORDINALITY s) l
         WHERE l.job_key IS NULL OR l.ordinality = l.last
         ORDER BY l.ordinality
    LOOP
        RETURN NEXT backfill.add_job(spec.identifier, spec.payload, spec.queue_name, spec.run_at, spec.max_attempts,
                                     spec.job_key, spec.priority, spec.flags,
                                     CASE WHEN job_key_preserve_run_at THEN 'preserve_run_at' ELSE 'replace' END);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.add_jobs(backfill.job_spec[], boolean) IS 'Graphile Worker''s add_jobs: one after the other, each on its node, not all or none.';

-- --- What outboxes forward ---

SELECT backfill._make_by_slot('_enqueue_once', 'id uuid, created_at timestamptz, job jsonb', 'bigint',
    'coalesce(backfill._slot_of(backfill._queue_of(_enqueue_once.job ->> ''task_identifier'', _enqueue_once.job ->> ''queue_name''), _enqueue_once.job ->> ''job_key''), (pg_catalog.hashtextextended(_enqueue_once.id::text COLLATE "C", 3) & 255)::smallint)',
    'Enqueue what an outbox forwards, unless that has been done. A job without a queue and a key goes to the slot of its id, so that it comes to the same node each time.',
    remote => 'backfill._enqueue_once($6::uuid, $7::timestamptz, $8::jsonb, $4::integer)');
