-- External consumers: claims, leases, and what becomes of claimed jobs. (Two sessions at once:
-- the isolation tests; time, NOTIFY and waiting: test/t/060_consumers.pl.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('mail', max_attempts => 3), backfill.register_task('video', queue_name => 'gpu'),
       backfill.register_task('inside', 'note(jsonb)');
-- What a claim returns; times and tokens vary.
CREATE FUNCTION claim(worker text, queues text[] = NULL, tasks text[] = NULL, n int = 1)
    RETURNS TABLE (id bigint, task text, payload jsonb, queue text, attempt int, claim_token bigint) LANGUAGE sql AS $$
    SELECT c.id, c.task_identifier, c.payload, c.queue_name, c.attempt, c.claim_token FROM backfill.claim_jobs(worker, n, tasks, queues) c
$$;
CREATE FUNCTION nth(claim_token bigint) RETURNS bigint LANGUAGE sql AS 'SELECT claim_token % (1::bigint << 35)';
CREATE VIEW jobs AS SELECT id, task_identifier, state, worker, attempts, run_at > now() AS later, lease_expires_at > now() AS leased FROM backfill.jobs ORDER BY id;

-- A claim: all columns, one token for the jobs of a call, a greater one for the next. What a token adds to the
-- sequence's value is shown by test/t/018_failover_tokens.pl.
SELECT backfill.enqueue('mail', '1', job_key => 'k', headers => '{"traceparent": "00-1"}'), backfill.enqueue('mail', '2', priority => -1), backfill.enqueue('mail', '3'),
       backfill.enqueue('video', '4'), backfill.enqueue('inside', '5'), backfill.enqueue('unknown', '6'), backfill.enqueue('mail', '7', run_at => now() + interval '1 day');
SELECT id, task_identifier, payload, queue_name, priority, run_at <= now() AS due, attempt, max_attempts, job_key, last_error, created_at <= now() AS created,
       lease_expires_at BETWEEN now() + interval '4 minutes 59 seconds' AND now() + interval '5 minutes 9 seconds' AS five_minutes, nth(claim_token), headers
  FROM backfill.claim_jobs('host 1', max_jobs => 2);
SELECT id, task, payload, queue, attempt, nth(claim_token) FROM claim('host 2', n => 100);
SELECT * FROM claim('host 3', n => 100);
SELECT * FROM jobs;
SELECT task_identifier, nth(claim_token), coalesce(lease_permit >= 0, false) AS has_place FROM backfill.job ORDER BY id;
-- Filters. An unregistered task must be named; one that the server runs cannot be.
SELECT * FROM claim('w', '{nowhere}', '{unknown}', 9);
SELECT * FROM claim('w', '{}', '{unknown}', 9);
SELECT * FROM claim('w', NULL, '{}', 9);
SELECT id, task, payload, queue, attempt, nth(claim_token) FROM claim('w', '{nowhere,bulk,NULL}', '{mail,unknown,NULL}', 9);
SELECT array_agg(DISTINCT claim_token ORDER BY claim_token) AS tokens FROM backfill.job \gset
SELECT (:'tokens'::bigint[])[1] AS token_1, (:'tokens'::bigint[])[2] AS token_2, (:'tokens'::bigint[])[3] AS token_3 \gset
CALL refused($$backfill.claim_jobs('w', tasks => '{mail,inside}')$$);

-- Done. Only the claim's own jobs are, each once, whatever else is in the list.
SELECT backfill.complete_jobs('{2,2,3,4,99,NULL}', :token_1);
SELECT backfill.complete_jobs('{2}', :token_1) AS again;
SELECT backfill.complete_jobs('{3,4}', :token_2) ORDER BY 1;
SELECT backfill.complete_jobs('{6}', :token_3), backfill.complete_jobs('{}', :token_3);
SELECT * FROM jobs;

-- A heartbeat returns what the claim still has.
SELECT backfill.heartbeat(:token_1, '1 hour');
SELECT id, lease_expires_at > now() + interval '59 minutes' AS longer FROM backfill.jobs WHERE state = 'leased';
SELECT backfill.heartbeat(:token_2), backfill.heartbeat(99);
SELECT backfill.heartbeat(NULL);

-- Given back: ready at once, or later; neither costs an attempt.
SELECT backfill.release_jobs('{1,7}', :token_1);
SELECT * FROM jobs;
SELECT id, attempt FROM claim('host 1') \gset
SELECT :id AS id, :attempt AS attempt, claim_token > :token_3 AS newer FROM backfill.job WHERE id = 1;
SELECT claim_token FROM backfill.job WHERE id = 1 \gset
SELECT backfill.release_jobs('{1}', :token_1) AS old_token;
SELECT backfill.snooze_job(1, :token_1, '1 hour') AS old_token, backfill.snooze_job(1, :claim_token, '1 hour'), backfill.snooze_job(1, :claim_token, '1 hour') AS again;
SELECT * FROM jobs;

-- Failures, by their text. A retry has a backoff and the error; the attempts run out.
TRUNCATE backfill.job RESTART IDENTITY;
CREATE FUNCTION fail_with(error text, permanent boolean = NULL, task text = 'mail') RETURNS text LANGUAGE sql AS $$
    SELECT backfill.enqueue(task);
    SELECT backfill.fail_job(c.id, c.claim_token, error, permanent) FROM claim('w', tasks => ARRAY[task]) c;
$$;
SELECT fail_with('Connection reset'), fail_with('Not Found'), fail_with('odd thing'), fail_with('no', true), fail_with('not found', false), fail_with('');
SELECT * FROM jobs;
SELECT id, last_error FROM backfill.jobs ORDER BY id;
SELECT original_job_id, failure_reason, failure_count, last_error FROM backfill.dlq ORDER BY id;
SELECT count(*) FROM backfill.reschedule_jobs('{1}', run_at => now(), attempts => 2);
SELECT id, attempt, last_error, backfill.fail_job(id, claim_token, 'Connection reset') FROM backfill.claim_jobs('w');
SELECT original_job_id, failure_reason, failure_count FROM backfill.dlq WHERE original_job_id = 1;
-- A rule of the user's for texts.
INSERT INTO backfill.error_rule (task_identifier, message_contains, decision) VALUES ('video', 'out of tape', 'permanent');
SELECT fail_with('Out of tape', task => 'video'), fail_with('out of tape', task => 'unknown');

-- A requeued letter goes when its job is done after all; so does one with the job's key.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT fail_with('no', true);
SELECT backfill.requeue_dlq_job(1) IS NOT NULL AS requeued;
SELECT backfill.complete_jobs(ARRAY[id], claim_token) IS NOT NULL AS done FROM backfill.claim_jobs('w');
SELECT count(*) FROM backfill.dlq;

-- Keys: a leased job keeps going when its key is enqueued again, but will not be retried.
SELECT backfill.enqueue('mail', '"old"', job_key => 'k') AS old \gset
SELECT claim_token AS token FROM claim('w') \gset
SELECT backfill.enqueue('mail', '"new"', job_key => 'k') > :old AS another;
SELECT backfill.fail_job(:old, :token, 'timeout');
SELECT payload, state FROM backfill.jobs;
SELECT id AS id, claim_token AS token FROM claim('w') \gset
SELECT payload FROM backfill.remove_job('k');
SELECT backfill.release_jobs(ARRAY[:id], :token) = :id AS given_back;
SELECT count(*) FROM backfill.jobs;

-- Limits. Leased jobs have places in their queue, also beside a job that runs here.
TRUNCATE backfill.job, backfill.no_retry RESTART IDENTITY;
SELECT backfill.set_queue('gpu', 2), backfill.set_queue('one', 1), backfill.pause_queue('paused'), backfill.set_queue('rated', rate_limit => 2, rate_period => '1 day');
SELECT count(*) FROM backfill.enqueue_many('video', '{1,2,3}');
SELECT count(*) FROM backfill.enqueue_many('inside', '{"\"inside\""}', 'gpu');
SELECT id FROM claim('w1', n => 9);
SELECT id FROM claim('w2', n => 9);
SELECT count(DISTINCT lease_permit) AS places FROM backfill.job;
CALL backfill.process_available_jobs();
SELECT backfill.complete_jobs('{1}', (SELECT claim_token FROM backfill.job WHERE id = 1));
CALL backfill.process_available_jobs();
SELECT id FROM claim('w2', n => 9);
SELECT backfill.snooze_job(2, (SELECT claim_token FROM backfill.job WHERE id = 2), '1 hour');
SELECT queue_name, concurrency, ready, scheduled, leased FROM backfill.queues WHERE queue_name = 'gpu';
-- A serial queue: one at a time, in order; a paused one; a rate.
SELECT count(*) FROM backfill.enqueue_many('mail', '{1,2,3}', 'one');
SELECT payload, nth(claim_token) FROM claim('w', '{one}', n => 9);
SELECT payload FROM claim('w', '{one}', n => 9);
SELECT backfill.complete_jobs(array_agg(id), max(claim_token)) IS NOT NULL AS done FROM backfill.job WHERE queue_name = 'one' AND worker = 'w';
SELECT payload FROM claim('w', '{one}', n => 9);
SELECT count(*) FROM backfill.enqueue_many('mail', '{1,2,3}', 'paused');
SELECT payload FROM claim('w', '{paused}', n => 9);

-- Claims that are rolled back, in whole or in part, have not been.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_many('video', '{1,2,3}');
BEGIN;
SELECT id FROM claim('w');
SAVEPOINT a;
SELECT id FROM claim('w', n => 9);
ROLLBACK TO a;
SELECT id FROM claim('w', n => 9);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT id FROM claim('w', n => 9);
SELECT * FROM jobs;
SELECT backfill.complete_jobs('{1,2}', max(claim_token)) FROM backfill.job ORDER BY 1;
COMMIT;
SELECT * FROM jobs;

-- A lease that has run out is worth nothing: its job costs an attempt and is ready, or dead. (In
-- transactions, so that the dispatcher does not get ahead of us.)
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_many('mail', '{1,2,3}', max_attempts => 2);
BEGIN;
SELECT claim_token AS token FROM claim('w', n => 9) LIMIT 1 \gset
UPDATE backfill.job SET lease_expires_at = clock_timestamp() - interval '1 minute' WHERE id <= 2;
UPDATE backfill.job SET attempts = 1 WHERE id = 2;
SELECT backfill.heartbeat(:token), backfill.complete_jobs('{1}', :token) AS completed, backfill.release_jobs('{1}', :token) AS released,
       backfill.fail_job(1, :token, 'no') AS failed, backfill.snooze_job(1, :token, '1 day') AS snoozed;
SELECT id, state, worker FROM backfill.jobs ORDER BY id;
SELECT backfill.release_stale_job_locks('1 hour') AS of_hours_ago, backfill.release_stale_job_locks() AS all, backfill.release_stale_job_locks(NULL) AS none_left;
SELECT * FROM jobs;
SELECT id, last_error FROM backfill.jobs ORDER BY id;
SELECT original_job_id, failure_reason, failure_count, last_error FROM backfill.dlq;
COMMIT;
SELECT id, payload, attempt, claim_token > :token AS newer FROM claim('w2', n => 9);
SELECT backfill.complete_jobs('{1}', :token) AS fenced;
-- By force, as if they had run out.
SELECT backfill.force_unlock_workers('{w2,unknown}');
SELECT * FROM jobs;
SELECT original_job_id, failure_reason FROM backfill.dlq ORDER BY id;

-- Payloads of any size go through all of this unharmed.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('mail', (SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 3000) i));
CREATE FUNCTION is_whole() RETURNS boolean LANGUAGE sql AS $$ SELECT md5(payload::text) = md5((SELECT jsonb_agg(md5(i::text)) FROM generate_series(1, 3000) i)::text) FROM backfill.job $$;
SELECT claim_token AS token FROM claim('w') \gset
SELECT count(*) FROM backfill.heartbeat(:token);
SELECT backfill.force_unlock_workers('{w}'), is_whole();
SELECT backfill.release_jobs(ARRAY[id], claim_token), is_whole() FROM backfill.claim_jobs('w');
SELECT backfill.fail_job(id, claim_token, 'timeout'), is_whole() FROM backfill.claim_jobs('w');
SELECT is_whole();

-- A task that gets a handler is the server's from then on; claims that were made before stay good.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT backfill.enqueue('mail', '1'), backfill.enqueue('mail', '2');
SELECT claim_token AS token FROM claim('w') \gset
SELECT backfill.register_task('mail', 'note(jsonb)');
SELECT count(*) FROM claim('w', n => 9);
SELECT backfill.complete_jobs('{1}', :token);
CALL backfill.process_available_jobs();

-- Waiting: at once if there is something, else until the time is over; a job in a full or paused
-- queue is nothing.
CALL backfill.wait_for_jobs('0 s');
SELECT backfill.register_task('mail');
SELECT backfill.enqueue('mail', queue_name => 'one'), backfill.enqueue('mail', queue_name => 'paused');
CALL backfill.wait_for_jobs('1 minute');
CALL backfill.wait_for_jobs('0 s', queues => '{paused}');
CALL backfill.wait_for_jobs('0 s', tasks => '{unknown}');
SELECT count(*) FROM claim('w', n => 9);
CALL backfill.wait_for_jobs('10 ms');
CALL backfill.wait_for_jobs('0 s', tasks => '{inside}');
BEGIN;
CALL backfill.wait_for_jobs('0 s');
ROLLBACK;
CALL backfill.wait_for_jobs('-1 s');
CALL backfill.wait_for_jobs(NULL);
DO 'BEGIN CALL backfill.wait_for_jobs(''0 s'', ready => NULL); END';

-- What is refused.
CALL refused($$backfill.claim_jobs(NULL)$$);
CALL refused($$backfill.claim_jobs('')$$);
CALL refused($$backfill.claim_jobs(repeat('w', 257))$$);
CALL refused($$backfill.claim_jobs('w', max_jobs => 0)$$);
CALL refused($$backfill.claim_jobs('w', max_jobs => 10001)$$);
CALL refused($$backfill.claim_jobs('w', max_jobs => NULL)$$);
CALL refused($$backfill.claim_jobs('w', lease => NULL)$$);
CALL refused($$backfill.claim_jobs('w', lease => '0 s')$$);
CALL refused($$backfill.claim_jobs('w', lease => '-1 day')$$);
CALL refused($$backfill.claim_jobs('w', lease => '367 days')$$);
CALL refused($$backfill.heartbeat(NULL)$$);
CALL refused($$backfill.heartbeat(1, NULL)$$);
CALL refused($$backfill.complete_jobs(NULL, 1)$$);
CALL refused($$backfill.complete_jobs('{1}', NULL)$$);
CALL refused($$backfill.release_jobs(NULL, 1)$$);
CALL refused($$backfill.release_jobs('{1}', NULL)$$);
CALL refused($$backfill.fail_job(NULL, 1, 'e')$$);
CALL refused($$backfill.fail_job(1, NULL, 'e')$$);
CALL refused($$backfill.fail_job(1, 1, NULL)$$);
CALL refused($$backfill.snooze_job(NULL, 1, '1 s')$$);
CALL refused($$backfill.snooze_job(1, NULL, '1 s')$$);
CALL refused($$backfill.snooze_job(1, 1, NULL)$$);
CALL refused($$backfill.snooze_job(1, 1, '-1 s')$$);
CALL refused($$backfill.snooze_job(1, 1, '36501 days')$$);
CALL refused($$backfill.release_stale_job_locks('-1 s')$$);
BEGIN READ ONLY;
CALL refused($$backfill.claim_jobs('w')$$);
CALL refused($$backfill.heartbeat(1)$$);
CALL refused($$backfill.complete_jobs('{1}', 1)$$);
CALL refused($$backfill.release_jobs('{1}', 1)$$);
CALL refused($$backfill.fail_job(1, 1, 'e')$$);
CALL refused($$backfill.snooze_job(1, 1, '1 s')$$);
ROLLBACK;
-- A job is no consumer.
CREATE FUNCTION greedy(payload jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM backfill.claim_jobs(''job''); END';
SELECT backfill.register_task('greedy', 'greedy(jsonb)'), backfill.enqueue('greedy', max_attempts => 1);
CALL backfill.process_available_jobs();
SELECT last_error - 'context' AS last_error FROM backfill.dlq WHERE task_identifier = 'greedy';

-- Hooks see a consumer's jobs begin and end.
CREATE TABLE seen (step serial, event text, error text);
CREATE FUNCTION see(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.seen (event, error) VALUES (event->>'event', event->'error'->>'message') $$;
SELECT backfill.register_hook(e, 'see(jsonb)') FROM unnest('{job_start,job_complete,job_fail,job_permanently_fail}'::text[]) e;
TRUNCATE backfill.job;
SELECT fail_with('timeout'), fail_with('no', true), backfill.enqueue('mail') IS NOT NULL AS enqueued;
SELECT backfill.complete_jobs(ARRAY[id], claim_token) IS NOT NULL AS done FROM backfill.claim_jobs('w');
SELECT event, error FROM seen ORDER BY step;
