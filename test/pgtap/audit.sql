-- Every function that administrators only may call, and that changes something, is noted in
-- backfill.audit: one row for a call, with what it has done. The list below is compared with the
-- catalogs, so that a new function without a note does not go unseen.
BEGIN;
SELECT no_plan();
SET client_min_messages = error;

CREATE SCHEMA audit;
CREATE FUNCTION audit.run(payload jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION audit.hook(event jsonb) RETURNS void LANGUAGE sql AS '';
CREATE ROLE regress_grantee;
SELECT backfill.register_task('run', 'audit.run(jsonb)'), backfill.register_task('outside');
ALTER SEQUENCE backfill.job_id_seq RESTART 100;
ALTER SEQUENCE backfill.dead_letter_id_seq RESTART 500;
SELECT backfill.enqueue('run', to_jsonb(n), 'shop', 7, '2100-01-01', 5, CASE WHEN n = 120 THEN 'the key' END) FROM generate_series(100, 139) n; -- jobs 100 to 139
SELECT backfill.add_to_dlq(n, 'why not') FROM generate_series(110, 129) n; -- letters 500 to 519

-- What each of them does here: a statement, and the row that it leaves. A statement before makes something ready for it.
CREATE TEMP TABLE call (n int GENERATED ALWAYS AS IDENTITY, function regprocedure, first text, statement text, kind text, objects text[], count bigint, before jsonb, after jsonb);
INSERT INTO call (function, first, statement, kind, objects, count, before, after) VALUES
    ('backfill.cancel_job(bigint)', NULL, 'SELECT backfill.cancel_job(100)', 'job', '{100}', 1, '{"task_identifier": "run", "queue_name": "shop", "payload": 100}', NULL),
    ('backfill.update_job(bigint,jsonb,text,integer,timestamptz,integer,text,interval,jsonb)', NULL, $$SELECT backfill.update_job(101, '{"a": 1}', priority => 8)$$, 'job', '{101}', 1, '{"payload": 101, "priority": 7}', '{"payload": {"a": 1}, "priority": 8}'),
    ('backfill.reschedule_jobs(bigint[],timestamptz,integer,integer,integer)', NULL, $$SELECT backfill.reschedule_jobs('{101}', priority => 9)$$, 'job', '{101}', 1, '{"priority": 8}', '{"priority": 9}'),
    ('backfill.reschedule_jobs(bigint[],timestamptz,integer,integer,integer)', NULL, $$SELECT backfill.reschedule_jobs('{102,101,999,110}', priority => 3, attempts => 1)$$, 'job', '{101,102,110}', 3, NULL, '{"priority": 3, "attempts": 1}'),
    ('backfill.complete_jobs(bigint[])', NULL, $$SELECT backfill.complete_jobs('{102,103}')$$, 'job', '{102,103}', 2, NULL, NULL),
    ('backfill.complete_jobs(bigint[])', NULL, $$SELECT backfill.complete_jobs('{104}')$$, 'job', '{104}', 1, '{"payload": 104}', NULL),
    ('backfill.permanently_fail_jobs(bigint[],text)', NULL, $$SELECT backfill.permanently_fail_jobs('{105}', 'never')$$, 'job', '{105}', 1, '{"payload": 105}', '{"reason": "never"}'),
    ('backfill.fail_jobs(bigint[],text)', NULL, $$SELECT backfill.fail_jobs('{106,107}', 'never')$$, 'job', '{106,107}', 2, NULL, '{"reason": "never"}'),
    ('backfill.add_to_dlq(bigint,text,jsonb)', NULL, $$SELECT backfill.add_to_dlq(108, 'no')$$, 'job', '{108}', 1, NULL, '{"dlq_id": "523", "reason": "no"}'),
    ('backfill.requeue_dlq_job(bigint,jsonb,text)', NULL, $$SELECT backfill.requeue_dlq_job(501)$$, 'dead_letter', '{501}', 1, NULL, NULL),
    ('backfill.requeue_dlq_job(bigint,jsonb,text)', NULL, $$SELECT backfill.requeue_dlq_job(502, '{"b": 2}', 'mended')$$, 'dead_letter', '{502}', 1, '{"payload": 112, "notes": null}', '{"payload": {"b": 2}, "notes": "mended"}'),
    ('backfill.requeue_dlq_jobs(bigint[],text)', NULL, $$SELECT backfill.requeue_dlq_jobs('{504,503,502}'::bigint[], 'again')$$, 'dead_letter', '{503,504}', 2, NULL, '{"notes": "again"}'),
    ('backfill.update_dlq_job(bigint,jsonb,text)', NULL, $$SELECT backfill.update_dlq_job(505, '{"c": 3}')$$, 'dead_letter', '{505}', 1, '{"payload": 115}', '{"payload": {"c": 3}}'),
    ('backfill.update_dlq_job(bigint,jsonb,text)', NULL, $$SELECT backfill.update_dlq_job(505, notes => 'seen')$$, 'dead_letter', '{505}', 1, '{"notes": null}', '{"notes": "seen"}'),
    ('backfill.delete_dlq_job(bigint)', NULL, $$SELECT backfill.delete_dlq_job(505)$$, 'dead_letter', '{505}', 1, '{"payload": {"c": 3}, "notes": "seen", "original_job_id": "115"}', NULL),
    ('backfill.delete_dlq_jobs(bigint[])', NULL, $$SELECT backfill.delete_dlq_jobs('{507,506,999}')$$, 'dead_letter', '{506,507}', 2, NULL, NULL),
    ('backfill.delete_dlq_by_job_key(text)', NULL, $$SELECT backfill.delete_dlq_by_job_key('the key')$$, 'dead_letter', '{510}', 1, '{"job_key": "the key"}', NULL),
    ('backfill.requeue_dlq_jobs(text,text,timestamptz,timestamptz,text)', 'DELETE FROM backfill.dead_letter WHERE id NOT IN (508, 509)', $$SELECT backfill.requeue_dlq_jobs('run', notes => 'all')$$, 'dead_letter', '{508,509}', 2, NULL, '{"task_identifier": "run", "notes": "all"}'),
    ('backfill.cleanup_dlq(interval,text,text)', NULL, $$SELECT backfill.cleanup_dlq('0', 'run')$$, 'dead_letter', '{508,509}', 2, NULL, '{"task_identifier": "run", "older_than": "00:00:00"}'),
    ('backfill.process_failed_jobs()', 'UPDATE backfill.job SET attempts = 5 WHERE id IN (130, 131)', 'SELECT backfill.process_failed_jobs()', 'job', '{130,131}', 2, NULL, NULL),
    ('backfill.cleanup_permanently_failed_jobs()', 'UPDATE backfill.job SET attempts = 5 WHERE id = 132', 'SELECT backfill.cleanup_permanently_failed_jobs()', 'job', '{132}', 1, NULL, NULL),
    ('backfill.startup_cleanup()', 'UPDATE backfill.job SET attempts = 5 WHERE id = 133', 'SELECT backfill.startup_cleanup()', 'job', '{}', 1, NULL, '{"released_jobs": 0, "dead_lettered_jobs": 1, "deleted_letters": 0}'),
    ('backfill.force_unlock_workers(text[])', $$SELECT backfill.enqueue('outside', priority => -9), backfill.claim_jobs('w', tasks => '{outside}')$$, $$SELECT backfill.force_unlock_workers('{w}')$$, 'job', '{}', 1, NULL, '{"worker_ids": ["w"]}'),
    ('backfill.release_stale_job_locks(interval)', $$SELECT backfill.claim_jobs('w', tasks => '{outside}'); UPDATE backfill.job SET lease_expires_at = '2001-01-01' WHERE worker = 'w'$$, 'SELECT backfill.release_stale_job_locks()', 'job', '{}', 1, NULL, NULL),
    ('backfill.set_queue(text,integer,integer,interval,integer)', NULL, $$SELECT backfill.set_queue('till', 5)$$, 'queue', '{till}', 1, NULL, '{"concurrency": 5, "paused": false}'),
    ('backfill.set_queue(text,integer,integer,interval,integer)', NULL, $$SELECT backfill.set_queue('till', 10)$$, 'queue', '{till}', 1, '{"concurrency": 5}', '{"concurrency": 10}'),
    ('backfill.pause_queue(text)', NULL, $$SELECT backfill.pause_queue('till')$$, 'queue', '{till}', 1, '{"paused": false}', '{"paused": true}'),
    ('backfill.resume_queue(text)', NULL, $$SELECT backfill.resume_queue('till')$$, 'queue', '{till}', 1, '{"paused": true}', '{"paused": false}'),
    ('backfill.delete_queue(text)', NULL, $$SELECT backfill.delete_queue('till')$$, 'queue', '{till}', 1, '{"concurrency": 10}', NULL),
    ('backfill.register_task(text,regprocedure,text,integer,integer,text,interval,regrole,text,interval,boolean)', NULL, $$SELECT backfill.register_task('new', 'audit.run(jsonb)', 'till')$$, 'task', '{new}', 1, NULL, '{"queue_name": "till", "handler_name": "run"}'),
    ('backfill.register_task(text,regprocedure,text,integer,integer,text,interval,regrole,text,interval,boolean)', NULL, $$SELECT backfill.register_task('new', 'audit.run(jsonb)', 'shop')$$, 'task', '{new}', 1, '{"queue_name": "till"}', '{"queue_name": "shop"}'),
    ('backfill.unregister_task(text)', NULL, $$SELECT backfill.unregister_task('new')$$, 'task', '{new}', 1, '{"queue_name": "shop"}', NULL),
    ('backfill.set_retry_policy(text,integer,interval,interval,double precision,double precision)', NULL, $$SELECT backfill.set_retry_policy('slow', 3)$$, 'retry_policy', '{slow}', 1, NULL, '{"max_attempts": 3}'),
    ('backfill.register_hook(text,regprocedure,text,regrole)', NULL, $$SELECT backfill.register_hook('job_fail', 'audit.hook(jsonb)')$$, 'hook', '{job_fail audit.hook}', 1, NULL, '{"event": "job_fail", "function_name": "hook", "task_identifier": null}'),
    ('backfill.unregister_hook(text,regprocedure,text)', NULL, $$SELECT backfill.unregister_hook('job_fail', 'audit.hook(jsonb)'::regprocedure)$$, 'hook', '{job_fail audit.hook}', 1, '{"event": "job_fail"}', NULL),
    ('backfill.unregister_hook(text,text,text)', $$SELECT backfill.register_hook('job_start', 'audit.hook(jsonb)', 'run')$$, $$SELECT backfill.unregister_hook('job_start', 'audit.hook(jsonb)'::text, 'run')$$, 'hook', '{job_start audit.hook}', 1, '{"task_identifier": "run"}', NULL),
    ('backfill.schedule(text,text,text,jsonb,text,integer,integer,text,text,text,interval,text,interval,integer,text)', NULL, $$SELECT backfill.schedule('nightly', '0 3 * * *', 'run')$$, 'schedule', '{nightly}', 1, NULL, '{"cron": "0 3 * * *", "task_identifier": "run"}'),
    ('backfill.schedule(text,text,text,jsonb,text,integer,integer,text,text,text,interval,text,interval,integer,text)', NULL, $$SELECT backfill.schedule('nightly', '0 4 * * *', 'run')$$, 'schedule', '{nightly}', 1, '{"cron": "0 3 * * *"}', '{"cron": "0 4 * * *"}'),
    ('backfill.unschedule(text)', NULL, $$SELECT backfill.unschedule('nightly')$$, 'schedule', '{nightly}', 1, '{"cron": "0 4 * * *"}', NULL),
    ('backfill.add_cron_schedule(text)', NULL, $$SELECT backfill.add_cron_schedule('0 5 * * * run')$$, 'schedule', '{run}', 1, NULL, '{"cron": "0 5 * * *"}'),
    ('backfill.schedule_crontab(text)', NULL, $$SELECT backfill.schedule_crontab(E'0 5 * * * run\n0 6 * * * outside')$$, 'schedule', '{run,outside}', 2, NULL, NULL),
    ('backfill.grant_producer(regrole,text[])', NULL, $$SELECT backfill.grant_producer('regress_grantee', '{run}')$$, 'grant', '{regress_grantee}', 1, '{"tasks": null}', '{"tasks": ["run"]}'),
    ('backfill.grant_consumer(regrole)', NULL, $$SELECT backfill.grant_consumer('regress_grantee')$$, 'grant', '{regress_grantee}', 1, NULL, NULL),
    ('backfill.grant_monitor(regrole)', NULL, $$SELECT backfill.grant_monitor('regress_grantee')$$, 'grant', '{regress_grantee}', 1, NULL, NULL),
    ('backfill.grant_admin(regrole)', NULL, $$SELECT backfill.grant_admin('regress_grantee')$$, 'grant', '{regress_grantee}', 1, NULL, NULL),
    (NULL, NULL, $$INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('08', 'permanent')$$, 'error_rule', '{1000}', 1, NULL, '{"sqlstate": "08", "decision": "permanent"}'),
    (NULL, NULL, $$UPDATE backfill.error_rule SET decision = 'retry'$$, 'error_rule', '{1000}', 1, '{"decision": "permanent"}', '{"decision": "retry"}'),
    (NULL, NULL, $$DELETE FROM backfill.error_rule$$, 'error_rule', '{1000}', 1, '{"decision": "retry"}', NULL),
    (NULL, NULL, $$TRUNCATE backfill.error_rule$$, 'error_rule', '{}', 1, NULL, NULL);

-- What is not noted, and why.
CREATE TEMP TABLE exempt (function regprocedure, reason text NOT NULL);
INSERT INTO exempt VALUES
    ('backfill.cron_tick()', 'a clock calls it'),
    ('backfill.init_dlq()', 'does nothing'),
    ('backfill.release_stale_queue_locks(interval)', 'does nothing'),
    ('backfill.set_outbox(text)', 'it registers a task, which is noted, too: tried below'),
    ('backfill._new_queue_id()', 'the default of a column'),
    ('backfill._set_aside()', 'reads memory'),
    ('backfill._counters()', 'reads memory'),
    ('backfill._queue_gauges()', 'reads'),
    ('backfill._dlq_gauges()', 'reads'),
    ('backfill._worker_gauges()', 'reads'),
    ('backfill._worker_processes()', 'reads memory'),
    ('backfill._server_state()', 'reads memory'),
    ('backfill._no_rate_window_at()', 'reads memory'),
    ('backfill._vacuum_holders()', 'reads memory');

-- Functions of the bundle admin that are in no other, and those that only the owner may call.
SELECT set_eq($$
    SELECT p.oid::regprocedure FROM pg_proc p
     WHERE p.pronamespace = 'backfill'::regnamespace AND p.provolatile = 'v'
       AND (p.proname !~ '^_' OR p.oid::regprocedure::text IN (SELECT object_name FROM backfill._bundle('admin')))
       AND p.oid::regprocedure::text NOT IN (SELECT object_name FROM unnest('{producer,consumer,monitor}'::text[]) b, backfill._bundle(b))
$$, 'SELECT function FROM call WHERE function IS NOT NULL UNION SELECT function FROM exempt', 'every administrative function is tried here, or stands in the list of exemptions');

-- Tries one, and says what is wrong with what it has left.
CREATE FUNCTION pg_temp.wrong(c call) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    log record;
    rows bigint;
BEGIN
    IF c.first IS NOT NULL THEN
        EXECUTE c.first;
    END IF;
    DELETE FROM backfill.audit_log;
    EXECUTE c.statement;
    SELECT count(*) INTO rows FROM backfill.audit_log;
    IF rows <> 1 THEN
        RETURN rows || ' rows';
    END IF;
    SELECT * INTO STRICT log FROM backfill.audit;
    RETURN nullif(concat_ws('; ',
        CASE WHEN log.action <> coalesce((SELECT proname FROM pg_proc WHERE oid = c.function), lower(split_part(c.statement, ' ', 1))) THEN 'action ' || log.action END,
        CASE WHEN log.kind <> c.kind THEN 'kind ' || log.kind END,
        CASE WHEN ARRAY(SELECT unnest(log.objects) ORDER BY 1) <> ARRAY(SELECT unnest(c.objects) ORDER BY 1) THEN 'objects ' || log.objects::text END,
        CASE WHEN log.count <> c.count THEN 'count ' || log.count END,
        CASE WHEN c.before IS NULL AND log.before IS NOT NULL OR NOT coalesce(log.before, 'null') @> coalesce(c.before, 'null') AND c.before IS NOT NULL THEN 'before ' || coalesce(log.before::text, 'NULL') END,
        CASE WHEN c.after IS NULL AND log.after IS NOT NULL OR NOT coalesce(log.after, 'null') @> coalesce(c.after, 'null') AND c.after IS NOT NULL THEN 'after ' || coalesce(log.after::text, 'NULL') END,
        CASE WHEN log.actor <> session_user OR log.role <> current_user OR log.at <> backfill._now() AND log.at < now() THEN 'not by this session' END), '');
END;
$$;
SELECT is(pg_temp.wrong(c), NULL, 'is noted: ' || c.statement) FROM call c ORDER BY c.n;

CREATE EXTENSION dblink;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER dblink_fdw;
CREATE SERVER cluster FOREIGN DATA WRAPPER dblink_fdw;
SELECT backfill.set_outbox('elsewhere');
DELETE FROM backfill.audit_log;
SELECT backfill.set_outbox('cluster');
SELECT results_eq('SELECT action COLLATE "default", kind COLLATE "default", objects, before, after FROM backfill.audit WHERE kind <> ''task''',
    $$VALUES ('set_outbox', 'outbox', '{cluster}'::text[], '{"server": "elsewhere"}'::jsonb, '{"server": "cluster"}'::jsonb)$$, 'is noted: set_outbox()');

-- A database that becomes a node, and its slots: a router calls these, one after the other.
CREATE FUNCTION pg_temp.noted(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM backfill.audit_log;
    EXECUTE statement;
    RETURN (SELECT string_agg(concat_ws(' ', action, kind, objects, count, before - 'router_id', '->', after - 'router_id'), ', ' ORDER BY id) FROM backfill.audit);
END;
$$;
SELECT is(pg_temp.noted(statement), noted, 'is noted: ' || statement) FROM (VALUES
    ($$SELECT backfill._node_join('00000000-0000-0000-0000-000000000001', 0, 'one', '00000000-0000-0000-0000-000000000002', '{1,2,3}')$$,
     'add_node node {one} 1 -> {"name": "one", "number": 0}, move_slots slot {1,2,3} 3 -> {"held": true}'),
    ($$SELECT backfill._node_join('00000000-0000-0000-0000-000000000001', 0, 'two', '00000000-0000-0000-0000-000000000003', '{1,2,3}')$$,
     'add_node node {two} 1 {"name": "one", "number": 0} -> {"name": "two", "number": 0}'),
    ($$SELECT backfill._move_close('{2,3,4}')$$, 'move_slots slot {2,3} 2 -> {"held": false}'),
    ($$SELECT backfill._move_close('{2,3}')$$, NULL),
    ($$SELECT backfill._node_number(0, 1000000)$$, 'accept_node node {two} 1 -> {"at_least": "1000000"}'),
    ($$DELETE FROM backfill.job; DELETE FROM backfill.dead_letter; DELETE FROM backfill.held_slot; SELECT backfill._node_leave()$$,
     'remove_node node {two} 1 {"name": "two", "number": 0} ->')) AS c (statement, noted);

-- What has no effect leaves no row.
DELETE FROM backfill.audit_log;
SELECT lives_ok(s, 'no effect: ' || s) FROM unnest(ARRAY[
    'SELECT backfill.cancel_job(999999)', $$SELECT backfill.update_job(999999, '1')$$, $$SELECT backfill.complete_jobs('{999999}')$$, $$SELECT backfill.fail_jobs('{999999}')$$,
    $$SELECT backfill.reschedule_jobs('{999999}', priority => 1)$$, 'SELECT backfill.delete_dlq_job(999999)', $$SELECT backfill.delete_dlq_jobs('{999999}')$$,
    $$SELECT backfill.requeue_dlq_jobs('{999999}'::bigint[])$$, $$SELECT backfill.requeue_dlq_jobs('nothing')$$, 'SELECT backfill.update_dlq_job(999999)', $$SELECT backfill.delete_dlq_by_job_key('none')$$,
    $$SELECT backfill.cleanup_dlq('100 years')$$, 'SELECT backfill.process_failed_jobs()', 'SELECT backfill.startup_cleanup()', 'SELECT backfill.release_stale_job_locks()',
    $$SELECT backfill.force_unlock_workers('{unknown}')$$, $$SELECT backfill.unschedule('none')$$, $$SELECT backfill.unregister_task('none')$$, $$SELECT backfill.delete_queue('none')$$,
    $$SELECT backfill.unregister_hook('job_fail', 'none'::text)$$, $$SELECT backfill.schedule_crontab('# nothing')$$]) s;
SELECT is_empty('SELECT action, objects FROM backfill.audit', 'what has no effect leaves no row');
-- Nor what is rolled back, nor what is not administrative.
SELECT backfill.enqueue('outside', job_key => 'k') AS id \gset
SAVEPOINT s;
SELECT backfill.cancel_job(:id), backfill.set_queue('gone', 1) \g /dev/null
SELECT is((SELECT count(*) FROM backfill.audit), 2::bigint, 'two rows');
ROLLBACK TO s;
SELECT backfill.enqueue('outside', job_key => 'k'), (SELECT id FROM backfill.add_job('run', queue_name => 'serial')), (SELECT id FROM backfill.remove_job('k')),
       backfill.enqueue_serial('outside', '{}', 'another'), backfill.cron_tick() \g /dev/null
SELECT backfill.complete_jobs(ARRAY[c.id], c.claim_token) FROM backfill.claim_jobs('w', tasks => '{outside}') c \g /dev/null
SELECT backfill._apply_dlq_retention() \g /dev/null
SELECT is_empty('SELECT action, objects FROM backfill.audit', 'what is rolled back leaves no row, nor what producers, consumers and clocks do');

-- Bounds: the first 100 objects, and no value that is long.
SELECT count(backfill.enqueue('run', '1', run_at => '2100-01-01')) FROM generate_series(1, 150) \g /dev/null
SELECT count(*) FROM backfill.complete_jobs(ARRAY(SELECT id FROM backfill.job WHERE task_identifier = 'run')) \g /dev/null
SELECT ok(count > 150 AND cardinality(objects) = 100, 'of many objects the first 100 are kept, and how many there are') FROM backfill.audit;
DELETE FROM backfill.audit_log;
SELECT backfill.enqueue('run', '"small"', run_at => '2100-01-01') AS id \gset
SELECT id FROM backfill.update_job(:id, jsonb_build_object('long', repeat('x', 10000)), priority => 5) \g /dev/null
SELECT is(before, '{"payload": "small", "priority": 32}'::jsonb - 'priority' || jsonb_build_object('priority', before -> 'priority'), 'what is short is kept') FROM backfill.audit;
SELECT ok((after #>> '{payload,omitted_bytes}')::int > 10000 AND after -> 'priority' = '5', 'what is long is left out, and all else is there') FROM backfill.audit;
SELECT ok(pg_column_size(l) < 1000, 'the row is small') FROM backfill.audit_log l;

--
-- Rights.
--
DELETE FROM backfill.audit_log;
CREATE ROLE regress_admin;
CREATE ROLE regress_monitor;
SELECT backfill.grant_admin('regress_admin'), backfill.grant_monitor('regress_monitor');
DELETE FROM backfill.audit_log;
SET LOCAL ROLE regress_admin;
SELECT id FROM backfill.update_job(:id, '{"secret": 1}') \g /dev/null
SELECT is((SELECT actor || ' ' || role || ' ' || (after ->> 'payload') FROM backfill.audit), session_user || ' regress_admin {"secret": 1}', 'both the session''s role and that of SET ROLE are named, and an admin sees what was changed');
SELECT backfill.add_to_dlq(:id, 'dead') AS letter \gset
SELECT is((SELECT role FROM backfill.audit WHERE action = 'add_to_dlq'), 'regress_admin', 'also by functions that run as the owner');
SELECT throws_ok(s, '42501', NULL, 'an admin cannot: ' || s) FROM unnest(ARRAY[
    'DELETE FROM backfill.audit_log', 'UPDATE backfill.audit_log SET actor = ''other''', 'TRUNCATE backfill.audit_log',
    $$INSERT INTO backfill.audit_log (at, actor, role, action, kind, count, objects) VALUES (now(), 'other', 'other', 'cancel_job', 'job', 1, '{1}')$$,
    $$SELECT backfill._audit('cancel_job', 'job', '{1}', 1, NULL, NULL)$$, 'SELECT nextval(''backfill.audit_log_id_seq'')',
    'ALTER TABLE backfill.audit_log DISABLE TRIGGER ALL', 'DELETE FROM backfill.audit', 'SET LOCAL session_replication_role = replica', 'SET LOCAL backfill.audit_retention = ''1s''']) s
 WHERE s !~ 'audit_retention';
SELECT throws_ok('SET LOCAL backfill.audit_retention = ''1s''', '55P02', NULL, 'nor have it forgotten sooner');
RESET ROLE;
SET LOCAL ROLE regress_monitor;
SELECT is((SELECT count(*) FROM backfill.audit WHERE before IS NULL AND after IS NULL AND objects IS NOT NULL), 2::bigint, 'a monitor sees which role did what, and no payloads');
SELECT ok(backfill.list_audit()::text !~ 'secret' AND jsonb_array_length(backfill.list_audit() -> 'entries') = 2, 'nor in the list');
SELECT throws_ok('SELECT * FROM backfill.audit_log', '42501', NULL, 'nor in the table');
RESET ROLE;
-- A role that calls through a function of another role's.
CREATE FUNCTION audit.by_admin(id bigint) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT backfill.cancel_job(id)';
ALTER FUNCTION audit.by_admin(bigint) OWNER TO regress_admin;
GRANT USAGE ON SCHEMA audit TO regress_admin, regress_monitor;
SELECT backfill.enqueue('run', run_at => '2100-01-01') AS id \gset
SET LOCAL ROLE regress_monitor;
SELECT ok(audit.by_admin(:id), 'a monitor cancels by a function of the admin''s');
RESET ROLE;
SELECT is((SELECT actor || ' ' || role FROM backfill.audit WHERE action = 'cancel_job'), session_user || ' regress_admin', 'the role that acted is the one whose right it was');
-- Functions, operators and tables that a user puts in front.
CREATE SCHEMA trap;
CREATE FUNCTION trap.pg_get_userbyid(oid) RETURNS name LANGUAGE sql AS $$ SELECT 'other'::name $$;
CREATE FUNCTION trap.concat(jsonb, jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the trap'; END $$;
CREATE OPERATOR trap.|| (LEFTARG = jsonb, RIGHTARG = jsonb, PROCEDURE = trap.concat);
CREATE TEMP TABLE audit_log (id bigint);
SET LOCAL search_path = pg_temp, trap, pg_catalog, public;
SELECT backfill.update_dlq_job(:letter, '{"secret": 2}', 'noted') \g /dev/null
RESET search_path;
SELECT is((SELECT after FROM backfill.audit WHERE action = 'update_dlq_job'), '{"payload": {"secret": 2}, "notes": "noted"}', 'a search_path of the caller''s does not steer what is noted');

SELECT * FROM finish();
ROLLBACK;
