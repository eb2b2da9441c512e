-- A transaction finds jobs that it has enqueued itself, also below the place from which on committed
-- jobs are looked for: many have just left there, and a look has passed by what they left behind.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('own', queue_name => 'own');
CREATE PROCEDURE leave_dead_entries() LANGUAGE sql AS $$
    SELECT count(*) FROM (VALUES (1), (2)) v (p), backfill.enqueue_many('own', array_fill('{}'::jsonb, ARRAY[50]), priority => p);
    SELECT backfill.complete_jobs(array_agg(c.id), c.claim_token) FROM backfill.claim_jobs('w', max_jobs => 100) c GROUP BY c.claim_token;
$$;
CALL leave_dead_entries();
SELECT count(*) FROM backfill.claim_jobs('w', max_jobs => 100);

-- claim_jobs(), in one range and in several.
BEGIN;
SELECT backfill.enqueue('own', '1', priority => 1, run_at => '2001-01-01') IS NOT NULL AS enqueued;
SELECT priority, payload FROM backfill.claim_jobs('w', max_jobs => 100);
SAVEPOINT s;
SELECT backfill.enqueue('own', '2', priority => 2, run_at => '2001-01-01') IS NOT NULL AS enqueued;
SELECT priority, payload FROM backfill.claim_jobs('w', max_jobs => 100);
ROLLBACK TO s;
SELECT priority, payload FROM backfill.claim_jobs('w', max_jobs => 100);
ROLLBACK;
-- So does one that has put jobs into more ranges than it notes.
BEGIN;
SELECT count(backfill.enqueue('own', queue_name => 'other', priority => p, run_at => '2001-01-01')) FROM generate_series(100, 200) p;
SELECT backfill.enqueue('own', '1', priority => 1, run_at => '2001-01-01') IS NOT NULL AS enqueued;
SELECT priority, payload FROM backfill.claim_jobs('w', max_jobs => 1);
ROLLBACK;
-- A job that was moved to below that place.
SELECT backfill.enqueue('own', '3', priority => 1, run_at => now() + interval '1 day') AS id \gset
CALL leave_dead_entries();
SELECT count(*) FROM backfill.claim_jobs('w', max_jobs => 100);
BEGIN;
SELECT count(*) FROM backfill.reschedule_jobs(ARRAY[:id], run_at => '2001-01-01');
SELECT priority, payload FROM backfill.claim_jobs('w', max_jobs => 100);
ROLLBACK;
-- process_available_jobs().
CALL leave_dead_entries();
SELECT count(*) FROM backfill.claim_jobs('w', max_jobs => 100);
SELECT backfill.register_task('own', 'note(jsonb)', queue_name => 'own');
BEGIN;
SELECT backfill.enqueue('own', '4', priority => 2, run_at => '2001-01-01') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs();
SELECT * FROM effect;
ROLLBACK;
