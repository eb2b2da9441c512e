-- Handlers and hooks are found by name, so their owners count: a role that may replace a function uses the
-- rights of the role that it runs as. An owner known at the registration raises a warning; a new one is refused.
BEGIN;
SELECT no_plan();
SET client_min_messages = error;

CREATE ROLE regress_victim LOGIN;
CREATE ROLE regress_deployer LOGIN;
CREATE ROLE regress_mallory LOGIN;
CREATE SCHEMA owners;
GRANT ALL ON SCHEMA owners TO regress_victim, regress_deployer, regress_mallory;
CREATE TABLE owners.ran (as_role name, code text);
GRANT INSERT ON owners.ran TO PUBLIC;

CREATE FUNCTION pg_temp.make_work(owner name, code text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', owner);
    EXECUTE format('CREATE OR REPLACE FUNCTION owners.work(payload jsonb) RETURNS void LANGUAGE sql AS %L',
                   format('INSERT INTO owners.ran VALUES (current_user, %L)', code));
    RESET ROLE;
END $$;
-- What became of one job: what ran, or the reason of its dead letter.
CREATE FUNCTION pg_temp.outcome() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    DELETE FROM owners.ran; DELETE FROM backfill.dead_letter;
    PERFORM backfill.enqueue('work');
    SET LOCAL ROLE regress_victim;
    EXECUTE 'CALL backfill.process_available_jobs()';
    RESET ROLE;
    SELECT coalesce((SELECT as_role || ' ran ' || code FROM owners.ran), (SELECT failure_reason FROM backfill.dlq)) INTO result;
    RETURN result;
END $$;
CREATE FUNCTION pg_temp.finding(name text) RETURNS text LANGUAGE sql AS $$ SELECT status || coalesce(': ' || detail, '') FROM backfill.health() WHERE check_name = name $$;
SELECT backfill.grant_consumer('regress_victim');

-- The role's own function, and a superuser's.
SELECT pg_temp.make_work('regress_victim', 'own code');
SELECT backfill.register_task('work', 'owners.work(jsonb)', run_as => 'regress_victim');
SELECT is(pg_temp.outcome(), 'regress_victim ran own code', 'a role''s own function runs');
SELECT is(pg_temp.finding('function_owners'), 'ok', 'health() has nothing to say');
ALTER FUNCTION owners.work OWNER TO CURRENT_USER;
SELECT is(pg_temp.outcome(), 'regress_victim ran own code', 'a handler of a superuser runs');
SELECT is(pg_temp.finding('function_owners') || pg_temp.finding('handlers'), 'okok', 'nothing to say');

-- Dropped, and made again by another role that may create functions there.
DROP FUNCTION owners.work;
SELECT pg_temp.make_work('regress_mallory', 'mallory''s code');
SELECT is(pg_temp.outcome(), 'permanent error 42501: handler owners.work(jsonb) of task "work" belongs to role "regress_mallory" now, which may not act as role "regress_victim"', 'another owner''s function does not run');
SELECT is(pg_temp.finding('handlers'), 'critical: work: owners.work belongs to role regress_mallory now, which may not act as role regress_victim', 'health() says so');

-- A membership makes the owner a trusted one, and its end takes that away.
GRANT regress_victim TO regress_mallory;
SELECT is(pg_temp.outcome(), 'regress_victim ran mallory''s code', 'a member of the role can do all that anyhow');
REVOKE regress_victim FROM regress_mallory;
SELECT matches(pg_temp.outcome(), 'belongs to role "regress_mallory" now', 'at once');

-- A role that registers a function of another role gets a warning, and has decided so.
ALTER FUNCTION owners.work OWNER TO regress_deployer;
SELECT matches(pg_temp.outcome(), 'belongs to role "regress_deployer" now', 'no other owner is better');
SELECT backfill.register_task('work', 'owners.work(jsonb)', run_as => 'regress_victim');
SELECT is(pg_temp.outcome(), 'regress_victim ran mallory''s code', 'registered with this owner, it runs');
SELECT is(pg_temp.finding('function_owners'), 'warning: work: role regress_deployer owns owners.work, which runs as role regress_victim', 'health() warns');
SELECT pg_temp.make_work('regress_deployer', 'new release');
SELECT is(pg_temp.outcome(), 'regress_victim ran new release', 'the owner may replace it');
ALTER ROLE regress_deployer RENAME TO regress_releaser;
SELECT is(pg_temp.outcome(), 'regress_victim ran new release', 'a renamed owner is the same');
DROP FUNCTION owners.work;
SELECT pg_temp.make_work('regress_mallory', 'mallory''s code');
SELECT matches(pg_temp.outcome(), 'belongs to role "regress_mallory" now', 'a third owner is refused');
SELECT backfill.unregister_task('work');

-- Hooks.
ALTER FUNCTION owners.work OWNER TO regress_victim;
SELECT backfill.register_hook('before_job_schedule', 'owners.work(jsonb)', run_as => 'regress_victim');
SELECT lives_ok($$SELECT backfill.enqueue('hooked')$$, 'a hook of the role itself is called');
SELECT is(pg_temp.finding('hooks'), 'ok', 'health() has nothing to say');
DROP FUNCTION owners.work;
SELECT pg_temp.make_work('regress_mallory', 'mallory''s code');
DELETE FROM owners.ran;
SELECT throws_ok($$SELECT backfill.enqueue('hooked')$$, '42501', 'hook owners.work(jsonb) belongs to role "regress_mallory" now, which may not act as role "regress_victim"', 'another owner''s is not');
SELECT is_empty('SELECT * FROM owners.ran', 'the function of the new owner has not run');
SELECT is(pg_temp.finding('hooks'), 'critical: before_job_schedule: owners.work belongs to role regress_mallory now, which may not act as role regress_victim', 'health() says so');
SELECT backfill.register_hook('before_job_schedule', 'owners.work(jsonb)', run_as => 'regress_victim');
SELECT lives_ok($$SELECT backfill.enqueue('hooked')$$, 'registered again, it is called');
SELECT is(pg_temp.finding('function_owners'), 'warning: before_job_schedule: role regress_mallory owns owners.work, which runs as role regress_victim', 'health() warns');
ALTER ROLE regress_victim RENAME TO regress_renamed;
SELECT lives_ok($$SELECT backfill.enqueue('hooked')$$, 'a hook''s role may be renamed');
SELECT is((SELECT as_role FROM owners.ran LIMIT 1), 'regress_victim', 'the handler ran as the role before it was renamed');
SELECT is((SELECT count(*) FROM owners.ran WHERE as_role = 'regress_renamed'), 1::bigint, 'the handler ran as the role after it was renamed');

SELECT * FROM finish();
ROLLBACK;
