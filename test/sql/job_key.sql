-- job_key: at most one job of a key waits. What the three modes do to a job that waits
-- already, that has failed before, or that a consumer has leased. (Two sessions at once:
-- see test/specs.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW waiting AS
SELECT id, task_identifier AS task, payload, queue_name AS queue, priority, attempts, max_attempts, retry_policy,
       job_key, run_at > now() AS later, last_error IS NOT NULL AS has_error
  FROM backfill.jobs ORDER BY id;

-- replace, the default: the waiting job keeps its id and age, everything else is new.
SELECT backfill.enqueue('old_task', '{"old": 1}', 'old_queue', 9, now() + interval '1 day', 3, 'k', retry_policy => 'fast');
UPDATE backfill.job SET created_at = '2000-01-01';
SELECT backfill.enqueue('new_task', '{"new": 1}', 'new_queue', -9, job_key => 'k');
TABLE waiting;
SELECT created_at = '2000-01-01' AS age_kept, run_at = created_at AS run_at_kept FROM backfill.jobs;
-- The second call's defaults replace the first call's settings.
SELECT backfill.enqueue('new_task', job_key => 'k');
TABLE waiting;

-- Another key, or none, is another job. A key belongs to the queue as a whole, not to a task.
SELECT backfill.enqueue('new_task', job_key => 'k2'), backfill.enqueue('new_task'), backfill.enqueue('other_task', job_key => 'k2');
TABLE waiting;
-- Keys compare bytewise.
SELECT backfill.enqueue('t', job_key => 'K'), backfill.enqueue('t', job_key => 'k '), backfill.enqueue('t', job_key => U&'\00e9'),
       backfill.enqueue('t', job_key => U&'e\0301');
SELECT count(*) FROM backfill.jobs WHERE job_key IS NOT NULL;

-- replace of a job that failed before: it starts anew.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('t', '"old"', job_key => 'k');
UPDATE backfill.job SET attempts = 2, run_at = now() + interval '1 hour', last_error = '{"message": "boom"}';
SELECT backfill.enqueue('t', '"new"', job_key => 'k');
TABLE waiting;

-- preserve_run_at: the same, but run_at stays ...
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('t', '"old"', priority => 9, run_at => now() + interval '1 day', job_key => 'k');
SELECT backfill.enqueue('t', '"new"', job_key => 'k', job_key_mode => 'preserve_run_at');
TABLE waiting;
SELECT backfill.enqueue('t', '"newer"', run_at => now() + interval '2 days', job_key => 'k', job_key_mode => 'preserve_run_at');
SELECT run_at < now() + interval '36 hours' AS first_run_at_kept FROM backfill.jobs;
-- ... unless the job has failed before: then run_at is the end of a backoff, not a plan.
UPDATE backfill.job SET attempts = 1, run_at = now() + interval '1 hour', last_error = '{"message": "boom"}';
SELECT backfill.enqueue('t', '"newest"', job_key => 'k', job_key_mode => 'preserve_run_at');
TABLE waiting;

-- unsafe_dedupe: nothing changes if there is a job with the key, whatever its state.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('t', '"first"', job_key => 'k', job_key_mode => 'unsafe_dedupe');
SELECT backfill.enqueue('other_task', '"second"', 'q', 5, now() + interval '1 day', 2, 'k', 'unsafe_dedupe', 'fast');
TABLE waiting;
UPDATE backfill.job SET attempts = 2, last_error = '{"message": "boom"}';
SELECT backfill.enqueue('t', '"third"', job_key => 'k', job_key_mode => 'unsafe_dedupe');
TABLE waiting;

-- A mode without a key means nothing.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('t', job_key_mode => mode)
  FROM unnest(ARRAY['replace', 'preserve_run_at', 'unsafe_dedupe']) mode;
SELECT count(*) FROM backfill.jobs;

-- Two arrays are concatenated: that is how batch jobs are built. Anything else is replaced.
TRUNCATE backfill.job RESTART IDENTITY;
CREATE FUNCTION payload_after(old jsonb, new jsonb, mode text) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.enqueue('t', old, job_key => 'array');
    PERFORM backfill.enqueue('t', new, job_key => 'array', job_key_mode => mode);
    RETURN (SELECT payload FROM backfill.jobs WHERE job_key = 'array');
END;
$$;
CREATE PROCEDURE clear() LANGUAGE sql AS 'DELETE FROM backfill.job';
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('[1]'::jsonb, '[2, 3]'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'preserve_run_at') AS preserve_run_at FROM (VALUES ('[1]'::jsonb, '[[2]]'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'unsafe_dedupe') AS unsafe_dedupe FROM (VALUES ('[1]'::jsonb, '[2]'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('[]'::jsonb, '[]'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('{"a": 1}'::jsonb, '[2]'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('[1]'::jsonb, '{"a": 2}'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('{"a": 1}'::jsonb, '{"b": 2}'::jsonb)) v(old, new);
CALL clear();
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('[1]'::jsonb, '"two"'::jsonb)) v(old, new);
CALL clear();
-- A scalar is an array inside; it must not be taken for one.
SELECT old, new, payload_after(old, new, 'replace') AS replace FROM (VALUES ('1'::jsonb, '2'::jsonb)) v(old, new);
CALL clear();
-- A batch grows with every call.
SELECT count(backfill.enqueue('t', jsonb_build_array(i), job_key => 'batch')) FROM generate_series(1, 5) i;
SELECT payload FROM backfill.jobs;

-- The same key twice in one enqueue_jobs(): one job remains, the last one wins.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT * FROM backfill.enqueue_jobs('[{"task_identifier": "a", "payload": "first", "job_key": "k"}, {"task_identifier": "b", "payload": "second", "job_key": "k"},
    {"task_identifier": "c", "payload": "third", "job_key": "k", "job_key_mode": "unsafe_dedupe"}]');
TABLE waiting;

-- A job that an external consumer has leased counts as running: it stays as it is, and a
-- new one waits beside it.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('t', '"leased"', job_key => 'k');
UPDATE backfill.job SET lease_expires_at = '2100-01-01', claim_token = 1, worker = 'consumer';
SELECT backfill.enqueue('t', '"dedupe"', job_key => 'k', job_key_mode => 'unsafe_dedupe');
SELECT backfill.enqueue('t', '"new"', job_key => 'k');
SELECT backfill.enqueue('t', '"newer"', job_key => 'k', job_key_mode => 'preserve_run_at');
SELECT id, payload, state FROM backfill.jobs ORDER BY id;
-- It is not retried, even if what waits now is done before it fails.
DELETE FROM backfill.job WHERE lease_expires_at IS NULL;
SELECT backfill.fail_job(1, 1, 'busy', false);
SELECT (SELECT count(*) FROM backfill.job) AS jobs, (SELECT count(*) FROM backfill.no_retry) AS notes;
-- When it succeeds, it does not settle the letter of what took its key.
SELECT backfill.enqueue('t', '"leased"', job_key => 'k') AS leased \gset
UPDATE backfill.job SET lease_expires_at = '2100-01-01', claim_token = 1, worker = 'consumer';
SELECT backfill.add_to_dlq(backfill.enqueue('t', '"new"', job_key => 'k'), 'by hand') AS letter;
SELECT backfill.complete_jobs(ARRAY[:leased], 1) = :leased AS completed;
SELECT payload FROM backfill.dlq;
-- Nor does it keep the key from the job of that letter.
SELECT backfill.enqueue('t', '"leased"', job_key => 'k2') AS leased \gset
UPDATE backfill.job SET lease_expires_at = '2100-01-01', claim_token = 1, worker = 'consumer';
SELECT backfill.add_to_dlq(backfill.enqueue('t', '"new"', job_key => 'k2'), 'by hand') AS letter \gset
SELECT backfill.requeue_dlq_job(:letter) > 0 AS requeued;
SELECT payload, state FROM backfill.jobs ORDER BY id;
SELECT backfill.cancel_job(id) FROM backfill.jobs;
SELECT count(*) AS notes FROM backfill.no_retry;

-- A key may be used again when its job is done, also from within that very job.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
CREATE FUNCTION again(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    IF payload::int < 3 THEN
        PERFORM backfill.enqueue('again', to_jsonb(payload::int + 1), job_key => 'again');
    END IF;
END;
$$;
SELECT backfill.register_task('again', 'again(jsonb)');
SELECT backfill.enqueue('again', '1', job_key => 'again');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
TABLE waiting;
SELECT backfill.enqueue('again', '3', job_key => 'again') AS id;

-- A job that enqueues its own key and then fails: what it enqueued is rolled back with it.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE OR REPLACE FUNCTION again(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.enqueue('again', '"by the failed job"', job_key => 'again');
    RAISE 'no luck';
END;
$$;
SELECT backfill.set_retry_policy('hourly', initial_delay => '1 hour', max_delay => '1 hour');
SELECT backfill.enqueue('again', '"original"', job_key => 'again', retry_policy => 'hourly');
CALL backfill.process_available_jobs(1);
TABLE waiting;

-- Two jobs of one key (the older was running when the key was enqueued again, then its
-- worker died): the older one is superseded and dropped.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.enqueue('note', '"older"', job_key => 'k'), backfill.enqueue('note', '"newer"', job_key => 'k2');
UPDATE backfill.job SET job_key = 'k';
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
TABLE waiting;
