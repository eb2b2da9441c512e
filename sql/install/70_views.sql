-- What users look at. A payload, or an error's text, which may quote it, is shown only to roles that may read backfill.job
-- (admins and consumers), so that monitors can watch without seeing data.

CREATE VIEW backfill.jobs AS
SELECT j.id,
       j.task_identifier,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN j.payload END AS payload,
       nullif(j.queue_name, '') AS queue_name,
       j.priority,
       backfill.priority_band(j.priority) AS priority_band,
       j.run_at,
       j.attempts,
       j.max_attempts,
       j.job_key,
       coalesce(j.retry_policy, 'default') AS retry_policy,
       CASE WHEN j.lease_expires_at = 'infinity' THEN 'running' -- a procedure
            WHEN j.lease_expires_at > backfill._now() THEN 'leased'
            WHEN backfill._claimed(j.ctid, j.xmax) THEN 'running'
            WHEN j.run_at > backfill._now() THEN 'scheduled'
            ELSE 'ready' END AS state,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN j.last_error
            WHEN j.last_error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', j.last_error -> 'sqlstate') END AS last_error,
       coalesce(j.worker, w.kind || ' ' || w.pid) AS worker,
       nullif(j.lease_expires_at, 'infinity') AS lease_expires_at,
       j.timeout_ms * interval '1 millisecond' AS timeout,
       j.created_at,
       p.progress,
       p.progress_message,
       j.flags,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN j.headers END AS headers
  FROM backfill.job j
  LEFT JOIN backfill._workers() w ON w.xid = j.xmax
  -- An executor that has met an error of ours still shows the job that it ran, which another may run by now.
  LEFT JOIN backfill._workers() p ON p.job_id = j.id
        AND (p.xid = j.xmax OR j.lease_expires_at = 'infinity' AND j.worker = p.kind || ' ' || p.pid);
COMMENT ON VIEW backfill.jobs IS 'Jobs that are scheduled, ready, running or leased. Finished jobs are gone; failed ones are in backfill.dlq.';
COMMENT ON COLUMN backfill.jobs.state IS 'scheduled (run_at is in the future), ready, running (in a worker now), leased (by an external consumer). In a row that a function returns also dead (in the dead letter queue), or NULL: it is gone, or goes when its present run ends.';
COMMENT ON COLUMN backfill.jobs.attempts IS 'Failed attempts so far; the running one does not count.';
COMMENT ON COLUMN backfill.jobs.timeout IS 'How long the job may run; NULL: as long as its task says.';
COMMENT ON COLUMN backfill.jobs.payload IS 'NULL for roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.jobs.last_error IS 'sqlstate, message, detail, hint and context; only sqlstate for roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.jobs.progress IS 'How much of a running job is done, 0 to 1, as its handler says by set_progress(); NULL: it has not said.';
COMMENT ON COLUMN backfill.jobs.worker IS 'The process that runs the job: a worker of this server with its pid, or the name an external consumer gave.';
COMMENT ON COLUMN backfill.jobs.flags IS 'As add_job() got them; they mean nothing to the server.';
COMMENT ON COLUMN backfill.jobs.headers IS 'What the job carries besides its payload, such as traceparent; NULL for roles that may not read payloads (monitors).';

CREATE VIEW backfill.queues AS
SELECT coalesce(c.queue_name, j.queue_name) AS queue_name,
       backfill._queue_limit(coalesce(c.queue_name, j.queue_name)) AS concurrency,
       q.rate_limit,
       q.rate_period,
       q.max_depth,
       coalesce(q.paused, false) AS paused,
       coalesce(j.ready, 0) AS ready,
       coalesce(j.scheduled, 0) AS scheduled,
       coalesce(j.running, 0) AS running,
       coalesce(j.leased, 0) AS leased,
       j.oldest_ready_at
  FROM (SELECT 'fast' COLLATE "C" AS queue_name UNION SELECT 'bulk' UNION SELECT q.queue_name FROM backfill.queue q) c
  FULL JOIN (SELECT s.queue_name,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'ready') AS ready,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'scheduled') AS scheduled,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'running') AS running,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'leased') AS leased,
                    pg_catalog.min(s.run_at) FILTER (WHERE s.state = 'ready') AS oldest_ready_at
               FROM backfill.jobs s WHERE s.queue_name IS NOT NULL GROUP BY s.queue_name) j
    ON j.queue_name = c.queue_name
  LEFT JOIN backfill.queue q ON q.queue_name = c.queue_name;
COMMENT ON VIEW backfill.queues IS 'Queues with their limits and how many jobs wait in them.';
COMMENT ON COLUMN backfill.queues.concurrency IS 'How many jobs of the queue may run at once; NULL: no limit.';
COMMENT ON COLUMN backfill.queues.rate_limit IS 'How many jobs of the queue may start in any rate_period; NULL: no limit.';
COMMENT ON COLUMN backfill.queues.max_depth IS 'Enqueueing fails with SQLSTATE JB001 while max_depth jobs wait or run; NULL: no limit.';
COMMENT ON COLUMN backfill.queues.oldest_ready_at IS 'run_at of the ready job that has waited longest.';

CREATE VIEW backfill.workers AS
SELECT w.pid,
       w.kind,
       r.rolname AS role,
       w.state,
       w.job_id,
       w.task_identifier,
       w.attempt,
       w.state_since,
       w.started_at,
       w.jobs_done,
       w.jobs_failed,
       w.progress,
       w.progress_message
  FROM backfill._workers() w
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = w.role_oid;
COMMENT ON VIEW backfill.workers IS 'The background workers of this database and what they do now.';
COMMENT ON COLUMN backfill.workers.state_since IS 'While a job runs: when it began.';
COMMENT ON COLUMN backfill.workers.progress IS 'Of the running job, 0 to 1, as its handler says by set_progress().';
COMMENT ON COLUMN backfill.workers.jobs_done IS 'Jobs that this worker has finished since it started.';

CREATE VIEW backfill.tasks AS
SELECT coalesce(t.task_identifier, j.task_identifier) AS task_identifier,
       CASE WHEN t.task_identifier IS NULL THEN 'unregistered'
            WHEN t.handler_name IS NULL THEN 'external'
            WHEN t.handler_is_procedure THEN 'procedure'
            ELSE 'function' END AS kind,
       h.handler,
       -- Not by to_regprocedure(), which refuses roles that may not use the function's schema.
       CASE WHEN h.handler IS NOT NULL THEN EXISTS (SELECT FROM pg_catalog.pg_proc p
                 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname = t.handler_schema AND p.proname = t.handler_name
                  AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype) END AS handler_exists,
       t.run_as::text COLLATE "C" AS run_as,
       t.queue_name,
       t.priority,
       t.max_attempts,
       t.retry_policy,
       t.timeout,
       t.notify_channel,
       coalesce(j.jobs, 0) AS jobs,
       t.registered_at,
       t.keep_history,
       t.savepoint_per_job
  FROM backfill.task t
  FULL JOIN (SELECT k.task_identifier, pg_catalog.count(*) AS jobs FROM backfill.job k GROUP BY k.task_identifier) j
    ON j.task_identifier = t.task_identifier
 CROSS JOIN LATERAL (
     SELECT CASE WHEN t.handler_name IS NOT NULL THEN
                pg_catalog.format('%I.%I(%s)', t.handler_schema, t.handler_name,
                                  pg_catalog.array_to_string(t.handler_argtypes, ', ')) END AS handler) h;
COMMENT ON VIEW backfill.tasks IS 'Registered tasks, and unregistered ones that have jobs.';
COMMENT ON COLUMN backfill.tasks.kind IS 'function (the server runs it), procedure (the server runs it; it may commit), external (consumers claim its jobs), unregistered (jobs wait until the task is registered or a consumer claims them)';
COMMENT ON COLUMN backfill.tasks.handler_exists IS 'false: the function was dropped or changed; its jobs go to the dead letter queue until it is back. NULL: the task has none.';
COMMENT ON COLUMN backfill.tasks.run_as IS 'The role that jobs run as. "(missing)": it does not exist (any more); a new role of that name is another one. Register the task again.';
COMMENT ON COLUMN backfill.tasks.keep_history IS 'How long ended jobs stay in backfill.history; NULL: not at all.';
COMMENT ON COLUMN backfill.tasks.savepoint_per_job IS 'Each job runs in a savepoint of its own; false: executors decide (backfill.savepoint_per_job).';
COMMENT ON COLUMN backfill.tasks.jobs IS 'Jobs of the task that wait or run now.';

CREATE VIEW backfill.dlq AS
SELECT d.id,
       d.original_job_id,
       d.task_identifier,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.payload END AS payload,
       d.queue_name,
       d.priority,
       d.job_key,
       d.max_attempts,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.failure_reason END AS failure_reason,
       d.failure_count,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.last_error
            WHEN d.last_error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', d.last_error -> 'sqlstate') END AS last_error,
       d.original_created_at,
       d.original_run_at,
       d.failed_at,
       d.requeued_count,
       d.last_requeued_at,
       d.notes,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.headers END AS headers
  FROM backfill.dead_letter d;
COMMENT ON VIEW backfill.dlq IS 'The dead letter queue: jobs that failed for good.';
COMMENT ON COLUMN backfill.dlq.headers IS 'What the job carried besides its payload; it does again when it is requeued. NULL for roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.dlq.original_run_at IS 'When the last run was due, so after retries not the first.';
COMMENT ON COLUMN backfill.dlq.last_error IS 'sqlstate, message, detail, hint and context of the last error; only sqlstate for roles that may not read payloads (monitors), and no failure_reason';

CREATE VIEW backfill.retry_policies AS
SELECT p.policy_name, p.max_attempts, p.initial_delay, p.max_delay, p.multiplier, p.jitter_factor, p.preset
  FROM backfill._retry_policies() p;
COMMENT ON VIEW backfill.retry_policies IS 'Retry policies: the presets and those set with set_retry_policy().';
COMMENT ON COLUMN backfill.retry_policies.preset IS 'true for a built-in policy that was not changed';
