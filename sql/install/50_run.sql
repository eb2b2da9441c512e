-- Running jobs in the caller's session, and what the server's workers tell about themselves.

-- No SET clause: the procedure commits between its batches.
CREATE PROCEDURE backfill.process_available_jobs(
    max_jobs integer DEFAULT NULL,
    tasks text[] DEFAULT NULL,
    INOUT processed bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_process_available_jobs';
COMMENT ON PROCEDURE backfill.process_available_jobs(integer, text[], bigint) IS
    'Run the ready jobs of tasks that run as the current user, in this session; needs no workers. Returns how many ran. Jobs whose handler is a procedure are left to the workers.';

CREATE FUNCTION backfill._now()
RETURNS timestamptz LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_now';
COMMENT ON FUNCTION backfill._now() IS 'The time that the queue goes by: that of the machine, or backfill.fake_now.';

CREATE FUNCTION backfill._workers(
    OUT pid integer,
    OUT kind text,
    OUT role_oid oid,
    OUT state text,
    OUT xid xid,
    OUT job_id bigint,
    OUT task_identifier text,
    OUT attempt integer,
    OUT started_at timestamptz,
    OUT state_since timestamptz,
    OUT jobs_done bigint,
    OUT jobs_failed bigint,
    OUT progress double precision,
    OUT progress_message text)
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'backfill_workers';
COMMENT ON FUNCTION backfill._workers() IS 'This database''s workers, from shared memory; the rows of the view backfill.workers.';

CREATE FUNCTION backfill._claimed(ctid tid, xmax xid)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_claimed';
COMMENT ON FUNCTION backfill._claimed(tid, xid) IS
    'Whether a visible row of backfill.job is being run: a transaction in progress has deleted it. One that only locks it does not count.';

CREATE FUNCTION backfill._installed()
RETURNS void LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_installed';
COMMENT ON FUNCTION backfill._installed() IS 'Tells the launcher, at commit, that this database has the extension now.';

CREATE FUNCTION backfill._queue_limit(queue_name text)
RETURNS integer LANGUAGE c STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_queue_limit';
COMMENT ON FUNCTION backfill._queue_limit(text) IS 'How many jobs of a queue may run at once; NULL: no limit.';
