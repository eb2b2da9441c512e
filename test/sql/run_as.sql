-- run_as: the role whose rights a task's jobs have, the roles that may choose it, and that a session
-- runs the jobs of its current role only.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE ROLE regress_backfill_admin LOGIN;
CREATE ROLE regress_backfill_worker LOGIN;
CREATE ROLE regress_backfill_stranger LOGIN;
GRANT regress_backfill_worker TO regress_backfill_admin;
SELECT backfill.grant_admin('regress_backfill_admin'), backfill.grant_consumer('regress_backfill_worker');
GRANT USAGE ON SCHEMA test TO regress_backfill_admin, regress_backfill_worker;

CREATE TABLE ran (payload jsonb, by_user name DEFAULT current_user, step serial);
GRANT INSERT, SELECT ON ran TO regress_backfill_admin, regress_backfill_worker;
GRANT USAGE ON SEQUENCE ran_step_seq TO regress_backfill_admin, regress_backfill_worker;
CREATE FUNCTION note_role(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO test.ran (payload) VALUES (payload)';
CREATE VIEW who_ran AS SELECT payload, by_user FROM ran ORDER BY step;

-- The caller, unless it says otherwise; then a role that it may act as.
SET ROLE regress_backfill_admin;
SELECT backfill.register_task('mine', 'note_role(jsonb)');
SELECT backfill.register_task('workers', 'note_role(jsonb)', run_as => 'regress_backfill_worker');
CALL test.refused($$backfill.register_task('theirs', 'note_role(jsonb)', run_as => 'regress_backfill_stranger')$$);
DO $$
BEGIN
    PERFORM backfill.register_task('theirs', 'note_role(jsonb)', run_as => (SELECT oid::regrole FROM pg_roles WHERE oid = 10));
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'not as the superuser: %', sqlstate;
END;
$$;
SELECT task_identifier, run_as FROM backfill.tasks ORDER BY task_identifier;
RESET ROLE;
-- A superuser may choose any role.
SELECT backfill.register_task('theirs', run_as => 'regress_backfill_stranger');
SELECT backfill.register_task('roots', 'note_role(jsonb)');

-- Each role runs its own tasks only, and as itself.
SELECT count(backfill.enqueue(task, to_jsonb(task))) FROM unnest(ARRAY['mine', 'workers', 'roots']) task;
CALL backfill.process_available_jobs();
SELECT payload, by_user = current_user AS by_me FROM ran;
TRUNCATE ran;
SET ROLE regress_backfill_worker;
CALL backfill.process_available_jobs();
TABLE test.ran;
RESET ROLE;
TRUNCATE ran RESTART IDENTITY;
SET SESSION AUTHORIZATION regress_backfill_admin;
CALL backfill.process_available_jobs(tasks => '{mine, workers}');
RESET SESSION AUTHORIZATION;
TABLE who_ran;
SELECT count(*) FROM backfill.jobs;

-- Rights count when the job runs, too: EXECUTE taken away, then the schema.
REVOKE EXECUTE ON FUNCTION note_role(jsonb) FROM PUBLIC;
SET ROLE regress_backfill_admin;
CALL test.refused($$backfill.register_task('mine', 'note_role(jsonb)')$$);
RESET ROLE;
SELECT backfill.enqueue('mine', '"no EXECUTE"');
SET ROLE regress_backfill_admin;
CALL backfill.process_available_jobs();
RESET ROLE;
GRANT EXECUTE ON FUNCTION note_role(jsonb) TO regress_backfill_admin;
REVOKE USAGE ON SCHEMA test FROM regress_backfill_admin, regress_backfill_worker;
SELECT backfill.enqueue('mine', '"no USAGE"');
SET ROLE regress_backfill_admin;
CALL backfill.process_available_jobs();
RESET ROLE;
SELECT payload, last_error->>'sqlstate' AS sqlstate, last_error->>'message' AS message, last_error->>'detail' AS detail FROM backfill.dlq ORDER BY id;
GRANT USAGE ON SCHEMA test TO regress_backfill_admin;
SELECT count(backfill.requeue_dlq_job(id)) FROM backfill.dlq;
SET ROLE regress_backfill_admin;
CALL backfill.process_available_jobs();
RESET ROLE;
TABLE who_ran;
SELECT count(*) FROM backfill.dlq;

-- A SECURITY DEFINER handler runs as its owner, as any such function does.
TRUNCATE ran;
CREATE FUNCTION who_definer(payload jsonb) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO test.ran (payload) VALUES (payload)';
SET ROLE regress_backfill_admin;
SELECT backfill.register_task('definer', 'test.who_definer(jsonb)');
SELECT backfill.enqueue('definer', '"definer"');
CALL backfill.process_available_jobs();
RESET ROLE;
SELECT payload, by_user = current_user AS by_the_owner FROM ran;

-- The roles go again, and with them all that was granted to them.
SET client_min_messages = warning;
DROP SCHEMA test CASCADE;
DROP OWNED BY regress_backfill_admin, regress_backfill_worker, regress_backfill_stranger;
DROP ROLE regress_backfill_admin, regress_backfill_worker, regress_backfill_stranger;
