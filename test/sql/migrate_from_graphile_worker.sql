-- share/migrate_from_graphile_worker.sql against a stand-in for Graphile Worker's tables.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
\set stand_in :test_dir /data/graphile_worker.sql
\set script :test_dir /../share/migrate_from_graphile_worker.sql
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS graphile_worker CASCADE;
\set ECHO none
\i :stand_in
\set ECHO all
INSERT INTO graphile_worker._private_tasks (identifier) VALUES ('send_email'), ('resize'), ('');
INSERT INTO graphile_worker._private_job_queues (queue_name) VALUES ('user 1'), ('fast'), ('mine'), ('unused'), ('');
INSERT INTO graphile_worker._private_jobs (task_id, job_queue_id, payload, priority, run_at, attempts, max_attempts, last_error, created_at, key, locked_at, flags) VALUES
    (1, NULL, '{"to": "a@b.c"}', 0, '2001-01-01', 0, 25, NULL, '2001-01-01', NULL, NULL, NULL),
    (1, 1, '{"to": "d@e.f", "to": "g@h.i"}', -5, '2100-01-01', 0, 3, NULL, '2001-01-02', 'k1', NULL, '{"tenant-7": true, "slow": true}'),
    (2, 2, '[1, 2]', 7, '2001-01-03', 2, 25, 'timeout', '2001-01-03', 'k2', NULL, NULL),
    (2, NULL, '"dead"', 0, '2001-01-04', 25, 25, 'no such file', '2001-01-04', 'k3', NULL, NULL),
    (1, NULL, '"locked"', 0, '2001-01-05', 1, 25, NULL, '2001-01-05', 'k4', '2001-01-05', NULL),
    (1, NULL, '"key is taken"', 0, '2001-01-06', 0, 25, NULL, '2001-01-06', 'taken', NULL, NULL),
    (2, 3, '"in a queue with a limit"', 0, '2001-01-07', 0, 1, NULL, '2001-01-07', NULL, NULL, '{}'),
    -- What backfill refuses stays behind, and nothing else does.
    (1, NULL, '{"text": "\u0000"}', 0, '2001-01-08', 0, 25, NULL, '2001-01-08', NULL, NULL, NULL),
    (1, 4, '"never"', 0, 'infinity', 0, 25, NULL, '2001-01-09', NULL, NULL, NULL),
    (1, 5, '"empty queue"', 0, '2001-01-10', 0, 25, NULL, '2001-01-10', NULL, NULL, NULL),
    (1, NULL, '"flags"', 0, '2001-01-11', 0, 25, NULL, '2001-01-11', NULL, NULL, '["a"]'),
    (3, NULL, '"task without a name"', 0, '2001-01-12', 3, 3, NULL, '2001-01-12', NULL, NULL, NULL);
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
-- Code of its owner does not run with our rights: it is refused, by name.
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the trap as %', current_user; END $$;
CREATE FUNCTION evil.leak(jsonb) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the trap as %', current_user; END $$;
CREATE TRIGGER t BEFORE DELETE ON graphile_worker._private_jobs FOR EACH ROW EXECUTE FUNCTION evil.trap();
CREATE RULE r AS ON DELETE TO graphile_worker._private_tasks DO INSTEAD NOTHING;
CREATE DOMAIN evil.name AS text;
ALTER TABLE graphile_worker._private_job_queues ADD note evil.name;
CREATE INDEX i ON graphile_worker._private_jobs (evil.leak(flags)) WHERE id < 0;
\setenv PGDATABASE :DBNAME
\setenv SCRIPT :script
-- The errors without the script's place.
\! psql -Xq -v ON_ERROR_STOP=1 -f "$SCRIPT" 2>&1 | sed 's/^psql:[^ ]* //'
SELECT count(*) FROM graphile_worker._private_jobs;
DROP RULE r ON graphile_worker._private_tasks;
DROP INDEX graphile_worker.i;
ALTER TABLE graphile_worker._private_job_queues DROP note;
-- Disabled it does no harm; nor does a function that stands before PostgreSQL's own.
ALTER TABLE graphile_worker._private_jobs DISABLE TRIGGER t;
CREATE FUNCTION evil.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the trap as %', current_user; END $$;
SET search_path = evil, test, pg_catalog;
-- Again: what was locked and is free now.
UPDATE graphile_worker._private_jobs SET locked_at = NULL;
\set ECHO none
\i :script
\set QUIET off
\set ECHO all
RESET search_path;
SET search_path = test;
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
DROP SCHEMA evil CASCADE;
