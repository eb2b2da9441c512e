-- The dead letter queue: list, look, correct, requeue, delete.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

-- Fails unless its payload says that all is well.
CREATE FUNCTION check_payload(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT coalesce((payload->>'good')::boolean, false) THEN
        RAISE 'payload is bad' USING ERRCODE = 'data_exception';
    END IF;
    PERFORM test.note(payload);
END;
$$;
SELECT backfill.register_task('check', 'check_payload(jsonb)');
SELECT backfill.register_task('check_fast', 'check_payload(jsonb)', queue_name => 'fast');
CREATE PROCEDURE run() LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SET client_min_messages = error;
    CALL backfill.process_available_jobs(processed => n);
    SET client_min_messages = notice;
    RAISE NOTICE '%', n;
END;
$$;
CREATE VIEW letter AS
SELECT id, original_job_id AS job, payload, job_key, failure_reason, failure_count, requeued_count, notes FROM backfill.dlq ORDER BY id;

-- Empty.
SELECT * FROM backfill.list_dlq_jobs();
SELECT * FROM backfill.dlq_stats();

-- What a letter holds, and that the three ways to see it agree.
SELECT backfill.enqueue('check', '{"n": 1}', 'q', 3, '2001-01-01', 7, 'key', retry_policy => 'fast');
CALL run();
SELECT id, original_job_id, task_identifier, payload, queue_name, priority, job_key, max_attempts, failure_reason, failure_count,
       last_error, original_created_at <= failed_at AS created_before, original_run_at = '2001-01-01' AS run_at_kept,
       requeued_count, last_requeued_at, notes
  FROM backfill.dlq \gx
SELECT d = g AS same FROM backfill.dlq d, backfill.get_dlq_job(1) g;
SELECT (to_jsonb(l) - 'total') = to_jsonb(d) AS same, total FROM backfill.dlq d, backfill.list_dlq_jobs() l;
SELECT * FROM backfill.get_dlq_job(2);
SELECT * FROM backfill.get_dlq_job(NULL);

-- Requeue with a corrected payload: the job runs under its old id and with its old
-- settings; the letter stays until it succeeds.
SELECT backfill.requeue_dlq_job(1, '{"n": 1, "good": true}', 'payload corrected');
SELECT id, task_identifier, payload, queue_name, priority, attempts, max_attempts, job_key, retry_policy, state, last_error FROM backfill.jobs;
TABLE letter;
SELECT last_requeued_at > failed_at AS requeued FROM backfill.dlq;
CALL run();
SELECT payload FROM effect;
TABLE letter;

-- Requeue and fail again: the same letter, with the failures added up.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('check', '{"n": 2}');
CALL run();
SELECT backfill.requeue_dlq_job(1);
CALL run();
TABLE letter;
SELECT backfill.requeue_dlq_job(dlq_id => 1, notes => 'second try', payload => '{"n": 22}');
CALL run();
TABLE letter;
SELECT backfill.requeue_dlq_job(1, notes => 'third try');
CALL refused('backfill.requeue_dlq_job(1)');
CALL run();
TABLE letter;
SELECT failed_at > last_requeued_at AS failed_after_requeue FROM backfill.dlq;

-- A letter deleted while its job is on the way again: the job goes on, a new failure is a new letter.
SELECT backfill.requeue_dlq_job(1);
SELECT backfill.delete_dlq_job(1);
SELECT id, payload FROM backfill.jobs;
CALL run();
TABLE letter;

-- What cannot be requeued.
CALL refused('backfill.requeue_dlq_job(99)');
CALL refused('backfill.requeue_dlq_job(NULL)');
SELECT backfill.requeue_dlq_job(2);
CALL refused('backfill.requeue_dlq_job(2)');
TABLE letter;
-- ... also when another job has taken its key meanwhile.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('check', '{"n": 3}', job_key => 'k');
CALL run();
SELECT backfill.enqueue('check', '{"n": 4, "good": true}', job_key => 'k', run_at => now() + interval '1 day');
CALL refused('backfill.requeue_dlq_job(1)');
TABLE letter;
SELECT id, payload FROM backfill.jobs;
-- When that one succeeds, the key's letter is settled, too.
UPDATE backfill.job SET run_at = now();
CALL run();
SELECT payload FROM effect;
TABLE letter;

-- One letter per key and task: a new job of both that fails updates it, and all that it says.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('check', '{"n": 5}', job_key => 'k');
CALL run();
SELECT backfill.enqueue('check', '{"n": 6}', 'q', 7, max_attempts => 2, job_key => 'k', retry_policy => 'fast', timeout => '1 hour');
CALL run();
TABLE letter;
SELECT task_identifier, queue_name, priority, max_attempts, retry_policy, timeout_ms FROM backfill.dead_letter;
-- A job of another task with the key has a letter of its own.
SELECT backfill.enqueue('check_fast', '{"n": 6.5}', job_key => 'k');
CALL run();
TABLE letter;
SELECT task_identifier, queue_name FROM backfill.dlq ORDER BY id;
SELECT count(*) FROM backfill.requeue_dlq_jobs();
SELECT backfill.delete_dlq_by_job_key('k'), backfill.delete_dlq_by_job_key('k') AS again;
TRUNCATE backfill.job;
-- Without a key each is its own.
SELECT backfill.enqueue('check', '{"n": 7}'), backfill.enqueue('check', '{"n": 7}');
CALL run();
TABLE letter;

-- Requeued jobs keep their settings, whatever the task's own are by now.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.register_task('own', 'check_payload(jsonb)', 'own_queue', 7, 3, 'conservative');
SELECT backfill.enqueue('own', queue_name => 'q', priority => 0, max_attempts => 8, retry_policy => 'default'), backfill.enqueue('own');
CALL run();
SELECT backfill.register_task('own', 'check_payload(jsonb)', 'new_queue', 9, 2, 'fast');
SELECT backfill.requeue_dlq_job(1), backfill.requeue_dlq_job(2);
SELECT id, queue_name, priority, attempts, max_attempts, retry_policy FROM backfill.jobs ORDER BY id;

-- A requeued job that is replaced under its key still settles the letter.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('check', '{"n": 8}', job_key => 'k');
CALL run();
SELECT backfill.requeue_dlq_job(1);
SELECT backfill.enqueue('check', '{"n": 8, "good": true}', job_key => 'k');
CALL run();
SELECT payload FROM effect;
TABLE letter;

-- ... and when it fails, the letter is about what has failed: all of it.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('check', '{"n": 8}', job_key => 'k');
CALL run();
SELECT backfill.requeue_dlq_job(1);
SELECT backfill.enqueue('check', '{"n": 8.1}', 'q', 5, max_attempts => 3, job_key => 'k', retry_policy => 'fast');
CALL run();
SELECT id, task_identifier, payload, queue_name, priority, max_attempts, retry_policy, failure_count, requeued_count FROM backfill.dead_letter;
-- ... also when that is of another task, which may have a letter with that key already.
SELECT backfill.enqueue('check_fast', '{"n": 8.2}', job_key => 'k2'), backfill.enqueue('check', '{"n": 8.3}', job_key => 'k2');
CALL run();
SELECT backfill.requeue_dlq_job(1);
SELECT backfill.enqueue('check_fast', '{"n": 8.4}', job_key => 'k');
CALL run();
SELECT id, original_job_id, task_identifier, payload, queue_name, priority, job_key, max_attempts, retry_policy, failure_count, requeued_count FROM backfill.dead_letter ORDER BY id;
SELECT backfill.add_to_dlq(backfill.enqueue('check', job_key => 'k'), 'another letter with the key');
SELECT backfill.requeue_dlq_job(1);
SELECT task_identifier, payload FROM backfill.jobs;
SELECT backfill.enqueue('check', '{"n": 8.5}', job_key => 'k');
CALL run();
SELECT task_identifier, payload, failure_count, requeued_count FROM backfill.dead_letter WHERE job_key = 'k';
-- What runs in place of it and succeeds settles it.
SELECT backfill.requeue_dlq_job(1);
SELECT backfill.enqueue('check_fast', '{"n": 8.6, "good": true}', job_key => 'k');
CALL run();
SELECT count(*) FROM backfill.dead_letter WHERE job_key = 'k';

-- Flags that add_job() was given come back, too.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.add_to_dlq((backfill.add_job('check', flags => '{x,y}')).id, 'by hand');
SELECT backfill.requeue_dlq_job(1);
SELECT flags FROM backfill.job;

-- Requeueing is part of the caller's transaction.
TRUNCATE backfill.job, backfill.dead_letter, effect RESTART IDENTITY;
SELECT backfill.enqueue('check', '{"n": 9}');
CALL run();
BEGIN;
SELECT backfill.requeue_dlq_job(1, notes => 'rolled back');
ROLLBACK;
TABLE letter;
SELECT count(*) FROM backfill.jobs;
-- A task that is no longer registered: the job waits.
SELECT backfill.unregister_task('check');
SELECT backfill.requeue_dlq_job(1);
CALL run();
SELECT task_identifier, state FROM backfill.jobs;
SELECT backfill.register_task('check', 'check_payload(jsonb)');

-- delete
SELECT backfill.delete_dlq_job(1), backfill.delete_dlq_job(1) AS again, backfill.delete_dlq_job(NULL) AS of_null;

-- list: filters, order, limit and offset, total.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, queue_name, priority, max_attempts, failure_reason, failure_count,
                                  original_created_at, original_run_at, failed_at, requeued_count)
SELECT 100 + i, CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END, to_jsonb(i), CASE WHEN i % 3 = 0 THEN 'third' END, 0, 5, 'because', i,
       '2020-01-01', '2020-01-01', timestamptz '2020-01-01 UTC' + i * interval '1 day', i % 2
  FROM generate_series(1, 60) i;
SELECT count(*), max(id), min(id), min(total) AS total FROM backfill.list_dlq_jobs();
SELECT array_agg(id) AS newest_first, min(total) AS total FROM backfill.list_dlq_jobs("limit" => 5);
SELECT array_agg(id) AS next_page, min(total) AS total FROM backfill.list_dlq_jobs("limit" => 5, "offset" => 5);
SELECT array_agg(id) AS last_page, min(total) AS total FROM backfill.list_dlq_jobs("limit" => 50, "offset" => 57);
SELECT count(*) FROM backfill.list_dlq_jobs("offset" => 60);
SELECT count(*) FROM backfill.list_dlq_jobs("limit" => NULL, "offset" => NULL);
SELECT count(*) FROM backfill.list_dlq_jobs("limit" => 0);
SELECT array_agg(id), min(total) AS total FROM backfill.list_dlq_jobs(task_identifier => 'even', "limit" => 3);
SELECT array_agg(id), min(total) AS total FROM backfill.list_dlq_jobs(queue_name => 'third', "limit" => 3);
SELECT array_agg(id), min(total) AS total FROM backfill.list_dlq_jobs('odd', 'third', "limit" => 3);
SELECT array_agg(id), min(total) AS total FROM backfill.list_dlq_jobs(failed_after => '2020-01-11 UTC', failed_before => '2020-01-14 UTC');
SELECT count(*) FROM backfill.list_dlq_jobs('unknown');
SELECT count(*) FROM backfill.list_dlq_jobs("limit" => -1);
SELECT count(*) FROM backfill.list_dlq_jobs("offset" => -1);
-- Equal times: the larger id is the newer one.
UPDATE backfill.dead_letter SET failed_at = '2020-01-01';
SELECT array_agg(id) FROM backfill.list_dlq_jobs("limit" => 3);

-- stats
UPDATE backfill.dead_letter SET failed_at = timestamptz '2020-01-01 UTC' + id * interval '1 day';
SET timezone = 'UTC';
SELECT * FROM backfill.dlq_stats() \gx
