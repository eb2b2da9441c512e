-- Handlers: which functions are called and how, what becomes of one that was dropped or
-- changed, and that nothing of a job stays in the session that ran it.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW letter AS SELECT task_identifier AS task, last_error->>'sqlstate' AS sqlstate, last_error->>'message' AS message,
                             last_error->>'detail' AS detail, last_error->>'hint' AS hint FROM backfill.dlq ORDER BY id;

-- Whatever a handler returns is ignored; SQL and PL/pgSQL, void or not, NULL or not.
CREATE FUNCTION sql_void(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT test.note(payload)';
CREATE FUNCTION sql_null(payload jsonb) RETURNS int LANGUAGE sql AS 'SELECT test.note(payload); SELECT NULL::int';
CREATE FUNCTION sql_text(payload jsonb) RETURNS text LANGUAGE sql AS 'SELECT test.note(payload); SELECT repeat(''x'', 100000)';
CREATE FUNCTION plpgsql_record(payload jsonb, OUT a int, OUT b text) LANGUAGE plpgsql AS 'BEGIN PERFORM test.note(payload); END';
CREATE FUNCTION strict_one(payload jsonb) RETURNS void LANGUAGE sql STRICT AS 'SELECT test.note(payload)';
CREATE FUNCTION "Odd name, really"(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT test.note(payload)';
SELECT backfill.register_task(f, format('%I(jsonb)', f)::regprocedure)
  FROM unnest(ARRAY['sql_void', 'sql_null', 'sql_text', 'plpgsql_record', 'strict_one', 'Odd name, really']) f;
SELECT count(backfill.enqueue(task_identifier, to_jsonb(task_identifier))) FROM backfill.tasks;
SELECT count(backfill.enqueue(task_identifier, 'null')) FROM backfill.tasks;
CALL backfill.process_available_jobs();
SELECT payload, count(*) FROM effect GROUP BY payload ORDER BY payload;
-- A function of the server itself.
SELECT backfill.register_task('server', 'jsonb_typeof(jsonb)');
SELECT backfill.enqueue('server');
CALL backfill.process_available_jobs();
TABLE letter;

-- A handler replaced by CREATE OR REPLACE: the new body counts at once.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION changing(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT test.note('"old"') $$;
SELECT backfill.register_task('changing', 'changing(jsonb)');
SELECT backfill.enqueue('changing');
CALL backfill.process_available_jobs();
CREATE OR REPLACE FUNCTION changing(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT test.note('"new"') $$;
SELECT backfill.enqueue('changing');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;

-- A handler dropped: its job is a dead letter at once, the error says why, and others run.
SELECT backfill.register_task('note', 'note(jsonb)');
DROP FUNCTION changing;
SELECT backfill.enqueue('changing'), backfill.enqueue('note', '"neighbour"');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
SELECT * FROM letter \gx
SELECT handler, handler_exists FROM backfill.tasks WHERE task_identifier = 'changing';
-- Created again and requeued, it runs.
CREATE FUNCTION changing(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT test.note('"back again"') $$;
SELECT handler, handler_exists FROM backfill.tasks WHERE task_identifier = 'changing';
SELECT backfill.requeue_dlq_job(id) IS NOT NULL AS requeued FROM backfill.dlq;
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
TABLE letter;

-- Changed in other ways.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE FUNCTION renamed(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION moved(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION other_arguments(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION a_procedure(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION a_set(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE SCHEMA regress_backfill_gone;
CREATE FUNCTION regress_backfill_gone.f(payload jsonb) RETURNS void LANGUAGE sql AS '';
SELECT backfill.register_task(f, format('%I(jsonb)', f)::regprocedure)
  FROM unnest(ARRAY['renamed', 'moved', 'other_arguments', 'a_procedure', 'a_set']) f;
SELECT backfill.register_task('schema_gone', 'regress_backfill_gone.f(jsonb)');
ALTER FUNCTION renamed(jsonb) RENAME TO renamed_to_this;
CREATE SCHEMA regress_backfill_other;
ALTER FUNCTION moved(jsonb) SET SCHEMA regress_backfill_other;
DROP FUNCTION other_arguments(jsonb), a_procedure(jsonb), a_set(jsonb);
CREATE FUNCTION other_arguments(payload json) RETURNS void LANGUAGE sql AS '';
CREATE PROCEDURE a_procedure(payload jsonb) LANGUAGE sql AS '';
CREATE FUNCTION a_set(payload jsonb) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
DROP SCHEMA regress_backfill_gone CASCADE;
SELECT count(backfill.enqueue(t))
  FROM unnest(ARRAY['renamed', 'moved', 'other_arguments', 'a_procedure', 'a_set', 'schema_gone']) t;
SET client_min_messages = error;
CALL backfill.process_available_jobs();
RESET client_min_messages;
SELECT task, sqlstate, message FROM letter;
DROP SCHEMA regress_backfill_other CASCADE;

-- A task that is not registered: its job waits until it is.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('unknown', '"patient"');
CALL backfill.process_available_jobs();
CALL backfill.process_available_jobs(tasks => '{unknown}');
SELECT task_identifier, attempts, state FROM backfill.jobs;
SELECT task_identifier, kind, handler, jobs FROM backfill.tasks WHERE task_identifier = 'unknown';
SELECT backfill.register_task('unknown', 'note(jsonb)');
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
-- The same with a task of external consumers, and with one that is unregistered again.
SELECT backfill.register_task('unknown');
SELECT backfill.enqueue('unknown', '"for a consumer"');
CALL backfill.process_available_jobs();
SELECT backfill.register_task('unknown', 'note(jsonb)');
SELECT backfill.unregister_task('unknown'), backfill.unregister_task('unknown') AS again, backfill.unregister_task(NULL) AS of_null;
CALL backfill.process_available_jobs();
SELECT payload, state FROM backfill.jobs;

-- Settings that a handler changes end with it, whether it succeeds or fails. The next
-- job, the caller's session and the caller's transaction keep theirs.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION settings() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_array(current_setting('work_mem'), current_setting('search_path'), current_setting('datestyle'),
                             nullif(current_setting('test.local', true), ''), nullif(current_setting('test.session', true), ''),
                             current_setting('statement_timeout'), current_user = session_user)
$$;
CREATE ROLE regress_backfill_other;
CREATE FUNCTION change_settings(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(jsonb_build_array(payload, 'before', test.settings()));
    SET work_mem = '3MB';
    SET LOCAL search_path = pg_catalog;
    SET datestyle = 'German';
    PERFORM set_config('test.local', 'set', true), set_config('test.session', 'set', false), set_config('statement_timeout', '1h', false);
    SET ROLE regress_backfill_other;
    IF payload = '"fails"' THEN
        RAISE 'failed';
    END IF;
    RESET ROLE;
    PERFORM test.note(jsonb_build_array(payload, 'after', test.settings()));
    SET ROLE regress_backfill_other;
END;
$$;
SELECT backfill.register_task('change_settings', 'change_settings(jsonb)', max_attempts => 1);
SET work_mem = '5MB';
SET test.session = 'mine';
SELECT backfill.enqueue('change_settings', '"succeeds"'), backfill.enqueue('change_settings', '"fails"'), backfill.enqueue('change_settings', '"succeeds again"');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
SELECT settings();
BEGIN;
SET LOCAL test.local = 'mine';
SELECT backfill.enqueue('change_settings', '"in a block"'), backfill.enqueue('change_settings', '"fails"');
CALL backfill.process_available_jobs();
SELECT payload FROM effect WHERE payload @> '["in a block"]' ORDER BY step;
SELECT settings();
COMMIT;
SELECT settings();
RESET work_mem;
DROP ROLE regress_backfill_other;

-- A handler's own SET clause works and ends with it.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION set_clause(payload jsonb) RETURNS void LANGUAGE plpgsql SET work_mem = '7MB' AS $$
BEGIN
    PERFORM test.note(to_jsonb(current_setting('work_mem')));
END;
$$;
SELECT backfill.register_task('set_clause', 'set_clause(jsonb)');
SELECT backfill.enqueue('set_clause');
CALL backfill.process_available_jobs();
SELECT payload, current_setting('work_mem') <> '7MB' AS ended FROM effect;

-- A handler cannot end the transaction it runs in.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE FUNCTION commits(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    COMMIT;
END;
$$;
CREATE PROCEDURE commit_inside() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';
CREATE FUNCTION calls_commit(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    CALL test.commit_inside();
END;
$$;
SELECT backfill.register_task('commits', 'commits(jsonb)', max_attempts => 1), backfill.register_task('calls_commit', 'calls_commit(jsonb)', max_attempts => 1);
SELECT backfill.enqueue('commits'), backfill.enqueue('calls_commit');
CALL backfill.process_available_jobs();
SELECT count(*) FROM effect;
SELECT task, sqlstate, message FROM letter;

-- A handler may drop itself while it runs.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE FUNCTION once(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DROP FUNCTION test.once(jsonb);
    PERFORM test.note('"last words"');
END;
$$;
SELECT backfill.register_task('once', 'once(jsonb)');
SELECT backfill.enqueue('once'), backfill.enqueue('once');
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
SELECT task, sqlstate FROM letter;
SELECT to_regprocedure('once(jsonb)') IS NULL AS dropped;

-- A job that unregisters or re-registers its own task: the next job sees it.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE FUNCTION unregister(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT test.note(payload); SELECT backfill.unregister_task(''unregister'')';
CREATE FUNCTION reregister(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT backfill.register_task(''reregister'', ''test.note(jsonb)'')';
SELECT backfill.register_task('unregister', 'unregister(jsonb)'), backfill.register_task('reregister', 'reregister(jsonb)');
SELECT backfill.enqueue('unregister', '"first"'), backfill.enqueue('unregister', '"waits"'), backfill.enqueue('reregister'), backfill.enqueue('reregister', '"by the new handler"');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
SELECT payload, state FROM backfill.jobs;
