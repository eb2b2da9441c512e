-- Hooks: what they get, in which order, with whose rights, and what an odd answer does.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('note', 'note(jsonb)');
CREATE TABLE seen (n serial, event text, what jsonb);
CREATE FUNCTION keep(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.seen (event, what) VALUES (event->>'event', event) $$;
CREATE FUNCTION answer(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event->'job'->'payload'->'answer' $$;

-- The event: all of the job, as it will be enqueued or is.
SELECT backfill.register_hook(e, 'keep(jsonb)') FROM unnest('{before_job_schedule,before_job_run,after_job_run,job_start,job_complete}'::text[]) e;
SELECT backfill.enqueue('note', '{"a": 1}', 'q', -3, '2001-01-01', 4, 'k') AS id;
SELECT event, (what->>'pid')::int = pg_backend_pid() AS pid, what - 'pid' - 'job' AS rest, (what->'job') - 'created_at' AS job FROM seen ORDER BY n;
TRUNCATE seen;
CALL backfill.process_available_jobs();
SELECT event, what->'job'->'id' AS id, what->'job'->'attempt' AS attempt FROM seen ORDER BY n;
SELECT backfill.unregister_hook(e, 'keep(jsonb)'), backfill.unregister_hook(e, 'keep(jsonb)') AS again
  FROM unnest('{before_job_schedule,before_job_run,after_job_run,job_start,job_complete}'::text[]) e;
SELECT count(*) FROM backfill.hook;

-- Several for one event: in the order of their registration, each sees what the one before has
-- changed; the first that does not say continue decides.
TRUNCATE seen, effect;
CREATE FUNCTION append_a(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('payload', event->'job'->'payload' || '["a"]') $$;
CREATE FUNCTION append_b(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('action', 'continue', 'payload', event->'job'->'payload' || '["b"]') $$;
CREATE FUNCTION skip(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"action": "skip"}'::jsonb $$;
SELECT backfill.register_hook('before_job_schedule', 'append_b(jsonb)');
SELECT backfill.register_hook('before_job_schedule', 'append_a(jsonb)');
SELECT backfill.register_hook('before_job_schedule', 'append_b(jsonb)');
SELECT backfill.enqueue('note', '[]') IS NOT NULL AS enqueued;
SELECT * FROM backfill.enqueue_many('note', '{"[1]","[2]"}');
SELECT backfill.enqueue_jobs('[{"task_identifier": "note", "payload": [3]}]');
SELECT (backfill.add_job('note', '[4]')).payload;
SELECT payload FROM backfill.jobs ORDER BY id;
-- An array that a waiting job of the key has already is appended to as the hooks made it.
SELECT backfill.enqueue('note', '[5]', job_key => 'k') = backfill.enqueue('note', '[6]', job_key => 'k') AS same;
SELECT payload FROM backfill.jobs WHERE job_key = 'k';
SELECT backfill.register_hook('before_job_schedule', 'skip(jsonb)', 'note');
SELECT backfill.enqueue('note', '[7]', job_key => 'k'), backfill.enqueue('other', '[]') IS NOT NULL AS others_are_not_skipped;
SELECT (backfill.add_job('note', '[8]')).id;
SELECT payload FROM backfill.jobs WHERE job_key = 'k';
DELETE FROM backfill.job;
DELETE FROM backfill.hook;

-- Before a job is enqueued: retry means later; a payload may be anything.
SELECT backfill.register_hook('before_job_schedule', 'answer(jsonb)');
SELECT backfill.enqueue('note', '{"answer": {"action": "retry", "delay": "2 days"}}') IS NOT NULL AS enqueued;
SELECT run_at - created_at BETWEEN '2 days' AND '2 days 1 hour' AS later FROM backfill.jobs;
DELETE FROM backfill.job;
SELECT backfill.enqueue('note', '{"answer": {"payload": null}}') IS NOT NULL AS enqueued;
SELECT payload FROM backfill.jobs;
DELETE FROM backfill.job;
-- JB004 comes with the hook's reason; the whole statement is undone.
CALL refused($$backfill.enqueue('note', '{"answer": {"action": "fail", "reason": "closed today"}}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": {"action": "fail"}}')$$);
CALL refused($$backfill.enqueue_many('note', '{"{}","{\"answer\": {\"action\": \"fail\", \"reason\": \"second\"}}"}')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "note"}, {"task_identifier": "note", "payload": {"answer": {"action": "fail", "reason": "second"}}}]')$$);
SELECT count(*) FROM backfill.job;
-- Odd answers.
CALL refused($$backfill.enqueue('note', '{"answer": {"action": "dance"}}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": {"action": 1}}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": {"action": "retry", "delay": "soon"}}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": {"action": "retry", "delay": "-1 day"}}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": {"action": "retry", "delay": "1000 years"}}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": "skip"}')$$);
CALL refused($$backfill.enqueue('note', '{"answer": ["skip"]}')$$);
SELECT count(*) FROM backfill.job;
SELECT backfill.enqueue('note', '{"answer": {}}') IS NOT NULL AS empty_means_continue, backfill.enqueue('note', '{"answer": null}') IS NOT NULL AS null_too;
DELETE FROM backfill.job;
DELETE FROM backfill.hook;

-- One that raises: the producer gets its error.
CREATE FUNCTION broken(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken hook' USING ERRCODE = 'XX123', HINT = 'Mend it.'; END $$;
SELECT backfill.register_hook('before_job_schedule', 'broken(jsonb)');
CALL refused($$backfill.enqueue('note')$$);
SELECT backfill.unregister_hook('before_job_schedule', 'broken(jsonb)');
-- ... a job is failed by it, and its effects go.
SET client_min_messages = error;
CREATE FUNCTION fate(hook regprocedure, event text) RETURNS TABLE (effects bigint, jobs bigint, error text) LANGUAGE plpgsql AS $$
DECLARE
    ran bigint;
BEGIN
    DELETE FROM effect;
    DELETE FROM backfill.job;
    PERFORM backfill.register_hook(event, hook);
    PERFORM backfill.enqueue('note', '1');
    CALL backfill.process_available_jobs(1, processed => ran);
    PERFORM backfill.unregister_hook(event, hook);
    RETURN QUERY SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM backfill.job),
                        (SELECT j.last_error->>'sqlstate' FROM backfill.jobs j);
END;
$$;
SELECT e, f.* FROM unnest('{before_job_run,after_job_run,job_start,job_complete}'::text[]) e, fate('broken(jsonb)', e) f;
-- What a hook writes stays with the job's transaction: kept when the job is done, and of a
-- watching hook that fails nothing is kept.
CREATE FUNCTION write_and_break(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN INSERT INTO test.seen (event) VALUES ('broken'); RAISE 'late'; END $$;
TRUNCATE seen;
SELECT e, f.* FROM unnest('{before_job_run,job_start}'::text[]) e, fate('write_and_break(jsonb)', e) f;
SELECT count(*) FROM seen;
RESET client_min_messages;

-- Rights: a hook runs as the role that registered it (hook_rights.sql has more). Producers need
-- no right on it, and can neither register hooks nor take them away.
CREATE ROLE regress_hooked;
GRANT USAGE ON SCHEMA test TO regress_hooked;
SELECT backfill.grant_producer('regress_hooked');
TRUNCATE seen;
CREATE FUNCTION show_role(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'hook runs as its owner: %', current_user = session_user; RETURN NULL; END $$;
REVOKE EXECUTE ON FUNCTION show_role(jsonb) FROM PUBLIC;
SELECT backfill.register_hook('before_job_schedule', 'show_role(jsonb)');
SET ROLE regress_hooked;
SELECT backfill.enqueue('theirs') IS NOT NULL AS enqueued;
CALL refused($$backfill.register_hook('job_start', 'show_role(jsonb)')$$);
CALL refused($$backfill.unregister_hook('before_job_schedule', 'show_role(jsonb)')$$);
RESET ROLE;
-- A hook whose function was dropped: nothing is enqueued past it.
DROP FUNCTION show_role(jsonb);
CALL refused($$backfill.enqueue('note')$$);
SELECT backfill.unregister_hook('before_job_schedule', 'show_role(jsonb)');
SELECT backfill.enqueue('note') IS NOT NULL AS enqueued;
REVOKE ALL ON SCHEMA test, backfill FROM regress_hooked;
DROP OWNED BY regress_hooked;
DROP ROLE regress_hooked;

-- A hook says when, after another one has changed the payload.
CREATE FUNCTION change_it(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"payload": "changed"}'::jsonb $$;
CREATE FUNCTION put_off(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"action": "retry", "delay": "1 hour"}'::jsonb $$;
SELECT backfill.register_hook('before_job_schedule', 'change_it(jsonb)', 'note'), backfill.register_hook('before_job_schedule', 'put_off(jsonb)', 'note');
SELECT backfill.enqueue('note', '"as it was"', job_key => 'put off') IS NOT NULL AS enqueued;
SELECT payload, state FROM backfill.jobs WHERE job_key = 'put off';
SELECT count(*) FROM backfill.remove_job('put off');
SELECT backfill.unregister_hook('before_job_schedule', 'change_it(jsonb)', 'note'), backfill.unregister_hook('before_job_schedule', 'put_off(jsonb)', 'note');

-- What cannot be registered.
CREATE PROCEDURE a_procedure(event jsonb) LANGUAGE sql AS '';
CREATE FUNCTION a_set(event jsonb) RETURNS SETOF jsonb LANGUAGE sql AS 'SELECT event';
CALL refused($$backfill.register_hook('', 'keep(jsonb)')$$);
CALL refused($$backfill.register_hook('Job_Start', 'keep(jsonb)')$$);
CALL refused($$backfill.register_hook(NULL, 'keep(jsonb)')$$);
CALL refused($$backfill.register_hook('job_start', NULL)$$);
CALL refused($$backfill.register_hook('job_start', 'a_procedure(jsonb)')$$);
CALL refused($$backfill.register_hook('job_start', 'a_set(jsonb)')$$);
CALL refused($$backfill.register_hook('job_start', 'keep(jsonb)', '')$$);
CALL refused($$backfill.register_hook('job_start', 'keep(jsonb)', repeat('x', 129))$$);
SELECT backfill.unregister_hook('lunch', 'keep(jsonb)'), backfill.unregister_hook(NULL, 'keep(jsonb)'), backfill.unregister_hook('job_start', NULL);
-- A deciding hook that returns no jsonb can only continue.
SELECT backfill.register_hook('before_job_run', 'keep(jsonb)');
-- Registering twice is registering once; a task's hook is another one than that of all tasks.
SELECT backfill.register_hook('before_job_run', 'keep(jsonb)'), backfill.register_hook('before_job_run', 'keep(jsonb)', 'note');
SELECT event, function_name, task_identifier FROM backfill.hook ORDER BY id;
SELECT backfill.unregister_hook('before_job_run', 'keep(jsonb)', 'note'), backfill.unregister_hook('before_job_run', 'keep(jsonb)', 'other');
SELECT event, function_name, task_identifier FROM backfill.hook ORDER BY id;
