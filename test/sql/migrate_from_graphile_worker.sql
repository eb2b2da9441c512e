-- share/migrate_from_graphile_worker.sql against a stand-in for Graphile Worker's tables.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
\set stand_in :test_dir /data/graphile_worker.sql
\set script :test_dir /../share/migrate_from_graphile_worker.sql
-- It is installed, too.
SELECT count(*) FROM pg_config c, pg_ls_dir(c.setting || '/extension') file WHERE c.name = 'SHAREDIR' AND file = 'migrate_from_graphile_worker.sql';
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS graphile_worker CASCADE;
\set ECHO none
\i :stand_in
\set ECHO all
INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('send_email'), ('resize');
INSERT INTO graphile_worker._private_job_queues (queue_name) VALUES ('user 1'), ('fast'), ('mine');
INSERT INTO graphile_worker._private_jobs (task_id, job_queue_id, payload, priority, run_at, attempts, max_attempts, last_error, created_at, key, locked_at, flags) VALUES
    (1, NULL, '{"to": "a@b.c"}', 0, '2001-01-01', 0, 25, NULL, '2001-01-01', NULL, NULL, NULL),
    (1, 1, '{"to": "d@e.f", "to": "g@h.i"}', -5, '2100-01-01', 0, 3, NULL, '2001-01-02', 'k1', NULL, '{"tenant-7": true, "slow": true}'),
    (2, 2, '[1, 2]', 7, '2001-01-03', 2, 25, 'timeout', '2001-01-03', 'k2', NULL, NULL),
    (2, NULL, '"dead"', 0, '2001-01-04', 25, 25, 'no such file', '2001-01-04', 'k3', NULL, NULL),
    (1, NULL, '"locked"', 0, '2001-01-05', 1, 25, NULL, '2001-01-05', 'k4', '2001-01-05', NULL),
    (1, NULL, '"key is taken"', 0, '2001-01-06', 0, 25, NULL, '2001-01-06', 'taken', NULL, NULL),
    (2, 3, '"in a queue with a limit"', 0, '2001-01-07', 0, 1, NULL, '2001-01-07', NULL, NULL, '{}');
SELECT backfill.set_queue('mine', 4);
SELECT backfill.enqueue('send_email', '"newer"', job_key => 'taken') AS id;
CREATE VIEW moved AS SELECT id, task_identifier AS task, payload, queue_name AS queue, priority AS prio, CASE WHEN job_key = 'taken' THEN NULL ELSE run_at END AS run_at, attempts AS att, max_attempts AS max, job_key, retry_policy
  FROM backfill.jobs ORDER BY id;

\set ECHO none
\i :script
\set QUIET off
\set ECHO all
TABLE moved;
SELECT id, created_at, last_error, flags FROM backfill.job WHERE id > 1 ORDER BY id;
SELECT task_identifier, payload, queue_name, job_key, max_attempts, failure_reason, failure_count, last_error, original_created_at FROM backfill.dlq;
SELECT queue_name, concurrency FROM backfill.queues WHERE queue_name NOT IN ('fast', 'bulk') ORDER BY 1;
SELECT payload, key FROM graphile_worker._private_jobs ORDER BY id;
-- Again: what was locked and is free now.
UPDATE graphile_worker._private_jobs SET locked_at = NULL;
\set ECHO none
\i :script
\set QUIET off
\set ECHO all
SELECT payload, attempts FROM backfill.jobs WHERE job_key = 'k4';
SELECT payload FROM graphile_worker._private_jobs;
-- Another schema.
ALTER SCHEMA graphile_worker RENAME TO "my worker";
DELETE FROM backfill.job WHERE job_key = 'taken';
\set schema 'my worker'
\set ECHO none
\i :script
\set QUIET off
\set ECHO all
SELECT payload FROM backfill.jobs WHERE job_key = 'taken';
DROP SCHEMA "my worker" CASCADE;
