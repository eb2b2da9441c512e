-- Dead letters in bulk: requeue and delete by filters, edit, add; and leases that are taken away.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

-- Twelve letters: tasks a and b, queues x, y and none, one a day.
CREATE PROCEDURE letters() LANGUAGE sql AS $$
    TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
    INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, queue_name, priority, max_attempts, failure_reason, failure_count,
                                      original_created_at, original_run_at, failed_at)
    SELECT 100 + i, (ARRAY['a', 'b'])[1 + i % 2], to_jsonb(i), (ARRAY['x', 'y', NULL])[1 + i % 3], 3, 5, 'because', 5,
           '2020-01-01', '2020-01-01', date_trunc('day', now()) - (12 - i) * interval '1 day'
      FROM generate_series(1, 12) i;
$$;
CREATE VIEW day AS SELECT n, date_trunc('day', now()) - (12 - n) * interval '1 day' AS at FROM generate_series(1, 12) n;
CREATE FUNCTION requeued(VARIADIC filters text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    ids text;
BEGIN
    CALL test.letters();
    EXECUTE format('SELECT string_agg(id::text, '' '') FROM backfill.requeue_dlq_jobs(%s) id', array_to_string(filters, ', ')) INTO ids;
    IF (SELECT count(*) FROM backfill.job) <> coalesce(array_length(string_to_array(ids, ' '), 1), 0) THEN
        RAISE 'the ids are not those of the jobs';
    END IF;
    RETURN ids;
END;
$$;

-- Each filter alone, and together; the oldest first.
SELECT requeued() AS everything;
SELECT requeued($$'a'$$) AS task, requeued($$queue_name => 'x'$$) AS queue, requeued($$'a'$$, $$'x'$$) AS both;
SELECT requeued($$failed_after => (SELECT at FROM test.day WHERE n = 9)$$) AS after_inclusive,
       requeued($$failed_before => (SELECT at FROM test.day WHERE n = 3)$$) AS before_exclusive,
       requeued($$failed_after => (SELECT at FROM test.day WHERE n = 5)$$, $$failed_before => (SELECT at FROM test.day WHERE n = 8)$$) AS between;
SELECT requeued($$'unknown'$$) AS nothing;
-- What is requeued: notes, counters, and the jobs with their old settings, without a queue if they had none.
SELECT requeued($$'a'$$, $$'y'$$, $$notes => 'once more'$$);
SELECT id, original_job_id, requeued_count, last_requeued_at IS NOT NULL AS requeued, notes FROM backfill.dlq WHERE requeued_count > 0 ORDER BY id;
SELECT id, task_identifier, payload, queue_name, priority, attempts, max_attempts, state FROM backfill.jobs ORDER BY id;
CALL letters();
SELECT count(*) FROM backfill.requeue_dlq_jobs('b');
SELECT id, queue_name FROM backfill.jobs ORDER BY id;
-- What waits already is passed over; the rest goes.
SELECT string_agg(id::text, ' ') AS the_rest FROM backfill.requeue_dlq_jobs() id;
SELECT count(*) AS nothing_more FROM backfill.requeue_dlq_jobs();
SELECT requeued_count, count(*) FROM backfill.dlq GROUP BY 1;
-- ... or has its key taken by another job.
CALL letters();
UPDATE backfill.dead_letter SET job_key = 'k' WHERE id = 5;
SELECT backfill.enqueue('other', job_key => 'k') IS NOT NULL AS enqueued;
SELECT string_agg(id::text, ' ') AS all_but_5 FROM backfill.requeue_dlq_jobs() id;

-- list_dlq_jobs() page by page finds every letter once, and the total on every page.
CALL letters();
SELECT page, string_agg(l.id::text, ' ' ORDER BY n) AS ids, min(l.total) AS total
  FROM generate_series(0, 3) page, LATERAL (SELECT p.id, p.total, row_number() OVER () AS n FROM backfill.list_dlq_jobs("limit" => 5, "offset" => page * 5) p) l
 GROUP BY page ORDER BY page;

-- cleanup_dlq: by age (here: as old as letter 4 or older), task and queue.
SELECT backfill.cleanup_dlq(now() - (SELECT at FROM day WHERE n = 4), 'a') AS a, backfill.cleanup_dlq(now() - (SELECT at FROM day WHERE n = 4), queue_name => 'x') AS x;
SELECT string_agg(id::text, ' ' ORDER BY id) AS left FROM backfill.dlq;
SELECT backfill.cleanup_dlq(NULL, 'b', 'y'), backfill.cleanup_dlq('100 days'), backfill.cleanup_dlq(older_than => '0', task_identifier => 'a');
SELECT string_agg(id::text, ' ' ORDER BY id) AS left FROM backfill.dlq;
-- Its years are the calendar's, not 360 days.
UPDATE backfill.dead_letter SET failed_at = now() - interval '1 year' + (CASE id WHEN (SELECT min(id) FROM backfill.dead_letter) THEN -1 ELSE 1 END) * interval '1 hour';
SELECT count(*) > 1 AS several, count(*) - 1 = (SELECT count(*) FROM backfill.dead_letter WHERE failed_at > now() - interval '1 year') AS one_is_older FROM backfill.dlq;
SELECT backfill.cleanup_dlq('1 year') AS older_than_a_year;
SELECT backfill.cleanup_dlq();
SELECT backfill.cleanup_dlq(NULL);
SELECT backfill.cleanup_dlq('-1 day');
SELECT backfill.cleanup_dlq(older_than => '0'), (SELECT count(*) FROM backfill.dlq) AS left;

-- update_dlq_job: each value alone; NULL keeps; a payload may be JSON null.
CALL letters();
SELECT backfill.update_dlq_job(1, notes => 'seen'), backfill.update_dlq_job(1, '{"n": 1}'), backfill.update_dlq_job(1), backfill.update_dlq_job(2, 'null'), backfill.update_dlq_job(NULL, '1');
SELECT id, payload, notes FROM backfill.dlq WHERE id < 3 ORDER BY id;
SELECT backfill.requeue_dlq_job(1);
SELECT payload FROM backfill.jobs;

-- add_to_dlq and fail_jobs: what a letter says; one letter per key.
CALL letters();
TRUNCATE backfill.dead_letter RESTART IDENTITY;
SELECT backfill.add_to_dlq(backfill.enqueue('t', '1', 'q', 4, '2001-01-01', 7, 'k', retry_policy => 'fast'), 'by hand', '{"code": 7}');
SELECT task_identifier, payload, queue_name, priority, job_key, max_attempts, failure_reason, failure_count, last_error FROM backfill.dlq;
SELECT backfill.enqueue('t', '2', job_key => 'k') IS NOT NULL AS enqueued;
UPDATE backfill.job SET attempts = 3, last_error = '{"message": "of the last attempt"}';
SELECT backfill.add_to_dlq((SELECT id FROM backfill.job), 'again');
SELECT payload, failure_reason, failure_count, last_error FROM backfill.dlq;
CALL refused($$backfill.add_to_dlq(NULL, 'x')$$);
CALL refused($$backfill.add_to_dlq(999, 'x')$$);
CALL refused($$backfill.add_to_dlq(backfill.enqueue('t'), NULL)$$);
SELECT count(*) FROM backfill.job;
SELECT failed.id IS NOT NULL AS failed FROM backfill.fail_jobs(ARRAY[backfill.enqueue('t')], NULL) failed;
SELECT failure_reason, last_error FROM backfill.dlq WHERE job_key IS NULL;
SELECT backfill.delete_dlq_by_job_key('k'), backfill.delete_dlq_by_job_key('k') AS again, backfill.delete_dlq_by_job_key(NULL) AS of_null;

-- Leases: nothing takes a leased job away but the two functions that are made for it.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_many('external', '{1,2,3,4}');
BEGIN; -- so that the dispatcher does not get ahead of us
UPDATE backfill.job SET worker = 'w' || id, claim_token = id, lease_expires_at = now() + CASE id WHEN 3 THEN interval '-2 hours' WHEN 4 THEN '-1 minute' ELSE '1 hour' END;
SELECT (SELECT count(*) FROM backfill.complete_jobs('{1,2,3}')) AS completed, (SELECT count(*) FROM backfill.fail_jobs('{1,2,3}')) AS failed,
       (SELECT count(*) FROM backfill.reschedule_jobs('{1,2,3}', priority => 1)) AS rescheduled;
SELECT backfill.release_stale_job_locks('1 hour');
SELECT id, state, worker FROM backfill.jobs ORDER BY id;
SELECT backfill.release_stale_job_locks();
SELECT backfill.force_unlock_workers('{w2,unknown}'), backfill.force_unlock_workers(NULL), backfill.force_unlock_workers('{}');
SELECT id, state, worker, lease_expires_at IS NULL AS free FROM backfill.jobs ORDER BY id;
SELECT claim_token FROM backfill.job ORDER BY id;
SELECT id, attempts FROM backfill.job ORDER BY id;
COMMIT;
SELECT * FROM backfill.startup_cleanup();
