-- Limits of queues that change while jobs are leased, rates that change, and queues that are deleted.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SELECT backfill.register_task('ext');
CREATE FUNCTION add(queue text, jobs int) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(backfill.enqueue('ext', queue_name => queue)) FROM generate_series(1, jobs) $$;
CREATE FUNCTION claim(queue text, n int DEFAULT 1) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM backfill.claim_jobs('me', n, queues => ARRAY[queue]) $$;
-- Completes the leased job with the lowest place, or the highest.
CREATE FUNCTION complete(queue text, highest bool DEFAULT false) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM (SELECT j.id, j.claim_token FROM backfill.job j WHERE j.queue_name = queue AND j.lease_permit IS NOT NULL
                           ORDER BY CASE WHEN highest THEN -j.lease_permit ELSE j.lease_permit END, j.id LIMIT 1) j,
         LATERAL backfill.complete_jobs(ARRAY[j.id], j.claim_token) $$;
CREATE FUNCTION leased(queue text) RETURNS bigint LANGUAGE sql AS $$
    SELECT q.leased FROM backfill.queues q WHERE q.queue_name = queue $$;

-- From six to two: no more before fewer than two are leased, whatever places those have.
SELECT backfill.set_queue('low', 6), add('low', 20);
SELECT claim('low', 10);
SELECT backfill.set_queue('low', 2);
SELECT claim('low'), complete('low'), complete('low'), claim('low', 10), leased('low');
SELECT complete('low'), claim('low', 10), leased('low');
SELECT complete('low', true), claim('low', 10), leased('low');
SELECT complete('low', true), claim('low', 10), leased('low');
SELECT substring(backfill.why_not_running(min(id)) FROM '^[^:]+: [^:]+') FROM backfill.jobs WHERE queue_name = 'low' AND state = 'ready';
-- One after the other.
SELECT backfill.set_queue('low', 1);
SELECT complete('low'), claim('low', 10), leased('low');
SELECT complete('low'), claim('low', 10), leased('low');
SELECT backfill.set_queue('low', 3);
SELECT claim('low', 10), leased('low');

-- No limit before, in one transaction as well.
SELECT add('free', 10);
SELECT claim('free', 3);
BEGIN;
SELECT claim('free', 2);
SELECT backfill.enqueue_serial('ext', '{}', 'free') IS NOT NULL AS enqueued;
SELECT claim('free', 10);
COMMIT;
SELECT complete('free'), complete('free'), claim('free', 10), leased('free');
SELECT complete('free'), complete('free'), complete('free'), claim('free', 10), leased('free');

-- A row that is inserted by hand, over jobs without a limit.
SELECT add('hand', 3), claim('hand', 2);
INSERT INTO backfill.queue (queue_name, concurrency) VALUES ('hand', 2);
SELECT claim('hand');
SELECT complete('hand'), claim('hand', 3), leased('hand');

-- Many places: what is leased is looked at once, and not for each job.
SELECT backfill.set_queue('wide', 1000), add('wide', 900);
SELECT claim('wide', 200), claim('wide', 200);
SELECT claim('wide', 200);
SELECT claim('wide', 200);
BEGIN;
SELECT claim('wide', 150);
SELECT pg_stat_get_xact_tuples_returned('backfill.job_permit_idx'::regclass) < 5000 AS few_reads;
COMMIT;
SELECT leased('wide'), count(DISTINCT lease_permit) AS places, min(lease_permit) >= 0 AND max(lease_permit) < 1000 AS within FROM backfill.job WHERE queue_name = 'wide';
-- A transaction takes no more than 200 places.
BEGIN;
SELECT claim('wide', 100);
ROLLBACK;

-- Another period does not forget what has started.
SELECT backfill.set_queue('rated', rate_limit => 5, rate_period => '1 hour'), add('rated', 20);
SELECT claim('rated', 10);
SELECT backfill.set_queue('rated', rate_limit => 5, rate_period => '61 minutes');
SELECT claim('rated', 10);
SELECT backfill.set_queue('rated', rate_limit => 5, rate_period => '1 hour');
SELECT claim('rated', 10);
SELECT backfill.set_queue('rated', rate_limit => 7, rate_period => '1 day');
SELECT claim('rated', 10);

-- A role that may not set limits may not change those that are set.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_limits;
CREATE ROLE regress_limits;
SET client_min_messages = notice;
SELECT backfill.grant_producer('regress_limits');
GRANT USAGE ON SCHEMA test TO regress_limits;
SELECT backfill.set_queue('deep', max_depth => 10), backfill.pause_queue('paused');
SET ROLE regress_limits;
CALL refused($$backfill.enqueue_serial('ext', '{}', 'low')$$);
CALL refused($$backfill.enqueue_serial('ext', '{}', 'rated')$$);
CALL refused($$backfill.enqueue_serial('ext', '{}', 'deep')$$);
SELECT count(backfill.enqueue_serial('ext', '{}', q)) FROM unnest('{free,new,paused}'::text[]) q;
RESET ROLE;
SELECT queue_name, concurrency, rate_limit, max_depth, paused FROM backfill.queues WHERE queue_name IN ('low', 'rated', 'deep', 'new', 'paused') ORDER BY 1;
SELECT backfill.enqueue_serial('ext', '{}', 'low') IS NOT NULL AS enqueued;
SELECT concurrency FROM backfill.queues WHERE queue_name = 'low';

-- A queue goes when it has no jobs, waiting or leased.
CALL refused($$backfill.delete_queue('low')$$);
CALL refused($$backfill.delete_queue('bulk')$$);
CALL refused($$backfill.delete_queue('')$$);
CALL refused($$backfill.delete_queue(NULL)$$);
SELECT backfill.delete_queue('deep'), backfill.delete_queue('never was');
DELETE FROM backfill.job WHERE lease_permit IS NULL OR queue_name <> 'low';
CALL refused($$backfill.delete_queue('low')$$);
TRUNCATE backfill.job;
SELECT count(*) FILTER (WHERE backfill.delete_queue(queue_name)) AS deleted FROM backfill.queues WHERE queue_name NOT IN ('fast', 'bulk');
SELECT queue_name FROM backfill.queues ORDER BY 1;
SELECT add('low', 9), claim('low', 9);
REVOKE USAGE ON SCHEMA test FROM regress_limits;
DROP OWNED BY regress_limits;
DROP ROLE regress_limits;
