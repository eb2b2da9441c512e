-- backfill.fake_now: the queue's clock stands still where a superuser sets it, and everything that
-- is a matter of time follows it. Nothing waits here. (Workers: test/t/081_fake_now.pl.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET timezone = 'UTC';
SET datestyle = 'ISO';

-- The machine's clock, unless it is set.
SHOW backfill.fake_now;
SELECT backfill._now() BETWEEN now() AND clock_timestamp() AS real;
-- Any form that timestamptz reads. Without a time zone it is UTC.
SET timezone = 'Europe/Berlin';
CREATE FUNCTION at(fake text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT set_config('backfill.fake_now', fake, false); SELECT backfill._now() AT TIME ZONE 'UTC' AT TIME ZONE current_setting('timezone') $$;
SELECT f, at(f) AT TIME ZONE current_setting('timezone') AS utc FROM unnest('{2030-01-01,2030-01-01 12:34:56.789,2030-07-01T12:00:00Z,2030-07-01 12:00+02,"2030-07-01 12:00 America/New_York","1 Jul 2030 12:00 PDT",20300701T120000Z}'::text[]) f;
-- Not words that mean something else each time, nor what is no time at all.
CALL refused($$set_config('backfill.fake_now', 'now', false)$$);
CALL refused($$set_config('backfill.fake_now', 'Tomorrow 12:00', false)$$);
CALL refused($$set_config('backfill.fake_now', 'infinity', false)$$);
CALL refused($$set_config('backfill.fake_now', 'epoch', false)$$);
CALL refused($$set_config('backfill.fake_now', '2030-02-30', false)$$);
CALL refused($$set_config('backfill.fake_now', '1999-12-31', false)$$);
CALL refused($$set_config('backfill.fake_now', '10000-01-01', false)$$);
CALL refused($$set_config('backfill.fake_now', 'soon', false)$$);
CALL refused($$set_config('backfill.fake_now', repeat('1', 200), false)$$);
-- Only superusers set it; a rollback takes it back.
CREATE ROLE regress_fake_now;
SET ROLE regress_fake_now;
SET backfill.fake_now = '2040-01-01';
RESET ROLE;
DROP ROLE regress_fake_now;
BEGIN;
SET backfill.fake_now = '2040-01-01';
ROLLBACK;
SHOW backfill.fake_now;
SET timezone = 'UTC';

-- What is ready: by run_at, which is the fake time if none is given.
SELECT backfill.set_retry_policy('exact', 3, '1 hour', '3 hours', 2, 0);
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
SELECT backfill.register_task('fail', 'fail(jsonb)', retry_policy => 'exact'), backfill.register_task('note', 'note(jsonb)');
CREATE VIEW waiting AS SELECT id, task_identifier AS task, run_at, attempts, state, created_at FROM backfill.jobs ORDER BY id;
SET backfill.fake_now = '2030-01-01 00:00';
SELECT backfill.enqueue('note', '1') AS now, backfill.enqueue('note', '2', run_at => '2030-01-01 00:00:00.000001') AS later, backfill.enqueue('fail') AS failing;
TABLE waiting;
CALL backfill.process_available_jobs();
TABLE waiting;
SET backfill.fake_now = '2030-01-01 00:00:00.000001';
CALL backfill.process_available_jobs();

-- Retries: one hour, two hours, and the letter is of the fake time, too.
SET backfill.fake_now = '2030-01-01 00:59:59';
CALL backfill.process_available_jobs();
SET backfill.fake_now = '2030-01-01 01:00';
CALL backfill.process_available_jobs();
TABLE waiting;
SET backfill.fake_now = '2030-01-01 03:00';
CALL backfill.process_available_jobs();
SELECT failed_at, original_created_at, original_run_at FROM backfill.dlq;
SET backfill.fake_now = '2030-01-31 03:00';
SELECT value = 30 * 24 * 3600 AS thirty_days FROM backfill.metrics('backfill_dlq_age');
SELECT backfill.requeue_dlq_job(1);
SELECT last_requeued_at FROM backfill.dlq;
SELECT backfill.cancel_job(3);
SELECT backfill.cleanup_dlq(older_than => '30 days') AS not_yet;
SET backfill.fake_now = '2030-01-31 03:00:00.000001';
SELECT backfill.cleanup_dlq(older_than => '30 days') AS now;

-- A job that snoozes.
CREATE FUNCTION snooze(payload jsonb) RETURNS void LANGUAGE sql AS $$ SELECT backfill.snooze('1 week') $$;
SELECT backfill.register_task('snooze', 'snooze(jsonb)');
SELECT backfill.enqueue('snooze');
CALL backfill.process_available_jobs();
TABLE waiting;
SELECT backfill.cancel_job(4);

-- Leases. (The dispatcher of this server goes by the real time.)
SELECT backfill.enqueue('mail', '{}', max_attempts => 2);
SELECT claim_token, lease_expires_at FROM backfill.claim_jobs('w', tasks => '{mail}', lease => '10 min') \gset
SELECT :'lease_expires_at', state FROM backfill.jobs;
SET backfill.fake_now = '2030-01-31 03:10';
SELECT backfill.heartbeat(:claim_token, '5 min');
SELECT lease_expires_at, state FROM backfill.jobs;
SET backfill.fake_now = '2030-01-31 03:09';
SELECT backfill.heartbeat(:claim_token, '5 min') AS still_its;
SELECT lease_expires_at, state FROM backfill.jobs;
SET backfill.fake_now = '2030-01-31 03:14';
SELECT state FROM backfill.jobs;
SELECT backfill.complete_jobs(ARRAY[5::bigint], :claim_token) AS too_late;
SELECT backfill.release_stale_job_locks('0') AS released;
SELECT state, attempts, last_error->>'message' AS error FROM backfill.jobs;
SELECT backfill.cancel_job(5);

-- Rates: two in any hour. The real clock has a window of its own.
SELECT backfill.set_queue('slow', rate_limit => 2, rate_period => '1 hour');
TRUNCATE effect;
SELECT count(backfill.enqueue('note', to_jsonb(i), queue_name => 'slow')) FROM generate_series(1, 5) i;
CALL backfill.process_available_jobs();
SET backfill.fake_now = '2030-01-31 04:00';
CALL backfill.process_available_jobs();
SET backfill.fake_now = '2030-01-31 04:30';
CALL backfill.process_available_jobs();
SET backfill.fake_now = '2030-01-31 06:00';
CALL backfill.process_available_jobs();

-- Schedules.
SELECT backfill.cron_next('0 12 * * *');
SELECT backfill.schedule('noon', '0 12 * * *', 'note', '{}', fill => '3 days');
SELECT next_run_at, known_since FROM backfill.schedules;
SELECT backfill.cron_tick();
SET backfill.fake_now = '2030-01-31 12:00';
SELECT backfill.cron_tick();
SET backfill.fake_now = '2030-02-03 06:00';
SELECT backfill.cron_tick();
SELECT run_at, state, payload #>> '{_cron,backfilled}' AS backfilled FROM backfill.jobs ORDER BY id;
SELECT backfill.unschedule('noon');
CALL backfill.process_available_jobs();

-- And back: the queue's time is the real one.
RESET backfill.fake_now;
SELECT backfill._now() BETWEEN now() AND clock_timestamp() AS real;
