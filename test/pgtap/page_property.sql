-- Pages: walked to their end by their cursors they show what the views show, each thing once, whatever the filter; their
-- counts are those of the views; and no call reads a table from end to end. There are more jobs and letters than a
-- search looks at all at once (10,000), and statistics that say that there are none.
BEGIN;
SELECT no_plan();

ANALYZE backfill.job, backfill.dead_letter, backfill.job_history;
SELECT setseed(0.5);
SELECT set_config('backfill.fake_now', now()::text, true); -- no job comes due between a page and a look at the view
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, job_key, payload)
SELECT now() + CASE WHEN random() < 0.1 THEN interval '1 day' ELSE interval '-1 day' END * random(), now(),
       (ARRAY[-10, 0, 0, 0, 5])[ceil(random() * 5)], 0, 8, 0,
       CASE WHEN random() < 0.95 THEN 'big' ELSE 'small_' || ceil(random() * 5) END,
       CASE WHEN random() < 0.94 THEN 'bulk' WHEN random() < 0.2 THEN '' ELSE 'q_' || ceil(random() * 30) END,
       CASE WHEN random() < 0.01 THEN 'key_' || ceil(random() * 20) END, jsonb_build_object('n', n % 7)
  FROM generate_series(1, 10800) n;
-- Leased, run by a procedure, and with a lease that is over but not ended.
UPDATE backfill.job SET worker = 'w', claim_token = 1,
       lease_expires_at = CASE WHEN id % 3 = 0 THEN now() + interval '1 hour' WHEN id % 3 = 1 THEN 'infinity' ELSE now() - interval '1 hour' END
 WHERE id % 97 = 0;
SELECT backfill.register_task('big'), backfill.register_task('idle'), backfill.set_queue('q_7', 3), backfill.set_queue('unused', 1), backfill.pause_queue('q_8');
INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, queue_name, priority, job_key, max_attempts, failure_reason, failure_count,
                                  last_error, original_created_at, original_run_at, failed_at)
SELECT 1000000 + n, CASE WHEN random() < 0.95 THEN 'big' ELSE 'small_' || ceil(random() * 5) END, '{}', (ARRAY['bulk', 'bulk', 'q_1', NULL])[ceil(random() * 4)], 0,
       CASE WHEN n % 500 = 0 THEN 'key_' || n END, 8, (ARRAY['100% broken', 'a_b', 'Zero'])[ceil(random() * 3)], 8,
       CASE WHEN n % 5 > 0 THEN jsonb_build_object('sqlstate', (ARRAY['22012', '40001'])[ceil(random() * 2)], 'message', 'failed ' || n) END,
       now(), now(), now() - floor(random() * 5000) * interval '1 minute'
  FROM generate_series(1, 10400) n;
INSERT INTO backfill.job_history (job_id, finished_at, keep_until, created_at, priority, attempt, max_attempts, outcome, task_identifier, queue_name, job_key)
SELECT n, now() - floor(random() * 100) * interval '1 minute', 'infinity', now(), 0, 1, 8, (ARRAY['completed', 'retried', 'dead', 'cancelled'])[ceil(random() * 4)],
       CASE WHEN random() < 0.5 THEN 'big' ELSE 'small_1' END, (ARRAY['bulk', NULL])[ceil(random() * 2)], CASE WHEN n % 9 = 0 THEN 'k' END
  FROM generate_series(1, 400) n;

--
-- Jobs. A call that reads a table from end to end is noted.
--
CREATE TEMP TABLE expensive (call text, seq_scans bigint, rows bigint);
CREATE FUNCTION pg_temp.page(call text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    before record;
    after record;
    page jsonb;
BEGIN
    SELECT sum(seq_scan) AS scans, sum(idx_tup_fetch) AS rows INTO before FROM pg_stat_xact_all_tables WHERE relid IN ('backfill.job'::regclass, 'backfill.dead_letter'::regclass, 'backfill.job_history'::regclass);
    EXECUTE 'SELECT ' || call INTO page;
    SELECT sum(seq_scan) AS scans, sum(idx_tup_fetch) AS rows INTO after FROM pg_stat_xact_all_tables WHERE relid IN ('backfill.job'::regclass, 'backfill.dead_letter'::regclass, 'backfill.job_history'::regclass);
    IF after.scans > before.scans THEN
        INSERT INTO expensive VALUES (call, after.scans - before.scans, after.rows - before.rows);
    END IF;
    RETURN page;
END;
$$;
-- All ids, in the order of the pages. call has %s for the cursor.
CREATE FUNCTION pg_temp.walk(call text, things text, id text DEFAULT 'id') RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    cursor text;
    page jsonb;
    ids text[] := '{}';
BEGIN
    LOOP
        page := pg_temp.page(format(call, coalesce(quote_literal(cursor), 'NULL')));
        ids := ids || ARRAY(SELECT t.thing ->> id FROM jsonb_array_elements(page -> things) WITH ORDINALITY t (thing, place) ORDER BY t.place);
        IF page ->> 'next' = cursor OR cardinality(ids) > 20000 THEN
            RAISE 'the walk does not end: %', call;
        END IF;
        cursor := page ->> 'next';
        EXIT WHEN cursor IS NULL;
    END LOOP;
    RETURN ids;
END;
$$;

CREATE TEMP TABLE filter AS
SELECT format('backfill.list_jobs(task_identifier => %L, payload => %L, queue_name => %L, min_priority => %s, max_priority => %s, job_key => %L, state => %L, cursor => %%s, "limit" => 500)',
              task, payload, queue, coalesce(least_priority::text, 'NULL'), coalesce(most::text, 'NULL'), key, state) AS call,
       format('SELECT j.id::text FROM backfill.jobs j WHERE %s ORDER BY j.id DESC', concat_ws(' AND ', 'true',
              'j.task_identifier = ' || quote_literal(task), 'j.payload @> ' || quote_literal(payload), 'coalesce(j.queue_name, '''') = ' || quote_literal(queue),
              'j.priority >= ' || least_priority, 'j.priority <= ' || most, 'j.job_key = ' || quote_literal(key), 'j.state = ' || quote_literal(state))) AS query
  FROM unnest('{NULL,big,small_1,none}'::text[]) task, unnest('{NULL,bulk,q_1,"",none}'::text[]) queue, unnest('{NULL,scheduled,ready,running,leased}'::text[]) state,
       (VALUES (NULL::int, NULL::int), (NULL, -10), (1, 5)) p (least_priority, most), unnest('{NULL,key_1}'::text[]) key, unnest(ARRAY[NULL, '{"n": 3}']) payload
 -- All filters alone and in pairs, and the more by chance.
 WHERE num_nonnulls(task, queue, state, coalesce(least_priority, most), key, payload) <= 2 OR random() < 0.03;
SELECT cmp_ok((SELECT count(*) FROM filter), '>', 100::bigint, 'there are many filters');
CREATE FUNCTION pg_temp.rows(query text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    rows text[];
BEGIN
    EXECUTE format('SELECT ARRAY(%s)', query) INTO rows;
    RETURN rows;
END;
$$;
SELECT is(pg_temp.walk(call, 'jobs'), pg_temp.rows(query), 'every page of ' || call) FROM filter;

-- Totals: exact, or a lower bound.
SELECT is_empty($$
    SELECT f.call, t.total, cardinality(pg_temp.rows(f.query))
      FROM filter f CROSS JOIN LATERAL (SELECT pg_temp.page(format(f.call, 'NULL')) -> 'total' AS total) t
     WHERE CASE WHEN (t.total ->> 'capped')::boolean THEN (t.total ->> 'count')::int > cardinality(pg_temp.rows(f.query))
                ELSE (t.total ->> 'count')::int <> cardinality(pg_temp.rows(f.query)) END
$$, 'a total is the number of jobs that match, or, if it is capped, no more than that');
SELECT is(pg_temp.page('backfill.list_jobs()') -> 'total', '{"count": 10000, "capped": true}', 'of very many jobs it is capped');
SELECT is(pg_temp.page('backfill.list_jobs(queue_name => ''q_1'')') #>> '{total,capped}', 'false', 'of few jobs it is exact');

-- A job on a page is the row of the view.
SELECT results_eq($$
    SELECT t.id, t.task_identifier, t.payload, t.queue_name, t.priority, t.priority_band, t.run_at, t.attempts, t.max_attempts, t.job_key, t.retry_policy, t.state,
           t.last_error, t.worker, t.lease_expires_at, t.timeout * interval '1 s', t.created_at, t.progress, t.progress_message, t.flags, t.headers
      FROM jsonb_to_recordset(backfill.list_jobs(queue_name => 'q_1') -> 'jobs') AS t (id bigint, task_identifier text, payload jsonb, queue_name text,
           priority smallint, priority_band text, run_at timestamptz, attempts smallint, max_attempts smallint, job_key text, retry_policy text, state text,
           last_error jsonb, worker text, lease_expires_at timestamptz, timeout double precision, created_at timestamptz, progress double precision,
           progress_message text, flags text[], headers jsonb) ORDER BY t.id DESC
$$, $$SELECT j.id, j.task_identifier COLLATE "default", j.payload, j.queue_name COLLATE "default", j.priority, j.priority_band, j.run_at, j.attempts, j.max_attempts,
             j.job_key COLLATE "default", j.retry_policy COLLATE "default", j.state, j.last_error, j.worker COLLATE "default", j.lease_expires_at, j.timeout, j.created_at,
             j.progress, j.progress_message, j.flags, j.headers
        FROM backfill.jobs j WHERE j.queue_name = 'q_1' ORDER BY j.id DESC$$, 'a job looks as in the view');

-- While others enqueue and delete, a walk shows no job twice, and each that was there all the time.
CREATE TEMP TABLE seen (id bigint);
CREATE FUNCTION pg_temp.disturbed_walk(filter text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    page jsonb := pg_temp.page(format('backfill.list_jobs(%s "limit" => 100)', filter));
BEGIN
    LOOP
        INSERT INTO seen SELECT (j ->> 'id')::bigint FROM jsonb_array_elements(page -> 'jobs') j;
        EXIT WHEN page ->> 'next' IS NULL;
        PERFORM backfill.enqueue('small_1', queue_name => 'q_1') FROM generate_series(1, 10);
        DELETE FROM backfill.job WHERE id = (SELECT min(s.id) FROM seen s) OR id = (SELECT min(s.id) - 300 FROM seen s);
        page := pg_temp.page(format('backfill.list_jobs(%s "limit" => 100, cursor => %L)', filter, page ->> 'next'));
    END LOOP;
    RETURN (SELECT count(*) FROM seen);
END;
$$;
SAVEPOINT undisturbed;
CREATE TEMP TABLE was_there AS SELECT id FROM backfill.job;
SELECT cmp_ok(pg_temp.disturbed_walk(''), '>', 10000::bigint, 'a walk while the table changes');
SELECT is_empty($$SELECT id FROM seen GROUP BY id HAVING count(*) > 1$$, 'no job is shown twice');
SELECT is_empty($$SELECT w.id FROM was_there w JOIN backfill.job j USING (id) EXCEPT SELECT id FROM seen$$, 'every job that was there all the time is shown');
ROLLBACK TO undisturbed;
SELECT cmp_ok(pg_temp.disturbed_walk('task_identifier => ''small_1'', '), '>', 50::bigint, 'the same with a filter, by another index');
SELECT is_empty($$SELECT id FROM seen GROUP BY id HAVING count(*) > 1$$, 'no job is shown twice');
ROLLBACK TO undisturbed;

-- To act on all that a filter shows.
SELECT set_eq($$SELECT i.* FROM backfill.find_job_ids(10000, state => 'scheduled', queue_name => 'bulk') i$$,
              $$SELECT id FROM backfill.jobs WHERE state = 'scheduled' AND queue_name = 'bulk'$$, 'find_job_ids() finds what list_jobs() shows');
SELECT results_eq($$SELECT i.* FROM backfill.find_job_ids(7, task_identifier => 'big') i$$, $$SELECT id FROM backfill.jobs WHERE task_identifier = 'big' ORDER BY id DESC LIMIT 7$$,
              'the newest seven');
SELECT is((SELECT count(DISTINCT i) FROM backfill.find_job_ids(10000) i), 10000::bigint, 'and never more');

--
-- Queues and tasks.
--
SELECT is(pg_temp.walk('backfill.list_queues(cursor => %s, "limit" => 3)', 'queues', 'queue_name'),
          pg_temp.rows('SELECT queue_name FROM backfill.queues ORDER BY queue_name'), 'every page of queues');
SELECT is(pg_temp.walk('backfill.list_queues(search => ''Q_1'', cursor => %s, "limit" => 3)', 'queues', 'queue_name'),
          pg_temp.rows($$SELECT queue_name FROM backfill.queues WHERE queue_name LIKE 'q\_1%' ORDER BY queue_name$$), 'search takes letters in whatever case, and _ for itself');
CREATE TEMP VIEW shown_queue AS
SELECT q.queue_name, q.concurrency, q.paused, (q.ready ->> 'count')::bigint AS ready, (q.scheduled ->> 'count')::bigint AS scheduled, q.running, q.leased, q.oldest_ready_at
  FROM backfill.queues v, jsonb_to_record(backfill.queue_details(v.queue_name)) AS q (queue_name text, concurrency integer, paused boolean, ready jsonb, scheduled jsonb,
       running bigint, leased bigint, oldest_ready_at timestamptz);
SELECT set_eq('SELECT * FROM shown_queue',
    $$SELECT queue_name COLLATE "default", concurrency, paused, ready, scheduled, running, leased, oldest_ready_at FROM backfill.queues$$, 'the counts of a queue are those of the view');
SELECT is(pg_temp.page($$backfill.list_queues(search => 'bulk', "limit" => 100)$$) #> '{queues,0,ready}', '{"count": 500, "capped": true}', 'on a long page they are capped');
SELECT is(pg_temp.walk('backfill.list_tasks(cursor => %s, "limit" => 2)', 'tasks', 'task_identifier'),
          pg_temp.rows('SELECT task_identifier FROM backfill.tasks ORDER BY task_identifier'), 'every page of tasks');
SELECT is(pg_temp.walk('backfill.list_tasks(problem_only => true, cursor => %s, "limit" => 2)', 'tasks', 'task_identifier'),
          pg_temp.rows($$SELECT task_identifier FROM backfill.tasks WHERE kind = 'unregistered' ORDER BY task_identifier$$), 'every page of tasks with problems');
SELECT set_eq($$
    SELECT t ->> 'task_identifier' AS task, t ->> 'kind' AS kind, (t #>> '{jobs,count}')::bigint AS jobs, (t #>> '{dead,count}')::bigint AS dead
      FROM jsonb_array_elements(backfill.list_tasks(search => 'small') -> 'tasks') t
$$, $$SELECT t.task_identifier COLLATE "default", t.kind, t.jobs, (SELECT count(*) FROM backfill.dlq d WHERE d.task_identifier = t.task_identifier)
        FROM backfill.tasks t WHERE t.task_identifier LIKE 'small%'$$, 'the counts of a task are those of the views');

--
-- Dead letters.
--
CREATE TEMP TABLE letter_filter AS
SELECT format('backfill.list_dlq(%s cursor => %%s, "limit" => 500)', string_agg(f.argument || ' => ' || replace(quote_literal(f.value), '%', '%%') || ', ', '')) AS call,
       format('SELECT d.id::text FROM backfill.dlq d WHERE %s ORDER BY d.failed_at DESC, d.id DESC', string_agg(f.condition, ' AND ')) AS query
  FROM generate_series(0, 60) n
 CROSS JOIN LATERAL (
       SELECT * FROM (VALUES ('task_identifier', 'big', 'd.task_identifier = ''big'''), ('task_identifier', 'small_2', 'd.task_identifier = ''small_2'''),
           ('sqlstate', '22012', 'd.last_error ->> ''sqlstate'' = ''22012'''), ('sqlstate', '', 'd.last_error IS NULL'), ('queue_name', 'q_1', 'd.queue_name = ''q_1'''),
           ('queue_name', '', 'd.queue_name IS NULL'), ('job_key', 'key_1000', 'd.job_key = ''key_1000'''), ('search', '0% B', 'd.failure_reason LIKE ''100\%%'''),
           ('search', '_', 'd.failure_reason = ''a_b'''), ('failed_after', (now() - interval '3000 minutes')::text, 'd.failed_at >= now() - interval ''3000 minutes'''),
           ('failed_before', (now() - interval '500 minutes')::text, 'd.failed_at < now() - interval ''500 minutes'''), ('failed_before', '-infinity', 'false'), ('limit', NULL, 'true')
           ) v (argument, value, condition)
        -- Each alone, then three by chance.
        WHERE CASE WHEN n <= 12 THEN v.argument <> 'limit' AND v.condition = (ARRAY['d.task_identifier = ''big''', 'd.task_identifier = ''small_2''', 'd.last_error ->> ''sqlstate'' = ''22012''',
                  'd.last_error IS NULL', 'd.queue_name = ''q_1''', 'd.queue_name IS NULL', 'd.job_key = ''key_1000''', 'd.failure_reason LIKE ''100\%%''', 'd.failure_reason = ''a_b''',
                  'd.failed_at >= now() - interval ''3000 minutes''', 'd.failed_at < now() - interval ''500 minutes''', 'false'])[n]
                   ELSE v.argument <> 'limit' AND random() < 0.2 END) f
 GROUP BY n HAVING count(*) = count(DISTINCT f.argument);
INSERT INTO letter_filter VALUES ('backfill.list_dlq(cursor => %s, "limit" => 500)', 'SELECT d.id::text FROM backfill.dlq d ORDER BY d.failed_at DESC, d.id DESC');
SELECT cmp_ok((SELECT count(*) FROM letter_filter), '>', 30::bigint, 'there are many filters of letters');
SELECT is(pg_temp.walk(call, 'letters'), pg_temp.rows(query), 'every page of ' || call) FROM letter_filter;
SELECT is_empty($$
    SELECT f.call, t.total FROM letter_filter f CROSS JOIN LATERAL (SELECT pg_temp.page(format(f.call, 'NULL')) -> 'total' AS total) t
     WHERE CASE WHEN (t.total ->> 'capped')::boolean THEN (t.total ->> 'count')::int > cardinality(pg_temp.rows(f.query))
                ELSE (t.total ->> 'count')::int <> cardinality(pg_temp.rows(f.query)) END
$$, 'a total is the number of letters that match, or, if it is capped, no more than that');
SELECT set_eq($$SELECT i.* FROM backfill.find_dlq_ids(10000, search => 'zero') i$$, $$SELECT id FROM backfill.dlq WHERE failure_reason = 'Zero'$$, 'find_dlq_ids() finds what list_dlq() shows');
CREATE TEMP VIEW letter_group AS
SELECT d.task_identifier COLLATE "default" AS task, d.last_error ->> 'sqlstate' AS sqlstate, count(*) AS letters, min(d.failed_at) AS oldest, max(d.failed_at) AS newest
  FROM backfill.dlq d WHERE d.failed_at >= now() - interval '4000 minutes' AND d.failed_at < now() - interval '10 minutes' GROUP BY 1, 2;
SELECT set_eq($$
    SELECT g ->> 'task_identifier' AS task, g ->> 'sqlstate' AS sqlstate, (g #>> '{letters,count}')::bigint AS letters, (g ->> 'oldest')::timestamptz AS oldest, (g ->> 'newest')::timestamptz AS newest
      FROM jsonb_array_elements(pg_temp.page('backfill.dlq_groups(now() - interval ''4000 minutes'', now() - interval ''10 minutes'')') -> 'groups') g
     WHERE (g #>> '{letters,capped}')::boolean = false
$$, 'SELECT * FROM letter_group WHERE letters <= 2777', 'groups are those of the view'); -- 50,000 letters in 18 groups
SELECT results_eq($$
    SELECT g #>> '{letters,count}' FROM jsonb_array_elements(backfill.dlq_groups() -> 'groups') g WHERE (g #>> '{letters,capped}')::boolean
$$, $$VALUES ('2777'), ('2777')$$, 'very large ones come first, and are capped');

--
-- The history.
--
SELECT is(pg_temp.walk(format('backfill.list_history(%s cursor => %%s, "limit" => 7)', argument), 'history'),
          pg_temp.rows(format('SELECT h.id::text FROM backfill.history h WHERE %s ORDER BY h.finished_at DESC, h.id DESC', condition)), 'every page of the history: ' || argument)
  FROM (VALUES ('', 'true'), ('task_identifier => ''big'', ', 'task_identifier = ''big'''), ('queue_name => '''', ', 'queue_name IS NULL'),
       ('job_key => ''k'', outcome => ''dead'', ', 'job_key = ''k'' AND outcome = ''dead'''),
       ('finished_after => now() - interval ''90 minutes'', finished_before => now() - interval ''20 minutes'', ',
        'finished_at >= now() - interval ''90 minutes'' AND finished_at < now() - interval ''20 minutes''')) f (argument, condition);

--
-- The overview.
--
SELECT results_eq($$SELECT o -> 'jobs' -> 'running', o -> 'jobs' -> 'leased', o #> '{jobs,scheduled,count}' FROM pg_temp.page('backfill.overview()') o$$,
    $$SELECT to_jsonb(count(*) FILTER (WHERE state = 'running')), to_jsonb(count(*) FILTER (WHERE state = 'leased')),
             to_jsonb(count(*) FILTER (WHERE state = 'scheduled' AND (lease_expires_at IS NULL))) FROM backfill.jobs$$, 'overview() counts as the view does');
SELECT results_eq($$SELECT b ->> 'band', (b #>> '{ready,count}')::bigint FROM jsonb_array_elements(backfill.overview() -> 'bands') b WHERE b #>> '{ready,count}' <> '0'$$,
    $$SELECT priority_band, count(*) FROM backfill.jobs WHERE state = 'ready' AND lease_expires_at IS NULL GROUP BY priority_band ORDER BY min(priority)$$, 'and its bands');
SELECT is((backfill.overview() ->> 'oldest_ready_at')::timestamptz, (SELECT min(run_at) FROM backfill.jobs WHERE state = 'ready' AND lease_expires_at IS NULL), 'and knows the oldest ready job');
SELECT is(backfill.overview() #>> '{queues,0,queue_name}', 'bulk', 'the longest queue comes first');
SELECT is(pg_temp.page('backfill.overview()') #> '{jobs,dead}', '{"count": 10000, "capped": true}', 'very many letters are capped');

--
-- Searches that end before they have seen all go on from there, and leave nothing out at the edge.
--
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
SELECT now(), now(), 0, 0, 8, 0, 'big', 'bulk', '{}' FROM generate_series(1, 45000);
UPDATE backfill.job SET payload = '{"edge": 1}' WHERE id = ANY (ARRAY(SELECT id FROM backfill.job ORDER BY id DESC LIMIT 3 OFFSET 9999));
UPDATE backfill.job SET queue_name = '' WHERE id = ANY (ARRAY(SELECT id FROM backfill.job ORDER BY id DESC LIMIT 3 OFFSET 49999));
INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, priority, max_attempts, failure_reason, failure_count, original_created_at, original_run_at, failed_at)
SELECT 2000000 + n, 'big', '{}', 0, 8, '', 8, now(), now(), now() - n * interval '1 s' FROM generate_series(1, 11000) n;
UPDATE backfill.dead_letter SET last_error = '{"sqlstate": "EDGE1"}' WHERE id = ANY (ARRAY(SELECT id FROM backfill.dead_letter ORDER BY failed_at DESC, id DESC LIMIT 3 OFFSET 19999));
INSERT INTO backfill.job_history (job_id, finished_at, keep_until, created_at, priority, attempt, max_attempts, outcome, task_identifier)
SELECT 1000 + n, now() - n * interval '1 s', 'infinity', now(), 0, 1, 8, 'completed', CASE WHEN n BETWEEN 19500 AND 20500 THEN 'edge' ELSE 'big' END FROM generate_series(1, 21000) n;
CREATE TEMP VIEW edge AS
SELECT * FROM (VALUES
    ('jobs', 'backfill.list_jobs(payload => ''{"edge": 1}'', cursor => %s)', 'SELECT j.id::text FROM backfill.jobs j WHERE payload @> ''{"edge": 1}'' ORDER BY j.id DESC'),
    ('jobs', 'backfill.list_jobs(queue_name => '''', cursor => %s, "limit" => 500)', 'SELECT j.id::text FROM backfill.jobs j WHERE queue_name IS NULL ORDER BY j.id DESC'),
    ('letters', 'backfill.list_dlq(sqlstate => ''EDGE1'', cursor => %s)', 'SELECT d.id::text FROM backfill.dlq d WHERE last_error ->> ''sqlstate'' = ''EDGE1'' ORDER BY failed_at DESC, d.id DESC'),
    ('history', 'backfill.list_history(task_identifier => ''edge'', cursor => %s, "limit" => 500)', 'SELECT h.id::text FROM backfill.history h WHERE task_identifier = ''edge'' ORDER BY finished_at DESC, h.id DESC')
    ) v (things, call, query);
SELECT is(pg_temp.page(format(call, 'NULL')) -> 'cut_off', 'true', 'cut off: ' || call) FROM edge;
SELECT is(pg_temp.walk(call, things), pg_temp.rows(query), 'beyond the edge: ' || call) FROM edge;
SELECT set_eq($$SELECT i.* FROM backfill.find_job_ids(10000, payload => '{"edge": 1}') i$$, $$SELECT id FROM backfill.jobs WHERE payload @> '{"edge": 1}'$$, 'find_job_ids() goes on beyond the edge');
SELECT set_eq($$SELECT i.* FROM backfill.find_dlq_ids(2, sqlstate => 'EDGE1') i$$, $$SELECT id FROM backfill.dlq WHERE last_error ->> 'sqlstate' = 'EDGE1' ORDER BY failed_at DESC, id DESC LIMIT 2$$,
              'find_dlq_ids() goes on beyond the edge');
SELECT is(pg_temp.page('backfill.list_queues(search => ''no such queue'')'), '{"queues": [], "next": null, "cut_off": false}', 'a search among few names is not cut off');
SELECT count(backfill.set_queue('more_' || n, 1)) FROM generate_series(1, 5000) n;
SELECT is(pg_temp.page('backfill.list_queues(search => ''Q_7'')') -> 'cut_off', 'true', 'one among very many is');
SELECT is(pg_temp.walk('backfill.list_queues(search => ''Q_7'', cursor => %s)', 'queues', 'queue_name'), '{q_7}', 'and goes on');
-- Payloads are searched 8 MB at a time.
UPDATE backfill.job SET payload = jsonb_build_object('edge', 2, 'long', (SELECT string_agg(md5(n::text || id), '') FROM generate_series(1, 50000) n))
 WHERE id = ANY (ARRAY(SELECT id FROM backfill.job ORDER BY id DESC LIMIT 12));
SELECT is(cardinality(pg_temp.walk('backfill.list_jobs(payload => ''{"edge": 2}'', cursor => %s)', 'jobs')), 12, 'long payloads are searched, too');
SELECT cmp_ok(jsonb_array_length(pg_temp.page('backfill.list_jobs(payload => ''{"edge": 2}'')') -> 'jobs'), '<', 12, 'but not all in one call');

SELECT is_empty('SELECT * FROM expensive', 'no call reads jobs, dead letters or the history from end to end');

--
-- Counts where not all is looked at say so.
--
DELETE FROM backfill.job;
SELECT set_queue.* FROM backfill.set_queue('wide', 5);
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
SELECT now() - n * interval '1 s', now(), 0, 0, 8, 0, 'wide_' || lpad(n::text, 4, '0'), 'wide', '{}' FROM generate_series(1, 100) n;
SELECT is(backfill.queue_details('wide') - '{concurrency,rate_limit,rate_period,max_depth,paused,automatic,oldest_ready_at}'::text[],
          '{"queue_name": "wide", "ready": {"count": 100, "capped": false}, "scheduled": {"count": 0, "capped": false}, "running": 0, "leased": 0, "cut_off": false}',
          'a hundred tasks of a queue are counted');
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
SELECT now(), now(), 0, 0, 8, 0, 'wide_0101', 'wide', '{}';
SELECT is(backfill.queue_details('wide') - '{concurrency,rate_limit,rate_period,max_depth,paused,automatic,oldest_ready_at}'::text[],
          '{"queue_name": "wide", "ready": {"count": 101, "capped": true}, "scheduled": {"count": 0, "capped": true}, "running": 0, "leased": 0, "cut_off": true}',
          'one more, and the counts are lower bounds');
SELECT is((backfill.overview() -> 'jobs') - '{estimated,dead}'::text[],
          '{"ready": {"count": 101, "capped": false}, "scheduled": {"count": 0, "capped": false}, "running": 0, "leased": 0, "cut_off": false}', 'which the overview counts');
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload)
SELECT now(), now(), 0, 0, 8, 0, 'other_' || lpad(n::text, 4, '0'), 'bulk', '{}' FROM generate_series(1, 900) n;
SELECT ok((backfill.overview() #>> '{jobs,cut_off}')::boolean AND (backfill.overview() #>> '{jobs,ready,capped}')::boolean
          AND (backfill.overview() #>> '{bands,3,ready,capped}')::boolean, 'of more than a thousand tasks and priorities the overview says that there are more');
-- More leases than are looked at. Procedures that run are not among those that are left out.
INSERT INTO backfill.job (run_at, created_at, priority, attempts, max_attempts, free_retries, task_identifier, queue_name, payload, worker, claim_token, lease_expires_at)
SELECT now(), now(), 0, 1, 8, 0, 'leased', 'wide', '{}', 'w', 1, CASE WHEN n <= 3 THEN 'infinity' ELSE now() + interval '1 hour' END FROM generate_series(1, 10002) n;
SELECT results_eq($$SELECT q ->> 'running', q ->> 'cut_off', q #>> '{ready,capped}' FROM backfill.queue_details('wide') q$$, $$VALUES ('3', 'true', 'true')$$,
                  'the same of a queue with more leases than are looked at');
SELECT is(backfill.overview() #>> '{jobs,cut_off}', 'true', 'of the overview');
SELECT is(backfill.list_tasks('leased') #> '{tasks,0,jobs}', '{"count": 1000, "capped": true}', 'and of a task');

-- Results and headers of an unusual size are left out of lists.
INSERT INTO backfill.job_history (job_id, finished_at, keep_until, created_at, priority, attempt, max_attempts, outcome, task_identifier, result)
SELECT 5000 + n, now() + n * interval '1 s', 'infinity', now(), 0, 1, 8, 'completed', 'with_result', jsonb_build_object('r', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, n * 60) i))
  FROM generate_series(1, 2) n;
SELECT results_eq($$SELECT h ->> 'id', h -> 'result' <> 'null', (h ->> 'result_size')::int > 1900 FROM jsonb_array_elements(backfill.list_history('with_result') -> 'history') h$$,
                  $$VALUES ('5002', false, true), ('5001', true, true)$$, 'a large result is left out of a list, and its size is not');

SELECT * FROM finish();
ROLLBACK;
