-- One schedule that cannot be followed neither hides the others nor keeps them from being enqueued:
-- its row was edited, tzdata has dropped its zone, or its progress cannot be saved.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET timezone = 'UTC';
SELECT count(backfill.schedule(s, '* * * * *', 'note')) FROM unnest('{bad_cron,bad_mode,bad_time,bad_zone,good,unsaved}'::text[]) s;
UPDATE backfill.cron_schedule SET known_since = '2026-01-05 10:00', checked_until = '2026-01-05 10:00';
UPDATE backfill.cron_schedule SET time_zone = 'US/Pacific-New' WHERE name = 'bad_zone';
UPDATE backfill.cron_schedule SET cron = '61 * * * *' WHERE name = 'bad_cron';
UPDATE backfill.cron_schedule SET job_key_mode = 'perhaps' WHERE name = 'bad_mode';
UPDATE backfill.cron_schedule SET known_since = '-infinity', checked_until = '-infinity' WHERE name = 'bad_time';
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'this row is not to be changed'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON backfill.cron_schedule FOR EACH ROW WHEN (old.name = 'unsaved') EXECUTE FUNCTION refuse();

SELECT name, next_run_at FROM backfill.schedules ORDER BY name;
SELECT backfill._cron_tick('2026-01-05 10:01') AS enqueued;
SELECT name, last_run_at, checked_until, last_error FROM backfill.schedules ORDER BY name;
-- What could not be noted is not enqueued, or it would be again with every tick.
SELECT payload FROM backfill.job;
SELECT backfill._cron_tick('2026-01-05 10:02') AS enqueued;
SELECT status, detail ~ 'bad_cron: .*bad_mode: .*bad_zone: ' AS names_them FROM backfill.health() WHERE check_name = 'schedules';

-- The trouble is over: what was missed is filled in.
DROP TRIGGER refuse ON backfill.cron_schedule;
UPDATE backfill.cron_schedule SET time_zone = 'UTC', cron = '* * * * *', job_key_mode = 'replace', known_since = '2026-01-05 10:00', fill = '1 hour';
UPDATE backfill.cron_schedule SET checked_until = '2026-01-05 10:00' WHERE name = 'bad_time';
SELECT backfill._cron_tick('2026-01-05 10:03') AS enqueued;
SELECT name, last_run_at, last_error FROM backfill.schedules ORDER BY name;

-- cron_next() itself says what is wrong.
SELECT backfill.cron_next('* * * * *', 'US/Pacific-New');
