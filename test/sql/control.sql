-- Control over jobs from outside, Graphile Worker's add_job(), and queues; workers are off.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

DROP TABLE effect;
DROP FUNCTION note(jsonb);
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO effect (what) VALUES (payload #>> '{}') $$;
SELECT backfill.register_task('note', 'note(jsonb)');

-- add_job: Graphile Worker's defaults, in no queue, with its backoff.
SELECT task_identifier, payload, queue_name IS NULL AS no_queue, priority, attempts, max_attempts, retry_policy, job_key, flags
  FROM backfill.add_job('note');
SELECT task_identifier, payload, queue_name, priority, max_attempts, job_key, flags, run_at
  FROM backfill.add_job('note', '{"a": 1}', 'q', '2030-01-01', 3, 'k', 7, '{x,y}');
-- job_key modes: replace overwrites all, preserve_run_at keeps the time, unsafe_dedupe changes nothing.
SELECT id, payload, queue_name IS NULL AS no_queue, priority, max_attempts, run_at = now() AS runs_now FROM backfill.add_job('note', '[1]', job_key => 'k');
SELECT id, payload, run_at FROM backfill.add_job('note', '[2]', run_at => '2031-01-01', job_key => 'k');
SELECT id, payload, run_at FROM backfill.add_job('note', '[3]', run_at => '2032-01-01', job_key => 'k', job_key_mode => 'preserve_run_at');
SELECT id, payload, run_at FROM backfill.add_job('note', '[4]', job_key => 'k', job_key_mode => 'unsafe_dedupe');
SELECT id, queue_name, state FROM backfill.get_job(2);
-- Its errors.
DO $$
DECLARE
    call text;
BEGIN
    FOREACH call IN ARRAY '{"add_job(NULL)","add_job(repeat(''x'', 129))","add_job(''note'', queue_name => repeat(''x'', 129))","add_job(''note'', job_key => repeat(''x'', 513))","add_job(''note'', max_attempts => 0)","add_job(''note'', job_key_mode => ''other'')","add_job(''note'', ''{'')"}'::text[] LOOP
        BEGIN
            EXECUTE 'SELECT backfill.' || call;
            RAISE NOTICE '% succeeded', call;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE '%: % %', call, SQLSTATE, SQLERRM;
        END;
    END LOOP;
END $$;
-- add_jobs: of several with one key the last counts.
SELECT id, task_identifier, payload, job_key, flags FROM backfill.add_jobs(ARRAY[
    ('note', '1', NULL, NULL, NULL, 'a', NULL, NULL), ('note', '[2]', NULL, NULL, NULL, 'b', NULL, NULL),
    ('note', '3', NULL, NULL, NULL, 'a', NULL, '{f}'), ('other', NULL, NULL, NULL, 4, NULL, 2, NULL)]::backfill.job_spec[]);
SELECT count(*) FROM backfill.add_jobs('{}');

-- reschedule, complete, cancel, remove, fail: what is eligible, with the rows as they are then.
SELECT id, priority, attempts, max_attempts, run_at FROM backfill.reschedule_jobs('{2, 999}', '2033-01-01', -3, 2, 9);
SELECT id, priority, attempts, max_attempts, run_at FROM backfill.reschedule_jobs('{2}');
SELECT backfill.reschedule_jobs('{2}', priority => 40000);
SELECT backfill.reschedule_jobs('{2}', run_at => 'infinity');
SELECT backfill.reschedule_jobs('{2}', attempts => -1);
SELECT backfill.reschedule_jobs('{2}', max_attempts => 0);
SELECT backfill.cancel_job(1), backfill.cancel_job(1), backfill.cancel_job(999), backfill.cancel_job(NULL);
SELECT id, job_key FROM backfill.remove_job('k');
SELECT count(*) FROM backfill.remove_job('k');
SELECT id FROM backfill.complete_jobs(ARRAY(SELECT id FROM backfill.job WHERE job_key = 'b'));
SELECT task_identifier FROM backfill.permanently_fail_jobs(ARRAY(SELECT id FROM backfill.job WHERE task_identifier = 'other'));
SELECT task_identifier FROM backfill.fail_jobs(ARRAY(SELECT id FROM backfill.job WHERE job_key = 'a'), 'not wanted');
SELECT task_identifier, queue_name, failure_reason, last_error FROM backfill.dlq ORDER BY id;
SELECT count(*) FROM backfill.job;

-- A job without a queue stays without one when it is requeued.
SELECT count(*) FROM backfill.requeue_dlq_jobs('other');
SELECT queue_name FROM backfill.jobs;
SELECT count(*) FROM backfill.requeue_dlq_jobs('other');
-- No attempts left: dead at once. By hand: process_failed_jobs() and its siblings.
SELECT count(*) FROM backfill.reschedule_jobs(ARRAY(SELECT id FROM backfill.job), attempts => 30);
SELECT (SELECT count(*) FROM backfill.job) AS jobs, failure_reason FROM backfill.dlq WHERE task_identifier = 'other';
SELECT count(*) FROM backfill.requeue_dlq_jobs('other');
UPDATE backfill.job SET attempts = max_attempts;
SELECT backfill.process_failed_jobs(), backfill.cleanup_permanently_failed_jobs();
SELECT * FROM backfill.startup_cleanup();
SELECT backfill.release_stale_job_locks('1 hour'), backfill.release_stale_queue_locks(), backfill.force_unlock_workers('{w}') IS NOT NULL AS unlocked, backfill.init_dlq();

-- The rest of the dead letter queue.
SELECT backfill.update_dlq_job(id, '"fixed"', 'looked at') FROM backfill.dlq WHERE job_key = 'a';
SELECT payload, notes FROM backfill.dlq WHERE job_key = 'a';
SELECT backfill.update_dlq_job(999, '1'), backfill.delete_dlq_by_job_key('unknown'), backfill.delete_dlq_by_job_key('a');
SELECT backfill.add_to_dlq(999, 'no');
SELECT backfill.add_to_dlq(backfill.enqueue('note', '1'), 'by hand', '{"message": "m"}') > 0 AS added;
SELECT failure_reason, failure_count, last_error FROM backfill.dlq WHERE task_identifier = 'note';
UPDATE backfill.dead_letter SET failed_at = now() - interval '10 days' WHERE task_identifier = 'note';
SELECT backfill.cleanup_dlq('30 days'), backfill.cleanup_dlq('5 days', 'other'), backfill.cleanup_dlq('5 days', queue_name => 'nope'),
       backfill.cleanup_dlq('5 days', 'note', 'bulk'), backfill.cleanup_dlq('0');
SELECT count(*) FROM backfill.dlq;

-- Jobs that have failed for good are reached by id and key, too, as in Graphile Worker.
SELECT (backfill.add_job('note', '"dead"', 'q', job_key => 'd', max_attempts => 3, flags => '{f}')).id AS dead \gset
SELECT id = :dead AS dead, last_error, attempts, max_attempts FROM backfill.permanently_fail_jobs(ARRAY[:dead], 'first');
SELECT id = :dead AS dead, last_error FROM backfill.permanently_fail_jobs(ARRAY[:dead], 'second');
SELECT failure_reason, last_error, failure_count FROM backfill.dlq;
-- It stays dead without attempts, with what was set; it waits again with some.
SELECT id = :dead AS dead, priority, attempts, max_attempts FROM backfill.reschedule_jobs(ARRAY[:dead], '2035-01-01', 4);
SELECT priority, original_run_at, max_attempts, requeued_count FROM backfill.dlq;
SELECT id = :dead AS dead, priority, attempts, max_attempts, run_at, flags, queue_name FROM backfill.reschedule_jobs(ARRAY[:dead], attempts => 1);
SELECT id = :dead AS dead, state, attempts, last_error FROM backfill.jobs;
SELECT requeued_count FROM backfill.dlq;
-- The letter is not reached while its job waits; both end together.
SELECT id = :dead AS dead, attempts FROM backfill.reschedule_jobs(ARRAY[:dead], attempts => 2);
SELECT id = :dead AS dead FROM backfill.complete_jobs(ARRAY[:dead]);
SELECT (SELECT count(*) FROM backfill.job) AS jobs, (SELECT count(*) FROM backfill.dlq) AS letters;
-- complete_jobs() and remove_job() settle a letter without a job.
SELECT (backfill.add_job('note', job_key => 'd')).id AS dead, (backfill.add_job('note', job_key => 'e')).id AS dead2 \gset
SELECT count(*) FROM backfill.fail_jobs(ARRAY[:dead, :dead2]);
SELECT id = :dead AS dead, job_key FROM backfill.complete_jobs(ARRAY[:dead]);
SELECT id = :dead2 AS dead, job_key FROM backfill.remove_job('e');
SELECT count(*) FROM backfill.remove_job('e');
SELECT count(*) FROM backfill.dlq;
-- More attempts revive a job; one that is replaced meanwhile is passed over.
SELECT (backfill.add_job('note', job_key => 'd', max_attempts => 2)).id AS dead \gset
SELECT count(*) FROM backfill.fail_jobs(ARRAY[:dead]);
SELECT backfill.enqueue('note', job_key => 'd') > 0 AS enqueued;
SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[:dead], max_attempts => 5);
DELETE FROM backfill.job;
SELECT attempts, max_attempts FROM backfill.reschedule_jobs(ARRAY[:dead], max_attempts => 5);
SELECT count(*) FROM backfill.complete_jobs(ARRAY[:dead]);

-- Queues: limits, rate, depth, pause.
SELECT backfill.set_queue('limited', 3, 10, '1 hour', 5), backfill.set_queue('fast', 2), backfill.pause_queue('paused');
SELECT queue_name, concurrency, rate_limit, rate_period, max_depth, paused FROM backfill.queues ORDER BY 1;
SELECT backfill.set_queue('fast');
SELECT concurrency FROM backfill.queues WHERE queue_name = 'fast';
SELECT backfill.set_queue(NULL);
SELECT backfill.set_queue('dead_letter');
SELECT backfill.set_queue('q', 0);
SELECT backfill.set_queue('q', rate_limit => -1);
SELECT backfill.set_queue('q', rate_limit => 1, rate_period => NULL);
SELECT backfill.set_queue('q', rate_limit => 1, rate_period => '0');
SELECT backfill.set_queue('q', rate_limit => 1, rate_period => '10 years');
SELECT backfill.set_queue('q', max_depth => 0);
SELECT backfill.pause_queue('');
SELECT count(*) FROM backfill.enqueue_many('note', array_fill('1'::jsonb, ARRAY[5]), 'limited');
SELECT backfill.enqueue('note', '6', 'limited');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM backfill.enqueue_many('note', array_fill('1'::jsonb, ARRAY[3]), 'paused');
SELECT count(*) FROM backfill.enqueue_many('note', '{"1","2"}', 'open');
CALL backfill.process_available_jobs();
SELECT queue_name, ready FROM backfill.queues WHERE ready > 0;
SELECT backfill.resume_queue('paused');
CALL backfill.process_available_jobs();
SELECT count(*) FROM backfill.job;

-- A handler may cancel or move a job that its own batch was going to run next.
CREATE FUNCTION meddle(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.cancel_job((payload->>'cancel')::bigint);
    PERFORM backfill.reschedule_jobs(ARRAY[(payload->>'move')::bigint], run_at => '2100-01-01');
END $$;
SELECT backfill.register_task('meddle', 'meddle(jsonb)', 'open');
SELECT backfill.enqueue('meddle') IS NOT NULL;
CALL backfill.process_available_jobs(); -- its first job runs alone
SELECT backfill.enqueue('meddle') AS job \gset
SELECT backfill.enqueue('meddle', jsonb_build_object('cancel', :job + 2, 'move', :job + 3)),
       backfill.enqueue('meddle'), backfill.enqueue('meddle'), backfill.enqueue('meddle') \g /dev/null
CALL backfill.process_available_jobs();
SELECT id - :job AS job, state FROM backfill.jobs WHERE id > :job;
