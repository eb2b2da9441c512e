-- Over random jobs of several tasks and queues: they run in the order priority, run_at, id,
-- each once, and none that is not due. The seed is fixed, so a failure repeats.
BEGIN;
SELECT no_plan();

CREATE SCHEMA property;
CREATE TABLE property.effect (step serial, job_id bigint, task text);
-- The payload carries what was enqueued, and so tells which job runs.
CREATE FUNCTION property.note(payload jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO property.effect (job_id, task) VALUES ((payload->>'n')::bigint, payload->>'task')
$$;
SELECT backfill.register_task('a', 'property.note(jsonb)');
SELECT backfill.register_task('b', 'property.note(jsonb)');
SELECT backfill.register_task('c', 'property.note(jsonb)');

CREATE FUNCTION pg_temp.enqueue_random(how_many int) RETURNS void LANGUAGE sql AS $$
    SELECT count(backfill.enqueue(task, jsonb_build_object('n', n, 'task', task), queue_name => queue, priority => priority, run_at => run_at))
      FROM (SELECT n,
                   (ARRAY['a', 'b', 'c'])[1 + floor(random() * 3)] AS task,
                   (ARRAY['fast', 'bulk', 'one', 'other'])[1 + floor(random() * 4)] AS queue,
                   (random() * 20 - 10)::int AS priority,
                   -- many equal times, some in the future
                   now() + floor(random() * 12 - 10) * interval '1 minute' AS run_at
              FROM generate_series(1, how_many) n) r
$$;
CREATE TEMP VIEW expected AS
SELECT row_number() OVER (ORDER BY priority, run_at, id) AS step, (payload->>'n')::bigint AS n
  FROM backfill.job WHERE run_at <= now();
CREATE TEMP VIEW actual AS
SELECT row_number() OVER (ORDER BY step) AS step, job_id AS n FROM property.effect;
CREATE FUNCTION pg_temp.run(max_jobs int DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(max_jobs, processed => n);
    RETURN n;
END;
$$;

SELECT setseed(0.25);
SELECT pg_temp.enqueue_random(500);
CREATE TEMP TABLE plan AS SELECT * FROM expected;
SELECT cmp_ok((SELECT count(*) FROM plan), '>', 300::bigint, 'most jobs are due');
SELECT is(pg_temp.run(), (SELECT count(*) FROM plan), 'every job that is due has run');
SELECT results_eq('SELECT n FROM actual ORDER BY step', 'SELECT n FROM plan ORDER BY step', 'jobs run in the order of priority, run_at and id');
SELECT is((SELECT count(*) FROM backfill.jobs WHERE state <> 'scheduled'), 0::bigint, 'what is left is not due');

-- The same in slices of random size: the order does not depend on how many are run at once.
TRUNCATE backfill.job, property.effect, plan;
SELECT setseed(0.5);
SELECT pg_temp.enqueue_random(500);
INSERT INTO plan SELECT * FROM expected;
DO $$
BEGIN
    WHILE pg_temp.run(1 + floor(random() * 90)::int) > 0 LOOP
    END LOOP;
END;
$$;
SELECT results_eq('SELECT n FROM actual ORDER BY step', 'SELECT n FROM plan ORDER BY step', 'the order is the same in slices');

-- One task after the other: within a task the order holds.
TRUNCATE backfill.job, property.effect, plan;
SELECT setseed(0.75);
SELECT pg_temp.enqueue_random(300);
INSERT INTO plan SELECT * FROM expected;
CALL backfill.process_available_jobs(tasks => '{b}');
CALL backfill.process_available_jobs(tasks => '{c}');
CALL backfill.process_available_jobs(tasks => '{a}');
SELECT is((SELECT count(*) FROM property.effect), (SELECT count(*) FROM plan), 'task by task all jobs run');
SELECT is_empty($$
    SELECT task FROM (SELECT e.task, p.step, lag(p.step) OVER (PARTITION BY e.task ORDER BY e.step) AS previous
                        FROM property.effect e JOIN plan p ON p.n = e.job_id) s
     WHERE step < previous
$$, 'each task keeps the order');

SELECT * FROM finish();
ROLLBACK;
