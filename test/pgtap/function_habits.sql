-- The habit of the SQL surface: the same name means the same thing everywhere, in the same place.
-- Names that are Graphile Worker's keep its order and types.
BEGIN;
SELECT no_plan();

CREATE TEMP VIEW function AS
SELECT p.oid, p.oid::regprocedure AS name, p.proname, p.prosrc, p.prosqlbody, p.prorettype, p.proretset, p.pronargs, p.pronargdefaults,
       p.proname ~ '^_' AS is_private,
       p.proname IN ('add_job', 'add_jobs', 'complete_jobs', 'permanently_fail_jobs', 'fail_jobs', 'reschedule_jobs', 'remove_job', 'force_unlock_workers')
           AND p.oid <> 'backfill.complete_jobs(bigint[], bigint)'::regprocedure AS is_graphiles
  FROM pg_proc p WHERE p.pronamespace = 'backfill'::regnamespace;

-- Arguments that a caller gives, in their order.
CREATE TEMP VIEW argument AS
SELECT f.oid, f.name AS function, a.name, a.position, f.is_graphiles, p.proargtypes[a.position - 1]::regtype AS type,
       a.position > f.pronargs - f.pronargdefaults AS is_optional
  FROM function f JOIN pg_proc p USING (oid)
 CROSS JOIN LATERAL (SELECT i.name, row_number() OVER (ORDER BY i.number) AS position
                       FROM unnest(p.proargnames, p.proargmodes::text[]) WITH ORDINALITY i (name, mode, number)
                      WHERE coalesce(i.mode, 'i') IN ('i', 'b', 'v')) a
 WHERE NOT f.is_private AND p.proname <> 'health';
SELECT cmp_ok((SELECT count(*) FROM argument), '>', 150::bigint, 'the arguments of the whole surface are looked at');

SELECT is_empty($$
    SELECT a.name, array_agg(DISTINCT a.type) FROM argument a
     WHERE NOT a.is_graphiles
       AND a.function <> 'backfill.unregister_hook(text, text, text)'::regprocedure -- an overload for a function that is gone
     GROUP BY a.name HAVING count(DISTINCT a.type) > 1
$$, 'an argument has the same type in every function');

-- How much, or how long, comes first; then which jobs; then the job, as enqueue() has it; then the rest.
CREATE TEMP TABLE place AS
SELECT name, row_number() OVER () AS number FROM unnest('{
    max_jobs, max_letters, older_than, event, function, name, cron,
    sqlstate, message, role, dlq_id, dlq_ids, job_id, job_ids, worker, claim_token,
    tasks, queues, task_identifier, handler, payload, payloads, queue_name, priority, min_priority, max_priority, run_at, max_attempts,
    job_key, job_key_mode, retry_policy, timeout, headers,
    run_as, notify_channel, keep_history, time_zone, fill, max_catchup, catchup,
    state, outcome, failed_after, failed_before, finished_after, finished_before, search, problem_only, notes, actor, action, object, after, before, cursor, limit, offset, reason, error, last_error, permanent, delay, lease
    }'::text[]) name;
SELECT is_empty($$
    SELECT a.function, a.name, b.name FROM argument a JOIN argument b ON b.oid = a.oid AND b.position > a.position
      JOIN place p ON p.name = a.name JOIN place q ON q.name = b.name
     WHERE NOT a.is_graphiles AND a.is_optional AND b.is_optional AND p.number > q.number
       AND (a.name, a.function) <> ('timeout', 'backfill.wait_for_jobs(interval, text[], text[], boolean)'::regprocedure) -- its own, not a job's
$$, 'optional arguments come in one order');
SELECT is_empty($$
    SELECT a.function, b.function, a.name, c.name
      FROM argument a JOIN argument c ON c.oid = a.oid AND c.position > a.position
      JOIN argument b ON b.name = c.name JOIN argument d ON d.oid = b.oid AND d.name = a.name AND d.position > b.position
     WHERE NOT a.is_graphiles AND NOT b.is_graphiles AND a.is_optional AND c.is_optional
$$, 'no two functions have the same optional arguments in different orders');

-- The type of a job.
SELECT set_eq($$
    SELECT DISTINCT f.proname FROM function f WHERE f.prorettype = 'backfill.jobs'::regtype
$$, '{get_job,update_job,add_job,add_jobs,complete_jobs,permanently_fail_jobs,fail_jobs,reschedule_jobs,remove_job}'::name[],
    'functions that return a job return a row of the view backfill.jobs');
SELECT is_empty($$
    SELECT f.name, c.oid::regclass FROM function f JOIN pg_class c ON c.reltype = f.prorettype
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind <> 'v' AND NOT f.is_private
$$, 'no function returns the row of a private table');

-- What those functions return has the names of the view's columns in the right places.
SELECT backfill.register_task('habit');
CREATE TEMP TABLE added AS
SELECT j.* FROM (SELECT set_config('backfill.headers', '{"h": 1}', true)) s, LATERAL backfill.add_job('habit', '{"a": 1}', 'q', '2100-01-01', 3, 'k', -5, '{f}') j;
RESET backfill.headers;
SELECT results_eq($$
    SELECT a.id, a.task_identifier, a.payload, a.queue_name, a.priority, a.priority_band, a.run_at, a.attempts, a.max_attempts, a.job_key, a.retry_policy,
           a.state, a.last_error, a.worker, a.lease_expires_at, a.timeout, a.created_at, a.progress, a.progress_message, a.flags, a.headers FROM added a
$$, 'SELECT * FROM backfill.jobs', 'a job that a function returns is as the view shows it');
SELECT results_eq($$
    SELECT j.state, j.attempts::int FROM backfill.jobs v, backfill.reschedule_jobs(ARRAY[v.id], run_at => '2000-01-01', attempts => 2) j
$$, $$VALUES ('ready', 2)$$, 'rescheduled: ready');
SELECT results_eq($$
    SELECT j.state FROM backfill.jobs v, backfill.reschedule_jobs(ARRAY[v.id], attempts => 3) j
$$, $$VALUES ('dead')$$, 'no attempts left: dead');
SELECT results_eq($$
    SELECT j.state FROM backfill.dlq d, backfill.permanently_fail_jobs(ARRAY[d.original_job_id]) j
$$, $$VALUES ('dead')$$, 'failed for good: dead');
SELECT results_eq($$
    SELECT j.job_key, j.state FROM backfill.remove_job('k') j
$$, $$VALUES ('k' COLLATE "C", NULL::text)$$, 'removed: none');
SELECT results_eq($$
    SELECT j.timeout, j.queue_name, j.state FROM backfill.complete_jobs(ARRAY[backfill.enqueue('habit', timeout => '90 s')]) j
$$, $$VALUES ('90 s'::interval, 'bulk' COLLATE "C", NULL::text)$$, 'ended without a run: none');

-- Long functions are hard to read.
SELECT is_empty($$
    SELECT f.name, lines FROM function f,
           LATERAL (SELECT cardinality(string_to_array(pg_get_functiondef(f.oid), E'\n')) AS lines) l
     WHERE lines > 60
$$, 'no function is longer than 60 lines');

-- The names of Graphile Worker do something else than ours that look like them, and say so.
SELECT matches(obj_description('backfill.complete_jobs(bigint[])'::regprocedure, 'pg_proc'), 'cancelled', 'complete_jobs(job_ids) says that it cancels');
SELECT matches(obj_description('backfill.fail_jobs(bigint[], text)'::regprocedure, 'pg_proc'), 'not fail_job\(\)', 'fail_jobs() says that it is not the plural of fail_job()');
CREATE ROLE regress_habit_consumer;
SELECT backfill.grant_consumer('regress_habit_consumer');
SELECT ok(has_function_privilege('regress_habit_consumer', 'backfill.complete_jobs(bigint[], bigint)', 'EXECUTE')
      AND NOT has_function_privilege('regress_habit_consumer', 'backfill.complete_jobs(bigint[])', 'EXECUTE'),
    'a consumer that forgets its token is refused');

SELECT * FROM finish();
ROLLBACK;
