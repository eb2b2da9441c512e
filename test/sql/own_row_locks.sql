-- Jobs whose rows the transaction itself has locked or changed run in it like any other.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
SET statement_timeout = '10s';
SELECT backfill.register_task('note', 'note(jsonb)');

BEGIN;
SELECT backfill.enqueue('note', '1') AS id;
SELECT id FROM backfill.job FOR UPDATE;
CALL backfill.process_available_jobs();
ROLLBACK;
-- Rows of an earlier transaction.
SELECT count(*) FROM backfill.enqueue_many('note', '{2,3,4,5,6}');
BEGIN;
SELECT count(*) FROM (SELECT FROM backfill.job FOR SHARE) l;
SELECT count(*) FROM backfill.reschedule_jobs(ARRAY(SELECT id FROM backfill.job WHERE payload < '5'), priority => -1);
SAVEPOINT s;
SELECT count(*) FROM (SELECT FROM backfill.job FOR UPDATE) l;
ROLLBACK TO s;
CALL backfill.process_available_jobs(2);
SELECT payload FROM effect ORDER BY step;
-- They can be replaced under a key, cancelled and removed as well.
SELECT id IS NOT NULL AS found FROM backfill.job WHERE payload = '4' FOR UPDATE;
SELECT backfill.cancel_job((SELECT id FROM backfill.job WHERE payload = '4'));
SELECT count(*) FROM backfill.fail_jobs(ARRAY(SELECT id FROM backfill.job WHERE payload = '5'));
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;
COMMIT;
SELECT (SELECT count(*) FROM backfill.job) AS jobs, (SELECT count(*) FROM backfill.dlq) AS letters;
BEGIN;
SELECT backfill.enqueue('note', '"old"', job_key => 'k') IS NOT NULL AS enqueued;
SELECT count(*) FROM (SELECT FROM backfill.job FOR UPDATE) l;
SELECT backfill.enqueue('note', '"new"', job_key => 'k') IS NOT NULL AS replaced;
SELECT payload FROM backfill.jobs;
COMMIT;
