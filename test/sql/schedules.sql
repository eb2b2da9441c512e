-- Schedules: what schedule() accepts and keeps, and what a tick makes of them. The clock is
-- an argument of _cron_tick(), so weeks pass at once; the server's backfill.cron_clock is external.
-- (With the dispatcher and pg_cron: TAP.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET timezone = 'UTC';

-- A schedule as if made at a given time.
CREATE FUNCTION schedule_at(since timestamptz, name text, cron text, time_zone text DEFAULT 'UTC', fill interval DEFAULT '0',
                            max_catchup int DEFAULT 1000, catchup text DEFAULT 'all', job_key text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT backfill.schedule(name, cron, 'note', time_zone => time_zone, fill => fill, max_catchup => max_catchup, catchup => catchup, job_key => job_key);
    UPDATE backfill.cron_schedule s SET known_since = since, checked_until = since WHERE s.name = schedule_at.name;
$$;
-- What the ticks have enqueued since this was asked last.
CREATE FUNCTION enqueued(OUT minute text, OUT backfilled text) RETURNS SETOF record LANGUAGE sql AS $$
    WITH taken AS (DELETE FROM backfill.job RETURNING id, run_at, payload)
    SELECT to_char(run_at, 'Dy DD HH24:MI'), payload #>> '{_cron,backfilled}' FROM taken ORDER BY id;
$$;

-- Everything that can be said about a schedule.
SELECT backfill.schedule('full', '30 4 * * mon-fri', 'note', '{"to": "me"}', 'reports', -3, 5, 'report', 'preserve_run_at', 'fast',
                         '90 seconds', 'europe/berlin', '2 days', 10, 'latest') > now() AS next_is_in_the_future;
SELECT backfill.schedule(name => 'least', cron => '@daily', task_identifier => 'note') > now() AS next_is_in_the_future;
\x on
SELECT name, cron, time_zone, task_identifier, payload, queue_name, priority, max_attempts, job_key, job_key_mode, retry_policy, timeout, fill, max_catchup, catchup,
       next_run_at > now() AS next_run_at, last_run_at, known_since <= clock_timestamp() AS known_since, known_since = checked_until AS checked_until, last_error
  FROM backfill.schedules ORDER BY name;
\x off
-- The same name replaces it. A schedule whose times stay the same keeps its past; a change
-- of its times begins a new life.
UPDATE backfill.cron_schedule SET known_since = '2001-01-01', checked_until = '2001-01-02', last_run_at = '2001-01-01', last_error = 'old';
SELECT backfill.schedule('full', '30 4 * * mon-fri', 'note', time_zone => 'Europe/Berlin') IS NOT NULL AS ok;
SELECT backfill.schedule('least', '@hourly', 'note') IS NOT NULL AS ok;
SELECT name, payload, queue_name, fill, catchup, known_since < '2002-01-01' AS same_life, checked_until, last_run_at, last_error FROM backfill.schedules ORDER BY name;
SELECT backfill.schedule('full', '30 4 * * mon-fri', 'note') IS NOT NULL AS ok;
SELECT name, known_since < '2002-01-01' AS same_life FROM backfill.schedules WHERE name = 'full';
SELECT backfill.unschedule('full'), backfill.unschedule('full'), backfill.unschedule('least'), backfill.unschedule('never');
SELECT backfill.unschedule(NULL) IS NULL AS nothing;

-- What is refused.
CALL refused($$backfill.schedule(NULL, '* * * * *', 'note')$$);
CALL refused($$backfill.schedule('s', NULL, 'note')$$);
CALL refused($$backfill.schedule('s', '* * * * *', NULL)$$);
CALL refused($$backfill.schedule('', '* * * * *', 'note')$$);
CALL refused($$backfill.schedule(repeat('s', 129), '* * * * *', 'note')$$);
CALL refused($$backfill.schedule('s', '61 * * * *', 'note')$$);
CALL refused($$backfill.schedule('s', '30 seconds', 'note')$$);
CALL refused($$backfill.schedule('s', '0 0 30 2 *', 'note')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', '[1]')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', queue_name => 'dead_letter')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', priority => 99999)$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', max_attempts => 0)$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', job_key_mode => 'append')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', retry_policy => 'none')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', timeout => '0 s')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', time_zone => 'Mars/Olympus')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', time_zone => repeat('x', 300))$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', fill => '-1 s')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', fill => '200 years')$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', max_catchup => 0)$$);
CALL refused($$backfill.schedule('s', '* * * * *', 'note', catchup => 'some')$$);
SELECT count(*) FROM backfill.schedules;
BEGIN READ ONLY;
CALL refused($$backfill.schedule('s', '* * * * *', 'note')$$);
CALL refused($$backfill.unschedule('s')$$);
CALL refused($$backfill.cron_tick()$$);
ROLLBACK;

-- cron_next(): look before you schedule.
SELECT backfill.cron_next('0 9 * * mon', 'America/New_York', '2026-03-06 12:00+00');
SELECT backfill.cron_next('0 9 * * mon', after => '2026-03-06 12:00+00');
SELECT backfill.cron_next('* * * * *') > now() AS in_the_future, backfill.cron_next('0 0 31 6 *') IS NULL AS never;
CALL refused($$backfill.cron_next('x')$$);
CALL refused($$backfill.cron_next(NULL)$$);
CALL refused($$backfill.cron_next('* * * * *', after => 'infinity')$$);

-- Ticks: each due minute once, however often they come; a late one catches up, and what it
-- catches up with is not called backfilled.
SELECT schedule_at('2026-01-05 10:00:30', 'five', '*/5 * * * *');
SELECT backfill._cron_tick('2026-01-05 10:04:59'), backfill._cron_tick('2026-01-05 10:05'), backfill._cron_tick('2026-01-05 10:05'), backfill._cron_tick('2026-01-05 10:05:59');
SELECT * FROM enqueued();
SELECT name, next_run_at, last_run_at, checked_until FROM backfill.schedules;
SELECT backfill._cron_tick('2026-01-05 10:10:20'), backfill._cron_tick('2026-01-05 10:15:20');
SELECT backfill._cron_tick('2026-01-05 09:00'), backfill._cron_tick('2026-01-05 10:15:30');
SELECT * FROM enqueued();
-- A job runs as if enqueued at its minute, with the schedule's payload.
SELECT backfill.schedule('paid', '0 11 * * *', 'note', '{"a": 1, "_cron": 2}', 'reports', 3, 4, NULL, retry_policy => 'fast', timeout => '5 s') IS NOT NULL AS ok;
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 10:58', checked_until = '2026-01-05 10:58' WHERE name = 'paid';
DELETE FROM backfill.cron_schedule WHERE name = 'five';
SELECT backfill._cron_tick('2026-01-05 11:00:01');
SELECT task_identifier, payload, queue_name, priority, max_attempts, run_at, retry_policy, timeout FROM backfill.jobs;
DELETE FROM backfill.job;
SELECT backfill.unschedule('paid');

-- A tick that is rolled back has not happened.
SELECT schedule_at('2026-01-05 10:00', 'one', '* * * * *');
BEGIN;
SELECT backfill._cron_tick('2026-01-05 10:01');
ROLLBACK;
SELECT backfill._cron_tick('2026-01-05 10:02');
SELECT * FROM enqueued();
SELECT backfill.unschedule('one');

-- The clock stood still for 90 minutes. Without fill: only the minute that it is now. With
-- fill=2h: all that were missed, in order, before the present one. With less: as far as it goes.
SELECT schedule_at('2026-01-05 10:00', 'a_none', '*/30 * * * *'), schedule_at('2026-01-05 10:00', 'b_two_hours', '*/30 * * * *', fill => '2h'),
       schedule_at('2026-01-05 10:00', 'c_one_hour', '*/30 * * * *', fill => '1h');
SELECT backfill._cron_tick('2026-01-05 10:00:30'), backfill._cron_tick('2026-01-05 11:30:15'), backfill._cron_tick('2026-01-05 11:30:16');
SELECT * FROM enqueued();
SELECT backfill._cron_tick('2026-01-05 12:00');
SELECT * FROM enqueued();
-- Never before the schedule was known.
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 13:10', fill = '1 day';
SELECT backfill._cron_tick('2026-01-05 13:40');
SELECT * FROM enqueued();
-- Five minutes is late, more is standing still; not while nothing was due, because the dispatcher sleeps then.
DELETE FROM backfill.cron_schedule;
SELECT schedule_at('2026-01-05 10:00', 'minutely', '* * * * *');
SELECT backfill._cron_tick('2026-01-05 10:05'), backfill._cron_tick('2026-01-05 10:10:01');
SELECT * FROM enqueued();
DELETE FROM backfill.cron_schedule;
SELECT schedule_at('2026-01-05 04:30:05', 'daily', '30 4 * * *');
SELECT backfill._cron_tick('2026-01-06 04:34'), backfill._cron_tick('2026-01-07 04:34:01'), backfill._cron_tick('2026-01-08 04:29:59'), backfill._cron_tick('2026-01-08 04:34:59');
SELECT * FROM enqueued();
DELETE FROM backfill.cron_schedule;

-- A week of downtime: at most max_catchup, the newest ones, with a warning; or the latest only.
SELECT schedule_at('2026-01-05 00:00', 'capped', '0 * * * *', fill => '1 week', max_catchup => 3), schedule_at('2026-01-05 00:00', 'latest', '0 * * * *', fill => '1 week', catchup => 'latest');
SELECT backfill._cron_tick('2026-01-12 00:30');
SELECT * FROM enqueued();
DELETE FROM backfill.cron_schedule;
SELECT schedule_at('2026-01-05 00:00', 'whole', '0 * * * *', fill => '1 week');
SELECT backfill._cron_tick('2026-01-12 00:30');
SELECT count(*), count(DISTINCT minute), min(backfilled), max(backfilled) FROM enqueued();
-- A week of ticks, one a minute.
UPDATE backfill.cron_schedule SET known_since = '2026-01-05', checked_until = '2026-01-05', cron = '*/15 9-17 * * 1-5';
DO $$
DECLARE
    t timestamptz;
BEGIN
    FOR t IN SELECT generate_series(timestamptz '2026-01-05 00:01', '2026-01-12', '1 min') LOOP
        PERFORM backfill._cron_tick(t);
        COMMIT;
    END LOOP;
END;
$$;
SELECT count(*), count(DISTINCT minute), min(backfilled), max(backfilled), (SELECT count(*) FROM backfill.schedules WHERE last_run_at = '2026-01-09 17:45') AS last FROM enqueued();
DELETE FROM backfill.cron_schedule;

-- Summer time in Berlin. A time of day that does not exist runs once, when the clock has
-- jumped; one that comes twice runs the first time. "Every half hour" just goes on.
SELECT schedule_at('2026-03-28 22:00', 'a_daily', '30 2 * * *', 'Europe/Berlin', '1 day'), schedule_at('2026-03-28 23:00', 'b_half_hourly', '*/30 * * * *', 'Europe/Berlin', '5 hours');
SELECT backfill._cron_tick('2026-03-29 03:00');
SELECT * FROM enqueued();
UPDATE backfill.cron_schedule SET known_since = '2026-10-24 23:00', checked_until = '2026-10-24 23:00';
SELECT backfill._cron_tick('2026-10-25 03:00');
SELECT * FROM enqueued();
DELETE FROM backfill.cron_schedule;

-- With a key several missed runs become one job, the last one's.
SELECT schedule_at('2026-01-05 10:00', 'keyed', '* * * * *', job_key => 'k');
SELECT backfill._cron_tick('2026-01-05 10:03');
SELECT * FROM enqueued();
DELETE FROM backfill.cron_schedule;

-- One bad schedule does not hold up the others, says what is wrong, and is tried again.
SELECT backfill.set_retry_policy('gone');
SELECT backfill.schedule('a_bad', '* * * * *', 'note', retry_policy => 'gone') IS NOT NULL AS ok;
SELECT schedule_at('2026-01-05 10:00', 'b_good', '* * * * *');
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 10:00', checked_until = '2026-01-05 10:00';
DELETE FROM backfill.retry_policy;
SELECT backfill._cron_tick('2026-01-05 10:01');
SELECT name, checked_until, last_run_at, last_error FROM backfill.schedules ORDER BY name;
SELECT backfill.set_retry_policy('gone');
SELECT backfill._cron_tick('2026-01-05 10:02');
SELECT * FROM enqueued();
SELECT name, checked_until, last_run_at, last_error FROM backfill.schedules ORDER BY name;
DELETE FROM backfill.cron_schedule;

-- Jobs are enqueued with the rights of the role that made the schedule, whatever role ticks.
CREATE ROLE regress_scheduler;
SELECT backfill.grant_admin('regress_scheduler'), backfill.grant_producer('regress_scheduler', '{other}');
GRANT USAGE ON SCHEMA test TO regress_scheduler;
SELECT schedule_at(now() - interval '2 minutes', 'mine', '* * * * *');
SET ROLE regress_scheduler;
CALL refused($$backfill.schedule('theirs', '* * * * *', 'note')$$);
CALL refused($$backfill._cron_tick(now())$$);
SELECT backfill.schedule('theirs', '* * * * *', 'other') IS NOT NULL AS ok;
SELECT backfill.cron_tick() BETWEEN 2 AND 4 AS enqueued_as_the_one_who_made_it;
SELECT current_user, current_setting('lock_timeout') AS lock_timeout, backfill.unschedule('theirs'), backfill.unschedule('mine');
RESET ROLE;
-- Hooks on the way run as the role that registered them, never as the superuser that ticks, and
-- cannot get at its rights. A cron_tick hook is told which schedule it is.
CREATE TABLE seen (event text, role name, outcome text, schedule jsonb);
GRANT INSERT ON seen TO regress_scheduler;
CREATE FUNCTION spy(event jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RESET ROLE;
    INSERT INTO test.seen VALUES (event ->> 'event', current_user, 'escaped', event -> 'schedule');
    RETURN NULL;
EXCEPTION WHEN insufficient_privilege THEN
    INSERT INTO test.seen VALUES (event ->> 'event', current_user, sqlerrm, event -> 'schedule');
    RETURN NULL;
END;
$$;
SELECT backfill.register_hook('before_job_schedule', 'spy(jsonb)', run_as => 'regress_scheduler'), backfill.register_hook('cron_tick', 'spy(jsonb)', run_as => 'regress_scheduler');
SET ROLE regress_scheduler;
SELECT backfill.schedule('theirs', '* * * * *', 'other') IS NOT NULL AS ok;
RESET ROLE;
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 10:00', checked_until = '2026-01-05 10:00';
SELECT backfill._cron_tick('2026-01-05 10:02'), current_user = session_user AS who_i_was;
TABLE seen;
-- One of a task is called for the schedules of that task.
TRUNCATE seen;
DELETE FROM backfill.hook;
SELECT backfill.register_hook('cron_tick', 'spy(jsonb)', 'other', run_as => 'regress_scheduler'), schedule_at('2026-01-05 10:00', 'not_theirs', '* * * * *');
SELECT backfill._cron_tick('2026-01-05 10:02:30'), (SELECT string_agg(schedule ->> 'name', ', ') FROM seen) AS before_the_tick;
SELECT backfill._cron_tick('2026-01-05 10:03');
SELECT schedule ->> 'name' AS name, schedule ->> 'last_run_at' AS last_run_at FROM seen;
-- If it fails, the log says so, and the schedule goes on.
REVOKE INSERT ON seen FROM regress_scheduler;
SELECT backfill._cron_tick('2026-01-05 10:04');
SELECT name, checked_until, last_error FROM backfill.schedules ORDER BY name;
DELETE FROM backfill.hook;
DELETE FROM backfill.cron_schedule WHERE name = 'not_theirs';
SELECT scheduled_by FROM backfill.schedules;
-- A hook may skip the job: the minute is decided all the same.
CREATE FUNCTION skip(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"action": "skip"}'::jsonb $$;
SELECT backfill.register_hook('before_job_schedule', 'skip(jsonb)');
DELETE FROM backfill.job;
SELECT backfill._cron_tick('2026-01-05 10:05'), backfill._cron_tick('2026-01-05 10:05'), (SELECT count(*) FROM backfill.job) AS jobs;
DELETE FROM backfill.hook;
-- A right that was taken away, and a role that is gone.
SELECT backfill.grant_producer('regress_scheduler', '{}');
SELECT backfill._cron_tick('2026-01-05 10:06');
UPDATE backfill.producer SET tasks = NULL;
SELECT backfill._cron_tick('2026-01-05 10:07');
DROP OWNED BY regress_scheduler;
GRANT USAGE ON SCHEMA backfill, test TO regress_scheduler;
GRANT EXECUTE ON FUNCTION backfill.add_cron_schedule TO regress_scheduler;
SELECT backfill._cron_tick('2026-01-05 10:08');
SET ROLE regress_scheduler;
CALL refused($$backfill.add_cron_schedule('* * * * * other')$$);
RESET ROLE;
DROP OWNED BY regress_scheduler;
DROP ROLE regress_scheduler;
SELECT backfill._cron_tick('2026-01-05 10:09');
SELECT checked_until, last_error FROM backfill.schedules;
DELETE FROM backfill.cron_schedule;
DELETE FROM backfill.job;

-- A task that is gone is enqueued all the same, as enqueue() does it: its jobs wait.
SELECT backfill.register_task('short_lived', 'skip(jsonb)');
SELECT backfill.schedule('gone', '* * * * *', 'short_lived') IS NOT NULL AS ok;
SELECT backfill.unregister_task('short_lived');
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 10:00', checked_until = '2026-01-05 10:00';
SELECT backfill._cron_tick('2026-01-05 10:01');
CALL backfill.process_available_jobs();
SELECT task_identifier, state FROM backfill.jobs;
DELETE FROM backfill.job;
DELETE FROM backfill.cron_schedule;

-- Crontabs. add_cron_schedule() takes one line, schedule_crontab() a file.
SELECT backfill.add_cron_schedule($$0 4 * * 1 send_report ?id=weekly&fill=2d&max=3&queue=reports&jobKey=week%20ly&jobKeyMode=preserve_run_at&priority=-2 {to: 'boss', cc: ['a',],}$$);
SELECT name, cron, time_zone, task_identifier, payload, queue_name, priority, max_attempts, job_key, job_key_mode, fill, max_catchup, catchup FROM backfill.schedules \gx
SELECT * FROM backfill.schedule_crontab($$
# every night
0 3 * * * clean_up
*/5 * * * * poll ?id=poll-often
0 0 1 * * clean_up ?id=monthly&max=1 {deep: true}
$$);
SELECT name, cron, task_identifier, payload FROM backfill.schedules ORDER BY name;
-- What a line leaves out is as in Graphile Worker, not as in schedule(), whatever the task says:
-- 25 attempts, its backoff, priority 0, no queue; a queue is a serial one.
SELECT backfill.register_task('clean_up', 'skip(jsonb)', queue_name => 'slow', priority => 7, max_attempts => 3, retry_policy => 'fast');
SELECT backfill.schedule('ours', '0 3 * * *', 'clean_up') IS NOT NULL AS ok, backfill.add_cron_schedule('0 3 * * * clean_up ?id=queued&queue=nightly');
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 02:59', checked_until = '2026-01-05 02:59' WHERE task_identifier = 'clean_up';
SELECT backfill._cron_tick('2026-01-05 03:00') >= 3 AS ticked;
SELECT s.name, j.queue_name, j.priority, j.max_attempts, j.retry_policy, q.concurrency
  FROM backfill.schedules s JOIN backfill.jobs j ON coalesce(s.queue_name, 'slow') = coalesce(j.queue_name, '') LEFT JOIN backfill.queues q ON q.queue_name = j.queue_name
 WHERE s.cron = '0 3 * * *' ORDER BY s.name;
SELECT name, queue_name, priority, max_attempts, retry_policy FROM backfill.schedules WHERE cron = '0 3 * * *' ORDER BY name;
DELETE FROM backfill.job;
SELECT backfill.unschedule('ours'), backfill.unschedule('queued'), backfill.unregister_task('clean_up');
-- Again: replaced, not doubled; what is not in the file stays.
SELECT * FROM backfill.schedule_crontab('1 3 * * * clean_up');
SELECT name, cron FROM backfill.schedules ORDER BY name;
SELECT * FROM backfill.schedule_crontab(E'# nothing\r\n');
-- One mistake, and nothing of the file counts.
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n\n* * * * * second ?speed=9')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * first')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n0 25 * * * second')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * second ?max=2&max=3')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * second {a}')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * second ?max=0')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * second ?queue=dead_letter')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * second ?jobKey=%FF')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n* * * * * second {a: "\\uD800"}')$$);
CALL refused($$backfill.schedule_crontab(E'* * * * * first\n0 0 30 2 * second')$$);
CALL refused($$backfill.schedule_crontab(NULL)$$);
CALL refused($$backfill.add_cron_schedule(NULL)$$);
CALL refused($$backfill.add_cron_schedule(E'* * * * * a\n* * * * * b')$$);
CALL refused($$backfill.add_cron_schedule('# a')$$);
SELECT count(*) FROM backfill.schedules WHERE name IN ('first', 'second', 'a', 'b');

-- An offset would be taken for one to the west.
CALL refused($$backfill.schedule('west', '0 6 * * *', 'note', time_zone => '+02:00')$$);
CALL refused($$backfill.schedule('west', '0 6 * * *', 'note', time_zone => 'UTC-3')$$);
SELECT backfill.schedule('named', '0 6 * * *', 'note', time_zone => z) IS NOT NULL AS taken
  FROM unnest('{America/Port-au-Prince,Etc/GMT-2,EST5EDT}'::text[]) z;
