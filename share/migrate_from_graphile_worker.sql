-- Moves the jobs of Graphile Worker into backfill, in one transaction. Run it with psql, as
-- the owner of the extension or a superuser, in the database that has both:
--
--     psql -X -v ON_ERROR_STOP=1 -f migrate_from_graphile_worker.sql
--
-- With another schema name than graphile_worker: -v schema=my_worker
--
-- Moved are jobs that wait, also those that have failed before; jobs that have no attempts
-- left become dead letters. Jobs that a worker has locked stay where they are, and so do jobs
-- whose key a job of backfill has already: the last line says how many. Run it again for the
-- locked ones. Schedules are not touched. See docs/migrating.md.
\if :{?schema}
\else
    \set schema graphile_worker
\endif
\set QUIET on
BEGIN;
-- Graphile's workers and producers wait until this is over.
LOCK TABLE :"schema"._private_jobs IN SHARE ROW EXCLUSIVE MODE;

-- A queue of that name has another meaning here, so the jobs get one of their own.
CREATE TEMPORARY TABLE moving ON COMMIT DROP AS
SELECT j.id AS old_id,
       t.identifier,
       j.payload,
       CASE WHEN q.queue_name IN ('fast', 'bulk', 'dead_letter') THEN q.queue_name || '_graphile' ELSE q.queue_name END AS queue_name,
       j.run_at,
       j.max_attempts,
       j.key,
       j.priority,
       ARRAY(SELECT jsonb_object_keys(j.flags)) AS flags,
       j.attempts,
       j.last_error,
       j.created_at
  FROM :"schema"._private_jobs j
  JOIN :"schema"._private_tasks t ON t.id = j.task_id
  LEFT JOIN :"schema"._private_job_queues q ON q.id = j.job_queue_id
 WHERE j.locked_at IS NULL
   AND NOT EXISTS (SELECT FROM backfill.job b WHERE b.job_key = j.key);

-- A named queue of Graphile Worker runs one job at a time.
SELECT count(backfill.set_queue(q.queue_name, 1)) AS queues
  FROM (SELECT DISTINCT m.queue_name FROM moving m WHERE m.queue_name IS NOT NULL) q
 WHERE NOT EXISTS (SELECT FROM backfill.queue c WHERE c.queue_name = q.queue_name)
\gset moved_

CREATE TEMPORARY TABLE moved ON COMMIT DROP AS
SELECT m.old_id, m.attempts, m.max_attempts, m.last_error, m.created_at,
       (backfill.add_job(m.identifier, m.payload, m.queue_name, m.run_at, m.max_attempts, m.key, m.priority,
                         nullif(m.flags, '{}'))).id AS new_id
  FROM (SELECT * FROM moving ORDER BY old_id) m;

UPDATE backfill.job b
   SET attempts = m.attempts,
       created_at = m.created_at,
       last_error = CASE WHEN m.last_error IS NOT NULL THEN jsonb_build_object('message', m.last_error) END
  FROM moved m
 WHERE b.id = m.new_id;

SELECT count(backfill.add_to_dlq(m.new_id, coalesce(m.last_error, 'failed in Graphile Worker'))) AS dead
  FROM moved m
 WHERE m.attempts >= m.max_attempts
\gset moved_

-- What a hook has skipped stays behind, too.
DELETE FROM :"schema"._private_jobs j USING moved m WHERE j.id = m.old_id AND m.new_id IS NOT NULL;

SELECT (SELECT count(*) FROM moved WHERE new_id IS NOT NULL) - :moved_dead AS jobs, :moved_dead AS dead_letters, :moved_queues AS queues,
       (SELECT count(*) FROM :"schema"._private_jobs) AS left_behind;
COMMIT;
