-- What a job carries besides its payload: where it comes from, and that it goes where the payload goes. In
-- procedures: test/t/018_failover_tokens.pl; which roles may see it: test/pgtap/rights.sql.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SELECT backfill.register_task('note', 'test.note(jsonb)');
CREATE VIEW carried AS SELECT id, task_identifier AS task, payload, headers FROM backfill.jobs ORDER BY id;

-- Given to the call.
SELECT backfill.enqueue('a', '1', headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "ce-id": 7}'),
       backfill.enqueue('a', '2', headers => '{}'), backfill.enqueue('a', '3', headers => NULL);
SELECT * FROM backfill.enqueue_many('many', '{4,5}', headers => '{"of": "both"}');
SELECT * FROM backfill.enqueue_jobs('[{"task_identifier": "jobs", "headers": {"n": 6}}, {"task_identifier": "jobs", "headers": null}, {"task_identifier": "jobs"}]');
TABLE carried;
SELECT bool_and(headers IS NULL) AS none_stored FROM backfill.job WHERE payload IN ('2', '3');
CALL refused($$backfill.enqueue('a', headers => '["traceparent"]')$$);
CALL refused($$backfill.enqueue('a', headers => 'null')$$);
CALL refused($$backfill.enqueue('a', headers => '"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-and-some-more"')$$);
CALL refused($$backfill.enqueue_many('a', '{}', headers => '[]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "a"}, {"task_identifier": "a", "headers": "00"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "a", "header": {}}]')$$);
DELETE FROM backfill.job;

-- Set for a transaction: every function that enqueues takes it, add_job() too; what a call is given replaces it.
BEGIN;
SET LOCAL backfill.headers = '{"traceparent": "00-1"}';
SELECT count(*) FROM (SELECT backfill.enqueue('enqueue'), backfill.enqueue_fast('fast'), backfill.enqueue_bulk('bulk'), backfill.enqueue_emergency('emergency'),
    backfill.enqueue_critical('critical'), backfill.enqueue_fast_with_retries('fast, retries'), backfill.enqueue_bulk_with_retries('bulk, retries'),
    backfill.enqueue_serial('serial', '{}', 'q')) e;
SELECT count(*) FROM backfill.enqueue_many('many', '{1}'), backfill.enqueue_jobs('[{"task_identifier": "jobs"}]');
SELECT task_identifier, headers FROM backfill.add_job('add_job');
SELECT task_identifier, headers FROM backfill.add_jobs(ARRAY[('add_jobs', '{}', NULL, NULL, NULL, NULL, NULL, NULL)]::backfill.job_spec[]);
SELECT count(*), headers FROM backfill.jobs GROUP BY headers;
SELECT backfill.enqueue('given', headers => '{"ce-id": "7"}') > 0, backfill.enqueue('none', headers => '{}') > 0;
SAVEPOINT s;
SET LOCAL backfill.headers = '{"traceparent": "00-2"}';
SELECT backfill.enqueue('inner') > 0;
RELEASE s;
SAVEPOINT s;
SET LOCAL backfill.headers = '{"traceparent": "00-3"}';
ROLLBACK TO s;
SELECT backfill.enqueue('after the savepoint') > 0;
COMMIT;
SELECT backfill.enqueue('after the transaction') > 0;
SELECT task, headers FROM carried WHERE task ~ '^(given|none|inner|after)';
SHOW backfill.headers;
CREATE FUNCTION traced() RETURNS bigint LANGUAGE sql SET backfill.headers = '{"by": "a function"}' AS $$ SELECT backfill.enqueue('traced') $$;
SELECT traced() > 0;
SET backfill.headers = ' {} ';
SELECT backfill.enqueue('empty') > 0;
RESET backfill.headers;
SELECT task, headers FROM carried WHERE task IN ('traced', 'empty');
DELETE FROM backfill.job;

-- What the setting may be.
SET backfill.headers = '[]';
SET backfill.headers = '"00-1"';
SET backfill.headers = '{"a": 1';
SET backfill.headers = '{"a": 1} {}';
SET backfill.headers = 'traceparent';
SET backfill.headers = '{"a": "\u00g0"}';
CREATE FUNCTION try(value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    RETURN 'taken: ' || length(set_config('backfill.headers', value, false));
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN sqlstate || ' ' || detail;
END $$;
SELECT try('{"a":' || repeat('[', 99) || repeat(']', 99) || '}');
SELECT backfill.enqueue('deep') > 0;
SELECT try('{"a":' || repeat('[', 100) || repeat(']', 100) || '}'), try(repeat('{"a":', 1000000)), try(repeat(']', 200) || repeat('[', 200));
SELECT try('{"' || repeat('[\"', 200) || '": 1}');
SELECT backfill.enqueue('not deep') > 0;
-- JSON, but not jsonb, is an error of what enqueues; afterwards all is well.
\set SHOW_CONTEXT errors
SET backfill.headers = '{"a": "\u0000"}';
SELECT backfill.enqueue('never');
SELECT backfill.enqueue('never');
SELECT backfill.enqueue('zero', headers => '{}') > 0;
SET backfill.headers = '{"a": 1e1000000}';
SELECT backfill.enqueue('never');
SET backfill.headers = '{"a": "\u00e9", "b": 1, "b": 2}';
SELECT backfill.enqueue('good') > 0;
RESET backfill.headers;
SELECT task, length(headers::text) FROM carried;
SELECT headers = '{"a": "\u00e9", "b": 2}' AS as_jsonb FROM carried WHERE task = 'good';
DELETE FROM backfill.job;

-- A handler's jobs carry on what its own carries; its call or its setting may say otherwise.
CREATE FUNCTION first(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO effect (payload) VALUES (to_jsonb((backfill.current_job()).headers));
    PERFORM backfill.enqueue('note', '"inherited"'), backfill.enqueue('note', '"none"', headers => '{}'), backfill.enqueue('note', '"given"', headers => '{"own": 1}');
    PERFORM backfill.enqueue_many('note', '{"\"many\""}');
    PERFORM backfill.add_job('note', '"add_job"');
    SET LOCAL backfill.headers = '{"set": 1}';
    PERFORM backfill.enqueue('note', '"set"');
    SET LOCAL backfill.headers = '{}';
    PERFORM backfill.enqueue('note', '"set to none"');
END $$;
SELECT backfill.register_task('first', 'first(jsonb)');
SELECT backfill.enqueue('first', headers => '{"traceparent": "00-1", "tracestate": "a=1"}') > 0;
CALL backfill.process_available_jobs(1);
SELECT payload FROM effect;
SELECT payload, headers FROM carried;
SHOW backfill.headers;
SELECT backfill.enqueue('after the job') > 0;
SELECT headers FROM carried WHERE task = 'after the job';
DELETE FROM backfill.job;
SELECT backfill.enqueue('first') > 0;
CALL backfill.process_available_jobs(1);
SELECT payload, headers FROM carried WHERE headers IS NOT NULL;
DELETE FROM backfill.job;

-- Retried, dead, requeued, in the history; hooks are told.
TRUNCATE effect;
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no luck' USING ERRCODE = '55000'; END $$;
CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.effect (payload) VALUES (jsonb_build_object(event->>'event', event->'job'->'headers')) $$;
CREATE FUNCTION decide(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.watch(event);
    RETURN '{"headers": {"forged": 1}, "payload": "changed"}';
END $$;
SELECT backfill.set_retry_policy('at_once', 5, '0', '0', 1, 0);
SELECT backfill.register_task('fail', 'fail(jsonb)', retry_policy => 'at_once', max_attempts => 2, keep_history => '1 day');
SELECT backfill.register_hook('before_job_schedule', 'decide(jsonb)', 'fail'), backfill.register_hook('job_fail', 'watch(jsonb)', 'fail'),
       backfill.register_hook('job_permanently_fail', 'watch(jsonb)', 'fail');
SELECT backfill.enqueue('fail', '1', headers => '{"traceparent": "00-1"}') AS id \gset
CALL backfill.process_available_jobs(1);
SELECT payload, attempts, headers FROM backfill.get_job(:id);
CALL backfill.process_available_jobs(1);
SELECT step, payload FROM effect ORDER BY step;
SELECT payload, headers FROM backfill.dlq;
SELECT payload, headers FROM backfill.list_dlq_jobs();
SELECT g.headers FROM backfill.dlq d, backfill.get_dlq_job(d.id) g;
SELECT outcome, headers FROM backfill.history;
SET backfill.headers = '{"of": "the operator"}';
SELECT backfill.update_dlq_job(id, '"corrected"'), backfill.requeue_dlq_job(id) = :id FROM backfill.dlq;
SELECT payload, headers FROM carried;
SELECT payload, headers, state FROM backfill.permanently_fail_jobs(ARRAY[:id]);
SELECT payload, headers, state FROM backfill.reschedule_jobs(ARRAY[:id], attempts => 0, run_at => '2100-01-01');
SELECT payload, headers, state FROM backfill.complete_jobs(ARRAY[:id]);
RESET backfill.headers;
DELETE FROM backfill.hook;
-- A letter without headers, requeued by a session that has some, and the other way round.
SELECT backfill.enqueue('none', job_key => 'k') AS id \gset
SELECT backfill.add_to_dlq(:id, 'no') > 0;
SET backfill.headers = '{"of": "the operator"}';
SELECT count(backfill.requeue_dlq_job(id)) FROM backfill.dlq;
RESET backfill.headers;
SELECT task, headers FROM carried;
SELECT backfill.enqueue('none', job_key => 'k', headers => '{"now": 1}') = :id;
SELECT backfill.add_to_dlq(:id, 'no') > 0;
SELECT headers FROM backfill.dlq;
DELETE FROM backfill.dead_letter;

-- Keys: headers are replaced with the payload, and kept with it.
SELECT backfill.enqueue('k', '[1]', job_key => 'k', headers => '{"n": 1}') > 0;
SELECT backfill.enqueue('k', '[2]', job_key => 'k', headers => '{"n": 2}', job_key_mode => 'preserve_run_at') > 0;
SELECT payload, headers FROM carried;
SELECT backfill.enqueue('k', '[3]', job_key => 'k', headers => '{"n": 3}', job_key_mode => 'unsafe_dedupe') > 0;
SELECT payload, headers FROM carried;
SELECT backfill.enqueue('k', '[4]', job_key => 'k') > 0;
SELECT payload, headers FROM carried;
SELECT headers FROM backfill.add_job('k', '1', job_key => 'k');
DELETE FROM backfill.job;

-- Consumers: claimed, prolonged, given back, failed, and claimed again; too long for one page.
SELECT backfill.enqueue('ext', headers => jsonb_build_object('traceparent', '00-1', 'baggage', (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 1000) g))) AS id \gset
CREATE FUNCTION claim() RETURNS TABLE (token bigint, traceparent text, bytes int) LANGUAGE sql AS $$
    SELECT claim_token, headers->>'traceparent', length(headers::text) FROM backfill.claim_jobs('w', tasks => '{ext}') $$;
SELECT * FROM claim() \gset
SELECT :'traceparent' AS traceparent, :bytes AS bytes, backfill.heartbeat(:token) = :id, backfill.release_jobs(ARRAY[:id], :token) = :id;
SELECT * FROM claim() \gset
SELECT :'traceparent' AS traceparent, :bytes AS bytes, backfill.fail_job(:id, :token, 'busy', false), backfill.cancel_job(:id);

-- A hook that changes the setting while the job that it is asked about has it.
CREATE FUNCTION meddle(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('backfill.headers', format('{"meddled": %s}', to_jsonb(repeat('x', 5000))), true), backfill.enqueue('meddled');
    RETURN NULL;
END $$;
SELECT backfill.register_hook('before_job_schedule', 'meddle(jsonb)', 'outer');
BEGIN;
SET LOCAL backfill.headers = '{"traceparent": "00-1"}';
SELECT backfill.enqueue('outer') > 0;
COMMIT;
SELECT task, left(headers::text, 30) FROM carried;
