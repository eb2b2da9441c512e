-- Metrics: what is counted and when, gauges, the text for Prometheus. No other session runs jobs
-- here, but other tests have counted before: each part looks at a task of its own.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payload ? 'sqlstate' THEN
        RAISE 'as ordered' USING ERRCODE = payload->>'sqlstate';
    END IF;
    IF payload ? 'enqueue' THEN
        PERFORM backfill.enqueue(payload->>'enqueue');
    END IF;
    IF payload ? 'snooze' THEN
        PERFORM backfill.snooze('1 hour');
    END IF;
    IF payload ? 'discard' THEN
        PERFORM backfill.discard(payload->>'discard');
    END IF;
    IF payload ? 'then' THEN
        RAISE 'as ordered' USING ERRCODE = payload->>'then';
    END IF;
END;
$$;
CREATE PROCEDURE run() LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SET client_min_messages = error; -- not LOCAL: it commits between batches
    CALL backfill.process_available_jobs(processed => n);
    RESET client_min_messages;
END;
$$;
-- What is not zero of a task: counters, and how many observations histograms have.
CREATE FUNCTION counted(task text) RETURNS TABLE (name text, labels jsonb, value double precision) LANGUAGE sql AS $$
    SELECT m.name, m.labels - 'task', m.value FROM backfill.metrics() m
     WHERE m.labels->>'task' = counted.task AND m.kind <> 'gauge' AND m.value <> 0
$$;
-- By how much what came in differs from what ended or is still there, and what started from what runs became.
CREATE FUNCTION missing(task text, OUT jobs double precision, OUT runs double precision) LANGUAGE sql AS $$
    SELECT (SELECT coalesce(sum(CASE WHEN c.name ~ 'enqueued|requeued' THEN c.value ELSE -c.value END), 0)
              FROM counted(missing.task) c WHERE c.name ~ '^backfill_(jobs_(enqueued|completed|dropped)|dlq_jobs_(added|requeued))$')
           - (SELECT count(*) FROM backfill.job j WHERE j.task_identifier = missing.task),
           (SELECT coalesce(sum(CASE WHEN c.name ~ 'started' THEN c.value ELSE -c.value END), 0)
              FROM counted(missing.task) c WHERE c.name ~ '^backfill_jobs_(started|completed|failed|snoozed)$')
$$;
CREATE FUNCTION enqueued(task text) RETURNS double precision LANGUAGE sql AS $$
    SELECT coalesce(sum(m.value), 0) FROM backfill.metrics('backfill_jobs_enqueued') m WHERE m.labels->>'task' = enqueued.task
$$;

-- Every metric.
SELECT name, kind, help FROM backfill._metric_catalogue();

-- An enqueue counts at the commit ...
SELECT backfill.enqueue('m_commit'), enqueued('m_commit') AS before_commit;
SELECT enqueued('m_commit');
BEGIN;
SELECT backfill.enqueue('m_commit');
SELECT enqueued('m_commit') AS before_commit;
COMMIT;
SELECT enqueued('m_commit');
-- ... and not if there is none.
BEGIN;
SELECT backfill.enqueue('m_commit');
ROLLBACK;
SELECT enqueued('m_commit');
DO $$ BEGIN PERFORM backfill.enqueue('m_commit'); RAISE 'no commit'; END $$;
SELECT enqueued('m_commit');

-- Savepoints: of ten enqueues, those of rolled back levels are not counted.
BEGIN;
SELECT backfill.enqueue('m_savepoint', '"kept 1"');
SAVEPOINT a;
SELECT backfill.enqueue('m_savepoint', '"dropped"');
ROLLBACK TO a;
SELECT backfill.enqueue('m_savepoint', '"kept 2"');
RELEASE a;
SAVEPOINT b;
SELECT backfill.enqueue('m_savepoint', '"dropped with b"');
SAVEPOINT c;
SELECT backfill.enqueue('m_savepoint', '"dropped with b"'), backfill.enqueue_fast('m_savepoint', '"dropped with b"');
RELEASE c;
ROLLBACK TO b;
SAVEPOINT d;
SAVEPOINT e;
SELECT backfill.enqueue('m_savepoint', '"kept 3"'), backfill.enqueue_fast('m_savepoint', '"kept 4"');
RELEASE e;
SAVEPOINT f;
SELECT backfill.enqueue_fast('m_savepoint', '"kept 5"');
RELEASE f;
SAVEPOINT g;
SELECT backfill.enqueue_fast('m_savepoint', '"dropped with g"');
ROLLBACK TO g;
RELEASE d;
COMMIT;
SELECT * FROM counted('m_savepoint');
SELECT queue_name, count(*), string_agg(payload #>> '{}', ', ' ORDER BY id) FROM backfill.job WHERE task_identifier = 'm_savepoint' GROUP BY queue_name;
-- The same with the blocks of PL/pgSQL, many levels and many label sets.
DO $$
BEGIN
    FOR i IN 1..40 LOOP
        BEGIN
            PERFORM backfill.enqueue('m_block', queue_name => 'q' || i % 5);
            BEGIN
                PERFORM backfill.enqueue('m_block', queue_name => 'q' || i % 3);
                IF i % 2 = 0 THEN RAISE 'inner'; END IF;
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
            IF i % 4 = 0 THEN RAISE 'outer'; END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
END;
$$;
SELECT labels->>'queue' AS queue, value, value = (SELECT count(*) FROM backfill.job j WHERE j.task_identifier = 'm_block' AND j.queue_name = labels->>'queue') AS as_many_jobs
  FROM counted('m_block');

-- A prepared transaction is not counted, whatever becomes of it.
BEGIN;
SELECT backfill.enqueue('m_prepared');
PREPARE TRANSACTION 'metrics';
COMMIT PREPARED 'metrics';
SELECT enqueued('m_prepared'), (SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'm_prepared') AS jobs;

-- Every way to enqueue, and the bands.
SELECT FROM (SELECT backfill.enqueue_fast('m_ways'), backfill.enqueue_bulk('m_ways'), backfill.enqueue_emergency('m_ways'),
       backfill.enqueue_critical('m_ways'), backfill.enqueue_fast_with_retries('m_ways'), backfill.enqueue_bulk_with_retries('m_ways'),
       backfill.enqueue_serial('m_ways', '{}', 'm serial'), backfill.enqueue('m_ways', priority => 3), backfill.enqueue('m_ways', priority => 8),
       backfill.enqueue('m_ways', priority => 100) OFFSET 0) e;
SELECT count(*) FROM backfill.enqueue_many('m_ways', '{1,2,3}'::jsonb[]);
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "m_ways"}, {"task_identifier": "m_ways", "priority": -20}]');
SELECT * FROM counted('m_ways');

-- Replacing by a key counts again; leaving things as they are does not.
SELECT backfill.enqueue('m_key', job_key => 'k'), backfill.enqueue('m_key', job_key => 'k'), backfill.enqueue('m_key', job_key => 'k', job_key_mode => 'unsafe_dedupe');
SELECT enqueued('m_key'), (SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'm_key') AS jobs;
TRUNCATE backfill.job;

-- Runs: success, an error to be retried (twice at most), one that is permanent.
SELECT backfill.set_retry_policy('at once', 2, '0 s', '0 s', 1, 0);
SELECT backfill.register_task('m_run', 'work(jsonb)', retry_policy => 'at once');
SELECT backfill.enqueue('m_run'), backfill.enqueue('m_run', '{"sqlstate": "P0001"}'), backfill.enqueue_fast('m_run', '{"sqlstate": "22000"}');
CALL run();
SELECT * FROM counted('m_run');
-- How it went is counted with the transaction that the jobs ran in.
SELECT backfill.enqueue('m_run'), backfill.enqueue('m_run', '{"sqlstate": "22000"}');
SELECT sum(value) AS before FROM counted('m_run') WHERE name <> 'backfill_jobs_enqueued';
BEGIN;
CALL run();
SELECT count(*) AS jobs FROM backfill.jobs;
ROLLBACK;
SELECT sum(value) AS after_rollback FROM counted('m_run') WHERE name <> 'backfill_jobs_enqueued';
-- What a failed job enqueued is not counted, what a successful one did is.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT backfill.enqueue('m_run', '{"enqueue": "m_by_job"}'), backfill.enqueue('m_run', '{"enqueue": "m_by_job", "then": "22000"}');
CALL run();
SELECT enqueued('m_by_job'), (SELECT count(*) FROM backfill.jobs WHERE task_identifier = 'm_by_job') AS jobs;

-- Dead letters: requeued, deleted, settled by success.
SELECT backfill.register_task('m_letter', 'work(jsonb)');
SELECT backfill.enqueue('m_letter', '{"sqlstate": "22000"}') AS first, backfill.enqueue('m_letter', '{"sqlstate": "22000"}') AS second,
       backfill.enqueue('m_letter', '{"sqlstate": "22000"}', job_key => 'letter') AS third;
CALL run();
SELECT m.labels - 'task' AS labels, m.value FROM backfill.metrics('backfill_dlq_size') m WHERE m.labels->>'task' = 'm_letter';
SELECT m.value BETWEEN 0 AND 600 AS age_is_plausible FROM backfill.metrics('backfill_dlq_age_seconds') m WHERE m.labels->>'task' = 'm_letter';
CREATE VIEW letter AS SELECT id, original_job_id FROM backfill.dlq WHERE task_identifier = 'm_letter' ORDER BY id;
SELECT backfill.requeue_dlq_job(min(id), payload => '{}') IS NOT NULL AS requeued FROM letter;
BEGIN;
SELECT backfill.requeue_dlq_job(max(id), payload => '{}') IS NOT NULL AS requeued FROM letter;
ROLLBACK;
CALL run();
SELECT count(backfill.delete_dlq_job(id)) FROM (SELECT min(id) AS id FROM letter) l;
SELECT backfill.delete_dlq_job(-1);
SELECT backfill.enqueue('m_letter', job_key => 'letter') IS NOT NULL AS enqueued;
CALL run();
SELECT count(*) AS letters FROM letter;
SELECT * FROM counted('m_letter') WHERE name ~ 'dlq|retries';
-- A job that is requeued and fails again counts as added again; its letter is the same.
SELECT backfill.register_task('m_again', 'work(jsonb)');
SELECT backfill.enqueue('m_again', '{"sqlstate": "22000"}') IS NOT NULL AS enqueued;
CALL run();
SELECT backfill.requeue_dlq_job(id) IS NOT NULL AS requeued FROM backfill.dlq WHERE task_identifier = 'm_again';
CALL run();
SELECT name, sum(value) FROM backfill.metrics('backfill_dlq') WHERE labels->>'task' = 'm_again' AND name <> 'backfill_dlq_age_seconds' GROUP BY name ORDER BY name;

-- Everything that can become of a job. First a retry that costs no attempt: it is a failed run and a retry like any other.
SELECT backfill.register_task('m_free', 'work(jsonb)');
SELECT backfill.enqueue('m_free', '{"sqlstate": "40001"}') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs(1); -- it is due again in a few milliseconds
SELECT attempts, free_retries FROM backfill.job WHERE task_identifier = 'm_free';
SELECT count(*) AS jobs FROM backfill.reschedule_jobs(ARRAY(SELECT id FROM backfill.jobs WHERE task_identifier = 'm_free'), run_at => now());
UPDATE backfill.job SET payload = '{}' WHERE task_identifier = 'm_free';
CALL run();
SELECT * FROM counted('m_free');
-- Snoozed: the run has neither failed nor completed the job. It had no error.
SELECT backfill.register_task('m_snooze', 'work(jsonb)');
SELECT backfill.enqueue('m_snooze', '{"snooze": true}') IS NOT NULL AS enqueued;
CALL run();
SELECT * FROM counted('m_snooze');
SELECT * FROM missing('m_snooze');
SELECT count(*) AS jobs FROM backfill.reschedule_jobs(ARRAY(SELECT id FROM backfill.jobs WHERE task_identifier = 'm_snooze'), run_at => now());
UPDATE backfill.job SET payload = '{"snooze": true, "then": "22000"}' WHERE task_identifier = 'm_snooze';
CALL run();
SELECT name, labels->>'error_type' AS error_type, value FROM counted('m_snooze') WHERE name ~ '_(snoozed|failed|added)$';
SELECT * FROM missing('m_snooze');
-- Discarded: like a permanent error.
SELECT backfill.register_task('m_discard', 'work(jsonb)');
SELECT backfill.enqueue('m_discard', '{"discard": "no use", "enqueue": "m_by_discarded"}') IS NOT NULL AS enqueued;
CALL run();
SELECT * FROM counted('m_discard');
SELECT enqueued('m_by_discarded');
-- Hooks. What is skipped or refused is not enqueued; a run that is skipped counts as completed.
SELECT backfill.register_task('m_hook', 'work(jsonb)');
CREATE FUNCTION decide(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event->'job'->'payload'->(event->>'event') $$;
SELECT backfill.register_hook(e, 'decide(jsonb)', 'm_hook') FROM unnest('{before_job_schedule,before_job_run,after_job_run}'::text[]) e;
SELECT backfill.enqueue('m_hook', '{"before_job_schedule": {"action": "skip"}}') IS NULL AS skipped;
CALL refused($$backfill.enqueue('m_hook', '{"before_job_schedule": {"action": "fail", "reason": "closed"}}')$$);
SELECT enqueued('m_hook');
SELECT backfill.enqueue('m_hook', '{"before_job_schedule": {"action": "retry", "delay": "1 hour"}}') IS NOT NULL AS enqueued;
SELECT count(backfill.enqueue('m_hook', jsonb_build_object(event, jsonb_build_object('action', action, 'reason', 'closed', 'delay', '1 hour'))))
  FROM unnest('{before_job_run,after_job_run}'::text[]) event, unnest('{skip,fail,retry}'::text[]) action;
CALL run();
SELECT name, labels - '{queue,priority_band}'::text[] AS labels, value FROM counted('m_hook') WHERE name !~ 'seconds';
SELECT * FROM missing('m_hook');
-- A full queue refuses: not enqueued, an error of the operation.
SELECT backfill.set_queue('m full', max_depth => 2);
CREATE TEMP TABLE before_full AS SELECT labels, value FROM backfill.metrics('backfill_db_operations') WHERE labels @> '{"operation": "enqueue"}';
SELECT backfill.enqueue('m_full', queue_name => 'm full') IS NOT NULL, backfill.enqueue('m_full', queue_name => 'm full') IS NOT NULL;
CALL refused($$backfill.enqueue('m_full', queue_name => 'm full')$$);
SELECT enqueued('m_full');
SELECT a.labels->>'status' AS status, a.value - b.value AS more FROM backfill.metrics('backfill_db_operations') a JOIN before_full b USING (labels);
-- Control. Jobs that are taken away while they wait have not run; they count by how they ended.
SELECT count(backfill.enqueue('m_control', job_key => 'c' || i)) FROM generate_series(1, 9) i;
CREATE TEMP TABLE control AS SELECT id, right(job_key, 1)::int AS n FROM backfill.jobs WHERE task_identifier = 'm_control';
SELECT backfill.cancel_job(id) FROM control WHERE n = 1;
SELECT backfill.cancel_job(id) FROM control WHERE n = 1;
SELECT count(*) AS completed FROM backfill.complete_jobs(ARRAY(SELECT id FROM control WHERE n <= 3) || -1::bigint);
SELECT count(*) AS removed FROM backfill.remove_job('c4');
SELECT count(*) AS removed FROM backfill.remove_job('c4');
SELECT count(*) AS failed FROM backfill.fail_jobs(ARRAY(SELECT id FROM control WHERE n <= 5), 'by hand');
SELECT count(*) AS failed FROM backfill.permanently_fail_jobs(ARRAY(SELECT id FROM control WHERE n <= 6));
SELECT backfill.add_to_dlq(id, 'by hand') IS NOT NULL AS added FROM control WHERE n = 7;
SELECT count(*) AS rescheduled FROM backfill.reschedule_jobs(ARRAY(SELECT id FROM control WHERE n = 8), attempts => 8, run_at => now() + interval '1 h');
SELECT backfill.process_failed_jobs();
BEGIN;
SELECT backfill.cancel_job(id) FROM control WHERE n = 9;
ROLLBACK;
BEGIN;
SELECT backfill.add_to_dlq(id, 'by hand') IS NOT NULL AS added FROM control WHERE n = 9;
ROLLBACK;
SELECT * FROM counted('m_control');
SELECT * FROM missing('m_control');
-- A job that a newer one with its key replaces; and one that enqueues its key again, and then wants to be run again itself.
CREATE FUNCTION newer(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payload ? 'again' THEN
        PERFORM backfill.enqueue('m_newer', job_key => 'newer'), backfill.snooze('0');
    END IF;
END;
$$;
SELECT backfill.register_task('m_newer', 'newer(jsonb)');
SELECT backfill.enqueue('m_newer', job_key => 'newer') = backfill.enqueue('m_newer', '{"again": true}', job_key => 'newer') AS same_job;
CALL run();
SELECT * FROM counted('m_newer');
SELECT * FROM missing('m_newer');
-- Graphile Worker's functions.
SELECT count(backfill.add_job('m_graphile')) AS added;
SELECT count(*) AS added FROM backfill.add_jobs(ARRAY[('m_graphile', NULL, NULL, NULL, NULL, 'g', NULL, NULL), ('m_graphile', NULL, NULL, NULL, NULL, 'g', NULL, NULL),
    ('m_graphile', NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::backfill.job_spec[]);
SELECT * FROM counted('m_graphile');
-- Dead letters in bulk: those whose job waits already are passed over.
SELECT backfill.register_task('m_bulk', 'work(jsonb)');
SELECT count(backfill.enqueue('m_bulk', '{"sqlstate": "22000"}', job_key => 'bulk' || i)) FROM generate_series(1, 6) i;
CALL run();
SELECT backfill.requeue_dlq_job(id, payload => '{}') IS NOT NULL AS requeued FROM backfill.dlq WHERE job_key = 'bulk1';
SELECT count(*) AS requeued FROM backfill.requeue_dlq_jobs('m_bulk');
CALL run();
SELECT backfill.delete_dlq_by_job_key('bulk2'), backfill.delete_dlq_by_job_key('bulk2') AS again;
SELECT backfill.cleanup_dlq('1 day', 'm_bulk') AS too_young, backfill.cleanup_dlq(NULL, 'm_bulk') AS deleted;
SELECT name, labels - '{queue,priority_band}'::text[] AS labels, value FROM counted('m_bulk') WHERE name !~ 'seconds';
SELECT * FROM missing('m_bulk');

-- External consumers: a claim starts a run, and what becomes of it ends it. Meanwhile a run is missing for each job that is leased.
SELECT backfill.register_task('m_claim', max_attempts => 2, retry_policy => 'at once');
SELECT count(backfill.enqueue('m_claim', queue_name => 'm claim', job_key => 'claim' || i)) FROM generate_series(1, 9) i;
BEGIN;
SELECT count(*) AS claimed FROM backfill.claim_jobs('w', tasks => '{m_claim}', max_jobs => 9);
ROLLBACK;
SELECT sum(value) FILTER (WHERE name ~ 'started') AS started FROM counted('m_claim');
CREATE TEMP TABLE lease AS SELECT id, right(job_key, 1)::int AS n, claim_token FROM backfill.claim_jobs('w', tasks => '{m_claim}', max_jobs => 9);
SELECT count(*) AS renewed FROM backfill.heartbeat((SELECT max(claim_token) FROM lease));
SELECT name, value FROM counted('m_claim');
SELECT * FROM missing('m_claim');
-- Completed, twice and with a rollback; failed for good, or to be retried; put back, later or now.
BEGIN;
SELECT count(*) AS completed FROM lease, backfill.complete_jobs(ARRAY[id], claim_token);
ROLLBACK;
SELECT backfill.complete_jobs(ARRAY[id], claim_token) = id AS completed FROM lease WHERE n = 1;
SELECT backfill.complete_jobs(ARRAY[id], claim_token) = id AS completed FROM lease WHERE n = 1;
SELECT n, backfill.fail_job(id, claim_token, 'as ordered', n = 2) FROM lease WHERE n IN (2, 3) ORDER BY n;
SELECT backfill.snooze_job(id, claim_token, '1 hour') FROM lease WHERE n = 4;
SELECT backfill.release_jobs(ARRAY[id], claim_token) = id AS released FROM lease WHERE n = 5;
SELECT * FROM counted('m_claim');
SELECT * FROM missing('m_claim');
-- A lease is over: with an attempt left, and without one. The first by force.
SELECT backfill.force_unlock_workers('{unknown}');
BEGIN;
UPDATE backfill.job j SET worker = 'dead' FROM lease l WHERE l.id = j.id AND l.n = 6;
UPDATE backfill.job j SET lease_expires_at = now() - interval '1 minute', attempts = 1 FROM lease l WHERE l.id = j.id AND l.n = 7;
SELECT backfill.force_unlock_workers('{dead}'), backfill.release_stale_job_locks();
COMMIT;
SELECT count(*) AS too_late FROM lease, backfill.complete_jobs(ARRAY[id], claim_token) WHERE n IN (6, 7);
SELECT name, labels - '{queue,priority_band}'::text[] AS labels, value FROM counted('m_claim') WHERE name ~ 'failed|retries|added';
SELECT * FROM missing('m_claim');
-- A newer job has the key, and then the job fails, or is given back; a third one's lease is over.
SELECT count(backfill.enqueue('m_claim', queue_name => 'm claim', job_key => 'claim' || n, run_at => now() + interval '1 hour')) AS newer FROM lease WHERE n IN (8, 9);
SELECT backfill.fail_job(id, claim_token, 'timeout') FROM lease WHERE n = 8;
SELECT backfill.release_jobs(ARRAY[id], claim_token) = id AS released FROM lease WHERE n = 9;
SELECT id, claim_token FROM backfill.claim_jobs('dead', tasks => '{m_claim}') \gset
SELECT count(*) AS removed FROM backfill.job j, backfill.remove_job(j.job_key) WHERE j.id = :id;
SELECT backfill.force_unlock_workers('{dead}');
SELECT name, labels - '{queue,priority_band}'::text[] AS labels, value FROM counted('m_claim') WHERE name ~ 'dropped|snoozed|failed';
SELECT * FROM missing('m_claim');
-- The rest is claimed again and done, also a requeued dead letter.
SELECT backfill.requeue_dlq_job(d.id) IS NOT NULL AS requeued FROM backfill.dlq d, lease l WHERE d.original_job_id = l.id AND l.n = 2;
SELECT count(*) AS completed FROM backfill.claim_jobs('w', tasks => '{m_claim}', max_jobs => 9) c, backfill.complete_jobs(ARRAY[c.id], c.claim_token);
SELECT name, labels - '{queue,priority_band}'::text[] AS labels, value FROM counted('m_claim');
SELECT * FROM missing('m_claim');
-- An unregistered task, in a queue that has a limit.
SELECT backfill.set_queue('m one claim', 1);
SELECT count(backfill.enqueue('m_unknown', queue_name => 'm one claim')) FROM generate_series(1, 3);
SELECT count(*) AS completed FROM backfill.claim_jobs('w', tasks => '{m_unknown}', max_jobs => 9) c, backfill.complete_jobs(ARRAY[c.id], c.claim_token);
SELECT name, labels, value FROM counted('m_unknown');
SELECT * FROM missing('m_unknown');

-- Histograms: cumulative, with the count and the sum that belong to them.
SELECT DISTINCT name, bucket_bounds FROM backfill.metrics() WHERE kind = 'histogram' ORDER BY name;
SELECT count(*) > 0 AS looked_at,
       bool_and(array_length(bucket_counts, 1) = array_length(bucket_bounds, 1)) AS same_length,
       bool_and(bucket_counts = ARRAY(SELECT c FROM unnest(bucket_counts) c ORDER BY c)) AS cumulative,
       bool_and(bucket_counts[array_length(bucket_counts, 1)] <= value) AS within_count,
       bool_and(sum >= 0) AS sum_not_negative
  FROM backfill.metrics() WHERE kind = 'histogram';
SELECT sum(value) FILTER (WHERE name = 'backfill_jobs_started') = sum(value) FILTER (WHERE name = 'backfill_jobs_wait_time_seconds') AS waits,
       sum(value) FILTER (WHERE name = 'backfill_jobs_completed') = sum(value) FILTER (WHERE name = 'backfill_jobs_duration_seconds' AND labels->>'status' = 'success') AS successes,
       sum(value) FILTER (WHERE name = 'backfill_jobs_failed') = sum(value) FILTER (WHERE name = 'backfill_jobs_duration_seconds' AND labels->>'status' = 'failed') AS failures
  FROM backfill.metrics() WHERE labels->>'task' IN ('m_run', 'm_letter');
-- A job enqueued for a time long ago has not waited since then.
SELECT backfill.register_task('m_wait', 'work(jsonb)');
SELECT backfill.enqueue('m_wait', run_at => '2001-01-01');
CALL run();
SELECT sum < 600 AS plausible FROM backfill.metrics('backfill_jobs_wait') WHERE labels->>'task' = 'm_wait';
-- One that was due an hour and a half ago has.
SELECT backfill.enqueue('m_wait', queue_name => 'm_wait') IS NOT NULL AS enqueued;
UPDATE backfill.job SET run_at = now() - interval '90 min', created_at = now() - interval '1 day' WHERE task_identifier = 'm_wait';
CALL run();
SELECT value, round(sum / 60) AS minutes, bucket_counts FROM backfill.metrics('backfill_jobs_wait') WHERE labels->>'queue' = 'm_wait';

-- Gauges of queues: two are always there, and those with limits or jobs.
TRUNCATE backfill.job;
SELECT backfill.set_queue('m limited', 2), backfill.pause_queue('m limited');
SELECT backfill.enqueue('unknown', queue_name => 'm limited') IS NOT NULL AS enqueued;
SELECT count(backfill.enqueue('unknown', queue_name => 'm depth', run_at => CASE WHEN i > 3 THEN now() + interval '1 h' END)) FROM generate_series(1, 5) i;
SELECT backfill.enqueue('leased', queue_name => 'm depth') IS NOT NULL, backfill.enqueue('lease ran out', queue_name => 'm depth') IS NOT NULL;
BEGIN; -- the dispatcher must not see that a lease has run out
UPDATE backfill.job SET lease_expires_at = now() + CASE task_identifier WHEN 'leased' THEN interval '1 h' ELSE interval '-1 h' END WHERE task_identifier ~ 'lease';
SELECT name, labels, value FROM backfill.metrics('backfill_queue') WHERE labels->>'queue' NOT IN ('m serial', 'm full', 'm one claim');
SELECT name, kind, value FROM backfill.metrics('backfill_queue_active') WHERE labels->>'queue' = 'm depth';

-- They are what backfill.queues says, in every queue.
SELECT q.queue_name, q.ready, q.scheduled, q.running + q.leased AS active, q.paused, m.gauges
  FROM backfill.queues q
  LEFT JOIN (SELECT labels->>'queue' AS queue_name, array_agg(value::bigint ORDER BY name, labels->>'state') AS gauges
               FROM backfill.metrics('backfill_queue') GROUP BY 1) m ON m.queue_name = q.queue_name
 WHERE m.gauges IS DISTINCT FROM ARRAY[q.running + q.leased, q.ready, q.scheduled, q.paused::int];
COMMIT;
SELECT backfill.resume_queue('m limited');
SELECT value FROM backfill.metrics('backfill_queue_is') WHERE labels->>'queue' = 'm limited';

-- Other workers than those of this session: none runs jobs.
SELECT name, labels, value FROM backfill.metrics('backfill_worker') WHERE labels @> '{"worker_kind": "executor"}' AND name <> 'backfill_worker_polls';
-- Operations count although they were rolled back.
CREATE TEMP TABLE before AS SELECT labels, value FROM backfill.metrics('backfill_db_operations');
BEGIN;
SELECT backfill.enqueue('m_operation');
ROLLBACK;
CALL refused($$backfill.enqueue('m_operation', priority => 100000)$$);
SELECT a.labels, a.value - b.value AS more FROM backfill.metrics('backfill_db_operations') a JOIN before b USING (labels)
 WHERE labels->>'operation' IN ('enqueue', 'requeue', 'dlq_add');

-- The prefix.
SELECT DISTINCT name FROM backfill.metrics('backfill_queue_d');
SELECT count(DISTINCT name) FROM backfill.metrics('backfill_dlq');
SELECT count(*) FROM backfill.metrics('backfill_nothing');
SELECT count(*) FROM backfill.metrics('unknown');
SELECT count(DISTINCT name) > 10 AS many FROM backfill.metrics('');
SELECT count(DISTINCT name) > 10 AS many FROM backfill.metrics(name_prefix => NULL);

-- The text.
SELECT backfill.enqueue(E'm_text "quoted"'), backfill.enqueue(E'm_text back\\slash'), backfill.enqueue(E'm_text new\nline'), backfill.enqueue('m_text ümlaut, {braces}=');
SELECT line FROM regexp_split_to_table(backfill.prometheus_metrics('backfill_jobs_enqueued'), '\n') line WHERE line ~ '^#|m_text';
SELECT line FROM regexp_split_to_table(backfill.prometheus_metrics('backfill_jobs_wait_time_seconds'), '\n') line WHERE line ~ '^#|queue="m_wait"' AND line !~ '_sum';
SELECT backfill.prometheus_metrics('backfill_nothing') = '' AS empty;
SELECT backfill.prometheus_metrics() ~ '# TYPE backfill_dlq_size gauge' AS has_gauges;

-- The trigger is one.
CALL refused('backfill._letter_deleted()');
