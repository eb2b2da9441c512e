-- Rights. Nothing is granted to PUBLIC; grant_producer(), grant_consumer(), grant_monitor()
-- and grant_admin() hand out bundles. _bundles is the one place that says what is in which.

CREATE FUNCTION backfill._bundle(bundle text, OUT kind text, OUT object_name text, OUT privilege text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- A procedure or function by name (every overload), a view or a table.
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           p.oid::pg_catalog.regprocedure::text, 'EXECUTE'
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'producer' THEN p.proname = ANY ('{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,add_job,add_jobs,remove_job,enqueue_via_outbox,_enqueue_once,_note_forwarded,_routed,_lock_job_keys,current_job,snooze,discard,set_progress,set_result,await_job,priority,priority_band,backoff_delay,version}'::name[])
           WHEN 'consumer' THEN p.oid = 'backfill.complete_jobs(bigint[],bigint)'::pg_catalog.regprocedure
               OR p.proname = ANY ('{claim_jobs,_oldest_ready_job,_routed,heartbeat,fail_job,snooze_job,release_jobs,wait_for_jobs,process_available_jobs,current_job,snooze,discard,set_progress,set_result,await_job,get_job,priority,priority_band,backoff_delay,version,_workers,_claimed,_now,_queue_limit,list_jobs,job_details,list_queues,queue_details,list_tasks}'::name[])
               OR p.proname ~ '^_page_'
           WHEN 'monitor' THEN p.proname = ANY ('{priority,priority_band,backoff_delay,classify_error,version,dlq_stats,cron_next,_next_run_at,metrics,prometheus_metrics,list_audit,why_not_running,health,_routed,_node_state,_workers,_claimed,_now,_queue_limit,_retry_policies,_builtin_error_rules,overview,list_jobs,job_details,list_queues,queue_details,list_tasks,list_dlq,dlq_groups,list_history,list_schedules}'::name[])
               OR p.proname ~ '^_page_'
           WHEN 'admin' THEN p.proname <> ALL ('{grant_producer,grant_consumer,grant_monitor,grant_admin,_bundle,_grant,_check_library,_after_upgrade,_requeue,_requeue_letter,_dlq_change,_dlq_filter,_about_letter,_bury,_bury_exhausted,_audit,_audit_error_rules,_letter_deleted,_dlq_matches,_apply_dlq_retention,_config_changed,_limits_changed,_installed,_cron_tick,_expire_leases,_take_leases,_functions,_owner_is_trusted,_pg_cron_job,_clock_problem,_login_problem,_caller_may_read_jobs,set_outbox,_forward}'::name[])
               AND p.proname !~ '^_(health|overview|move|node)_' OR p.proname = '_node_state'
           END
    UNION ALL
    SELECT 'TABLE', c.oid::pg_catalog.regclass::text, 'SELECT'
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'consumer' THEN c.relname = ANY ('{jobs,queues,tasks,job,_job}'::name[])
           WHEN 'monitor' THEN c.relkind = 'v'
           WHEN 'admin' THEN c.relkind IN ('v', 'r')
           END;
END;
COMMENT ON FUNCTION backfill._bundle(text) IS 'What the bundles producer, consumer, monitor and admin consist of.';

-- Runs with the caller's rights: only a role that could GRANT by hand can grant by these.
CREATE FUNCTION backfill._grant(role regrole, bundle text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'role must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA backfill TO %s', role);
    FOR item IN SELECT b.kind, b.object_name, b.privilege FROM backfill._bundle(bundle) b LOOP
        EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %s', item.privilege, item.kind, item.object_name, role);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill._grant(regrole, text) IS 'Grant a bundle of rights to a role.';

CREATE FUNCTION backfill.grant_producer(role regrole, tasks text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text;
    before text[] := (SELECT p.tasks FROM backfill.producer p WHERE backfill._role_oid(p.role_name) = role);
BEGIN
    PERFORM backfill._grant(role, 'producer');
    -- A task may be registered later, so that a misspelt name is no error.
    FOR unknown IN
        SELECT g.task FROM pg_catalog.unnest(grant_producer.tasks) g (task)
         WHERE g.task NOT IN (SELECT t.task_identifier FROM backfill.task t) ORDER BY g.task
    LOOP
        RAISE NOTICE 'task "%" is not registered', unknown USING HINT = 'See backfill.tasks for the names.';
    END LOOP;
    DELETE FROM backfill.producer p
     WHERE backfill._role_oid(p.role_name) NOT IN (SELECT r.oid FROM pg_catalog.pg_roles r);
    INSERT INTO backfill.producer AS p (role_name, tasks)
    VALUES (backfill._role_of(role), grant_producer.tasks)
    ON CONFLICT (role_name) WHERE backfill._role_oid(role_name) <> 0 DO UPDATE SET tasks = excluded.tasks;
    PERFORM backfill._audit('grant_producer', 'grant', ARRAY[pg_catalog.pg_get_userbyid(role)], 1,
                            pg_catalog.jsonb_build_object('tasks', before), pg_catalog.jsonb_build_object('tasks', tasks));
END;
$$;
COMMENT ON FUNCTION backfill.grant_producer(regrole, text[]) IS
    'Let a role enqueue jobs: of all tasks, or only of the given ones. Granting again replaces the list.';

CREATE FUNCTION backfill.grant_consumer(role regrole)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._grant(grant_consumer.role, 'consumer');
    SELECT backfill._audit('grant_consumer', 'grant', ARRAY[pg_catalog.pg_get_userbyid(grant_consumer.role)], 1, NULL, NULL);
END;
COMMENT ON FUNCTION backfill.grant_consumer(regrole) IS
    'Let a role claim the jobs of external tasks, run those of its own tasks in its own sessions, and see jobs with their payloads.';

CREATE FUNCTION backfill.grant_monitor(role regrole)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._grant(grant_monitor.role, 'monitor');
    SELECT backfill._audit('grant_monitor', 'grant', ARRAY[pg_catalog.pg_get_userbyid(grant_monitor.role)], 1, NULL, NULL);
END;
COMMENT ON FUNCTION backfill.grant_monitor(regrole) IS 'Let a role see every view, without payloads.';

CREATE FUNCTION backfill.grant_admin(role regrole)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._grant(role, 'admin');
    -- A producer of some tasks stays that.
    INSERT INTO backfill.producer (role_name) VALUES (backfill._role_of(role)) ON CONFLICT DO NOTHING;
    PERFORM backfill._audit('grant_admin', 'grant', ARRAY[pg_catalog.pg_get_userbyid(role)], 1, NULL, NULL);
END;
$$;
COMMENT ON FUNCTION backfill.grant_admin(regrole) IS
    'Let a role register tasks, enqueue all of them (unless grant_producer() has limited it), run, watch, and manage the dead letter queue.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA backfill FROM PUBLIC;

SELECT backfill._installed();
