-- Schedules: jobs that are enqueued at certain minutes. The dispatcher ticks when one is due, or
-- pg_cron calls cron_tick() once a minute; which minutes are due, and that each is enqueued once, is
-- decided here.

CREATE TABLE backfill.cron_schedule (
    name text COLLATE "C" PRIMARY KEY CHECK (pg_catalog.length(name) BETWEEN 1 AND 128),
    cron text NOT NULL,
    time_zone text NOT NULL,
    fill interval NOT NULL,
    max_catchup integer NOT NULL CHECK (max_catchup >= 1),
    catchup text NOT NULL CHECK (catchup IN ('all', 'latest')),
    task_identifier text COLLATE "C" NOT NULL,
    queue_name text COLLATE "C", -- NULL: the task's; empty: no queue
    priority smallint,
    max_attempts smallint,
    job_key text COLLATE "C",
    job_key_mode text NOT NULL,
    retry_policy text COLLATE "C",
    timeout interval,
    -- Whose rights count when the jobs are enqueued.
    scheduled_by backfill.role NOT NULL,
    payload jsonb NOT NULL CHECK (pg_catalog.jsonb_typeof(payload) = 'object'),
    -- No minute before it is ever enqueued: the schedule, or its times, did not exist then.
    known_since timestamptz NOT NULL,
    -- Every minute up to here has been enqueued or left out for good.
    checked_until timestamptz NOT NULL,
    last_run_at timestamptz,
    last_error text
) WITH (fillfactor = 50); -- every row may be updated every minute
COMMENT ON TABLE backfill.cron_schedule IS 'Schedules and how far they have been followed; see the view backfill.schedules.';
SELECT pg_catalog.pg_extension_config_dump('backfill.cron_schedule', '');

CREATE FUNCTION backfill.schedule(
    name text,
    cron text,
    task_identifier text,
    payload jsonb DEFAULT '{}',
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    job_key_mode text DEFAULT 'replace',
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    time_zone text DEFAULT 'UTC',
    fill interval DEFAULT '0',
    max_catchup integer DEFAULT 1000,
    catchup text DEFAULT 'all')
RETURNS timestamptz LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_schedule';
COMMENT ON FUNCTION backfill.schedule(text, text, text, jsonb, text, integer, integer, text, text, text, interval, text, interval, integer, text) IS
    'Enqueue a job whenever a cron expression is due; the same name again replaces the schedule. Returns when it is due next.';

CREATE FUNCTION backfill.unschedule(name text)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_unschedule';
COMMENT ON FUNCTION backfill.unschedule(text) IS
    'Remove a schedule; jobs that it has enqueued stay. Returns false if there is none with that name.';

CREATE FUNCTION backfill.add_cron_schedule(line text)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_add_cron_schedule';
COMMENT ON FUNCTION backfill.add_cron_schedule(text) IS
    'Add or replace one schedule, given as a line of a Graphile Worker crontab. Returns its name.';

CREATE FUNCTION backfill.schedule_crontab(crontab text)
RETURNS SETOF text LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'backfill_schedule_crontab';
COMMENT ON FUNCTION backfill.schedule_crontab(text) IS
    'Add or replace the schedules of a Graphile Worker crontab, all of them or, if a line is wrong, none. Others stay. Returns their names.';

CREATE FUNCTION backfill.cron_next(cron text, time_zone text DEFAULT 'UTC', after timestamptz DEFAULT NULL)
RETURNS timestamptz LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_cron_next';
COMMENT ON FUNCTION backfill.cron_next(text, text, timestamptz) IS
    'The first time after a given one (NULL: now) at which a cron expression is due; NULL if it never is.';

CREATE FUNCTION backfill.cron_tick()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cron_tick';
COMMENT ON FUNCTION backfill.cron_tick() IS
    'Enqueue what is due; a clock other than the dispatcher calls it once a minute. Returns the number of jobs. Calling it more often, or late, does no harm.';

CREATE FUNCTION backfill._cron_tick(now timestamptz)
RETURNS bigint LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cron_tick_at';
COMMENT ON FUNCTION backfill._cron_tick(timestamptz) IS
    'Run a tick at a given time (in tests): what it has decided about that time is final.';

CREATE FUNCTION backfill._next_run_at(cron text, time_zone text, after timestamptz)
RETURNS timestamptz LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_next_run_at';
COMMENT ON FUNCTION backfill._next_run_at(text, text, timestamptz) IS
    'cron_next() for the view schedules, where one schedule that cannot be followed must not hide the others: NULL if the expression cannot be read or the time zone is unknown.';

CREATE VIEW backfill.schedules AS
SELECT s.name,
       s.cron,
       s.time_zone,
       s.task_identifier,
       CASE WHEN pg_catalog.has_table_privilege('backfill.cron_schedule', 'SELECT') THEN s.payload END AS payload,
       s.queue_name,
       s.priority,
       s.max_attempts,
       s.job_key,
       s.job_key_mode,
       s.retry_policy,
       s.timeout,
       s.fill,
       s.max_catchup,
       s.catchup,
       backfill._next_run_at(s.cron, s.time_zone, greatest(s.known_since, s.checked_until)) AS next_run_at,
       s.last_run_at,
       s.known_since,
       s.checked_until,
       CASE WHEN pg_catalog.has_table_privilege('backfill.cron_schedule', 'SELECT') THEN s.last_error
            WHEN s.last_error IS NOT NULL THEN 'the last tick could not enqueue' END AS last_error,
       s.scheduled_by::text COLLATE "C" AS scheduled_by
  FROM backfill.cron_schedule s;
COMMENT ON VIEW backfill.schedules IS 'Schedules, when they ran last and when they run next.';
COMMENT ON COLUMN backfill.schedules.queue_name IS 'NULL: the queue of the task; empty: none, as in a crontab line without queue.';
COMMENT ON COLUMN backfill.schedules.next_run_at IS 'The next due minute that no tick has dealt with. It lies in the past if the clock stands still: see health(). NULL if there is none, or if the schedule cannot be followed: see last_error.';
COMMENT ON COLUMN backfill.schedules.last_run_at IS 'The due minute of the last job that was enqueued.';
COMMENT ON COLUMN backfill.schedules.known_since IS 'When the schedule was made or its times were changed; it is never filled before that.';
COMMENT ON COLUMN backfill.schedules.checked_until IS 'Every minute up to here has been enqueued or left out for good. With the dispatcher as the clock it is the last one that was due, with any other the last tick.';
COMMENT ON COLUMN backfill.schedules.last_error IS 'Why the last tick could not enqueue; it is tried again at the next tick. The message is hidden from roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.schedules.scheduled_by IS 'The role that called schedule() last: the jobs are enqueued with its rights. "(missing)": it does not exist (any more); call schedule() again.';
COMMENT ON COLUMN backfill.schedules.payload IS 'NULL for roles that may not read payloads (monitors).';
