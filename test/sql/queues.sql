-- Queues: they come into being when first used; limits; serial queues. (Limits against other
-- sessions: see test/specs.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW queue AS SELECT queue_name, concurrency, ready, scheduled, running, leased, oldest_ready_at FROM backfill.queues ORDER BY queue_name;
SELECT backfill.register_task('note', 'note(jsonb)');

-- Two from the start; others appear with their first job and go with their last one.
TABLE queue;
SELECT count(backfill.enqueue('note', to_jsonb(q), queue_name => q, run_at => timestamptz '2001-01-01 UTC' + n * interval '1 day'))
  FROM unnest(ARRAY['fast', 'mine', 'mine', 'Mine', 'with space']) WITH ORDINALITY AS queues (q, n);
SELECT backfill.enqueue('note', queue_name => 'mine', run_at => now() + interval '1 day') IS NOT NULL AS enqueued;
SET timezone = 'UTC';
TABLE queue;
CALL backfill.process_available_jobs();
TABLE queue;

-- The limits of fast and bulk are settings; a row of backfill.queue overrides them.
TRUNCATE backfill.job;
SELECT name, setting FROM pg_settings WHERE name LIKE 'backfill.%_queue_concurrency' ORDER BY name;
INSERT INTO backfill.queue (queue_name, concurrency) VALUES ('fast', 77), ('mine', 3), ('no_limit', NULL);
TABLE queue;
UPDATE backfill.queue SET concurrency = 78 WHERE queue_name = 'fast';
DELETE FROM backfill.queue WHERE queue_name <> 'fast';
TABLE queue;
DELETE FROM backfill.queue;
TABLE queue;

-- enqueue_serial() makes a queue serial, one that has jobs or another limit as well.
SELECT backfill.enqueue('note', queue_name => 'later_serial') IS NOT NULL AS enqueued;
INSERT INTO backfill.queue (queue_name, concurrency) VALUES ('was_three', 3), ('was_unlimited', NULL);
SELECT count(backfill.enqueue_serial('note', '{}', q)) FROM unnest(ARRAY['serial', 'serial', 'later_serial', 'was_three', 'was_unlimited']) q;
SELECT queue_name, concurrency, ready FROM queue WHERE queue_name NOT IN ('fast', 'bulk');
-- The queue's row is written at the commit.
BEGIN;
SELECT backfill.enqueue_serial('note', '{}', 'rolled_back') IS NOT NULL AS enqueued;
SELECT concurrency, ready FROM queue WHERE queue_name = 'rolled_back';
ROLLBACK;
SELECT concurrency, ready FROM queue WHERE queue_name = 'rolled_back';
-- A queue stays serial when its jobs are done, until the dispatcher forgets it, and for all that is enqueued in it by other functions.
CALL backfill.process_available_jobs();
SELECT queue_name, concurrency, ready FROM queue WHERE queue_name = 'serial';

-- A session that holds a serial queue's slot runs the queue's jobs in order, in one call.
TRUNCATE backfill.job, effect RESTART IDENTITY;
SELECT count(*) FROM backfill.enqueue_jobs('[
    {"task_identifier": "note", "queue_name": "serial", "payload": "serial 2"},
    {"task_identifier": "note", "queue_name": "fast", "payload": "fast", "priority": 5},
    {"task_identifier": "note", "queue_name": "serial", "payload": "serial 3"},
    {"task_identifier": "note", "queue_name": "serial", "payload": "serial 1", "priority": -5}]');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;

-- Order within a serial queue is that of the moment: what a job enqueues with a higher
-- priority runs before the rest.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION note_and_enqueue(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM test.note(payload);
    PERFORM backfill.enqueue('note', '"urgent"', 'serial', -20);
END;
$$;
SELECT backfill.register_task('note_and_enqueue', 'note_and_enqueue(jsonb)');
SELECT backfill.enqueue_serial('note_and_enqueue', '"first"', 'serial'), backfill.enqueue_serial('note', '"last"', 'serial');
CALL backfill.process_available_jobs(1);
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;

-- A failed job of a serial queue does not hold up the next one.
TRUNCATE backfill.job, effect RESTART IDENTITY;
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'boom'; END $$;
SELECT backfill.set_retry_policy('hourly', 3, '1 hour', '1 hour', 1, 0);
SELECT backfill.register_task('fail', 'fail(jsonb)', retry_policy => 'hourly');
SELECT backfill.enqueue_serial('fail', '"fails"', 'serial'), backfill.enqueue_serial('note', '"runs"', 'serial');
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
SELECT payload, state FROM backfill.jobs;

-- A session counts once against a limit, however many jobs it runs in its transaction.
TRUNCATE backfill.job, effect RESTART IDENTITY;
INSERT INTO backfill.queue (queue_name, concurrency) VALUES ('two', 2);
SELECT count(backfill.enqueue('note', to_jsonb(i), queue_name => 'two')) FROM generate_series(1, 5) i;
BEGIN;
CALL backfill.process_available_jobs();
COMMIT;
SELECT count(*) FROM effect;

-- A name that nothing knows is told of: it may be misspelt.
SELECT backfill.pause_queue('fsat'), backfill.pause_queue('fast');
SELECT backfill.resume_queue('fsat'), backfill.resume_queue('fast'), backfill.resume_queue('no queue');
CREATE ROLE backfill_test_typist;
SELECT backfill.grant_producer('backfill_test_typist', '{note,ntoe}');
DROP OWNED BY backfill_test_typist;
DROP ROLE backfill_test_typist;
