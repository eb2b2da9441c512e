-- register_task() and unregister_task(): what they store, what they refuse.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW task AS
SELECT task_identifier, kind, handler, run_as = current_user AS run_as_me, queue_name, priority, max_attempts, retry_policy, timeout, notify_channel
  FROM backfill.tasks ORDER BY task_identifier;

-- The least, and everything.
SELECT backfill.register_task('external');
SELECT backfill.register_task('least', 'note(jsonb)');
SELECT backfill.register_task('everything', 'note(jsonb)', 'q', -3, 4, 'fast', '1.5 s', current_user::regrole, 'channel');
SELECT backfill.register_task(notify_channel => 'channel', run_as => current_user::regrole, timeout => '2 min', retry_policy => 'aggressive',
                              max_attempts => 32767, priority => -32768, queue_name => 'q2', handler => 'test.note(jsonb)', task_identifier => 'by_name');
TABLE task;
SELECT task_identifier, handler_schema, handler_name, handler_argtypes FROM backfill.task ORDER BY task_identifier;

-- Registering again replaces every setting, also by "not set".
SELECT backfill.register_task('everything', 'note(jsonb)', priority => 1);
SELECT backfill.register_task('by_name');
TABLE task;

-- Names of tasks are case-sensitive and may be anything that is not too long.
SELECT backfill.register_task('Least'), backfill.register_task(' '), backfill.register_task(repeat('ü', 128));
SELECT count(*) FROM backfill.tasks;
SELECT backfill.unregister_task('Least'), backfill.unregister_task(' '), backfill.unregister_task(repeat('ü', 128));

-- In the caller's transaction.
BEGIN;
SELECT backfill.register_task('rolled_back', 'note(jsonb)');
SELECT backfill.unregister_task('least');
ROLLBACK;
TABLE task;

-- Bad arguments.
CALL refused($$backfill.register_task(NULL)$$);
CALL refused($$backfill.register_task('')$$);
CALL refused($$backfill.register_task(repeat('x', 129))$$);
CALL refused($$backfill.register_task('t', queue_name => '')$$);
CALL refused($$backfill.register_task('t', queue_name => repeat('q', 129))$$);
CALL refused($$backfill.register_task('t', queue_name => 'dead_letter')$$);
CALL refused($$backfill.register_task('t', priority => 32768)$$);
CALL refused($$backfill.register_task('t', max_attempts => 0)$$);
CALL refused($$backfill.register_task('t', max_attempts => 32768)$$);
CALL refused($$backfill.register_task('t', retry_policy => 'slow')$$);
CALL refused($$backfill.register_task('t', timeout => '0')$$);
CALL refused($$backfill.register_task('t', timeout => '-1 s')$$);
CALL refused($$backfill.register_task('t', timeout => '999 us')$$);
CALL refused($$backfill.register_task('t', timeout => '1 month')$$);
CALL refused($$backfill.register_task('t', timeout => '1000000 years')$$);
CALL refused($$backfill.register_task('t', timeout => '-297000 years')$$);
CALL refused($$backfill.register_task('t', notify_channel => '')$$);
CALL refused($$backfill.register_task('t', notify_channel => repeat('c', 64))$$);
CALL refused($$backfill.register_task('t', run_as => 'regress_backfill_nobody')$$);
CALL refused($$backfill.register_task('t', run_as => 4294967294::regrole)$$);

-- Functions that cannot be handlers.
CREATE FUNCTION two(a jsonb, b jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION no_argument() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION wrong_type(a json) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION variadic_jsonb(VARIADIC a jsonb[]) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION any_element(a anyelement) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION set_of(a jsonb) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION table_of(a jsonb) RETURNS TABLE (b int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION a_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE PROCEDURE procedure(INOUT a jsonb) LANGUAGE sql AS 'SELECT a';
CREATE PROCEDURE two_procedure(a jsonb, b jsonb) LANGUAGE sql AS '';
CREATE AGGREGATE aggregate(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb);
CALL refused($$backfill.register_task('t', 'two(jsonb, jsonb)')$$);
CALL refused($$backfill.register_task('t', 'no_argument()')$$);
CALL refused($$backfill.register_task('t', 'wrong_type(json)')$$);
CALL refused($$backfill.register_task('t', 'variadic_jsonb(jsonb[])')$$);
CALL refused($$backfill.register_task('t', 'any_element(anyelement)')$$);
CALL refused($$backfill.register_task('t', 'set_of(jsonb)')$$);
CALL refused($$backfill.register_task('t', 'table_of(jsonb)')$$);
CALL refused($$backfill.register_task('t', 'a_trigger()')$$);
CALL refused($$backfill.register_task('t', 'procedure(jsonb)')$$);
CALL refused($$backfill.register_task('t', 'two_procedure(jsonb, jsonb)')$$);
CALL refused($$backfill.register_task('t', 'aggregate(jsonb)')$$);
CALL refused($$backfill.register_task('t', 'no_such_function(jsonb)')$$);
CALL refused($$backfill.register_task('t', 4294967294::regprocedure)$$);
TABLE task;

-- A handler with a default, and one whose second argument is for output only: one argument goes in.
CREATE FUNCTION with_default(a jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION with_output(a jsonb, OUT b int) LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION in_and_out(INOUT a jsonb) LANGUAGE sql AS 'SELECT a';
SELECT backfill.register_task('with_default', 'with_default(jsonb)');
SELECT backfill.register_task('with_output', 'with_output(jsonb)');
SELECT backfill.register_task('in_and_out', 'in_and_out(jsonb)');
SELECT count(backfill.enqueue(t)) FROM unnest(ARRAY['with_default', 'with_output', 'in_and_out']) t;
CALL backfill.process_available_jobs();
SELECT count(*) FROM backfill.dlq;

-- A function of a role that may not act as run_as: a warning, also of a hook.
CREATE ROLE regress_writer LOGIN;
CREATE ROLE regress_runner LOGIN;
GRANT USAGE ON SCHEMA test TO regress_writer, regress_runner;
ALTER FUNCTION with_default(jsonb) OWNER TO regress_writer;
SELECT backfill.register_task('lent', 'with_default(jsonb)', run_as => 'regress_runner');
SELECT backfill.register_hook('job_start', 'with_default(jsonb)', 'lent', 'regress_runner');
SELECT backfill.register_task('own', 'with_default(jsonb)', run_as => 'regress_writer');
GRANT regress_runner TO regress_writer;
SELECT backfill.register_task('lent', 'with_default(jsonb)', run_as => 'regress_runner');
SET client_min_messages = warning;
SELECT backfill.unregister_hook('job_start', 'with_default(jsonb)', 'lent');
DROP OWNED BY regress_writer, regress_runner CASCADE;
DROP ROLE regress_writer, regress_runner;
