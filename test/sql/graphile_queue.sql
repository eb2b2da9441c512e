-- A named queue of add_job() and add_jobs() runs one job at a time, as in Graphile Worker;
-- unless set_queue() has given it another limit, or it is one of the two that all producers share.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
CREATE VIEW queue AS SELECT queue_name, concurrency, ready FROM backfill.queues ORDER BY queue_name;

SELECT (backfill.add_job('t', queue_name => 'named')).queue_name, (backfill.add_job('t')).queue_name IS NULL AS none;
SELECT count(*) FROM backfill.add_jobs(ARRAY[('t', NULL, 'of add_jobs', NULL, NULL, NULL, NULL, NULL), ('t', NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::backfill.job_spec[]);
TABLE queue;
-- A limit that is there already stays.
SELECT backfill.set_queue('four', 4), backfill.set_queue('unlimited');
SELECT count(backfill.add_job('t', queue_name => q)) FROM unnest('{four,unlimited,fast,bulk}'::text[]) q;
SELECT queue_name, concurrency FROM queue WHERE queue_name NOT IN ('named', 'of add_jobs');
-- It is made in the producer's transaction.
BEGIN;
SELECT (backfill.add_job('t', queue_name => 'rolled back')).id IS NOT NULL AS added;
ROLLBACK;
SELECT count(*) FROM queue WHERE queue_name = 'rolled back';
-- Producers need no right on queues for it.
CREATE ROLE regress_graphile;
SELECT backfill.grant_producer('regress_graphile');
SET ROLE regress_graphile;
SELECT (backfill.add_job('t', queue_name => 'theirs')).queue_name;
RESET ROLE;
SELECT concurrency FROM queue WHERE queue_name = 'theirs';
DROP OWNED BY regress_graphile;
DROP ROLE regress_graphile;
