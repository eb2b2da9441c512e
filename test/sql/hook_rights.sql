-- A hook runs as the role that registered it, whatever session it is called in: it gets no
-- rights from a superuser that enqueues, and a producer cannot use the rights of the hook.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
CREATE ROLE regress_admin;
CREATE ROLE regress_producer;
CREATE ROLE regress_super SUPERUSER LOGIN;
SELECT backfill.grant_admin('regress_admin'), backfill.grant_producer('regress_producer');
GRANT USAGE ON SCHEMA test TO regress_admin, regress_producer;
CREATE SCHEMA hook_home AUTHORIZATION regress_admin;

-- The admin's hook notes the role it runs as, and tries whatever its event's payload says.
SET ROLE regress_admin;
SET search_path = hook_home, test;
CREATE TABLE trail (n int GENERATED ALWAYS AS IDENTITY, event text, role text, path text, result text);
CREATE FUNCTION try(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    attempt text;
    outcome text;
BEGIN
    FOR attempt IN SELECT jsonb_array_elements_text(CASE WHEN event->'job'->>'task_identifier' = 'try' THEN event->'job'->'payload' ELSE '["SELECT"]' END) LOOP
        BEGIN
            EXECUTE attempt;
            outcome := attempt || ': done';
        EXCEPTION WHEN OTHERS THEN
            outcome := attempt || ': ' || sqlstate; -- messages differ between versions
        END;
        INSERT INTO trail (event, role, path, result) VALUES (event->>'event', current_user, current_setting('search_path'), outcome);
    END LOOP;
    RETURN NULL;
END;
$$;
REVOKE EXECUTE ON FUNCTION try(jsonb) FROM PUBLIC; -- the others need no right on it
SELECT backfill.register_hook('before_job_schedule', 'try(jsonb)');
SELECT event, function_schema, function_name, task_identifier, run_as, search_path FROM backfill.hook;
-- A table whose trigger waits for the commit, to fire with the rights of the role that commits.
CREATE TABLE bait (n int);
CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO hook_home.trail (role, result) VALUES (current_user, 'sprung'); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spring();
RESET ROLE;

-- A superuser enqueues.
SET SESSION AUTHORIZATION regress_super;
SET search_path = test, public;
CREATE TABLE victim (n int);
SELECT backfill.enqueue('try', jsonb_build_array(
    'SELECT',
    'SET ROLE regress_super', 'SET ROLE NONE', 'RESET ROLE', 'SET LOCAL ROLE regress_super', $$SELECT set_config('role', 'regress_super', false)$$,
    'SET SESSION AUTHORIZATION regress_super', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT',
    'ALTER ROLE regress_admin SUPERUSER', 'CREATE ROLE regress_evil', 'GRANT regress_super TO regress_admin',
    'INSERT INTO test.victim VALUES (1)', $$COPY hook_home.bait FROM PROGRAM 'echo 1'$$, 'SET log_min_messages = panic',
    'INSERT INTO hook_home.bait VALUES (1)', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
    'PREPARE p AS SELECT 1', 'LISTEN evil', 'DISCARD PLANS',
    'SET search_path = hook_home', $$SET TimeZone = 'Asia/Tokyo'$$,
    'INSERT INTO backfill.hook SELECT', 'UPDATE backfill.hook SET run_as = ''regress_super''', 'DELETE FROM backfill.hook',
    $$SELECT backfill.register_hook('job_start', 'hook_home.try(jsonb)', run_as => 'regress_super')$$)) IS NOT NULL AS enqueued;
SELECT current_user, session_user, current_setting('search_path') AS search_path, current_setting('TimeZone') <> 'Asia/Tokyo' AS zone_is_back;
SELECT DISTINCT role, event FROM hook_home.trail;
SELECT path, result FROM hook_home.trail ORDER BY n;
SELECT rolname, rolsuper FROM pg_roles WHERE rolname IN ('regress_admin', 'regress_evil');
SELECT count(*) FROM victim;
TRUNCATE hook_home.trail;

-- Nothing temporary can be left for the superuser to trip over; not even what PostgreSQL allows.
CALL refused($$backfill.enqueue('try', '["CREATE TEMPORARY TABLE victim (n int)"]')$$);
CALL refused($$backfill.enqueue('try', '["CREATE DOMAIN pg_temp.text AS pg_catalog.text"]')$$);
SELECT pg_typeof('a'::text), (SELECT count(*) FROM hook_home.trail) AS tried;
BEGIN;
CREATE TEMPORARY TABLE own () ON COMMIT DROP;
SELECT backfill.enqueue('try', '["SELECT"]') IS NOT NULL AS the_session_may_have_some;
PREPARE TRANSACTION 'and they are not forgotten';
TRUNCATE hook_home.trail;

-- In a superuser's session that has set another role the way back is closed, too.
SET ROLE regress_producer;
SELECT backfill.enqueue('try', '["RESET ROLE", "SET ROLE regress_super", "INSERT INTO hook_home.bait VALUES (1)"]') IS NOT NULL AS enqueued;
SELECT current_user;
RESET ROLE;
SELECT role, result FROM hook_home.trail ORDER BY n;
TRUNCATE hook_home.trail;

-- Every other event, too: in a session here, in executors see t/023_housekeeping.pl.
SET ROLE regress_admin;
SET search_path = hook_home;
SELECT backfill.register_hook(e, 'try(jsonb)') FROM unnest('{before_job_run,after_job_run,job_start,job_complete,job_fail,job_permanently_fail}'::text[]) e;
RESET ROLE;
SET search_path = test;
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$;
DELETE FROM backfill.job;
SELECT backfill.register_task('good', 'note(jsonb)'), backfill.register_task('bad', 'fail(jsonb)');
SELECT count(backfill.enqueue(task)) FROM unnest('{good,bad}'::text[]) task;
CALL backfill.process_available_jobs();
SELECT event, role, path, count(*) FROM hook_home.trail GROUP BY 1, 2, 3 ORDER BY 1;
SELECT current_user, current_setting('search_path') AS search_path;
SELECT count(*) AS effects FROM effect;
SET client_min_messages = error; -- each event has a different one
SET ROLE regress_admin;
SELECT count(backfill.unregister_hook(event, 'hook_home.try(jsonb)')) FROM backfill.hook WHERE event <> 'before_job_schedule';
RESET ROLE;
RESET client_min_messages;
TRUNCATE hook_home.trail;

-- When it raises, the session is as before: after a savepoint, in the same transaction, and after it.
SET ROLE regress_admin;
SET search_path = hook_home;
CREATE FUNCTION break(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    SET search_path = public;
    RAISE EXCEPTION 'broken by % in %', current_user, current_setting('search_path');
END;
$$;
SELECT backfill.register_hook('before_job_schedule', 'break(jsonb)', 'broken'), backfill.register_hook('job_start', 'break(jsonb)', 'good');
RESET ROLE;
SET search_path = test, public;
SELECT backfill.enqueue('broken');
SELECT current_user, session_user, current_setting('search_path') AS search_path;
BEGIN;
SAVEPOINT s;
SELECT backfill.enqueue('broken');
ROLLBACK TO s;
SELECT current_user, session_user, current_setting('search_path') AS search_path;
DO $$
BEGIN
    PERFORM backfill.enqueue('broken');
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '%; now I am %, in %', sqlerrm, current_user, current_setting('search_path');
END $$;
CREATE TABLE is_mine ();
COMMIT;
SELECT tableowner FROM pg_tables WHERE tablename = 'is_mine';
SELECT backfill.enqueue('good') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs();
SELECT current_user, current_setting('search_path') AS search_path;
SET ROLE regress_admin;
SELECT backfill.unregister_hook('before_job_schedule', 'hook_home.break', 'broken'), backfill.unregister_hook('job_start', 'hook_home.break', 'good');
RESET ROLE;

-- The other way round: a producer tries to catch what the hook does with the admin's rights, with
-- a search_path that leads to the producer's table, whose trigger would run as the admin.
GRANT CREATE ON SCHEMA test TO regress_producer;
TRUNCATE hook_home.trail;
SET SESSION AUTHORIZATION regress_producer;
CREATE TABLE test.trail (event text, role text, path text, result text);
CREATE TEMPORARY TABLE trail (event text, role text, path text, result text);
CREATE FUNCTION test.steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'stolen as %', current_user; RETURN NULL; END $$;
CREATE TRIGGER steal BEFORE INSERT ON test.trail FOR EACH ROW EXECUTE FUNCTION test.steal();
CREATE TRIGGER steal BEFORE INSERT ON pg_temp.trail FOR EACH ROW EXECUTE FUNCTION test.steal();
CREATE FUNCTION test.current_setting(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'stolen as %', current_user; RETURN 'stolen'; END $$;
CREATE DOMAIN pg_temp.jsonb AS text;
SET search_path = pg_temp, test, pg_catalog;
SELECT backfill.enqueue('theirs') IS NOT NULL AS enqueued;
SELECT pg_catalog.current_setting('search_path') AS search_path, count(*) AS stolen FROM test.trail;
SET SESSION AUTHORIZATION regress_super;
SET search_path = test, hook_home;
SELECT event, role, path, result FROM hook_home.trail;
DROP TABLE pg_temp.trail;
DROP FUNCTION test.current_setting(text);
DROP DOMAIN pg_temp.jsonb;

DROP TABLE test.trail;

-- The search_path is the one at the registration: as schemas, without those that do not exist
-- and with temporary tables last. Registering again takes the present one.
SET ROLE regress_admin;
SET search_path = "$user", pg_temp, nowhere, "hook_home", pg_catalog;
SELECT backfill.register_hook('before_job_schedule', 'hook_home.try(jsonb)');
SELECT run_as, search_path FROM backfill.hook;
SET search_path = '';
SELECT backfill.register_hook('before_job_schedule', 'hook_home.try(jsonb)');
SELECT run_as, search_path FROM backfill.hook;
SET search_path = hook_home, test;

-- run_as: a role that the admin may act as, no other. It needs EXECUTE, now and later.
CALL refused($$backfill.register_hook('job_start', 'try(jsonb)', run_as => 'regress_super')$$);
CALL refused($$backfill.register_hook('job_start', 'try(jsonb)', run_as => 'regress_producer')$$);
CALL refused($$backfill.register_hook('job_start', 'try(jsonb)', run_as => 0)$$);
RESET ROLE;
GRANT regress_producer TO regress_admin;
SET ROLE regress_admin;
CALL refused($$backfill.register_hook('job_start', 'try(jsonb)', run_as => 'regress_producer')$$);
GRANT EXECUTE ON FUNCTION try(jsonb) TO regress_producer;
CALL refused($$backfill.register_hook('job_start', 'try(jsonb)', run_as => 'regress_producer')$$);
GRANT USAGE ON SCHEMA hook_home TO regress_producer;
GRANT INSERT ON trail TO regress_producer;
SELECT backfill.register_hook('before_job_schedule', 'try(jsonb)', 'lent', 'regress_producer');
SELECT backfill.unregister_hook('before_job_schedule', 'try(jsonb)');
RESET ROLE;
TRUNCATE hook_home.trail;
SELECT backfill.enqueue('lent') IS NOT NULL AS enqueued;
SELECT role FROM hook_home.trail;
REVOKE EXECUTE ON FUNCTION hook_home.try(jsonb) FROM regress_producer;
CALL refused($$backfill.enqueue('lent')$$);
-- Only the extension's owner can write into the table of hooks.
SET ROLE regress_admin;
INSERT INTO backfill.hook (event, function_schema, function_name, run_as, search_path) VALUES ('job_start', 'hook_home', 'try', 'regress_super', 'hook_home');
UPDATE backfill.hook SET run_as = 'regress_super';
DELETE FROM backfill.hook;
-- A function that goes with the session cannot be a hook, nor a handler.
CREATE FUNCTION pg_temp.mine(event jsonb) RETURNS void LANGUAGE sql AS '';
DO $$
BEGIN
    PERFORM backfill.register_hook('job_start', 'pg_temp.mine(jsonb)');
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE NOTICE '%', regexp_replace(sqlerrm, 'pg_temp_\d+', 'pg_temp_N');
END $$;
RESET ROLE;
DO $$
BEGIN
    PERFORM backfill.register_task('mine', 'pg_temp.mine(jsonb)');
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE NOTICE '%', regexp_replace(sqlerrm, 'pg_temp_\d+', 'pg_temp_N');
END $$;
DROP FUNCTION pg_temp.mine(jsonb);

-- A role that is gone: the hook fails and says so, until it is registered again or taken away.
DELETE FROM backfill.hook;
CREATE ROLE regress_gone;
CREATE FUNCTION test.plain(event jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SELECT backfill.register_hook('before_job_schedule', 'plain(jsonb)', run_as => 'regress_gone');
GRANT USAGE ON SCHEMA test TO regress_gone;
SELECT backfill.register_hook('before_job_schedule', 'plain(jsonb)', run_as => 'regress_gone');
SELECT backfill.enqueue('good') IS NOT NULL AS enqueued;
REVOKE USAGE ON SCHEMA test FROM regress_gone;
CALL refused($$backfill.enqueue('good')$$);
DROP ROLE regress_gone;
CALL refused($$backfill.enqueue('good')$$);
UPDATE backfill.hook SET event = 'job_start';
TRUNCATE effect;
CALL backfill.process_available_jobs(1);
SELECT count(*) FROM effect;
SELECT backfill.unregister_hook(event, 'test.plain(jsonb)') FROM backfill.hook;
SELECT backfill.enqueue('good') IS NOT NULL AS enqueued;

-- The hook of a function that is gone, by name: as messages show it, with or without arguments.
SET ROLE regress_admin;
CREATE FUNCTION hook_home."odd (name)"(event jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SELECT backfill.register_hook('before_job_schedule', 'hook_home."odd (name)"(jsonb)'), backfill.register_hook('before_job_schedule', 'hook_home."odd (name)"(jsonb)', 'good');
DROP FUNCTION hook_home."odd (name)"(jsonb);
CALL refused($$backfill.enqueue('other')$$);
SELECT backfill.unregister_hook('before_job_schedule', 'hook_home."odd (name)"(jsonb)') AS everybodys,
       backfill.unregister_hook('before_job_schedule', '"odd (name)"', 'good') AS the_tasks,
       backfill.unregister_hook('before_job_schedule', '"odd (name)"', 'good') AS again;
SELECT backfill.enqueue('good') IS NOT NULL AS enqueued;
-- Without a schema: the first of the search_path that has such a hook.
CREATE FUNCTION hook_home.plain(event jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb';
SELECT backfill.register_hook('job_start', 'test.plain(jsonb)'), backfill.register_hook('job_start', 'hook_home.plain(jsonb)');
SELECT backfill.unregister_hook('job_start', 'plain');
SELECT function_schema FROM backfill.hook;
SELECT backfill.unregister_hook('job_start', 'plain'), backfill.unregister_hook('job_start', 'plain');
SELECT backfill.unregister_hook('job_start', ''), backfill.unregister_hook('job_start', '(jsonb)'), backfill.unregister_hook('job_start', 'plain(json)');
CALL refused($$backfill.unregister_hook('job_start', 'a.b.c.d')$$);
RESET ROLE;

RESET SESSION AUTHORIZATION;
SET client_min_messages = warning;
DROP SCHEMA hook_home CASCADE;
DROP SCHEMA test CASCADE;
DROP OWNED BY regress_admin, regress_producer, regress_super;
DROP ROLE regress_admin, regress_producer, regress_super;
