-- Every bad argument of the enqueue functions is refused, with an error that names the
-- argument and the value. Nothing is enqueued.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

-- The error as a client sees it.
SELECT backfill.enqueue('t', priority => 40000);
\echo :LAST_ERROR_SQLSTATE

-- task_identifier
CALL refused($$backfill.enqueue(NULL)$$);
CALL refused($$backfill.enqueue('')$$);
CALL refused($$backfill.enqueue(repeat('x', 129))$$);
CALL refused($$backfill.enqueue(repeat('ä', 129))$$);

-- payload
CALL refused($$backfill.enqueue('t', 'no json')$$);
CALL refused($$backfill.enqueue('t', 1)$$);
CALL refused($$backfill.enqueue('t', '{}'::json)$$);

-- queue_name
CALL refused($$backfill.enqueue('t', queue_name => '')$$);
CALL refused($$backfill.enqueue('t', queue_name => repeat('q', 129))$$);
CALL refused($$backfill.enqueue('t', queue_name => 'dead_letter')$$);

-- priority
CALL refused($$backfill.enqueue('t', priority => 32768)$$);
CALL refused($$backfill.enqueue('t', priority => -32769)$$);
CALL refused($$backfill.enqueue('t', priority => backfill.priority('URGENT'))$$);

-- run_at
CALL refused($$backfill.enqueue('t', run_at => 'infinity')$$);
CALL refused($$backfill.enqueue('t', run_at => '-infinity')$$);
CALL refused($$backfill.enqueue('t', run_at => 'soon')$$);

-- max_attempts
CALL refused($$backfill.enqueue('t', max_attempts => 0)$$);
CALL refused($$backfill.enqueue('t', max_attempts => -1)$$);
CALL refused($$backfill.enqueue('t', max_attempts => 32768)$$);

-- job_key
CALL refused($$backfill.enqueue('t', job_key => '')$$);
CALL refused($$backfill.enqueue('t', job_key => repeat('k', 513))$$);

-- job_key_mode
CALL refused($$backfill.enqueue('t', job_key => 'k', job_key_mode => 'merge')$$);
CALL refused($$backfill.enqueue('t', job_key => 'k', job_key_mode => NULL)$$);
CALL refused($$backfill.enqueue('t', job_key => 'k', job_key_mode => 'REPLACE')$$);

-- retry_policy
CALL refused($$backfill.enqueue('t', retry_policy => 'slow')$$);
CALL refused($$backfill.enqueue('t', retry_policy => '')$$);

-- The short forms check the same.
CALL refused($$backfill.enqueue_fast(NULL)$$);
CALL refused($$backfill.enqueue_bulk('')$$);
CALL refused($$backfill.enqueue_emergency(repeat('x', 129))$$);
CALL refused($$backfill.enqueue_critical('t', job_key => '')$$);
CALL refused($$backfill.enqueue_fast_with_retries('t', '{}', repeat('k', 513))$$);
CALL refused($$backfill.enqueue_bulk_with_retries(NULL, '{}')$$);

-- enqueue_serial
CALL refused($$backfill.enqueue_serial('t', '{}', NULL)$$);
CALL refused($$backfill.enqueue_serial('t', '{}', '')$$);
CALL refused($$backfill.enqueue_serial('t', '{}', 'dead_letter')$$);
CALL refused($$backfill.enqueue_serial('t', '{}', 'fast')$$);
CALL refused($$backfill.enqueue_serial('t', '{}', 'bulk')$$);

-- enqueue_many
CALL refused($$backfill.enqueue_many(NULL, ARRAY['1']::jsonb[])$$);
CALL refused($$backfill.enqueue_many('t', NULL)$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1', NULL, '3']::jsonb[])$$);
CALL refused($$backfill.enqueue_many('', ARRAY['1']::jsonb[])$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1']::jsonb[], queue_name => '')$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1']::jsonb[], priority => 32768)$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1']::jsonb[], run_at => 'infinity')$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1']::jsonb[], max_attempts => 0)$$);
CALL refused($$backfill.enqueue_many('t', ARRAY['1']::jsonb[], retry_policy => 'slow')$$);
-- A bad argument is one also when there is nothing to enqueue.
CALL refused($$count(*) FROM backfill.enqueue_many('', '{}')$$);
CALL refused($$count(*) FROM backfill.enqueue_many('t', '{}', max_attempts => 0)$$);

-- enqueue_jobs: the array itself
CALL refused($$backfill.enqueue_jobs(NULL)$$);
CALL refused($$backfill.enqueue_jobs('{"task_identifier": "t"}')$$);
CALL refused($$backfill.enqueue_jobs('"t"')$$);
CALL refused($$backfill.enqueue_jobs('null')$$);

-- enqueue_jobs: an element
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t"}, "t"]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t"}, null]')$$);
CALL refused($$backfill.enqueue_jobs('[["t"]]')$$);
CALL refused($$backfill.enqueue_jobs('[{}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": null}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": ""}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": 7}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "que": "x"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "queue_name": 1}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "queue_name": "dead_letter"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "priority": "high"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "priority": 1.5}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "priority": 1e40}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t"}, {"task_identifier": "t", "priority": 1e400}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "max_attempts": -1e400}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "priority": 32768}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "max_attempts": 0}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "max_attempts": true}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "run_at": "soon"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "run_at": 1700000000}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "run_at": "infinity"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "job_key": 5}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "job_key": ""}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "job_key": "k", "job_key_mode": "merge"}]')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t", "retry_policy": "slow"}]')$$);

-- Where in the list it is, as a client sees it.
SELECT backfill.enqueue_jobs('[{"task_identifier": "t"}, {"task_identifier": "t", "run_at": "soon"}]');
SELECT backfill.enqueue_jobs('[{"task_identifier": "t"}, {"task_identifier": "t", "max_attempts": 0}]');

-- One bad element keeps the good ones out, too; and none of all this left a job.
SELECT count(*) FROM backfill.jobs;

-- What is just within the limits is accepted.
SELECT count(backfill.enqueue(repeat('ä', 128), queue_name => repeat('q', 128), priority => p, max_attempts => m, job_key => repeat('k', 512)))
  FROM (VALUES (-32768, 1), (32767, 32767)) v(p, m);
SELECT priority, max_attempts FROM backfill.jobs;
