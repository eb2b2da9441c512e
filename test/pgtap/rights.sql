-- What each role may do: nothing for PUBLIC, and the four bundles, each tried for real as a role
-- that has it.
BEGIN;
SELECT no_plan();

CREATE ROLE regress_producer LOGIN;
CREATE ROLE regress_consumer LOGIN;
CREATE ROLE regress_monitor LOGIN;
CREATE ROLE regress_admin LOGIN;
CREATE ROLE regress_none LOGIN;

--
-- Nothing to PUBLIC, on any object, in any form.
--
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
     WHERE p.pronamespace = 'backfill'::regnamespace AND acl.grantee = 0
$$, 'no function or procedure is granted to PUBLIC');
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) acl WHERE c.relnamespace = 'backfill'::regnamespace AND acl.grantee = 0
     UNION ALL
    SELECT c.oid::regclass FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) acl
     WHERE c.relnamespace = 'backfill'::regnamespace AND acl.grantee = 0
$$, 'no table, view, sequence or column is granted to PUBLIC');
SELECT is_empty($$
    SELECT nspname FROM pg_namespace n, aclexplode(n.nspacl) acl WHERE n.nspname = 'backfill' AND acl.grantee = 0
$$, 'the schema is not granted to PUBLIC');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'backfill'::regnamespace AND has_function_privilege('regress_none', p.oid, 'EXECUTE')
$$, 'a role without a bundle may execute nothing');
SELECT is_empty($$
    SELECT c.oid::regclass, r FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) r
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege('regress_none', c.oid, r)
$$, 'a role without a bundle may read and write nothing');

SELECT lives_ok($$SELECT backfill.grant_producer('regress_producer')$$, 'grant_producer');
SELECT lives_ok($$SELECT backfill.grant_consumer('regress_consumer')$$, 'grant_consumer');
SELECT lives_ok($$SELECT backfill.grant_monitor('regress_monitor')$$, 'grant_monitor');
SELECT lives_ok($$SELECT backfill.grant_admin('regress_admin')$$, 'grant_admin');
SELECT throws_ok($$SELECT backfill.grant_producer(NULL)$$, '22004', NULL, 'a bundle for NULL is refused');

SELECT is_empty($$
    SELECT role, p.oid::regprocedure
      FROM unnest('{regress_producer,regress_consumer,regress_monitor,regress_admin}'::name[]) role, pg_proc p
     WHERE p.pronamespace = 'backfill'::regnamespace AND p.proname ~ '^_(health|overview)_' AND has_function_privilege(role, p.oid, 'EXECUTE')
$$, 'the parts of health() and overview() are in no bundle');

-- Only the owner may write to a table, use a sequence, or hand out rights.
SELECT is_empty($$
    SELECT role, c.oid::regclass, r
      FROM unnest('{regress_producer,regress_consumer,regress_monitor,regress_admin,regress_none}'::name[]) role, pg_class c,
           unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) r
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind IN ('r', 'v') AND has_table_privilege(role, c.oid, r)
$$, 'no bundle lets a role write to a table or view');
SELECT is_empty($$
    SELECT role, c.oid::regclass, r
      FROM unnest('{regress_producer,regress_consumer,regress_monitor,regress_admin,regress_none}'::name[]) role, pg_class c, unnest('{USAGE,SELECT,UPDATE}'::text[]) r
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege(role, c.oid, r)
$$, 'no bundle has a sequence');
SELECT is_empty($$
    SELECT role FROM unnest('{regress_producer,regress_consumer,regress_monitor,regress_admin,regress_none}'::name[]) role
     WHERE has_schema_privilege(role, 'backfill', 'CREATE')
$$, 'no bundle may create objects in the schema');
SELECT is_empty($$
    SELECT role, p.oid::regprocedure
      FROM unnest('{regress_producer,regress_consumer,regress_monitor,regress_admin,regress_none}'::name[]) role, pg_proc p
     WHERE p.pronamespace = 'backfill'::regnamespace AND has_function_privilege(role, p.oid, 'EXECUTE')
       AND p.proname ~ '^(grant_.*|_grant|_bundle|_requeue|_config_changed|_letter_deleted|_bury|_installed|_cron_tick)$'
$$, 'no bundle contains the functions that hand out rights or are internal');
SELECT is_empty($$
    SELECT role, p.oid::regprocedure
      FROM unnest('{regress_producer,regress_consumer,regress_monitor,regress_admin}'::name[]) role, pg_proc p, aclexplode(p.proacl) acl
     WHERE p.pronamespace = 'backfill'::regnamespace AND acl.grantee = role::regrole AND acl.is_grantable
$$, 'nothing is granted with grant option');

-- What each bundle consists of.
CREATE FUNCTION pg_temp.executable(role name) RETURNS SETOF name LANGUAGE sql AS $$
    SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace AND has_function_privilege(role, oid, 'EXECUTE')
$$;
CREATE FUNCTION pg_temp.readable(role name) RETURNS SETOF name LANGUAGE sql AS $$
    SELECT relname FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind IN ('r', 'v') AND has_table_privilege(role, oid, 'SELECT')
$$;
SELECT set_eq($$SELECT pg_temp.executable('regress_producer')$$,
    '{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,add_job,add_jobs,remove_job,enqueue_via_outbox,_enqueue_once,_note_forwarded,_routed,_lock_job_keys,current_job,snooze,discard,set_progress,set_result,await_job,priority,priority_band,backoff_delay,version}'::name[],
    'what a producer may execute');
SELECT is_empty($$SELECT pg_temp.readable('regress_producer')$$, 'a producer may read nothing');
SELECT set_eq($$SELECT pg_temp.readable('regress_consumer')$$, '{jobs,queues,tasks,job,_job}'::name[], 'what a consumer may read');
SELECT set_eq($$SELECT pg_temp.readable('regress_monitor')$$, $$SELECT viewname FROM pg_views WHERE schemaname = 'backfill'$$, 'a monitor may read every view and no table');
SELECT set_eq($$SELECT pg_temp.readable('regress_admin')$$,
    $$SELECT relname FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind IN ('r', 'v')$$, 'an admin may read everything');
SELECT is_empty($$
    SELECT p.proname FROM pg_proc p
     WHERE p.pronamespace = 'backfill'::regnamespace AND left(p.proname, 1) <> '_' AND p.proname NOT LIKE 'grant\_%' AND p.proname <> 'set_outbox'
       AND NOT has_function_privilege('regress_admin', p.oid, 'EXECUTE')
$$, 'an admin may execute every function for users but those that hand out rights and that which says where an outbox goes');

--
-- Tried for real. A table of statements: which roles may execute each, and which may not (42501).
--
CREATE SCHEMA rights;
GRANT USAGE ON SCHEMA rights TO PUBLIC;
CREATE TABLE rights.effect (payload jsonb, role name DEFAULT current_user);
GRANT INSERT ON rights.effect TO PUBLIC;
CREATE FUNCTION rights.note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO rights.effect VALUES (payload)';
CREATE FUNCTION rights.fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'secret %', payload USING ERRCODE = '22000'; END $$;
CREATE FUNCTION rights.private(payload jsonb) RETURNS void LANGUAGE sql AS '';
REVOKE ALL ON FUNCTION rights.private(jsonb) FROM PUBLIC;
SELECT backfill.register_task('note', 'rights.note(jsonb)', run_as => 'regress_consumer');
SELECT backfill.register_task('fail', 'rights.fail(jsonb)', run_as => 'regress_consumer', keep_history => '1 day');
SELECT backfill.enqueue('fail', '{"secret": 1}', headers => '{"baggage": "secret"}');
SET LOCAL client_min_messages = error;
SET ROLE regress_consumer;
CALL backfill.process_available_jobs();
RESET ROLE;
RESET client_min_messages;
SELECT backfill.enqueue('note', '{"secret": 2}', run_at => now() + interval '1 day', headers => '{"baggage": "secret"}');

CREATE TEMP TABLE attempt (statement text, allowed name[]);
INSERT INTO attempt VALUES
    ($$SELECT backfill.enqueue('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_fast('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_bulk('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_emergency('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_critical('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_fast_with_retries('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_bulk_with_retries('note')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_serial('note', '{}', 'serial')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_many('note', ARRAY['1', '2']::jsonb[])$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue_jobs('[{"task_identifier": "note"}]')$$, '{producer,admin}'),
    ($$SELECT backfill.enqueue('note', job_key => 'rights')$$, '{producer,admin}'),
    ($$SELECT backfill.remove_job('rights')$$, '{producer,admin}'),
    ($$SELECT backfill.register_task('mine')$$, '{admin}'),
    ($$SELECT backfill.unregister_task('note')$$, '{admin}'),
    ($$SELECT backfill.set_retry_policy('mine')$$, '{admin}'),
    ($$SELECT backfill.schedule('mine', '* * * * *', 'note')$$, '{admin}'),
    ($$SELECT backfill.add_cron_schedule('* * * * * note')$$, '{admin}'),
    ($$SELECT backfill.schedule_crontab('* * * * * note')$$, '{admin}'),
    ($$SELECT backfill.unschedule('mine')$$, '{admin}'),
    ($$SELECT backfill.cron_tick()$$, '{admin}'),
    ($$SELECT backfill._cron_tick(now())$$, '{}'),
    ($$SELECT backfill.cron_next('* * * * *')$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.schedules$$, '{monitor,admin}'),
    ($$SELECT backfill.priority('FAST_HIGH')$$, '{producer,consumer,monitor,admin}'),
    ($$SELECT backfill.priority_band(0)$$, '{producer,consumer,monitor,admin}'),
    ($$SELECT backfill.backoff_delay(0, 'default')$$, '{producer,consumer,monitor,admin}'),
    ($$SELECT backfill.backoff_delay(0, 1, '1 s', '1 s', 1, 0)$$, '{producer,consumer,monitor,admin}'),
    ($$SELECT backfill.version()$$, '{producer,consumer,monitor,admin}'),
    ($$CALL backfill.process_available_jobs()$$, '{consumer,admin}'),
    ($$SELECT backfill.why_not_running(1)$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.health()$$, '{monitor,admin}'),
    ($$SELECT backfill._health_roles()$$, '{}'),
    ($$SELECT * FROM backfill.history$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.claim_jobs('w')$$, '{consumer,admin}'),
    ($$SELECT * FROM backfill.claim_jobs('w', tasks => '{elsewhere}')$$, '{consumer,admin}'),
    ($$SELECT backfill.heartbeat(1)$$, '{consumer,admin}'),
    ($$SELECT backfill.complete_jobs('{1}', 1)$$, '{consumer,admin}'),
    ($$SELECT backfill.complete_jobs('{1}')$$, '{admin}'),
    ($$SELECT backfill.fail_job(1, 1, 'error', true)$$, '{consumer,admin}'),
    ($$SELECT backfill.release_jobs('{1}', 1)$$, '{consumer,admin}'),
    ($$SELECT backfill.snooze_job(1, 1, '1 s')$$, '{consumer,admin}'),
    ($$SELECT backfill.force_unlock_workers('{w}')$$, '{admin}'),
    ($$SELECT backfill.release_stale_job_locks()$$, '{admin}'),
    ($$SELECT backfill._expire_leases('0')$$, '{}'),
    ($$SELECT backfill._take_leases('{w}')$$, '{}'),
    ($$SELECT nextval('backfill.claim_token_seq')$$, '{}'),
    ($$SELECT * FROM backfill.jobs$$, '{consumer,monitor,admin}'),
    ($$SELECT * FROM backfill.queues$$, '{consumer,monitor,admin}'),
    ($$SELECT * FROM backfill.tasks$$, '{consumer,monitor,admin}'),
    ($$SELECT * FROM backfill.workers$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.dlq$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.retry_policies$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.error_rules$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.dlq_stats()$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.metrics()$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.metrics('backfill_queue')$$, '{monitor,admin}'),
    ($$SELECT backfill.prometheus_metrics()$$, '{monitor,admin}'),
    ($$SELECT backfill.prometheus_metrics('backfill_dlq')$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill._counters()$$, '{admin}'),
    ($$SELECT backfill._letter_deleted()$$, '{}'),
    ($$SELECT * FROM backfill.list_dlq_jobs()$$, '{admin}'),
    ($$SELECT * FROM backfill.get_dlq_job(1)$$, '{admin}'),
    ($$SELECT backfill.requeue_dlq_job(1)$$, '{admin}'),
    ($$SELECT backfill.delete_dlq_job(1)$$, '{admin}'),
    ($$SELECT backfill.requeue_dlq_jobs('{1}'::bigint[])$$, '{admin}'),
    ($$SELECT backfill.delete_dlq_jobs('{1}')$$, '{admin}'),
    ($$SELECT backfill.update_job(1, '{}')$$, '{admin}'),
    ($$SELECT backfill.overview()$$, '{monitor,admin}'),
    ($$SELECT backfill.list_jobs()$$, '{consumer,monitor,admin}'),
    ($$SELECT backfill.list_jobs(state => 'running', queue_name => 'bulk')$$, '{consumer,monitor,admin}'),
    ($$SELECT backfill.list_jobs(payload => '{"secret": 2}')$$, '{consumer,admin}'),
    ($$SELECT backfill.job_details(2)$$, '{consumer,monitor,admin}'),
    ($$SELECT backfill.job_details(1)$$, '{consumer,monitor,admin}'),
    ($$SELECT * FROM backfill.find_job_ids(10)$$, '{admin}'),
    ($$SELECT backfill.list_queues()$$, '{consumer,monitor,admin}'),
    ($$SELECT backfill.queue_details('bulk')$$, '{consumer,monitor,admin}'),
    ($$SELECT backfill.list_tasks()$$, '{consumer,monitor,admin}'),
    ($$SELECT backfill.list_dlq()$$, '{monitor,admin}'),
    ($$SELECT backfill.list_dlq(search => 'secret')$$, '{admin}'),
    ($$SELECT backfill.dlq_groups()$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.find_dlq_ids(10)$$, '{admin}'),
    ($$SELECT backfill.list_history()$$, '{monitor,admin}'),
    ($$SELECT backfill.list_schedules()$$, '{monitor,admin}'),
    ($$SELECT backfill._overview_jobs()$$, '{}'),
    ($$SELECT * FROM backfill._job$$, '{consumer,monitor,admin}'),
    ($$SELECT * FROM backfill._letter$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill._attempt$$, '{monitor,admin}'),
    ($$SELECT * FROM backfill.job$$, '{consumer,admin}'),
    ($$SELECT * FROM backfill.task$$, '{admin}'),
    ($$SELECT * FROM backfill.dead_letter$$, '{admin}'),
    ($$SELECT * FROM backfill.producer$$, '{admin}'),
    ($$INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, task_identifier, payload) VALUES (now(), now(), 0, 0, 1, 'note', '1')$$, '{}'),
    ($$UPDATE backfill.job SET priority = 1$$, '{}'),
    ($$DELETE FROM backfill.job$$, '{}'),
    ($$TRUNCATE backfill.job$$, '{}'),
    ($$LOCK TABLE backfill.job IN ACCESS EXCLUSIVE MODE$$, '{}'),
    ($$UPDATE backfill.task SET run_as = 'postgres'$$, '{}'),
    ($$INSERT INTO backfill.producer (role_name) VALUES ('regress_none')$$, '{}'),
    ($$UPDATE backfill.dead_letter SET payload = '{}'$$, '{}'),
    ($$UPDATE backfill.retry_policy SET max_attempts = 1$$, '{}'),
    ($$INSERT INTO backfill.queue (queue_name, concurrency) VALUES ('fast', 1)$$, '{}'),
    ($$SELECT nextval('backfill.job_id_seq')$$, '{}'),
    ($$SELECT setval('backfill.job_id_seq', 1)$$, '{}'),
    ($$SELECT backfill._requeue(1, 1, 'note', '{}', 'bulk', 0, 1, NULL, NULL, NULL, NULL, NULL)$$, '{}'),
    ($$SELECT backfill._grant(current_user::regrole, 'admin')$$, '{}'),
    ($$SELECT backfill.grant_admin(current_user::regrole)$$, '{}'),
    ($$SELECT backfill.grant_producer(current_user::regrole)$$, '{}'),
    ($$CREATE FUNCTION backfill.enqueue(text, int) RETURNS int LANGUAGE sql AS 'SELECT 1'$$, '{}'),
    ($$CREATE TRIGGER t BEFORE INSERT ON backfill.job EXECUTE FUNCTION suppress_redundant_updates_trigger()$$, '{}'),
    ($$ALTER TABLE backfill.job DISABLE TRIGGER ALL$$, '{}'),
    ($$DROP TABLE backfill.job$$, '{}'),
    ($$DROP EXTENSION backfill$$, '{}'),
    ($$ALTER EXTENSION backfill UPDATE$$, '{}'),
    ($$SET backfill.random_seed = 1$$, '{}');

-- Runs a statement as a role, takes it back, and returns "allowed" or the SQLSTATE.
CREATE FUNCTION pg_temp.outcome(role name, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    EXECUTE statement;
    RAISE 'take it back' USING ERRCODE = 'UNDO1';
EXCEPTION
    WHEN SQLSTATE 'UNDO1' THEN RETURN 'allowed';
    WHEN OTHERS THEN RETURN sqlstate;
END;
$$;
SELECT is(pg_temp.outcome('regress_' || role, statement), CASE WHEN role = ANY (allowed) THEN 'allowed' ELSE '42501' END,
          format('%s: %s', role, statement))
  FROM attempt, unnest('{none,producer,consumer,monitor,admin}'::name[]) role
 ORDER BY statement, role;

-- A procedure that ends its transaction cannot be tried from here.
SELECT is(has_function_privilege('regress_' || role, 'backfill.wait_for_jobs(interval, text[], text[], boolean)', 'EXECUTE'), role = ANY ('{consumer,admin}'), role || ': wait_for_jobs')
  FROM unnest('{none,producer,consumer,monitor,admin}'::name[]) role;
-- Claims are no way to another role's rights: what the server runs cannot be claimed.
SET LOCAL ROLE regress_consumer;
SELECT throws_ok($$SELECT * FROM backfill.claim_jobs('w', tasks => '{note}')$$, '55000', NULL, 'a consumer cannot claim jobs of a task that has a handler, not even its own');
SELECT is_empty($$SELECT * FROM backfill.claim_jobs('w', max_jobs => 100)$$, 'a consumer is not given jobs of a task that has a handler');
RESET ROLE;

--
-- Payloads and headers: a monitor watches without seeing data.
--
SET ROLE regress_monitor;
SELECT results_eq($$SELECT task_identifier COLLATE "default", payload, headers FROM backfill.jobs$$, $$VALUES ('note', NULL::jsonb, NULL::jsonb)$$, 'a monitor sees the job, not its payload or headers');
SELECT results_eq($$SELECT task_identifier COLLATE "default", payload, headers FROM backfill.dlq$$, $$VALUES ('fail', NULL::jsonb, NULL::jsonb)$$, 'a monitor sees the letter, not its payload or headers');
SELECT results_eq($$SELECT outcome COLLATE "default", headers FROM backfill.history$$, $$VALUES ('dead', NULL::jsonb)$$, 'a monitor sees the history, not its headers');
SELECT results_eq($$SELECT failure_reason, (SELECT array_agg(k) FROM jsonb_object_keys(last_error) k) FROM backfill.dlq$$, $$VALUES (NULL::text, '{sqlstate}'::text[])$$, 'a monitor does not see the text of an error, which may quote the payload');
SELECT results_eq($$SELECT total_jobs, jobs_by_task FROM backfill.dlq_stats()$$, $$VALUES (1::bigint, '{"fail": 1}'::jsonb)$$, 'a monitor sees the figures');
SELECT results_eq($$SELECT value FROM backfill.metrics('backfill_dlq_size') WHERE labels = '{"task": "fail"}'$$, $$VALUES (1::double precision)$$, 'a monitor sees the metrics of tables that it may not read');
SELECT is((SELECT count(*) FROM unnest(ARRAY[backfill.list_jobs(), backfill.job_details(1), backfill.job_details(2), backfill.list_dlq(), backfill.dlq_groups(),
              backfill.list_history(), backfill.list_schedules(), backfill.overview(), backfill.list_tasks(), backfill.list_queues(), to_jsonb(ARRAY(SELECT j FROM backfill._job j)),
              to_jsonb(ARRAY(SELECT d FROM backfill._letter d)), to_jsonb(ARRAY(SELECT a FROM backfill._attempt a))]) page WHERE page::text LIKE '%secret%'), 0::bigint,
          'a monitor sees pages without payloads, headers and texts of errors');
SELECT results_eq($$SELECT j #> '{jobs,0,payload}', j #> '{jobs,0,task_identifier}' FROM backfill.list_jobs() j$$, $$VALUES ('null'::jsonb, '"note"'::jsonb)$$, 'it sees the job');
SELECT results_eq($$SELECT j #> '{letter,last_error}', j #> '{timeline,2,error}' FROM backfill.job_details(1) j$$, $$VALUES ('{"sqlstate": "22000"}'::jsonb, '{"sqlstate": "22000"}'::jsonb)$$, 'and the SQLSTATE of a letter');
SELECT ok(backfill.prometheus_metrics() ~ 'backfill_dlq_size{task="fail"} 1' AND backfill.prometheus_metrics() !~ 'secret', 'a monitor sees the text of the metrics, which holds no payload');
RESET ROLE;
SET ROLE regress_consumer;
SELECT results_eq($$SELECT payload, headers FROM backfill.jobs$$, $$VALUES ('{"secret": 2}'::jsonb, '{"baggage": "secret"}'::jsonb)$$, 'a consumer sees payloads and headers');
SELECT results_eq($$SELECT j #> '{jobs,0,payload}', j #> '{jobs,0,headers}' FROM backfill.list_jobs(payload => '{"secret": 2}') j$$, $$VALUES ('{"secret": 2}'::jsonb, '{"baggage": "secret"}'::jsonb)$$, 'also on pages');
SELECT results_eq($$SELECT backfill.job_details(2) #> '{job,payload}', backfill.job_details(2) -> 'why', backfill.job_details(1)$$, $$VALUES ('{"secret": 2}'::jsonb, 'null'::jsonb, NULL::jsonb)$$, 'but no dead letter, whose view it may not read');
RESET ROLE;
SET ROLE regress_admin;
SELECT results_eq($$SELECT payload, headers FROM backfill.dlq$$, $$VALUES ('{"secret": 1}'::jsonb, '{"baggage": "secret"}'::jsonb)$$, 'an admin sees payloads and headers of letters');
SELECT results_eq($$SELECT payload, headers FROM backfill.list_dlq_jobs()$$, $$VALUES ('{"secret": 1}'::jsonb, '{"baggage": "secret"}'::jsonb)$$, 'an admin lists payloads and headers of letters');
SELECT results_eq($$SELECT headers FROM backfill.history$$, $$VALUES ('{"baggage": "secret"}'::jsonb)$$, 'an admin sees headers in the history');
SELECT results_eq($$SELECT backfill.list_dlq(search => 'SECRET') #> '{letters,0,payload}', backfill.job_details(1) #> '{history,headers}', backfill.dlq_groups() #>> '{groups,0,sample}'$$,
    $$VALUES ('{"secret": 1}'::jsonb, '{"baggage": "secret"}'::jsonb, 'secret {"secret": 1}')$$, 'an admin sees all that on pages');
RESET ROLE;

-- Also of a job that waits for its retry, and of what became of each attempt.
CREATE FUNCTION rights.fail_again(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'secret %', payload; END $$;
SELECT backfill.register_task('fail again', 'rights.fail_again(jsonb)', max_attempts => 2, run_as => 'regress_consumer', keep_history => '1 day');
SELECT backfill.enqueue('fail again', '{"secret": 3}') AS again_id \gset
SET LOCAL client_min_messages = error;
SET ROLE regress_consumer;
CALL backfill.process_available_jobs();
SET ROLE regress_monitor;
SELECT results_eq(format('SELECT attempts::int, last_error FROM backfill.jobs WHERE id = %s', :again_id), $$VALUES (1, '{"sqlstate": "P0001"}'::jsonb)$$,
                  'a monitor does not see the text of the error that a job waits after');
SELECT ok(NOT EXISTS (SELECT FROM backfill.jobs j WHERE j::text LIKE '%secret%') AND backfill.list_jobs()::text || backfill.job_details(:again_id) NOT LIKE '%secret%',
          'nor has any column or page that text');
RESET ROLE;
UPDATE backfill.job SET run_at = '2001-01-01' WHERE id = :again_id;
SET ROLE regress_consumer;
CALL backfill.process_available_jobs();
RESET client_min_messages;
SET ROLE regress_monitor;
SELECT results_eq(format($$SELECT error, (SELECT array_agg(e -> 'error') FROM jsonb_array_elements(earlier_errors) e) FROM backfill.history WHERE id = %s$$, :again_id),
                  $$VALUES ('{"sqlstate": "P0001"}'::jsonb, ARRAY['{"sqlstate": "P0001"}'::jsonb])$$, 'a monitor does not see the texts of the errors of any attempt');
SELECT ok(NOT EXISTS (SELECT FROM backfill.history h WHERE h::text LIKE '%secret%') AND backfill.list_history()::text || backfill.job_details(:again_id) NOT LIKE '%secret%',
          'nor has any column or page of the history');
RESET ROLE;
SET ROLE regress_admin;
SELECT ok(error ->> 'message' LIKE 'secret%' AND earlier_errors::text LIKE '%secret%', 'an admin sees them') FROM backfill.history WHERE id = :again_id;
RESET ROLE;

--
-- run_as: no role gets at another one's rights.
--
SET ROLE regress_admin;
SELECT throws_ok($$SELECT backfill.register_task('t', 'rights.note(jsonb)', run_as => 'regress_consumer')$$, '42501', NULL, 'an admin cannot register a task that runs as a stranger');
SELECT throws_ok($$SELECT backfill.register_task('t', 'rights.private(jsonb)')$$, '42501', NULL, 'an admin cannot register a task with a function that the admin may not execute');
SELECT lives_ok($$SELECT backfill.register_task('t', 'rights.note(jsonb)')$$, 'an admin can register a task that runs as the admin');
RESET ROLE;
SELECT results_eq($$SELECT run_as COLLATE "default" FROM backfill.tasks WHERE task_identifier = 't'$$, $$VALUES ('regress_admin')$$, 'the registered task runs as the admin');
-- Membership that may not be used to act as the role counts in no version of the server.
SELECT is(pg_temp.outcome('regress_admin', $$SELECT backfill.register_task('t', run_as => (SELECT oid FROM pg_roles WHERE rolsuper ORDER BY oid LIMIT 1)::regrole)$$), '42501',
          'an admin cannot register a task that runs as a superuser');

-- Before version 17 workers must log in as the role.
CREATE ROLE regress_nologin NOLOGIN;
SELECT CASE WHEN current_setting('server_version_num')::int < 170000
    THEN throws_ok($$SELECT backfill.register_task('nologin', run_as => 'regress_nologin')$$, '22023', 'run_as role "regress_nologin" cannot log in')
    ELSE lives_ok($$SELECT backfill.register_task('nologin', run_as => 'regress_nologin')$$, 'a role without LOGIN will do') END;

--
-- Hostile surroundings: functions, operators and tables that a user puts in front.
--
CREATE SCHEMA trap;
GRANT ALL ON SCHEMA trap TO regress_admin;
SET ROLE regress_admin;
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2000-01-01'::timestamptz $$;
CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2000-01-01'::timestamptz $$;
CREATE FUNCTION trap.texteq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the trap as %', current_user; END $$;
CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, PROCEDURE = trap.texteq);
CREATE FUNCTION trap.int8eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'in the trap as %', current_user; END $$;
CREATE OPERATOR trap.= (LEFTARG = bigint, RIGHTARG = bigint, PROCEDURE = trap.int8eq);
CREATE TEMP TABLE dead_letter (id bigint);
CREATE TEMP TABLE job (id bigint);
RESET ROLE;
CREATE FUNCTION pg_temp.trapped(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_temp, trap, pg_catalog', true);
    SET LOCAL ROLE regress_admin;
    EXECUTE statement;
    RAISE 'take it back' USING ERRCODE = 'UNDO1';
EXCEPTION
    WHEN SQLSTATE 'UNDO1' THEN RETURN 'evaded';
    WHEN OTHERS THEN RETURN sqlerrm;
END;
$$;
SELECT is(pg_temp.trapped($$SELECT 'a'::text = 'b'::text$$), 'in the trap as regress_admin', 'the trap works');
SELECT is(pg_temp.trapped(statement), 'evaded', 'not trapped: ' || statement)
  FROM unnest(ARRAY[
    $$SELECT backfill.list_dlq_jobs('fail', 'bulk')$$,
    $$SELECT backfill.get_dlq_job(1)$$,
    $$SELECT backfill.dlq_stats()$$,
    $$SELECT backfill.requeue_dlq_job(1)$$,
    $$SELECT backfill.delete_dlq_job(1)$$,
    $$SELECT backfill.requeue_dlq_jobs('{1}'::bigint[]), backfill.delete_dlq_jobs('{1}')$$,
    $$SELECT backfill.update_job(backfill.enqueue('t', '{}', run_at => '2100-01-01'), '[1]', 'trapped', headers => '{}')$$,
    $$SELECT backfill.enqueue('t', '[1]', job_key => 'k'), backfill.enqueue('t', '[2]', job_key => 'k')$$,
    $$SELECT backfill.enqueue_serial('t', '{}', 'trapped')$$,
    $$SELECT backfill.enqueue_jobs('[{"task_identifier": "t", "run_at": "2001-01-01"}]')$$,
    $$SELECT backfill.register_task('t2', 'rights.note(jsonb)')$$,
    $$SELECT backfill.unregister_task('t')$$,
    $$SELECT backfill.set_retry_policy('trapped')$$,
    $$SELECT backfill.backoff_delay(0, 'default')$$,
    $$SELECT backfill.schedule('trapped', '* * * * *', 't'), backfill.cron_tick(), backfill.unschedule('trapped')$$,
    $$SELECT * FROM backfill.schedules$$,
    $$SELECT * FROM backfill.metrics()$$,
    $$SELECT backfill.prometheus_metrics()$$,
    $$SELECT * FROM backfill.jobs$$,
    $$SELECT * FROM backfill.queues$$,
    $$SELECT * FROM backfill.tasks$$,
    $$SELECT backfill.overview(), backfill.list_queues('b'), backfill.queue_details('bulk'), backfill.list_tasks('t', true), backfill.list_schedules()$$,
    $$SELECT backfill.list_jobs('note', queue_name => 'bulk'), backfill.list_jobs(payload => '{}', max_priority => 3), backfill.job_details(1), backfill.job_details(2)$$,
    $$SELECT backfill.list_jobs(state => s), backfill.list_jobs(cursor => backfill.list_jobs() ->> 'next'), backfill.find_job_ids(3) FROM unnest('{ready,running,leased,scheduled}'::text[]) s$$,
    $$SELECT backfill.list_dlq(search => 's'), backfill.list_dlq('22000', 'fail', 'bulk'), backfill.dlq_groups(), backfill.find_dlq_ids(3), backfill.list_history()$$,
    $$SELECT backfill.complete_jobs(ARRAY[c.id], c.claim_token) FROM backfill.claim_jobs('w', max_jobs => 9) c$$,
    $$SELECT backfill.fail_job(c.id, c.claim_token, 'not found') FROM (SELECT backfill.enqueue('trapped')) e, backfill.claim_jobs('w', tasks => '{trapped}') c$$,
    $$SELECT backfill.force_unlock_workers('{w}'), backfill.release_stale_job_locks()$$,
    $$CALL backfill.process_available_jobs()$$]) statement;

SELECT * FROM finish();
ROLLBACK;
