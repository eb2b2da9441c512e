-- External consumers: claim jobs over SQL, and say what became of them. A claim is a lease: it
-- runs out unless its consumer is heard of in time, and then its token is worth nothing.

CREATE FUNCTION backfill.claim_jobs(
    worker text,
    max_jobs integer DEFAULT 1,
    tasks text[] DEFAULT NULL,
    queues text[] DEFAULT NULL,
    lease interval DEFAULT '5 minutes',
    OUT id bigint,
    OUT task_identifier text,
    OUT payload jsonb,
    OUT queue_name text,
    OUT priority smallint,
    OUT run_at timestamptz,
    OUT attempt integer,
    OUT max_attempts integer,
    OUT job_key text,
    OUT last_error jsonb,
    OUT created_at timestamptz,
    OUT lease_expires_at timestamptz,
    OUT claim_token bigint,
    OUT headers jsonb)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_claim_jobs';
COMMENT ON FUNCTION backfill.claim_jobs(text, integer, text[], text[], interval) IS
    'Claim up to max_jobs ready jobs for an external consumer, best first, under one new token: a number below 2^53, exact in JSON, which no other claim gets, also after a failover. NULL: all tasks registered without a handler; all queues.';

CREATE FUNCTION backfill.heartbeat(claim_token bigint, lease interval DEFAULT '5 minutes')
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_heartbeat';
COMMENT ON FUNCTION backfill.heartbeat(bigint, interval) IS
    'Prolong a claim''s leases, which end after the interval lease from now; returns the jobs that the claim still has. Drop work on any other.';

CREATE FUNCTION backfill.complete_jobs(job_ids bigint[], claim_token bigint)
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_complete_claimed_jobs';
COMMENT ON FUNCTION backfill.complete_jobs(bigint[], bigint) IS
    'Claimed jobs are done; returns those that the claim still had. The leases of the others are over.';

CREATE FUNCTION backfill.fail_job(job_id bigint, claim_token bigint, error text, permanent boolean DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_fail_job';
COMMENT ON FUNCTION backfill.fail_job(bigint, bigint, text, boolean) IS
    'A claimed job has failed; permanent NULL: the error''s text decides. Returns retry, dead (in the dead letter queue), superseded (a newer job has its key) or lost (the claim does not have it any more).';

CREATE FUNCTION backfill.snooze_job(job_id bigint, claim_token bigint, delay interval)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_snooze_job';
COMMENT ON FUNCTION backfill.snooze_job(bigint, bigint, interval) IS
    'Give a claimed job back for later; costs no attempt. False if the claim does not have it any more.';

CREATE FUNCTION backfill.release_jobs(job_ids bigint[], claim_token bigint)
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_release_jobs';
COMMENT ON FUNCTION backfill.release_jobs(bigint[], bigint) IS
    'Give claimed jobs back, ready at once; costs no attempt. Returns those that the claim still had.';

-- No SET clause: the procedure ends its transaction before it waits.
CREATE PROCEDURE backfill.wait_for_jobs(
    timeout interval DEFAULT '30 seconds',
    tasks text[] DEFAULT NULL,
    queues text[] DEFAULT NULL,
    INOUT ready boolean DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_wait_for_jobs';
COMMENT ON PROCEDURE backfill.wait_for_jobs(interval, text[], text[], boolean) IS
    'Wait until claim_jobs() with these filters would find a job (true), or the timeout has passed (false). Holds no snapshot while it waits.';

CREATE FUNCTION backfill._expire_leases(older_than interval)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_expire_leases';
COMMENT ON FUNCTION backfill._expire_leases(interval) IS 'Ends leases that ran out longer ago than this; returns how many.';

CREATE FUNCTION backfill._take_leases(workers text[])
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_take_leases';
COMMENT ON FUNCTION backfill._take_leases(text[]) IS 'Ends all leases of these consumers; returns how many.';
