-- Moves the jobs of Graphile Worker into backfill, in one transaction. Run it with psql, as
-- the owner of the extension or a superuser, in the database that has both:
--
--     psql -X -v ON_ERROR_STOP=1 -f migrate_from_graphile_worker.sql
--
-- With another schema name than graphile_worker: -v schema=my_worker
--
-- Moved are jobs that wait, also those that have failed before; jobs that have no attempts
-- left become dead letters. What cannot be moved stays where it is and is listed with the reason: jobs
-- that a worker has locked, jobs whose key a job of backfill has already, and what backfill
-- refuses, such as a payload with \u0000. Run it again for the locked ones, and when the others
-- are mended. Schedules are not touched. See docs/migrating.md.
\if :{?schema}
\else
    \set schema graphile_worker
\endif
\set QUIET on
BEGIN;
-- Nothing of the session's is found by its name, nor anything of that schema's owner.
SET LOCAL search_path = pg_catalog, pg_temp;
-- Graphile's workers and producers wait until this is over.
LOCK TABLE :"schema"._private_jobs, :"schema"._private_tasks, :"schema"._private_job_queues IN SHARE ROW EXCLUSIVE MODE;
SELECT set_config('migration.schema', :'schema', true) \g /dev/null

-- Its owner's code must not run with the rights of the role that runs this.
DO $$
DECLARE
    suspicious text;
BEGIN
    WITH tables AS (
        SELECT c.oid, c.relname, c.relkind, c.relhassubclass
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = current_setting('migration.schema') AND c.relname = ANY ('{_private_jobs,_private_tasks,_private_job_queues}'))
    SELECT string_agg(f.what, ', ' ORDER BY f.what) INTO suspicious FROM (
        SELECT t.relname || ' is not an ordinary table' AS what FROM tables t WHERE t.relkind <> 'r' OR t.relhassubclass
         UNION ALL
        SELECT format('trigger %s of %s', g.tgname, t.relname) FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid
         WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
         UNION ALL
        SELECT format('rule %s of %s', r.rulename, t.relname) FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid
         UNION ALL
        SELECT format('column %s of %s has type %s', a.attname, t.relname, a.atttypid::regtype)
          FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_type y ON y.oid = a.atttypid WHERE y.typnamespace <> 'pg_catalog'::regnamespace
         UNION ALL
        SELECT format('index %s calls %s', i.indexrelid::regclass, d.refobjid::regprocedure)
          FROM tables t JOIN pg_index i ON i.indrelid = t.oid
          JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_proc'::regclass) f;
    IF suspicious IS NOT NULL THEN
        RAISE EXCEPTION 'the tables in schema "%" run code of their owner: %', current_setting('migration.schema'), suspicious
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Disable or drop it for the time of the migration: it would run with your rights.';
    END IF;
END;
$$;

CREATE TEMPORARY TABLE left_behind (id bigint, reason text) ON COMMIT DROP;
INSERT INTO left_behind
SELECT j.id, CASE WHEN j.locked_at IS NOT NULL THEN 'a worker has locked it' ELSE format('a job of backfill has its key "%s"', j.key) END
  FROM :"schema"._private_jobs j
 WHERE j.locked_at IS NOT NULL OR EXISTS (SELECT FROM backfill.job b WHERE b.job_key = j.key);

-- A queue of that name has another meaning here, so the jobs get one of their own.
CREATE TEMPORARY TABLE moving ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY j.id)::integer AS n,
       j.id AS old_id,
       t.identifier,
       j.payload,
       CASE WHEN q.queue_name IN ('fast', 'bulk', 'dead_letter') THEN q.queue_name || '_graphile' ELSE q.queue_name END AS queue_name,
       j.run_at,
       j.max_attempts,
       j.key,
       j.priority,
       j.flags,
       j.attempts,
       j.last_error,
       j.created_at
  FROM :"schema"._private_jobs j
  JOIN :"schema"._private_tasks t ON t.id = j.task_id
  LEFT JOIN :"schema"._private_job_queues q ON q.id = j.job_queue_id
 WHERE NOT EXISTS (SELECT FROM left_behind l WHERE l.id = j.id);
ALTER TABLE moving ADD PRIMARY KEY (n);
CREATE TEMPORARY TABLE moved (old_id bigint PRIMARY KEY, new_id bigint, is_dead boolean NOT NULL) ON COMMIT DROP;
CREATE TEMPORARY TABLE made_serial (queue_name text) ON COMMIT DROP;

-- Moves the n-th to the m-th. If one of them cannot be moved, none is, and each half is tried.
CREATE FUNCTION pg_temp.move(first integer, last integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    middle integer := (first + last) / 2;
    detail text;
BEGIN
    -- A named queue of Graphile Worker runs one job at a time.
    WITH new AS (
        SELECT DISTINCT m.queue_name FROM moving m
         WHERE m.n BETWEEN first AND last AND m.queue_name IS NOT NULL
           AND NOT EXISTS (SELECT FROM backfill.queue c WHERE c.queue_name = m.queue_name))
    INSERT INTO made_serial SELECT n.queue_name FROM new n WHERE backfill.set_queue(n.queue_name, 1) IS NOT NULL;

    INSERT INTO moved
    SELECT m.old_id,
           (backfill.add_job(m.identifier, m.payload, m.queue_name, m.run_at, m.max_attempts, m.key, m.priority,
                             nullif(ARRAY(SELECT jsonb_object_keys(m.flags)), '{}'))).id,
           m.attempts >= m.max_attempts
      FROM (SELECT * FROM moving WHERE n BETWEEN first AND last ORDER BY n) m;

    UPDATE backfill.job b
       SET attempts = m.attempts,
           created_at = m.created_at,
           last_error = CASE WHEN m.last_error IS NOT NULL THEN jsonb_build_object('message', m.last_error) END
      FROM moving m JOIN moved d ON d.old_id = m.old_id
     WHERE m.n BETWEEN first AND last AND b.id = d.new_id;

    PERFORM backfill.add_to_dlq(d.new_id, coalesce(m.last_error, 'failed in Graphile Worker'))
       FROM moving m JOIN moved d ON d.old_id = m.old_id
      WHERE m.n BETWEEN first AND last AND d.is_dead AND d.new_id IS NOT NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    IF first >= last THEN
        INSERT INTO left_behind SELECT m.old_id, concat_ws(': ', SQLERRM, nullif(detail, '')) FROM moving m WHERE m.n = first;
    ELSE
        PERFORM pg_temp.move(first, middle), pg_temp.move(middle + 1, last);
    END IF;
END;
$$;
SELECT pg_temp.move(b.n, b.n + 999) FROM moving b WHERE b.n % 1000 = 1 \g /dev/null
DROP FUNCTION pg_temp.move(integer, integer);

INSERT INTO left_behind SELECT m.old_id, 'a hook has skipped it' FROM moved m WHERE m.new_id IS NULL;
DELETE FROM :"schema"._private_jobs j USING moved m WHERE j.id = m.old_id AND m.new_id IS NOT NULL;

SELECT l.id AS left_behind, l.reason FROM left_behind l ORDER BY l.id;
SELECT count(*) FILTER (WHERE m.new_id IS NOT NULL AND NOT m.is_dead) AS jobs,
       count(*) FILTER (WHERE m.new_id IS NOT NULL AND m.is_dead) AS dead_letters,
       (SELECT count(*) FROM made_serial) AS queues,
       (SELECT count(*) FROM :"schema"._private_jobs) AS left_behind
  FROM moved m;
COMMIT;
