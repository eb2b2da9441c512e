-- The surface of a node, routed. test/t/150_router.pl compares it with that of sql/install; docs/scale-out.md lists what is
-- not here. Comments say only what is different from the node's functions of these names.

CREATE FUNCTION backfill._make_job_columns()
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 'id bigint, task_identifier text, payload jsonb, queue_name text, priority smallint, priority_band text, run_at timestamptz, attempts smallint, max_attempts smallint, job_key text, retry_policy text, state text, last_error jsonb, worker text, lease_expires_at timestamptz, timeout interval, created_at timestamptz, progress double precision, progress_message text, flags text[], headers jsonb';
END;
CREATE FUNCTION backfill._make_letter_columns()
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 'id bigint, original_job_id bigint, task_identifier text, payload jsonb, queue_name text, priority smallint, job_key text, max_attempts smallint, failure_reason text, failure_count integer, last_error jsonb, original_created_at timestamptz, original_run_at timestamptz, failed_at timestamptz, requeued_count integer, last_requeued_at timestamptz, notes text, headers jsonb';
END;

-- --- Views ---

SELECT backfill._make_view('jobs', backfill._make_job_columns(), 'The jobs of all nodes.');
SELECT backfill._make_view('dlq', backfill._make_letter_columns(), 'The dead letters of all nodes.');
SELECT backfill._make_view('queues', 'queue_name text, concurrency integer, rate_limit integer, rate_period interval, max_depth integer, paused boolean, ready bigint, scheduled bigint, running bigint, leased bigint, oldest_ready_at timestamptz',
    'The queues of all nodes: fast and bulk are on each, and have its limits there; any other is on one.');
SELECT backfill._make_view('workers', 'pid integer, kind text, role name, state text, job_id bigint, task_identifier text, attempt integer, state_since timestamptz, started_at timestamptz, jobs_done bigint, jobs_failed bigint, progress double precision, progress_message text',
    'The background workers of all nodes.');
SELECT backfill._make_view('tasks', 'task_identifier text, kind text, handler text, handler_exists boolean, run_as text, queue_name text, priority smallint, max_attempts smallint, retry_policy text, timeout interval, notify_channel text, jobs bigint, registered_at timestamptz, keep_history interval, savepoint_per_job boolean',
    'The tasks of all nodes.');
SELECT backfill._make_view('schedules', 'name text, cron text, time_zone text, task_identifier text, payload jsonb, queue_name text, priority smallint, max_attempts smallint, job_key text, job_key_mode text, retry_policy text, timeout interval, fill interval, max_catchup integer, catchup text, next_run_at timestamptz, last_run_at timestamptz, known_since timestamptz, checked_until timestamptz, last_error text, scheduled_by text',
    'The schedules of all nodes; each is on one.');
SELECT backfill._make_view('history', 'id bigint, task_identifier text, queue_name text, priority smallint, job_key text, outcome text, attempts smallint, max_attempts smallint, created_at timestamptz, started_at timestamptz, finished_at timestamptz, worker text, result jsonb, error jsonb, earlier_errors jsonb, keep_until timestamptz, headers jsonb',
    'Jobs that have ended, of all nodes; each is where it ended.');
SELECT backfill._make_view('audit', 'id bigint, at timestamptz, actor text, role text, application_name text, client_addr inet, action text, kind text, objects text[], count bigint, job_id bigint, before jsonb, after jsonb',
    'Administrative calls, of all nodes. A call of the router is noted on each node where it was made, with the address of the router.');
SELECT backfill._make_view('retry_policies', 'policy_name text, max_attempts smallint, initial_delay interval, max_delay interval, multiplier double precision, jitter_factor double precision, preset boolean',
    'The retry policies of all nodes.');
SELECT backfill._make_view('error_rules', 'id integer, task_identifier text, sqlstate text, message_contains text, decision text, builtin boolean',
    'How errors are classified on the nodes.');

