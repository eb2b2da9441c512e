-- The audit log as users see it: the view, list_audit() with its filters and pages, and what happens if the table is not
-- as it was. test/pgtap/audit.sql has what each function leaves there.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET application_name = 'a test';

SET backfill.fake_now = '2031-01-01 10:00:00+00';
SELECT backfill.register_task('note', 'note(jsonb)');
SET backfill.fake_now = '2031-01-01 11:00:00+00';
SELECT backfill.set_queue('till', 5), backfill.set_queue('till', 10), backfill.pause_queue('till');
SET backfill.fake_now = '2031-01-01 12:00:00+00';
SELECT backfill.cancel_job(backfill.enqueue('note', '{"a": 1}', 'till'));
SELECT id, at, actor = session_user AS by_us, role = current_user AS as_us, application_name,
       client_addr IS NOT DISTINCT FROM inet_client_addr() AS from_here, action, kind, objects, count, job_id FROM backfill.audit ORDER BY id;
SELECT action, before, after FROM backfill.audit WHERE kind IN ('queue', 'job') ORDER BY id;

-- A page as JSON; which role it was differs between machines.
CREATE FUNCTION page(VARIADIC arguments text[] DEFAULT '{}') RETURNS TABLE (ids text, next text, cut_off text) LANGUAGE plpgsql AS $$
DECLARE
    page jsonb;
BEGIN
    EXECUTE format('SELECT backfill.list_audit(%s)', array_to_string(arguments, ', ')) INTO page;
    RETURN QUERY SELECT (SELECT string_agg(e ->> 'id', ' ' ORDER BY n) FROM jsonb_array_elements(page -> 'entries') WITH ORDINALITY e(e, n)), page ->> 'next', page ->> 'cut_off';
END $$;
SELECT e - '{actor,role,client_addr}'::text[] AS entry, e ->> 'client_addr' IS NOT DISTINCT FROM host(inet_client_addr()) AS from_here FROM jsonb_array_elements(backfill.list_audit("limit" => 2) -> 'entries') e;
SELECT jsonb_typeof(e -> 'actor') AS actor, jsonb_typeof(e -> 'id') AS id, jsonb_typeof(e -> 'count') AS count FROM jsonb_array_elements(backfill.list_audit("limit" => 1) -> 'entries') e;
SELECT * FROM page();
SELECT * FROM page($$'no such role'$$);
SELECT * FROM page($$action => 'set_queue'$$);
SELECT * FROM page($$object => 'till'$$, $$action => 'pause_queue'$$);
SELECT * FROM page($$object => '1'$$);
SELECT * FROM page($$after => '2031-01-01 11:00+00'$$);
SELECT * FROM page($$before => '2031-01-01 11:00+00'$$);
SELECT * FROM page($$after => '2031-01-01 11:00+00'$$, $$before => '2031-01-01 12:00+00'$$);
-- Page by page, also among rows of one time; each once.
WITH RECURSIVE pages AS (
    SELECT 1 AS n, p.* FROM page($$"limit" => 2$$) p
    UNION ALL
    SELECT n + 1, q.* FROM pages p, page($$"limit" => 2$$, format('cursor => %L', p.next)) q WHERE p.next IS NOT NULL)
SELECT n, ids, next IS NULL AS last FROM pages ORDER BY n;
-- Errors.
CALL refused($$backfill.list_audit(cursor => 'x')$$);
CALL refused($$backfill.list_audit(cursor => '')$$);
CALL refused($$backfill.list_audit(cursor => '1-2; DROP')$$);
CALL refused($$backfill.list_audit(cursor => repeat('9', 19) || '-1')$$);
CALL refused($$backfill.list_audit("limit" => 0)$$);
CALL refused($$backfill.list_audit("limit" => 501)$$);
SELECT ids FROM page($$"limit" => NULL$$);
SELECT * FROM page($$cursor => backfill._page_cursor('audit', '2060-01-01', 1, NULL)$$, $$"limit" => 1$$);
-- A rare name in a long log: a page ends after 10,000 rows, and the next goes on from there. It reads by the index.
INSERT INTO backfill.audit_log (at, actor, role, action, kind, count, objects)
SELECT '2031-01-01 13:00+00', 'x', 'x', 'pause_queue', 'queue', 1, '{q}' FROM generate_series(1, 10500);
SELECT ids, next IS NOT NULL AS goes_on, cut_off FROM page($$action => 'set_queue'$$);
SELECT q.ids, q.next, q.cut_off FROM page($$action => 'set_queue'$$) p, page($$action => 'set_queue'$$, format('cursor => %L', p.next)) q;
CREATE FUNCTION plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
    RETURN concat_ws(' ', plan -> 0 -> 'Plan' -> 'Plans' -> 0 ->> 'Node Type', plan -> 0 -> 'Plan' -> 'Plans' -> 0 ->> 'Index Name');
END $$;
SET enable_sort = off;
SELECT plan($$SELECT a.* FROM backfill.audit a WHERE (a.at, a.id) < ('2031-01-01 13:00+00', 5000) AND a.at >= '-infinity' AND a.at < 'infinity' ORDER BY a.at DESC, a.id DESC LIMIT 10000$$);
RESET enable_sort;
DELETE FROM backfill.audit_log;

-- A handler's calls name its job.
CREATE FUNCTION meddle(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT backfill.resume_queue('till') $$;
SELECT backfill.register_task('meddle', 'meddle(jsonb)');
SELECT backfill.enqueue('meddle') AS id \gset
CALL backfill.process_available_jobs();
SELECT action, job_id = :id AS by_the_job FROM backfill.audit ORDER BY id;
-- One that fails takes its row away with it.
CREATE OR REPLACE FUNCTION meddle(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM backfill.pause_queue('till'); RAISE 'after all not'; END $$;
SELECT backfill.enqueue('meddle') > 0 AS enqueued;
CALL backfill.process_available_jobs();
SELECT count(*) FROM backfill.audit WHERE action = 'pause_queue';

-- What an administrator does to the table: a column more, also one that is NOT NULL, does no harm; a trigger is fired, and what it
-- refuses fails the call; without a column of ours calls fail with a hint.
ALTER TABLE backfill.audit_log ADD COLUMN ticket text NOT NULL DEFAULT 'none';
ALTER TABLE backfill.audit_log RENAME COLUMN job_id TO job;
CALL refused($$backfill.pause_queue('till')$$);
ALTER TABLE backfill.audit_log RENAME COLUMN job TO job_id;
SELECT backfill.pause_queue('till');
SELECT action, ticket, objects FROM backfill.audit_log ORDER BY id DESC LIMIT 1;
-- What changes nothing leaves no row.
SELECT count(*) AS rows FROM backfill.audit_log \gset
SELECT backfill.pause_queue('till'), backfill.set_queue('till', 10), count(u) AS updated FROM backfill.update_job(backfill.enqueue('note', run_at => '2100-01-01'), priority => 0) u;
SELECT count(*) - :rows AS more FROM backfill.audit_log;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.action = 'delete_queue' THEN RAISE 'not this one'; END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON backfill.audit_log FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT backfill.resume_queue('till');
CALL refused($$backfill.delete_queue('till')$$);
SELECT action, objects FROM backfill.audit_log ORDER BY id DESC LIMIT 1;
SELECT queue_name, concurrency FROM backfill.queues WHERE queue_name = 'till';

-- The library is there before ALTER EXTENSION UPDATE makes the table: calls work, and are not noted.
ALTER TABLE backfill.audit_log RENAME TO audit_log_of_later;
SELECT backfill.delete_queue('till'), backfill.cancel_job(backfill.enqueue('note', run_at => '2100-01-01')), backfill.unregister_task('meddle');
SELECT id > 0 AS updated FROM backfill.update_job(backfill.enqueue('note', run_at => '2100-01-01'), '1');
SELECT backfill.requeue_dlq_job(backfill.add_to_dlq(backfill.enqueue('note', run_at => '2100-01-01'), 'by hand')) > 0 AS requeued;
RESET backfill.fake_now;
