-- A failed job: rolled back, classified, and then either retried after the delay that its
-- policy says or put into the dead letter queue. Nothing waits here: the delay is read from
-- the stored run_at, and the clock is turned by moving run_at into the past.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW waiting AS SELECT id, payload, attempts, max_attempts, retry_policy, state FROM backfill.jobs ORDER BY id;
CREATE PROCEDURE make_due() LANGUAGE sql AS 'UPDATE backfill.job SET run_at = now()';

-- Fails as its payload says.
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    RAISE '%', payload->>'message'
        USING ERRCODE = coalesce(payload->>'sqlstate', 'P0001'),
              DETAIL = coalesce(payload->>'detail', ''), HINT = coalesce(payload->>'hint', '');
END;
$$;
-- Policies without jitter: the delay is exact.
SELECT backfill.set_retry_policy('exact', 4, '1 hour', '3 hours', 2, 0);
SELECT backfill.register_task('fail', 'fail(jsonb)', retry_policy => 'exact');

-- The first failure: one row, the same id, one attempt more, nothing of what the job did.
SELECT backfill.enqueue('fail', '{"message": "boom", "detail": "some detail", "hint": "some hint"}') AS id;
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
TABLE waiting;
SELECT run_at - interval '1 hour' BETWEEN :'before' AND clock_timestamp() AS one_hour_later FROM backfill.jobs;
SELECT count(*) FROM effect;
-- The error is kept whole.
SELECT key, value FROM backfill.jobs, jsonb_each_text(last_error) ORDER BY key;
-- It is not due yet.
CALL backfill.process_available_jobs();

-- The delays grow by the multiplier up to the maximum; after the last attempt comes the letter.
CALL make_due();
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
SELECT attempts, run_at - interval '2 hours' BETWEEN :'before' AND clock_timestamp() AS two_hours_later FROM backfill.jobs;
CALL make_due();
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
SELECT attempts, run_at - interval '3 hours' BETWEEN :'before' AND clock_timestamp() AS three_hours_later FROM backfill.jobs;
CALL make_due();
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
TABLE waiting;
SELECT id, original_job_id, task_identifier, payload, queue_name, priority, job_key, max_attempts, failure_reason, failure_count,
       requeued_count, last_requeued_at, notes, failed_at BETWEEN :'before' AND clock_timestamp() AS failed_just_now
  FROM backfill.dlq \gx
SELECT key, value FROM backfill.dlq, jsonb_each_text(last_error) ORDER BY key;
SELECT count(*) FROM effect;

-- With jitter: within its bounds, and each job differently.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT backfill.set_retry_policy('jittered', 4, '1 hour', '3 hours', 2, 0.5);
SELECT count(backfill.enqueue('fail', '{"message": "boom"}', retry_policy => 'jittered')) FROM generate_series(1, 20);
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
SELECT bool_and(run_at BETWEEN timestamptz :'before' + interval '30 min' AND clock_timestamp() + interval '90 min') AS within_bounds,
       count(DISTINCT round(extract(epoch FROM run_at))) > 10 AS spread_out
  FROM backfill.jobs;

-- An edited policy counts from the next failure on; a job keeps its number of attempts.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('fail', '{"message": "boom"}');
SELECT backfill.set_retry_policy('exact', max_attempts => 1, initial_delay => '2 hours');
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
SELECT max_attempts, run_at - interval '2 hours' BETWEEN :'before' AND clock_timestamp() AS two_hours_later FROM backfill.jobs;
-- A policy that is gone gives way to the default one, as that is now.
DELETE FROM backfill.retry_policy;
SELECT backfill.set_retry_policy('default', initial_delay => '4 hours', max_delay => '1 day', jitter_factor => 0);
CALL make_due();
SELECT clock_timestamp() AS before \gset
CALL backfill.process_available_jobs();
SELECT attempts, run_at - interval '8 hours' BETWEEN :'before' AND clock_timestamp() AS eight_hours_later FROM backfill.jobs;

-- No delay at all: retried at once, within the same call.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.set_retry_policy('at_once', 3, '0', '0', 1, 0);
SELECT backfill.enqueue('fail', '{"message": "boom"}', retry_policy => 'at_once');
CALL backfill.process_available_jobs();
TABLE waiting;
SELECT failure_count, failure_reason FROM backfill.dlq;

-- More attempts than the policy knows of: the job's own number counts.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT backfill.enqueue('fail', '{"message": "boom"}', max_attempts => 5, retry_policy => 'at_once');
CALL backfill.process_available_jobs();
SELECT failure_count, failure_reason FROM backfill.dlq;

-- A job of one attempt.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT backfill.enqueue('fail', '{"message": "boom"}', max_attempts => 1);
CALL backfill.process_available_jobs();
SELECT failure_count, failure_reason FROM backfill.dlq;

-- By SQLSTATE: what would come again is a dead letter at once.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT count(backfill.enqueue('fail', jsonb_build_object('message', 'state ' || state, 'sqlstate', state)))
  FROM unnest('{08006,0A000,22012,23505,28000,2BP01,40001,40P01,42501,42P01,53200,54000,55P03,57P01,58030,P0001,XX000,ZZ999}'::text[]) state;
SET client_min_messages = error;
CALL backfill.process_available_jobs(18);
RESET client_min_messages;
SELECT payload->>'sqlstate' AS retried, attempts, last_error->>'sqlstate' AS sqlstate, last_error->>'message' AS message
  FROM backfill.jobs ORDER BY retried;
SELECT payload->>'sqlstate' AS permanent, failure_reason FROM backfill.dlq ORDER BY permanent;

-- Real errors of the server come through with all they have.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
CREATE TABLE item (id int CONSTRAINT item_key PRIMARY KEY);
CREATE FUNCTION insert_item(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO test.item VALUES ((payload->>0)::int), ((payload->>1)::int)';
SELECT backfill.register_task('insert_item', 'insert_item(jsonb)');
SELECT backfill.enqueue('insert_item', '[1, 2]'), backfill.enqueue('insert_item', '[3, 1]'), backfill.enqueue('insert_item', '[4, "five"]');
CALL backfill.process_available_jobs();
SELECT * FROM item ORDER BY id;
SELECT payload, failure_reason, last_error->>'sqlstate' AS sqlstate, last_error->>'detail' AS detail FROM backfill.dlq ORDER BY id;

-- Errors in other languages and deep down: message and context survive.
CREATE FUNCTION inner_function() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 / 0; END $$;
CREATE FUNCTION outer_function(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM test.inner_function(); END $$;
SELECT backfill.register_task('deep', 'outer_function(jsonb)');
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT backfill.enqueue('deep');
CALL backfill.process_available_jobs();
SELECT last_error->>'context' AS context FROM backfill.dlq \gx

-- A very long message is cut, at a whole character.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT backfill.enqueue('fail', jsonb_build_object('message', 'x' || repeat('ü', 100000), 'sqlstate', '22000')) > 0 AS enqueued;
SET client_min_messages = error;
CALL backfill.process_available_jobs();
RESET client_min_messages;
SELECT octet_length(last_error->>'message') BETWEEN 8000 AND 8192 AS cut, last_error->>'message' ~ '^xü+$' AS whole FROM backfill.dlq;

-- A job that succeeds after failures leaves nothing.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE SEQUENCE run_number;
CREATE FUNCTION third_time(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    IF nextval('test.run_number') < 3 THEN
        RAISE 'not yet';
    END IF;
END;
$$;
SELECT backfill.register_task('third_time', 'third_time(jsonb)', max_attempts => 3);
SELECT backfill.set_retry_policy('at_once', 3, '0', '0', 1, 0);
SELECT backfill.enqueue('third_time', '"done"', retry_policy => 'at_once');
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
SELECT (SELECT count(*) FROM backfill.jobs) AS jobs, (SELECT count(*) FROM backfill.dlq) AS letters;

-- In the caller's transaction the same holds, and a rollback takes the failure back.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT backfill.enqueue('fail', '{"message": "boom"}');
BEGIN;
CALL backfill.process_available_jobs();
TABLE waiting;
ROLLBACK;
TABLE waiting;
