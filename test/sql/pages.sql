-- Pages as JSON: what they look like, and what they refuse. That they show all and only what the views show is tested in
-- test/pgtap/page_property.sql, rights in rights.sql, running jobs in test/t/026_pages.pl.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
\pset format unaligned
\pset tuples_only on
SET backfill.fake_now = '2030-01-01 12:00:00-08';

-- Nothing is there yet.
SELECT backfill.list_jobs(), backfill.list_dlq(), backfill.dlq_groups(), backfill.list_history(), backfill.list_tasks(), backfill.list_schedules();
SELECT jsonb_pretty(backfill.list_queues());
SELECT backfill.job_details(1) IS NULL AS no_such_job, backfill.queue_details('none') IS NULL AS no_such_queue, backfill.job_details(NULL) IS NULL AS null, backfill.queue_details(NULL) IS NULL AS null;
SELECT jsonb_object_agg(key, value) FROM jsonb_each(backfill.overview()) WHERE key IN ('jobs', 'bands', 'queues', 'oldest_ready_at', 'dead_today', 'in_recovery');
SELECT string_agg(key, ' ' ORDER BY key) FROM jsonb_each(backfill.overview());

-- A job's life: it waits, fails, is dead, is requeued, and succeeds.
SELECT backfill.set_retry_policy('steady', jitter_factor => 0);
SELECT backfill.register_task('t', keep_history => '1 day', max_attempts => 2, timeout => '90 s', retry_policy => 'steady');
SELECT backfill.enqueue('t', '{"a": 1}', 'q', 5, job_key => 'k', headers => '{"h": 1}');
SELECT jsonb_pretty(backfill.list_jobs());
SELECT jsonb_pretty(backfill.job_details(1));
SELECT backfill.fail_job(c.id, c.claim_token, 'first') FROM backfill.claim_jobs('w') c;
SELECT jsonb_pretty(backfill.job_details(1) - 'job');
SET backfill.fake_now = '2030-01-01 13:00:00-08';
SELECT jsonb_pretty(backfill.list_jobs(state => 'leased')) FROM backfill.claim_jobs('w') c;
SELECT backfill.list_jobs(state => 'leased') #> '{jobs,0,worker}' AS worker, backfill.overview() #> '{jobs,leased}' AS leased, backfill.queue_details('q') -> 'leased' AS leased;
SELECT backfill.fail_job(j.id, j.claim_token, 'second') FROM backfill.job j;
SELECT jsonb_pretty(backfill.job_details(1));
SELECT jsonb_pretty(backfill.dlq_groups());
SELECT backfill.list_dlq() #> '{letters,0,waiting}' AS waiting, backfill.list_dlq() -> 'total' AS total;
SET backfill.fake_now = '2030-01-01 14:00:00-08';
SELECT backfill.requeue_dlq_job(1);
SELECT backfill.list_dlq() #> '{letters,0,waiting}' AS waiting, backfill.job_details(1) -> 'state' AS state, jsonb_path_query_array(backfill.job_details(1), '$.timeline[*].event') AS events;
SELECT backfill.complete_jobs(ARRAY[c.id], c.claim_token) FROM backfill.claim_jobs('w') c;
SELECT backfill.job_details(1) -> 'state' AS state, jsonb_path_query_array(backfill.job_details(1), '$.timeline[*].event') AS events;
SELECT jsonb_pretty(backfill.list_history());

-- A task without a history: only the last error is known, and not when it occurred.
SELECT backfill.register_task('forgetful', max_attempts => 3, retry_policy => 'steady');
SELECT backfill.enqueue('forgetful');
SELECT backfill.fail_job(c.id, c.claim_token, 'oh') FROM backfill.claim_jobs('w') c;
SELECT jsonb_pretty(backfill.job_details(2) -> 'timeline');

-- Large payloads are left out of lists.
SELECT backfill.enqueue('t', jsonb_build_object('long', repeat('x', 100000)));
SELECT backfill.list_jobs('t') #> '{jobs,0,payload}' AS in_the_list, (backfill.list_jobs('t') #>> '{jobs,0,payload_size}')::int BETWEEN 100 AND 100000 AS size,
       length(backfill.job_details(3) #>> '{job,payload,long}') AS in_the_details;

-- Tasks and schedules.
SELECT backfill.register_task('handled', 'test.note(jsonb)', keep_history => '1 hour'), backfill.enqueue('stranger') > 0;
SELECT t - '{run_as,registered_at}'::text[] FROM jsonb_array_elements(backfill.list_tasks() -> 'tasks') t;
DROP FUNCTION note(jsonb);
SELECT t -> 'task_identifier', t -> 'problem' FROM jsonb_array_elements(backfill.list_tasks(problem_only => true) -> 'tasks') t;
SELECT backfill.list_tasks(search => 'HAND') #> '{tasks,0,task_identifier}', backfill.list_tasks(search => '%') -> 'tasks';
SELECT backfill.schedule('leap', '0 0 29 2 *', 't', fill => '1 day') > now();
INSERT INTO backfill.cron_schedule (name, cron, time_zone, fill, max_catchup, catchup, task_identifier, job_key_mode, scheduled_by, payload, known_since, checked_until)
SELECT 'broken', 'x', 'UTC', '0', 1, 'all', 't', 'replace', scheduled_by, '{}', now(), now() FROM backfill.cron_schedule;
SELECT s -> 'name', s -> 'next_runs', s -> 'fill' FROM jsonb_array_elements(backfill.list_schedules() -> 'schedules') s;

-- Filters that find nothing, LIKE's own characters, names that need quoting.
SELECT backfill.enqueue('it''s "quoted"\', '{}', '%_\', job_key => 'a''b"c\');
SELECT backfill.list_jobs(task_identifier => 'it''s "quoted"\', queue_name => '%_\', job_key => 'a''b"c\') #> '{jobs,0,id}', backfill.list_jobs(queue_name => '%') -> 'jobs';
SELECT q -> 'queue_name' FROM unnest('{%,_,"\\",Q,BULK}'::text[]) s, LATERAL jsonb_array_elements(backfill.list_queues(search => s) -> 'queues') q;
SELECT backfill.list_jobs(min_priority => 10, max_priority => -10) -> 'total', backfill.list_jobs(min_priority => -2147483648, max_priority => 2147483647) -> 'total';
-- Cursors of names with such characters.
SELECT backfill.set_queue(E'\t"', 1);
WITH RECURSIVE page AS (
    SELECT backfill.list_queues("limit" => 1) AS p
    UNION ALL
    SELECT backfill.list_queues(cursor => p ->> 'next', "limit" => 1) FROM page WHERE p ->> 'next' IS NOT NULL)
SELECT p #> '{queues,0,queue_name}', p -> 'cut_off' FROM page;

-- What to act on.
SELECT i.* FROM backfill.find_job_ids(2) i;
SELECT backfill.cancel_job(i) FROM backfill.find_job_ids(10, task_identifier => 't') i;
SELECT count(*) FROM backfill.find_job_ids(10, task_identifier => 't') i;
SELECT count(*) FROM backfill.find_dlq_ids(10) i;

-- Refused.
CALL refused('backfill.list_jobs("limit" => 0)');
CALL refused('backfill.list_jobs("limit" => -1)');
CALL refused('backfill.list_jobs("limit" => 501)');
CALL refused('backfill.list_queues("limit" => 2147483647)');
SELECT backfill.list_jobs("limit" => NULL, cursor => NULL) -> 'next';
CALL refused('backfill.list_jobs(state => ''dead'')');
CALL refused('backfill.list_jobs(state => '''')');
CALL refused('backfill.list_history(outcome => ''retried'')');
CALL refused('backfill.find_job_ids(NULL)');
CALL refused('backfill.find_job_ids(0)');
CALL refused('backfill.find_dlq_ids(10001)');
-- Cursors: of another list, cut short, not hexadecimal, no JSON, of wrong types, out of range, not the database's encoding, very deep, very long.
CREATE FUNCTION cursor(list text, place text) RETURNS text LANGUAGE sql AS $$ SELECT list || '.' || encode(convert_to(place, getdatabaseencoding()), 'hex') $$;
CALL refused(format('backfill.list_jobs(cursor => %L)', backfill.list_queues("limit" => 1) ->> 'next'));
DO $$
DECLARE
    c text;
    list text;
BEGIN
    FOR c IN SELECT * FROM unnest(ARRAY['', 'jobs', 'jobs.', 'jobs.5', 'jobs.zz', 'jobs.c328', test.cursor('jobs', 'x'), test.cursor('jobs', '{}'), test.cursor('jobs', '[]'), test.cursor('jobs', '1'),
        test.cursor('jobs', 'null'), test.cursor('jobs', '[null, null, null]'), test.cursor('jobs', '[null, "x", null]'), test.cursor('jobs', '[null, 99999999999999999999, null]'), test.cursor('jobs', '[null, 1.5, null]'),
        test.cursor('jobs', '["x", 1, null]'), test.cursor('jobs', '[null, "\u0000", null]'), test.cursor('letters', '[null, 1, null]'), test.cursor('letters', '["2030-99-99", 1, null]'),
        test.cursor('queues', '[null, 1, null]'), 'jobs.' || repeat('5b', 4000), 'jobs.' || repeat('5b', 100000), 'queues.00'])
    LOOP
        list := CASE WHEN c ~ '^letters' THEN 'dlq' WHEN c ~ '^queues' THEN 'queues' ELSE 'jobs' END;
        BEGIN
            EXECUTE format('SELECT backfill.list_%s(cursor => %L)', list, c);
            RAISE NOTICE 'not refused: %', c;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '% %', sqlstate, sqlerrm;
        END;
    END LOOP;
END;
$$;
