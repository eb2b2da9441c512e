-- Enqueueing is part of the caller's transaction: it comes and goes with it, in every
-- isolation level.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW waiting AS SELECT payload FROM backfill.jobs ORDER BY id;

-- Rolled back: nothing stays, neither of jobs nor of what came with them.
BEGIN;
SELECT count(backfill.enqueue('t', '"rolled back"'));
SELECT count(backfill.enqueue_serial('t', '"rolled back"', 'one_by_one'));
SELECT count(*) FROM backfill.enqueue_many('t', ARRAY['"rolled back"', '"rolled back"']::jsonb[]);
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "t", "payload": "rolled back", "job_key": "k"}]');
ROLLBACK;
TABLE waiting;
SELECT queue_name FROM backfill.queues ORDER BY queue_name;

-- Rolled back to a savepoint: what was before and after it stays.
BEGIN;
SELECT count(backfill.enqueue('t', '"before"'));
SAVEPOINT one;
SELECT count(backfill.enqueue('t', '"in savepoint one"'));
SAVEPOINT two;
SELECT count(backfill.enqueue('t', '"in savepoint two"'));
RELEASE SAVEPOINT two;
ROLLBACK TO SAVEPOINT one;
SELECT count(backfill.enqueue('t', '"again in savepoint one"'));
RELEASE SAVEPOINT one;
SELECT count(backfill.enqueue('t', '"after"'));
COMMIT;
TABLE waiting;

-- A failed statement takes its jobs with it; an exception handler its block's.
TRUNCATE backfill.job;
SELECT backfill.enqueue('t', '"of a failed statement"'), 1 / (random() * 0)::int;
DO $$
BEGIN
    PERFORM backfill.enqueue('t', '"before the block"');
    BEGIN
        PERFORM backfill.enqueue('t', '"in the block"');
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        PERFORM backfill.enqueue('t', '"in the handler"');
    END;
    BEGIN
        PERFORM backfill.enqueue('t', '"valid"');
        PERFORM backfill.enqueue('t', max_attempts => 0);
    EXCEPTION WHEN invalid_parameter_value THEN
        PERFORM backfill.enqueue('t', '"after a refusal"');
    END;
END;
$$;
TABLE waiting;

-- A procedure that commits in the middle.
TRUNCATE backfill.job;
CREATE PROCEDURE two_steps() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.enqueue('t', '"committed"');
    COMMIT;
    PERFORM backfill.enqueue('t', '"rolled back"');
    ROLLBACK;
    PERFORM backfill.enqueue('t', '"committed, too"');
END;
$$;
CALL two_steps();
TABLE waiting;

-- A job key's replacement is undone as well.
TRUNCATE backfill.job;
SELECT count(backfill.enqueue('t', '"first"', job_key => 'k'));
BEGIN;
SELECT count(backfill.enqueue('t', '"second"', job_key => 'k'));
TABLE waiting;
ROLLBACK;
TABLE waiting;

-- Read-only transactions are refused by all that write.
BEGIN READ ONLY;
CALL refused($$backfill.enqueue('t')$$);
CALL refused($$backfill.enqueue_fast('t')$$);
CALL refused($$backfill.enqueue_bulk('t')$$);
CALL refused($$backfill.enqueue_emergency('t')$$);
CALL refused($$backfill.enqueue_critical('t')$$);
CALL refused($$backfill.enqueue_fast_with_retries('t')$$);
CALL refused($$backfill.enqueue_bulk_with_retries('t')$$);
CALL refused($$backfill.enqueue_serial('t', '{}', 'one_by_one')$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1']::jsonb[])$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t"}]')$$);
CALL refused($$backfill.register_task('t', 'note(jsonb)')$$);
CALL refused($$backfill.unregister_task('t')$$);
CALL refused($$backfill.set_retry_policy('mine')$$);
CALL refused($$backfill.delete_dlq_job(1)$$);
CALL refused($$backfill.requeue_dlq_job(1)$$);
CALL refused($$backfill.force_unlock_workers('{consumer}')$$);
CALL refused($$backfill.release_stale_job_locks()$$);
CALL refused($$backfill.startup_cleanup()$$);
CALL refused($$backfill.fail_jobs(ARRAY(SELECT id FROM backfill.jobs WHERE state = 'ready'))$$);
CALL refused($$backfill.permanently_fail_jobs(ARRAY(SELECT id FROM backfill.jobs WHERE state = 'ready'))$$);
CALL refused($$backfill.cancel_job(1)$$);
CALL refused($$backfill.complete_jobs('{1}')$$);
CALL refused($$backfill.reschedule_jobs('{1}')$$);
CALL refused($$backfill.remove_job('k')$$);
CALL refused($$backfill.add_job('t')$$);
CALL refused($$backfill.claim_jobs('consumer')$$);
CALL refused($$backfill.set_queue('q', concurrency => 1)$$);
CALL refused($$backfill.pause_queue('q')$$);
CALL refused($$backfill.register_hook('job_start', 'note(jsonb)')$$);
CALL refused($$backfill.unregister_hook('job_start', 'note(jsonb)')$$);
CALL refused($$backfill.unschedule('s')$$);
CALL refused($$backfill.cleanup_dlq('0')$$);
CALL refused($$backfill.grant_producer('pg_monitor')$$);
COMMIT;
BEGIN READ ONLY;
CALL backfill.process_available_jobs();
ROLLBACK;
-- Looking is allowed.
BEGIN READ ONLY;
SELECT count(*) FROM backfill.jobs;
SELECT count(*) FROM backfill.queues;
SELECT count(*) FROM backfill.tasks;
SELECT count(*) FROM backfill.dlq;
SELECT count(*) FROM backfill.list_dlq_jobs();
SELECT count(*) FROM backfill.get_dlq_job(1);
SELECT total_jobs FROM backfill.dlq_stats();
SELECT count(*) FROM backfill.retry_policies;
SELECT count(*) FROM backfill.workers WHERE kind = 'executor';
SELECT backfill.backoff_delay(0, 1, '1 s', '1 s', 1, 0);
COMMIT;

-- Every isolation level, and the task's settings of this very transaction.
TRUNCATE backfill.job;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT backfill.register_task('t', 'note(jsonb)', priority => 3);
SELECT count(backfill.enqueue('t', '"repeatable read"', job_key => 'r'));
SELECT count(backfill.enqueue('t', '"repeatable read, replaced"', job_key => 'r'));
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(backfill.enqueue('t', '"serializable"', job_key => 's'));
SELECT count(backfill.enqueue('t', '"serializable, replaced"', job_key => 's'));
COMMIT;
SELECT payload, priority, job_key FROM backfill.jobs ORDER BY id;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
COMMIT;
TABLE waiting;

-- Two-phase commit.
BEGIN;
SELECT count(backfill.enqueue('t', '"prepared and committed"', job_key => 'k'));
PREPARE TRANSACTION 'regress_backfill_1';
BEGIN;
SELECT count(backfill.enqueue('t', '"prepared and rolled back"'));
PREPARE TRANSACTION 'regress_backfill_2';
TABLE waiting;
ROLLBACK PREPARED 'regress_backfill_2';
COMMIT PREPARED 'regress_backfill_1';
TABLE waiting;
