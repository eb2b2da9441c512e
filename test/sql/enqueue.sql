-- Enqueueing: what each function fills in, named arguments, a task's own settings, and
-- which of several settings wins.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE VIEW waiting AS
SELECT task_identifier AS task, payload, queue_name AS queue, priority, run_at - now() AS due_in, attempts, max_attempts,
       retry_policy, job_key, state
  FROM backfill.jobs ORDER BY id;

-- Ids begin at 1 and are what the functions return.
SELECT backfill.enqueue('t');
SELECT backfill.enqueue('t'), backfill.enqueue_fast('t');
SELECT id FROM backfill.jobs ORDER BY id;

-- Each function's defaults.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('plain') IS NOT NULL
   AND backfill.enqueue_fast('fast') IS NOT NULL
   AND backfill.enqueue_bulk('bulk') IS NOT NULL
   AND backfill.enqueue_emergency('emergency') IS NOT NULL
   AND backfill.enqueue_critical('critical') IS NOT NULL
   AND backfill.enqueue_fast_with_retries('fast_with_retries') IS NOT NULL
   AND backfill.enqueue_bulk_with_retries('bulk_with_retries') IS NOT NULL
   AND backfill.enqueue_serial('serial', '{}', 'one_by_one') IS NOT NULL AS all_enqueued;
SELECT count(*) FROM backfill.enqueue_many('many', ARRAY['1', '2']::jsonb[]);
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "jobs"}]');
TABLE waiting;
ROLLBACK;

-- Everything given, by position.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('t', '[1, 2]', 'q', -7, now() + interval '1 hour', 3, 'k', 'replace', 'fast') > 0 AS enqueued;
SELECT backfill.enqueue_fast('t', '"f"', 'kf') > 0
   AND backfill.enqueue_serial('t', '"s"', 'one_by_one', 'ks') > 0 AS enqueued;
SELECT count(*) FROM backfill.enqueue_many('t', ARRAY['1', '2']::jsonb[], 'q', -7, now() + interval '1 hour', 3, 'fast');
TABLE waiting;
ROLLBACK;

-- Everything given, by name and in any order.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue(
    retry_policy => 'fast', job_key_mode => 'replace', job_key => 'k', max_attempts => 3,
    run_at => now() + interval '1 hour', priority => -7, queue_name => 'q', payload => '[1, 2]', task_identifier => 't') > 0 AS enqueued;
SELECT backfill.enqueue_fast(job_key => 'k1', payload => '1', task_identifier => 't') > 0
   AND backfill.enqueue_bulk(job_key => 'k2', payload => '2', task_identifier => 't') > 0
   AND backfill.enqueue_emergency(job_key => 'k3', payload => '3', task_identifier => 't') > 0
   AND backfill.enqueue_critical(job_key => 'k4', payload => '4', task_identifier => 't') > 0
   AND backfill.enqueue_fast_with_retries(job_key => 'k5', payload => '5', task_identifier => 't') > 0
   AND backfill.enqueue_bulk_with_retries(job_key => 'k6', payload => '6', task_identifier => 't') > 0
   AND backfill.enqueue_serial(job_key => 'k7', queue_name => 'one_by_one', payload => '7', task_identifier => 't') > 0 AS enqueued;
SELECT count(*) FROM backfill.enqueue_many(
    retry_policy => 'fast', max_attempts => 3, run_at => now() + interval '1 hour', priority => -7, queue_name => 'q',
    payloads => ARRAY['8']::jsonb[], task_identifier => 't');
SELECT count(*) FROM backfill.enqueue_jobs(jobs => jsonb_build_array(jsonb_build_object(
    'retry_policy', 'fast', 'job_key_mode', 'replace', 'job_key', 'k8', 'max_attempts', 3, 'run_at', now() + interval '1 hour',
    'priority', -7, 'queue_name', 'q', 'payload', 9, 'task_identifier', 't')));
TABLE waiting;
ROLLBACK;

-- NULL is the same as not given; a payload is never NULL.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('t', NULL, NULL, NULL, NULL, NULL, NULL, 'replace', NULL) > 0 AS enqueued;
SELECT backfill.enqueue_fast('t', NULL, NULL) > 0 AND backfill.enqueue_serial('t', NULL, 'one_by_one') > 0 AS enqueued;
SELECT count(*) FROM backfill.enqueue_many('t', ARRAY['null']::jsonb[], NULL, NULL, NULL, NULL, NULL);
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "t", "queue_name": null, "priority": null, "run_at": null, "max_attempts": null,
    "job_key": null, "job_key_mode": null, "retry_policy": null}, {"task_identifier": "t", "payload": null}]');
TABLE waiting;
ROLLBACK;

-- Payloads are stored as they are: any JSON value, large ones too.
BEGIN;
TRUNCATE backfill.job;
SELECT count(backfill.enqueue('t', payload::jsonb))
  FROM (VALUES ('{}'), ('[]'), ('null'), ('true'), ('-1.50'), ('"text"'), ('{"a": {"b": [1, null, "ü"]}}')) v(payload);
SELECT count(backfill.enqueue('t', jsonb_build_object('large', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 10000) i))));
SELECT payload FROM backfill.jobs WHERE pg_column_size(payload) < 1000 ORDER BY id;
SELECT length(payload->>'large') FROM backfill.jobs WHERE payload ? 'large';
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "nested", "payload": {"a": {"b": [1, null, "ü"]}}}, {"task_identifier": "nested", "payload": [[1]]},
    {"task_identifier": "nested", "payload": "text"}, {"task_identifier": "nested", "payload": {}}]');
SELECT payload FROM backfill.jobs WHERE task_identifier = 'nested' ORDER BY id;
ROLLBACK;

-- A task's own settings take the place of the defaults ...
SELECT backfill.register_task('own', 'note(jsonb)', queue_name => 'own_queue', priority => 7, max_attempts => 4, retry_policy => 'conservative');
SELECT backfill.register_task('own_policy', 'note(jsonb)', retry_policy => 'conservative');
SELECT backfill.register_task('own_attempts', 'note(jsonb)', max_attempts => 4);
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('own') > 0 AND backfill.enqueue('own_policy') > 0 AND backfill.enqueue('own_attempts') > 0 AS enqueued;
SELECT count(*) FROM backfill.enqueue_many('own', ARRAY['"many"']::jsonb[]);
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "own", "payload": "jobs"}]');
TABLE waiting;
ROLLBACK;

-- ... and give way to what the caller says. A policy that the caller names brings its
-- number of attempts with it; a number of attempts in the call wins over everything.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('own', queue_name => 'callers') > 0
   AND backfill.enqueue('own', priority => 0) > 0
   AND backfill.enqueue('own', max_attempts => 9) > 0
   AND backfill.enqueue('own', retry_policy => 'fast') > 0
   AND backfill.enqueue('own', retry_policy => 'default') > 0
   AND backfill.enqueue('own', max_attempts => 9, retry_policy => 'fast') > 0
   AND backfill.enqueue_fast('own') > 0
   AND backfill.enqueue_bulk('own') > 0
   AND backfill.enqueue_emergency('own') > 0
   AND backfill.enqueue_critical('own') > 0
   AND backfill.enqueue_fast_with_retries('own') > 0
   AND backfill.enqueue_bulk_with_retries('own') > 0
   AND backfill.enqueue_serial('own', '{}', 'one_by_one') > 0 AS enqueued;
TABLE waiting;
ROLLBACK;

-- The settings are those of the moment of enqueueing.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('own') > 0 AS enqueued;
SELECT backfill.register_task('own', 'note(jsonb)', queue_name => 'new_queue', priority => 8);
SELECT backfill.enqueue('own') > 0 AS enqueued;
SELECT backfill.unregister_task('own');
SELECT backfill.enqueue('own') > 0 AS enqueued;
TABLE waiting;
ROLLBACK;

-- run_at may lie in the past or the future.
BEGIN;
TRUNCATE backfill.job;
SELECT backfill.enqueue('t', run_at => now() - interval '1 day') > 0
   AND backfill.enqueue('t', run_at => now() + interval '1 day') > 0
   AND backfill.enqueue('t', run_at => '0044-03-15 BC') > 0
   AND backfill.enqueue('t', run_at => '294276-12-31') > 0 AS enqueued;
SELECT id - min(id) OVER () AS n, state, run_at > now() AS in_future FROM backfill.jobs ORDER BY id;
ROLLBACK;

-- enqueue_many and enqueue_jobs return the ids in the order of the input.
TRUNCATE backfill.job RESTART IDENTITY;
SELECT * FROM backfill.enqueue_many('t', ARRAY['"a"', '"b"', '"c"']::jsonb[]);
SELECT * FROM backfill.enqueue_jobs('[{"task_identifier": "u", "payload": "d"}, {"task_identifier": "t", "payload": "e"}]');
SELECT id, task_identifier, payload FROM backfill.jobs ORDER BY id;
SELECT count(*) FROM backfill.enqueue_many('t', '{}');
SELECT count(*) FROM backfill.enqueue_jobs('[]');
SELECT count(*), max(id) - min(id) AS span, bool_and(id = n + 5) AS in_order
  FROM backfill.enqueue_many('t', array_fill('1'::jsonb, ARRAY[5000])) WITH ORDINALITY AS ids (id, n);

-- From wherever SQL may call a function: a trigger, a function, a prepared statement, a query over a table.
TRUNCATE backfill.job;
CREATE TABLE customer (id int PRIMARY KEY, name text);
CREATE FUNCTION welcome() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM backfill.enqueue('welcome', to_jsonb(NEW));
    RETURN NULL;
END;
$$;
CREATE TRIGGER welcome AFTER INSERT ON customer FOR EACH ROW EXECUTE FUNCTION welcome();
INSERT INTO customer VALUES (1, 'Ada'), (2, 'Grace');
PREPARE remind (int) AS SELECT backfill.enqueue('remind', to_jsonb($1)) IS NOT NULL AS enqueued;
EXECUTE remind(1);
EXECUTE remind(2);
SELECT count(backfill.enqueue('mail', to_jsonb(c))) FROM customer c;
SELECT task_identifier, payload FROM backfill.jobs ORDER BY task_identifier, payload;

-- A hundred thousand calls in one statement.
SELECT count(backfill.enqueue('t', to_jsonb(i))) FROM generate_series(1, 100000) i;
