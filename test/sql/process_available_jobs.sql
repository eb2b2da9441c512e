-- CALL process_available_jobs(): which jobs it runs and in which order, in a transaction
-- of its own or of the caller.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.register_task('note_too', 'note(jsonb)');

-- Nothing to do.
CALL backfill.process_available_jobs();

-- By priority, then run_at, then id; what is due later stays.
SELECT count(*) FROM backfill.enqueue_jobs('[
    {"task_identifier": "note", "payload": "6 bulk, first", "run_at": "2001-01-01"},
    {"task_identifier": "note_too", "payload": "7 bulk, second", "run_at": "2001-01-01"},
    {"task_identifier": "note", "payload": "9 lowest", "priority": 10},
    {"task_identifier": "note", "payload": "5 bulk, but due earlier", "run_at": "2000-01-01"},
    {"task_identifier": "note", "payload": "never: tomorrow", "priority": -20, "run_at": "tomorrow"},
    {"task_identifier": "note_too", "payload": "3 fast", "queue_name": "fast", "priority": -5},
    {"task_identifier": "note", "payload": "4 fast, just above bulk", "priority": -1},
    {"task_identifier": "note_too", "payload": "2 emergency", "priority": -20},
    {"task_identifier": "note", "payload": "1 before everything", "priority": -32768},
    {"task_identifier": "note", "payload": "8 low", "priority": 5},
    {"task_identifier": "note", "payload": "10 after everything", "priority": 32767}]');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
SELECT payload, state FROM backfill.jobs;

-- max_jobs: the first max_jobs jobs, then the rest.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_many('note', ARRAY['1', '2', '3', '4', '5']::jsonb[]);
CALL backfill.process_available_jobs(0);
CALL backfill.process_available_jobs(2);
SELECT payload FROM effect ORDER BY step;
CALL backfill.process_available_jobs(max_jobs => 100);
SELECT payload FROM effect ORDER BY step;
CALL backfill.process_available_jobs(-1);

-- tasks: only these.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "note", "payload": 1}, {"task_identifier": "note_too", "payload": 2},
    {"task_identifier": "note", "payload": 3}, {"task_identifier": "note_too", "payload": 4}]');
CALL backfill.process_available_jobs(tasks => '{}');
CALL backfill.process_available_jobs(tasks => '{unknown}');
CALL backfill.process_available_jobs(tasks => '{NULL}');
CALL backfill.process_available_jobs(1, '{note_too}');
SELECT payload FROM effect ORDER BY step;
CALL backfill.process_available_jobs(tasks => '{note_too, unknown}');
SELECT payload FROM effect ORDER BY step;
CALL backfill.process_available_jobs(tasks => '{note, note_too}');
SELECT payload FROM effect ORDER BY step;

-- Jobs that a job enqueues are run as well.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION count_down(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    IF payload::int > 0 THEN
        PERFORM backfill.enqueue('count_down', to_jsonb(payload::int - 1));
    END IF;
END;
$$;
SELECT backfill.register_task('count_down', 'count_down(jsonb)');
SELECT backfill.enqueue('count_down', '3');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
SELECT backfill.enqueue('count_down', '3');
CALL backfill.process_available_jobs(2);
SELECT payload FROM backfill.jobs;

-- Many more jobs than fit into one batch.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_many('note', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 2000) i));
CALL backfill.process_available_jobs(1500);
CALL backfill.process_available_jobs();
SELECT count(*), count(DISTINCT payload), bool_and(payload::int = step) AS in_order FROM effect;

-- In a transaction block everything belongs to the caller's transaction.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_many('note', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 200) i));
BEGIN;
CALL backfill.process_available_jobs();
SELECT count(*) FROM effect;
SELECT count(*) FROM backfill.jobs;
ROLLBACK;
SELECT count(*) FROM effect;
SELECT count(*) FROM backfill.jobs;
BEGIN;
CALL backfill.process_available_jobs(3);
SAVEPOINT s;
CALL backfill.process_available_jobs();
ROLLBACK TO SAVEPOINT s;
COMMIT;
SELECT count(*) FROM effect;
SELECT count(*) FROM backfill.jobs;
-- The test's own transaction: enqueue, run, look, and nothing happened.
TRUNCATE backfill.job, effect RESTART IDENTITY;
BEGIN;
SELECT backfill.enqueue('note', '"in one transaction"');
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
ROLLBACK;
SELECT count(*) FROM effect;

-- In DO, in a function, in a block with an exception handler.
SELECT count(*) FROM backfill.enqueue_many('note', ARRAY['1', '2', '3', '4', '5', '6']::jsonb[]);
DO $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(2, processed => n);
    RAISE NOTICE 'DO: % jobs', n;
END;
$$;
CREATE FUNCTION run_one() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(1, processed => n);
    RETURN n;
END;
$$;
SELECT run_one();
DO $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(2, processed => n);
    RAISE division_by_zero;
EXCEPTION WHEN division_by_zero THEN
    RAISE NOTICE 'rolled back after % jobs', n;
END;
$$;
SELECT payload FROM effect ORDER BY step;
SELECT count(*) FROM backfill.jobs;
CREATE PROCEDURE run_all() LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(1, processed => n);
    COMMIT;
    CALL backfill.process_available_jobs(processed => n);
    ROLLBACK;
END;
$$;
CALL run_all();
SELECT count(*) FROM backfill.jobs;

-- REPEATABLE READ: jobs that the transaction itself enqueued, and none twice.
TRUNCATE backfill.job, effect RESTART IDENTITY;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT backfill.enqueue('note', '1');
CALL backfill.process_available_jobs();
CALL backfill.process_available_jobs();
COMMIT;
SELECT payload FROM effect;

-- A job cannot run others.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION nested(payload jsonb) RETURNS void LANGUAGE plpgsql AS 'DECLARE n bigint; BEGIN CALL backfill.process_available_jobs(processed => n); END';
SELECT backfill.register_task('nested', 'nested(jsonb)', max_attempts => 1);
SELECT backfill.enqueue('nested'), backfill.enqueue('note', '"would be nested"', run_at => '2000-01-01', priority => 10);
CALL backfill.process_available_jobs(1);
SELECT last_error->>'sqlstate' AS sqlstate, last_error->>'message' AS message, last_error->>'hint' AS hint FROM backfill.dlq;
SELECT payload FROM backfill.jobs;

-- What a failing job did is gone; its neighbours of the same call are not.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE FUNCTION fail_on_even(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    IF payload::int % 2 = 0 THEN
        RAISE 'even: %', payload;
    END IF;
END;
$$;
SELECT backfill.register_task('fail_on_even', 'fail_on_even(jsonb)', max_attempts => 1);
SELECT count(*) FROM backfill.enqueue_many('fail_on_even', ARRAY['1', '2', '3', '4', '5']::jsonb[]);
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
SELECT payload, failure_reason FROM backfill.dlq ORDER BY id;

-- A cancel (raised by the handler itself here) is meant for the caller's statement: it ends
-- the call, and the job stays as it was.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
CREATE FUNCTION canceled(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    RAISE query_canceled USING MESSAGE = 'canceling statement due to user request';
END;
$$;
SELECT backfill.register_task('canceled', 'canceled(jsonb)', max_attempts => 1);
SELECT backfill.enqueue('canceled', '"not lost"');
CALL backfill.process_available_jobs();
SELECT count(*) FROM effect;
SELECT payload, attempts, state FROM backfill.jobs;
SELECT count(*) FROM backfill.dlq;
