-- Jobs by their ids, dead letters, queues, tasks, schedules, consumers.

-- --- By id ---

SELECT backfill._make_by_id('get_job', 'job_id bigint', 'SETOF backfill.jobs', 'One job that waits or runs; no row if it is done or dead.', backfill._make_job_columns());
SELECT backfill._make_by_id('cancel_job', 'job_id bigint', 'boolean', 'End a job, without a retry or a dead letter.', not_here => 'r IS NOT TRUE');
SELECT backfill._make_by_id('job_details', 'job_id bigint', 'jsonb', 'All that the node of a job knows of it; its history before a move is on the node where it was.',
    not_here => 'coalesce(pg_catalog.jsonb_typeof(r -> ''job''), ''null'') = ''null'' AND coalesce(pg_catalog.jsonb_typeof(r -> ''letter''), ''null'') = ''null''');
SELECT backfill._make_by_id('why_not_running', 'job_id bigint', 'text', 'Why a job does not run now, in one line.',
    not_here => 'r ~ ''^(unknown|ended):''', better => 'r ~ ''^ended: it ended at''');
SELECT backfill._make_by_id('add_to_dlq', 'job_id bigint, reason text, last_error jsonb DEFAULT NULL', 'bigint', 'Move a waiting job to the dead letter queue of its node.');
SELECT backfill._make_by_id('get_dlq_job', 'dlq_id bigint', 'SETOF backfill.dlq', 'One dead letter.', backfill._make_letter_columns());
SELECT backfill._make_by_id('requeue_dlq_job', 'dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL', 'bigint', 'Run a dead job again, on the node of its letter.');
SELECT backfill._make_by_id('update_dlq_job', 'dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL', 'boolean', 'Correct a dead letter.', not_here => 'r IS NOT TRUE');
SELECT backfill._make_by_id('delete_dlq_job', 'dlq_id bigint', 'boolean', 'Delete a dead letter.', not_here => 'r IS NOT TRUE');


-- In another queue a job may belong to another node, and does not go there by itself.
SELECT backfill._make_call('update_job', 'job_id bigint, payload jsonb, queue_name text, priority integer, run_at timestamptz, max_attempts integer, retry_policy text, timeout interval, headers jsonb', NULL, backfill._make_job_columns(), true);
SELECT backfill._make_function('update_job', 'job_id bigint, payload jsonb DEFAULT NULL, queue_name text DEFAULT NULL, priority integer DEFAULT NULL, run_at timestamptz DEFAULT NULL, max_attempts integer DEFAULT NULL, retry_policy text DEFAULT NULL, timeout interval DEFAULT NULL, headers jsonb DEFAULT NULL',
    'SETOF backfill.jobs', 'Change a waiting job, on its node; not its queue, if in the new one it would belong to another node.', 'to_slot smallint; job backfill.jobs; belongs text;',
    'FOR n IN SELECT c.* FROM backfill._nodes_of(ARRAY[update_job.job_id]) c LOOP
        to_slot := NULL;
        IF update_job.queue_name IS NOT NULL THEN
            SELECT j.* INTO job FROM backfill.get_job(update_job.job_id) j;
            to_slot := backfill._slot_of(update_job.queue_name, job.job_key);
            SELECT o.name INTO belongs FROM backfill.slot p JOIN backfill.node o ON o.number = p.node
             WHERE p.slot = backfill._slot_of(update_job.queue_name, job.job_key) AND o.name <> job.node;
            IF FOUND THEN
                RAISE EXCEPTION ''in queue "%" job % would belong to node "%", and it is at node "%"'', update_job.queue_name, update_job.job_id, belongs, job.node
                    USING ERRCODE = ''object_not_in_prerequisite_state'', HINT = ''Cancel it, and enqueue it anew.'';
            END IF;
        END IF;
        BEGIN
            RETURN QUERY SELECT f.*, n.name::text FROM {slot_call} f;
            IF FOUND THEN RETURN; END IF;
        {failed}
            {raise}
        END;
    END LOOP;');

SELECT backfill._make_by_ids('complete_jobs', 'job_ids bigint[]', 'SETOF backfill.jobs', 'Graphile Worker''s complete_jobs: ends waiting and dead jobs, on whatever nodes, without a run.', backfill._make_job_columns());
SELECT backfill._make_by_ids('permanently_fail_jobs', 'job_ids bigint[], error_message text DEFAULT NULL', 'SETOF backfill.jobs', 'Graphile Worker''s permanently_fail_jobs, on whatever nodes.', backfill._make_job_columns());
SELECT backfill._make_by_ids('fail_jobs', 'job_ids bigint[], reason text DEFAULT NULL', 'SETOF backfill.jobs', 'The same as permanently_fail_jobs(), and not fail_job() for many.', backfill._make_job_columns());
SELECT backfill._make_by_ids('reschedule_jobs', 'job_ids bigint[], run_at timestamptz DEFAULT NULL, priority integer DEFAULT NULL, attempts integer DEFAULT NULL, max_attempts integer DEFAULT NULL', 'SETOF backfill.jobs', 'Graphile Worker''s reschedule_jobs, on whatever nodes.', backfill._make_job_columns());
SELECT backfill._make_by_ids('requeue_dlq_jobs', 'dlq_ids bigint[], notes text DEFAULT NULL', 'SETOF bigint', 'Requeue these dead letters, each on its node.');
SELECT backfill._make_by_ids('delete_dlq_jobs', 'dlq_ids bigint[]', 'bigint', 'Delete these dead letters, on whatever nodes; returns how many of them there were.');
-- A job with a key and a queue is on the node of its queue.
SELECT backfill._make_every('remove_job', 'job_key text', 'SETOF backfill.jobs', 'Graphile Worker''s remove_job: on every node, because jobs of several queues may have that key.', backfill._make_job_columns());

-- --- Dead letters ---

SELECT backfill._make_rows('_list_dlq_jobs', 'of_task text, of_queue text, after timestamptz, before timestamptz, rows integer', backfill._make_letter_columns() || ', total bigint',
    'The newest dead letters of each node.', 'backfill.list_dlq_jobs($4::text, $5::text, $6::timestamptz, $7::timestamptz, $8::integer, 0)');
CREATE FUNCTION backfill.list_dlq_jobs(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    "limit" integer DEFAULT 50,
    "offset" integer DEFAULT 0)
RETURNS TABLE (
    id bigint,
    original_job_id bigint,
    task_identifier text,
    payload jsonb,
    queue_name text,
    priority smallint,
    job_key text,
    max_attempts smallint,
    failure_reason text,
    failure_count integer,
    last_error jsonb,
    original_created_at timestamptz,
    original_run_at timestamptz,
    failed_at timestamptz,
    requeued_count integer,
    last_requeued_at timestamptz,
    notes text,
    headers jsonb,
    total bigint,
    node text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH found AS MATERIALIZED (
        SELECT l.* FROM backfill._list_dlq_jobs(list_dlq_jobs.task_identifier, list_dlq_jobs.queue_name, list_dlq_jobs.failed_after,
                                                list_dlq_jobs.failed_before, list_dlq_jobs."limit" + list_dlq_jobs."offset") l)
    SELECT d.id, d.original_job_id, d.task_identifier, d.payload, d.queue_name, d.priority, d.job_key, d.max_attempts,
           d.failure_reason, d.failure_count, d.last_error, d.original_created_at, d.original_run_at, d.failed_at,
           d.requeued_count, d.last_requeued_at, d.notes, d.headers,
           (SELECT pg_catalog.sum(t.total)::bigint FROM (SELECT DISTINCT e.node, e.total FROM found e) t), d.node
      FROM found d
     ORDER BY d.failed_at DESC, d.id DESC
     LIMIT list_dlq_jobs."limit" OFFSET list_dlq_jobs."offset";
END;
COMMENT ON FUNCTION backfill.list_dlq_jobs(text, text, timestamptz, timestamptz, integer, integer) IS 'Dead letters of all nodes, newest first; total is how many match in all.';

SELECT backfill._make_every('requeue_dlq_jobs', 'task_identifier text DEFAULT NULL, queue_name text DEFAULT NULL, failed_after timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL, notes text DEFAULT NULL', 'SETOF bigint', 'Requeue all dead letters that match, on all nodes.');
SELECT backfill._make_every('delete_dlq_by_job_key', 'job_key text', 'boolean', 'Delete the dead letters with this job_key, on all nodes.');
SELECT backfill._make_every('cleanup_dlq', 'older_than interval DEFAULT NULL, task_identifier text DEFAULT NULL, queue_name text DEFAULT NULL', 'bigint', 'Delete dead letters on all nodes; returns how many.');
SELECT backfill._make_rows('dlq_stats', '', 'total_jobs bigint, total_failures bigint, requeued_jobs bigint, oldest_failed_at timestamptz, newest_failed_at timestamptz, jobs_by_task jsonb, jobs_by_queue jsonb', 'How many dead letters there are on each node.');

-- --- Queues: on the node of their slot; fast and bulk on all ---

SELECT backfill._make_queue('set_queue', 'queue_name text, concurrency integer DEFAULT NULL, rate_limit integer DEFAULT NULL, rate_period interval DEFAULT ''1 second'', max_depth integer DEFAULT NULL', 'void', 'Set all limits of a queue. Those of fast and bulk are for each node.');
SELECT backfill._make_queue('pause_queue', 'queue_name text', 'void', 'Start no more jobs of a queue.');
SELECT backfill._make_queue('resume_queue', 'queue_name text', 'void', 'Run the jobs of a paused queue again.');
SELECT backfill._make_queue('delete_queue', 'queue_name text', 'boolean', 'Forget the limits of a queue that has no jobs.');

-- --- Tasks, hooks, policies: the same on all nodes ---

SELECT backfill._make_every('register_task', 'task_identifier text, handler text DEFAULT NULL, queue_name text DEFAULT NULL, priority integer DEFAULT NULL, max_attempts integer DEFAULT NULL, retry_policy text DEFAULT NULL, timeout interval DEFAULT NULL, run_as regrole DEFAULT NULL, notify_channel text DEFAULT NULL, keep_history interval DEFAULT NULL, savepoint_per_job boolean DEFAULT false',
    'void', 'Register a task on all nodes, where its handler is.', before => 'PERFORM backfill._note_task_queue(register_task.task_identifier, register_task.queue_name);');
SELECT backfill._make_every('unregister_task', 'task_identifier text', 'boolean', 'Forget a task on all nodes.', before => 'PERFORM backfill._note_task_queue(unregister_task.task_identifier, NULL);');
SELECT backfill._make_every('register_hook', 'event text, function text, task_identifier text DEFAULT NULL, run_as regrole DEFAULT NULL', 'void', 'Register a hook on all nodes, where its function is.');
SELECT backfill._make_call('unregister_hook', 'event text, hook text, task_identifier text', 'boolean', remote => 'backfill.unregister_hook($4::text, $5::text, $6::text)');
SELECT backfill._make_every('unregister_hook', 'event text, function text, task_identifier text DEFAULT NULL', 'boolean', 'Stop calling a hook on all nodes.', remote => '');
SELECT backfill._make_every('set_retry_policy', 'policy_name text, max_attempts integer DEFAULT NULL, initial_delay interval DEFAULT NULL, max_delay interval DEFAULT NULL, multiplier double precision DEFAULT NULL, jitter_factor double precision DEFAULT NULL', 'void', 'Create or change a retry policy on all nodes.');

-- Roles with the bundle admin may execute it, as register_task(); whether they may register, the nodes decide.
CREATE FUNCTION backfill._note_task_queue(task_identifier text, queue_name text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM backfill.task_queue t WHERE t.task_identifier = _note_task_queue.task_identifier;
    IF queue_name IS NOT NULL THEN
        INSERT INTO backfill.task_queue (task_identifier, queue_name) VALUES (task_identifier, queue_name);
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._note_task_queue(text, text) IS 'Remember the queue of a task; NULL: it has none.';

-- --- Schedules: each on one node, that of its jobs ---

SELECT backfill._make_by_slot('schedule', 'name text, cron text, task_identifier text, payload jsonb DEFAULT ''{}'', queue_name text DEFAULT NULL, priority integer DEFAULT NULL, max_attempts integer DEFAULT NULL, job_key text DEFAULT NULL, job_key_mode text DEFAULT ''replace'', retry_policy text DEFAULT NULL, timeout interval DEFAULT NULL, time_zone text DEFAULT ''UTC'', fill interval DEFAULT ''0'', max_catchup integer DEFAULT 1000, catchup text DEFAULT ''all''',
    'timestamptz', 'backfill._slot_of_schedule(schedule.name, backfill._queue_of(schedule.task_identifier, schedule.queue_name), schedule.job_key)',
    'Enqueue a job whenever a cron expression is due, on the node of its queue, else of its job_key, else of the schedule''s name.',
    before => 'PERFORM backfill._unschedule_elsewhere(schedule.name, to_slot);
    ');
SELECT backfill._make_every('unschedule', 'name text', 'boolean', 'Remove a schedule.');
CREATE FUNCTION backfill._unschedule_elsewhere(name text, slot smallint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n backfill.node;
    s text;
    m text;
    d text;
    h text;
BEGIN
    -- The same schedule for another queue, or another key, was on another node.
    FOR n IN SELECT c.* FROM backfill._nodes() c WHERE c.number NOT IN (SELECT p.node FROM backfill.slot p WHERE p.slot = _unschedule_elsewhere.slot) LOOP
        BEGIN
            PERFORM backfill._at_unschedule(n.number, n.key, n.mark, name);
        EXCEPTION WHEN OTHERS OR query_canceled THEN
            GET STACKED DIAGNOSTICS s = RETURNED_SQLSTATE, m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
            PERFORM backfill._raise(n.name, s, m, d, h);
        END;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill._unschedule_elsewhere(text, smallint) IS 'Remove a schedule from all nodes but that of the slot.';
SELECT backfill._make_every('cron_tick', '', 'bigint', 'Enqueue what is due on all nodes.');
SELECT backfill._make_any('cron_next', 'cron text, time_zone text DEFAULT ''UTC'', after timestamptz DEFAULT NULL', 'timestamptz', 'When a cron expression is due next.');

-- --- Consumers: a token names the node that issued it ---

SELECT backfill._make_call('claim_jobs', 'worker text, max_jobs integer, tasks text[], queues text[], lease interval', NULL,
    'id bigint, task_identifier text, payload jsonb, queue_name text, priority smallint, run_at timestamptz, attempt integer, max_attempts integer, job_key text, last_error jsonb, created_at timestamptz, lease_expires_at timestamptz, claim_token bigint, headers jsonb');
SELECT backfill._make_rows('_oldest_ready_jobs', 'tasks text[], queues text[]', 'oldest timestamptz, asked boolean', 'run_at of the oldest of the first jobs of these external tasks, of each node.', '(SELECT backfill._oldest_ready_job($4::text[], $5::text[]) AS oldest, true AS asked)');
SELECT backfill._make_function('claim_jobs', 'worker text, max_jobs integer DEFAULT 1, tasks text[] DEFAULT NULL, queues text[] DEFAULT NULL, lease interval DEFAULT ''5 minutes''',
    'TABLE (id bigint, task_identifier text, payload jsonb, queue_name text, priority smallint, run_at timestamptz, attempt integer, max_attempts integer, job_key text, last_error jsonb, created_at timestamptz, lease_expires_at timestamptz, claim_token bigint, headers jsonb, node text)',
    'Claim ready jobs for an external consumer, under one new token: of one node, that whose first job has waited longest.', '',
    'FOR n IN SELECT c.number, c.name, c.key, c.mark FROM backfill._oldest_ready_jobs(claim_jobs.tasks, claim_jobs.queues) o JOIN backfill._nodes() c ON c.name = o.node
              WHERE o.oldest IS NOT NULL ORDER BY o.oldest LOOP
        BEGIN
            RETURN QUERY SELECT f.*, n.name::text FROM {call} f;
        {failed}
            {raise}
        END;
        IF FOUND THEN RETURN; END IF;
    END LOOP;');
SELECT backfill._make_by_token('heartbeat', 'claim_token bigint, lease interval DEFAULT ''5 minutes''', 'SETOF bigint', 'Prolong a claim''s leases.');
SELECT backfill._make_by_token('complete_jobs', 'job_ids bigint[], claim_token bigint', 'SETOF bigint', 'Claimed jobs are done.');
SELECT backfill._make_by_token('fail_job', 'job_id bigint, claim_token bigint, error text, permanent boolean DEFAULT NULL', 'text', 'A claimed job has failed.');
SELECT backfill._make_by_token('snooze_job', 'job_id bigint, claim_token bigint, delay interval', 'boolean', 'Give a claimed job back for later.');
SELECT backfill._make_by_token('release_jobs', 'job_ids bigint[], claim_token bigint', 'SETOF bigint', 'Give claimed jobs back.');

-- --- Housekeeping and compatibility ---

SELECT backfill._make_every('force_unlock_workers', 'worker_ids text[]', 'void', 'Graphile Worker''s force_unlock_workers, on all nodes.');
SELECT backfill._make_every('init_dlq', '', 'void', 'Does nothing, on all nodes.');
SELECT backfill._make_every('release_stale_job_locks', 'older_than interval DEFAULT ''0''', 'bigint', 'End leases that ran out, on all nodes.');
SELECT backfill._make_every('release_stale_queue_locks', 'older_than interval DEFAULT ''0''', 'bigint', 'Always 0.');
SELECT backfill._make_every('process_failed_jobs', '', 'bigint', 'Move waiting jobs without attempts to the dead letter queue, on all nodes.');
SELECT backfill._make_every('cleanup_permanently_failed_jobs', '', 'bigint', 'The same as process_failed_jobs().');
SELECT backfill._make_rows('startup_cleanup', '', 'released_jobs bigint, dead_lettered_jobs bigint, deleted_letters bigint', 'All housekeeping at once, on all nodes.');

-- --- What all nodes answer in the same way ---

SELECT backfill._make_any('priority', 'name text', 'smallint', 'The number of a named priority.');
SELECT backfill._make_any('priority_band', 'priority integer', 'text', 'The band that a priority belongs to.');
SELECT backfill._make_any('backoff_delay', 'attempt integer, retry_policy text', 'interval', 'A sample of the delay before a retry.');
SELECT backfill._make_any('backoff_delay', 'attempt integer, max_attempts integer, initial_delay interval, max_delay interval, multiplier double precision, jitter_factor double precision', 'interval', 'The same for a policy given by its numbers.');
SELECT backfill._make_any('classify_error', 'sqlstate text DEFAULT NULL, message text DEFAULT NULL, task_identifier text DEFAULT NULL', 'text', 'What the error rules make of an error.');

CREATE FUNCTION backfill.version()
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill_router';
END;
COMMENT ON FUNCTION backfill.version() IS 'The version of the router.';

-- --- Metrics ---

SELECT backfill._make_rows('_metrics', 'name_prefix text', 'name text, kind text, labels jsonb, value double precision, sum double precision, bucket_bounds double precision[], bucket_counts bigint[]', 'The metrics of each node.', 'backfill.metrics($4::text)');
CREATE FUNCTION backfill.metrics(
    name_prefix text DEFAULT NULL,
    OUT name text,
    OUT kind text,
    OUT labels jsonb,
    OUT value double precision,
    OUT sum double precision,
    OUT bucket_bounds double precision[],
    OUT bucket_counts bigint[])
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT m.name, m.kind, m.labels || pg_catalog.jsonb_build_object('node', m.node), m.value, m.sum, m.bucket_bounds, m.bucket_counts
      FROM backfill._metrics(metrics.name_prefix) m;
END;
COMMENT ON FUNCTION backfill.metrics(text) IS 'The metrics of all nodes, with a label node.';
