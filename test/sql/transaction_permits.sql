-- How many permits of queues a transaction may hold, and what ends it then: a queue counts once,
-- however often the transaction comes back to it.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.set_queue('serial', concurrency => 1);
CREATE FUNCTION enqueue_in(queue text, jobs int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(backfill.enqueue('note', to_jsonb(n), queue_name => queue)) FROM generate_series(1, jobs) n $$;
CREATE FUNCTION enqueue_in_queues(queues int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(backfill.enqueue('note', to_jsonb(n), queue_name => 'queue ' || n)) FROM generate_series(1, queues) n $$;

-- Three hundred calls in one transaction, in a queue without a limit and in one with one.
SELECT enqueue_in('free', 300), enqueue_in('serial', 300);
DO $$
DECLARE
    done bigint;
BEGIN
    FOR i IN 1..300 LOOP
        CALL backfill.process_available_jobs(2, processed => done);
    END LOOP;
END;
$$;
SELECT count(*), (SELECT count(*) FROM backfill.job) AS left_over FROM effect;

-- What was taken within a savepoint does not count after the rollback to it.
TRUNCATE effect RESTART IDENTITY;
SELECT enqueue_in('free', 1), enqueue_in('serial', 1);
DO $$
DECLARE
    done bigint;
BEGIN
    FOR i IN 1..300 LOOP
        BEGIN
            CALL backfill.process_available_jobs(processed => done);
            RAISE 'back';
        EXCEPTION WHEN raise_exception THEN
        END;
    END LOOP;
    CALL backfill.process_available_jobs(processed => done);
END;
$$;
SELECT count(*), (SELECT count(*) FROM backfill.job) AS left_over FROM effect;

-- But it does once the savepoint is released; that there may be more jobs is told.
TRUNCATE effect RESTART IDENTITY;
SELECT enqueue_in_queues(250);
BEGIN;
DO $$
DECLARE
    done bigint;
BEGIN
    FOR i IN 1..100 LOOP
        BEGIN
            CALL backfill.process_available_jobs(1, processed => done);
        EXCEPTION WHEN raise_exception THEN
        END;
    END LOOP;
END;
$$;
CALL backfill.process_available_jobs(100);
CALL backfill.process_available_jobs();
COMMIT;
CALL backfill.process_available_jobs();

-- A consumer's claims.
SELECT backfill.register_task('external');
SELECT count(backfill.enqueue('external', queue_name => 'free')) FROM generate_series(1, 300);
SELECT count(*) FROM generate_series(1, 300) n, LATERAL backfill.claim_jobs('consumer ' || n, 1);
SELECT state, count(*) FROM backfill.jobs GROUP BY state;
TRUNCATE backfill.job;
SELECT count(backfill.enqueue('external', queue_name => 'queue ' || n)) FROM generate_series(1, 250) n;
BEGIN;
SELECT count(*) FROM backfill.claim_jobs('consumer', 1000);
SELECT count(*) FROM backfill.claim_jobs('consumer', 1000);
COMMIT;
SELECT count(*) FROM backfill.claim_jobs('consumer', 1000);
