-- The views: what they say about jobs, queues, tasks and workers. (Their columns: catalog.sql;
-- the rights to see them: the pgTAP tests; the state "running": the isolation tests.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.register_task('external');

-- jobs: every state that one session can see.
SELECT backfill.enqueue('note', '"ready"'), backfill.enqueue('note', '"scheduled"', run_at => now() + interval '1 day'),
       backfill.enqueue('external', '"leased"'), backfill.enqueue('external', '"lease expired"'), backfill.enqueue('unknown', '"unknown"'),
       backfill.enqueue('external', '"leased, due later"', run_at => now() + interval '1 day');
-- In one transaction, so that a dispatcher's sweep does not find the expired lease.
BEGIN;
UPDATE backfill.job SET lease_expires_at = now() + interval '1 day', claim_token = 1, worker = 'consumer 1' WHERE payload::text LIKE '"leased%';
UPDATE backfill.job SET lease_expires_at = now() - interval '1 day', claim_token = 2, worker = 'consumer 2' WHERE payload = '"lease expired"';
SELECT payload, task_identifier, state, worker, lease_expires_at IS NOT NULL AS has_lease, created_at <= now() AS created FROM backfill.jobs ORDER BY id;
-- Every job is in exactly one state.
SELECT count(*) = count(state) AS complete FROM backfill.jobs;

-- queues: counts agree with jobs.
SELECT queue_name, ready, scheduled, running, leased FROM backfill.queues WHERE queue_name = 'bulk';
SELECT state, count(*) FROM backfill.jobs GROUP BY state ORDER BY state;
COMMIT;

-- tasks: registered ones with or without jobs, and unregistered ones with jobs.
SELECT backfill.register_task('idle', 'note(jsonb)');
SELECT task_identifier, kind, handler, handler_exists, jobs, registered_at IS NOT NULL AS registered FROM backfill.tasks ORDER BY task_identifier;

-- Also for roles that may not use the handler's schema.
CREATE SCHEMA closed;
CREATE FUNCTION closed.handler(payload jsonb) RETURNS void LANGUAGE sql AS '';
SELECT backfill.register_task('closed', 'closed.handler(jsonb)');
CREATE ROLE regress_monitor;
SELECT backfill.grant_monitor('regress_monitor');
SET ROLE regress_monitor;
SELECT handler, handler_exists FROM backfill.tasks WHERE task_identifier = 'closed';
RESET ROLE;
DROP SCHEMA closed CASCADE;
SELECT handler, handler_exists FROM backfill.tasks WHERE task_identifier = 'closed';
SELECT backfill.unregister_task('closed');
DROP OWNED BY regress_monitor;
DROP ROLE regress_monitor;

-- dlq
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'boom'; END $$;
SELECT backfill.register_task('fail', 'fail(jsonb)', max_attempts => 1);
SELECT backfill.enqueue('fail', '1') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs(tasks => '{fail}');
SELECT task_identifier, payload, job_key, failure_count, requeued_count, last_requeued_at, notes, failed_at >= original_created_at AS in_order FROM backfill.dlq;

-- workers: with backfill.max_executors = 0 nothing runs.
SHOW backfill.max_executors;
SELECT * FROM backfill.workers WHERE kind = 'executor';

-- A job's priority band comes with it.
SELECT count(backfill.enqueue('bands', priority => p)) FROM unnest(ARRAY[-21, -20, -10, -5, 0, 5, 10, 11]) p;
SELECT priority, priority_band FROM backfill.jobs WHERE task_identifier = 'bands' ORDER BY priority;

-- None of the views can be written to.
INSERT INTO backfill.jobs (id) VALUES (1);
DELETE FROM backfill.tasks;
UPDATE backfill.workers SET pid = 1;
DELETE FROM backfill.queues;
DELETE FROM backfill.retry_policies;

-- What is no row's place is claimed by no session.
SELECT backfill._claimed('(0,0)', '1') AS no_place, backfill._claimed('(4294967295,1)', '1') AS no_block;

-- Without a limit nothing could be said.
SELECT * FROM backfill.health(max_wait => NULL);
SELECT * FROM backfill.health(max_dead_rows => NULL);
