-- What operators change by hand: update_job(), and letters by their ids; workers are off.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT backfill.register_task('note', 'note(jsonb)');
SELECT backfill.set_retry_policy('patient', 9);
SELECT backfill.enqueue('note', '"old"', 'first', 5, now() + interval '1 hour', 4, 'the key', timeout => '1 minute', headers => '{"h": 1}') AS id \gset

-- Each value alone; all else stays.
CREATE VIEW shown AS
SELECT j.id, j.payload, j.queue_name, j.priority, j.run_at > now() + interval '10 minutes' AS later, j.max_attempts, j.retry_policy, j.timeout, j.headers, j.job_key, j.state
  FROM backfill.jobs j;
SELECT * FROM shown;
SELECT payload, state FROM backfill.update_job(:id, '"new"');
SELECT queue_name, state FROM backfill.update_job(:id, queue_name => 'second');
SELECT priority, state FROM backfill.update_job(:id, priority => -3);
SELECT max_attempts, retry_policy FROM backfill.update_job(:id, max_attempts => 2);
SELECT max_attempts, retry_policy FROM backfill.update_job(:id, retry_policy => 'patient');
SELECT retry_policy FROM backfill.update_job(:id, retry_policy => 'default');
SELECT retry_policy IS NULL AS as_enqueued FROM backfill.job;
SELECT timeout FROM backfill.update_job(:id, timeout => '90 s');
SELECT headers FROM backfill.update_job(:id, headers => '{"h": 2}');
SELECT * FROM shown;
SELECT headers IS NULL AS none FROM backfill.update_job(:id, headers => '{}');
-- A JSON null is a payload; NULL is none.
SELECT payload FROM backfill.update_job(:id, 'null');
SELECT payload, priority FROM backfill.update_job(:id);
SELECT created_at AS created FROM backfill.jobs \gset
-- Everything at once; it is ready then, runs, and does what it is to do now.
SELECT id = :id AS same_id, payload, queue_name, priority, max_attempts, retry_policy, timeout, headers, job_key, state, created_at = :'created' AS as_old
  FROM backfill.update_job(:id, '"all"', 'third', 1, now(), 3, 'patient', '5 s', '{"h": 3}');
CALL backfill.process_available_jobs();
SELECT payload FROM effect;
-- Its key still finds it.
SELECT backfill.enqueue('note', '1', job_key => 'other key') AS id \gset
SELECT id = :id AS updated FROM backfill.update_job(:id, '2');
SELECT backfill.enqueue('note', '3', job_key => 'other key') = :id AS the_same;
SELECT payload FROM backfill.jobs;

-- What does not wait is no error: done, dead, leased, unknown, NULL.
SELECT backfill.register_task('elsewhere');
SELECT backfill.enqueue('elsewhere') AS leased \gset
SELECT id = :leased AS claimed FROM backfill.claim_jobs('w');
SELECT backfill.enqueue('note', '4') AS dead \gset
SELECT backfill.add_to_dlq(:dead, 'by hand') > 0 AS dead;
SELECT count(*) FROM unnest(ARRAY[1, :leased, :dead, 999999, NULL, -1, 9223372036854775807]) i, LATERAL backfill.update_job(i, '"changed"');
SELECT payload FROM backfill.dlq;
-- Not even its own transaction's job that is being run.
CREATE FUNCTION itself(payload jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO test.effect (payload) SELECT to_jsonb(count(*)) FROM backfill.current_job() c, LATERAL backfill.update_job(c.id, '"changed"') $$;
SELECT backfill.register_task('itself', 'itself(jsonb)');
SELECT backfill.enqueue('itself') > 0 AS enqueued;
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step DESC LIMIT 1;

-- The checks are those of enqueue(), before anything is looked for.
CALL refused($$backfill.update_job(999999, queue_name => '')$$);
CALL refused($$backfill.update_job(999999, queue_name => 'dead_letter')$$);
CALL refused($$backfill.update_job(999999, queue_name => repeat('x', 129))$$);
CALL refused($$backfill.update_job(999999, priority => 40000)$$);
CALL refused($$backfill.update_job(999999, run_at => 'infinity')$$);
CALL refused($$backfill.update_job(999999, max_attempts => 0)$$);
CALL refused($$backfill.update_job(999999, max_attempts => 32768)$$);
CALL refused($$backfill.update_job(999999, retry_policy => 'unknown')$$);
CALL refused($$backfill.update_job(999999, timeout => '-1 s')$$);
CALL refused($$backfill.update_job(999999, headers => '[1]')$$);
CALL refused($$backfill.update_job(999999, headers => 'null')$$);
-- Attempts that it has had are not taken back; what is wrong leaves the job as it was.
SELECT backfill.enqueue('note', '"tried"', run_at => '2100-01-01', max_attempts => 5) AS id \gset
UPDATE backfill.job SET attempts = 3 WHERE id = :id;
SELECT format('backfill.update_job(%s, ''"x"'', max_attempts => 3)', :id) AS call \gset
CALL refused(:'call');
SELECT payload, attempts, max_attempts FROM backfill.update_job(:id, max_attempts => 4);

-- A queue's depth counts, unless the job is in it already.
SELECT backfill.set_queue('small', max_depth => 2);
SELECT count(*) FROM backfill.enqueue_many('note', '{1,2}', 'small', run_at => '2100-01-01');
SELECT format('backfill.update_job(%s, queue_name => ''small'')', :id) AS call \gset
CALL refused(:'call');
SELECT queue_name FROM backfill.get_job(:id);
SELECT count(*) FROM backfill.jobs j, LATERAL backfill.update_job(j.id, '"in it"', 'small') u WHERE j.queue_name = 'small';
SELECT count(backfill.cancel_job(j.id)) FROM (SELECT id FROM backfill.jobs WHERE queue_name = 'small' LIMIT 1) j;
SELECT queue_name FROM backfill.update_job(:id, queue_name => 'small');
-- A paused queue holds it back, another one lets it go.
SELECT backfill.enqueue('note', '"held"', 'held') AS id \gset
SELECT backfill.pause_queue('held');
CALL backfill.process_available_jobs();
SELECT count(*) FROM effect WHERE payload = '"held"';
SELECT queue_name, state FROM backfill.update_job(:id, queue_name => 'bulk');
CALL backfill.process_available_jobs();
SELECT count(*) FROM effect WHERE payload = '"held"';
-- A requeued job: its letter keeps the old payload until the job fails again, and goes when it succeeds.
SELECT backfill.requeue_dlq_job(id) = :dead AS requeued FROM backfill.dlq;
SELECT id = :dead AS updated FROM backfill.update_job(:dead, '"corrected"');
SELECT payload FROM backfill.dlq;
CALL backfill.process_available_jobs();
SELECT payload, (SELECT count(*) FROM backfill.dlq) AS letters FROM effect ORDER BY step DESC LIMIT 1;
-- Rolled back to a savepoint: as it was.
SELECT backfill.enqueue('note', '"before"', run_at => '2100-01-01') AS id \gset
BEGIN;
SAVEPOINT s;
SELECT payload FROM backfill.update_job(:id, '"after"');
ROLLBACK TO s;
SELECT payload FROM backfill.get_job(:id);
COMMIT;
CALL refused($$backfill.update_job((SELECT 1 FROM set_config('transaction_read_only', 'on', true)))$$);

-- Letters by their ids, the oldest failure first; what is not there, or named twice, does no harm.
TRUNCATE backfill.job, backfill.dead_letter RESTART IDENTITY;
INSERT INTO backfill.dead_letter (original_job_id, task_identifier, payload, job_key, priority, max_attempts, failure_reason, failure_count, original_created_at, original_run_at, failed_at)
SELECT 100 + i, 'note', to_jsonb(i), CASE WHEN i IN (5, 6) THEN 'key ' || i END, 3, 5, 'because', 5, '2020-01-01', '2020-01-01', timestamptz '2020-01-02' - i * interval '1 minute'
  FROM generate_series(1, 8) i;
SELECT string_agg(id::text, ' ') AS requeued FROM backfill.requeue_dlq_jobs('{1,3,3,NULL,999,2}'::bigint[], 'again') id;
SELECT id, payload, state FROM backfill.jobs ORDER BY id;
SELECT id, requeued_count, notes FROM backfill.dlq WHERE requeued_count > 0 ORDER BY id;
-- What waits already, itself or under its key, is passed over.
SELECT backfill.enqueue('note', job_key => 'key 5') > 0 AS enqueued;
SELECT string_agg(id::text, ' ') AS requeued FROM backfill.requeue_dlq_jobs('{1,4,5,6}'::bigint[]) id;
SELECT count(*) FROM backfill.requeue_dlq_jobs('{}'::bigint[]);
SELECT count(*) FROM backfill.requeue_dlq_jobs(NULL::bigint[]);
-- The filters are not meant where no type is given: an array without one is a task's name, as it always was.
SELECT count(*) FROM backfill.requeue_dlq_jobs('{7}');
SELECT backfill.delete_dlq_jobs('{7,7,NULL,999,5}'), backfill.delete_dlq_jobs('{7}'), backfill.delete_dlq_jobs('{}'), backfill.delete_dlq_jobs(NULL);
SELECT string_agg(id::text, ' ' ORDER BY id) AS left FROM backfill.dlq;
