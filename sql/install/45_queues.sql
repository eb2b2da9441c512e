-- Queues: limits, pause and resume.

CREATE FUNCTION backfill.set_queue(
    queue_name text,
    concurrency integer DEFAULT NULL,
    rate_limit integer DEFAULT NULL,
    rate_period interval DEFAULT '1 second',
    max_depth integer DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_queue';
COMMENT ON FUNCTION backfill.set_queue(text, integer, integer, interval, integer) IS
    'Set all limits of a queue: jobs that run at once, that start per period, that wait or run in all. NULL: no limit (queues fast and bulk: the setting).';

CREATE FUNCTION backfill.pause_queue(queue_name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_pause_queue';
COMMENT ON FUNCTION backfill.pause_queue(text) IS 'Start no more jobs of a queue; running jobs finish, and jobs can be enqueued.';

CREATE FUNCTION backfill.resume_queue(queue_name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_resume_queue';
COMMENT ON FUNCTION backfill.resume_queue(text) IS 'Run the jobs of a paused queue again.';
