-- Over random numbers of failures and attempts allowed: a job runs until it succeeds or its
-- attempts are used up; effects only of successes, a letter only for the others.
BEGIN;
SELECT no_plan();

CREATE SCHEMA property;
CREATE TABLE property.effect (n int);
-- Runs are counted by sequences, which no rollback takes back.
CREATE FUNCTION property.fail_some(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO property.effect VALUES ((payload->>'n')::int);
    IF nextval('property.runs_of_' || (payload->>'n')) <= (payload->>'failures')::int THEN
        RAISE 'failure of job %', payload->>'n' USING ERRCODE = payload->>'sqlstate';
    END IF;
END;
$$;
SELECT backfill.set_retry_policy('at_once', 10, '0', '0', 1, 0);
SELECT backfill.register_task('fail_some', 'property.fail_some(jsonb)', retry_policy => 'at_once');

SELECT setseed(0.0625);
CREATE TABLE property.plan AS
SELECT n, floor(random() * 6)::int AS failures, 1 + floor(random() * 6)::int AS max_attempts, random() < 0.2 AS permanent,
       CASE WHEN random() < 0.3 THEN 'key ' || n END AS job_key
  FROM generate_series(1, 150) n;
CREATE VIEW property.expected AS
SELECT n, max_attempts,
       failures = 0 OR (NOT permanent AND failures < max_attempts) AS succeeds,
       CASE WHEN failures = 0 OR permanent THEN 1 ELSE least(failures + 1, max_attempts) END AS runs
  FROM property.plan;
DO $$
DECLARE
    i int;
BEGIN
    FOR i IN SELECT n FROM property.plan LOOP
        EXECUTE format('CREATE SEQUENCE property.runs_of_%s', i);
    END LOOP;
END;
$$;
SELECT cmp_ok(least((SELECT count(*) FROM property.expected WHERE succeeds), (SELECT count(*) FROM property.expected WHERE NOT succeeds)), '>', 30::bigint,
              'many jobs of the plan succeed and many do not');
SELECT backfill.enqueue('fail_some', jsonb_build_object('n', n, 'failures', failures, 'sqlstate', CASE WHEN permanent THEN '22000' ELSE 'P0001' END),
                        max_attempts => max_attempts, job_key => job_key)
  FROM property.plan;

CREATE FUNCTION pg_temp.run() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SET LOCAL client_min_messages = error;
    CALL backfill.process_available_jobs(processed => n);
    RETURN n;
END;
$$;
SELECT is(pg_temp.run(), (SELECT sum(runs)::bigint FROM property.expected), 'the total of runs');
SELECT is((SELECT count(*) FROM backfill.jobs), 0::bigint, 'no job is left');
SELECT results_eq('SELECT n FROM property.effect ORDER BY n', 'SELECT n FROM property.expected WHERE succeeds ORDER BY n', 'effects are those of the jobs that succeed, once each');
SELECT results_eq($$SELECT (payload->>'n')::int, failure_count FROM backfill.dlq ORDER BY 1$$,
                  'SELECT n, runs FROM property.expected WHERE NOT succeeds ORDER BY n', 'letters are those of the others, with their number of failures');
SELECT is_empty($$
    SELECT e.n FROM property.expected e, LATERAL (SELECT last_value FROM pg_sequences WHERE schemaname = 'property' AND sequencename = 'runs_of_' || e.n) s
     WHERE s.last_value IS DISTINCT FROM e.runs
$$, 'every job has run as often as it should');

-- Requeued, they have their attempts again; the next run of each succeeds, as its failures are used up.
SELECT backfill.requeue_dlq_job(id, payload => payload || '{"failures": 0}') FROM backfill.dlq;
SELECT is((SELECT count(*) FROM backfill.jobs WHERE attempts > 0), 0::bigint, 'requeued jobs have all their attempts');
SELECT lives_ok('SELECT pg_temp.run()', 'the requeued jobs run');
SELECT results_eq('SELECT n FROM property.effect ORDER BY n', 'SELECT n FROM property.plan ORDER BY n', 'now every job has had its effect, once');
SELECT is((SELECT total_jobs FROM backfill.dlq_stats()), 0::bigint, 'no letter is left');

SELECT * FROM finish();
ROLLBACK;
