-- Rights. Nothing is granted to PUBLIC. A bundle is granted here and on all nodes: each call is made as the role that
-- calls, so the node decides what it may do; EXECUTE here only opens the way.

-- What a function is called without what marks it as a part of another.
CREATE FUNCTION backfill._public_name(name text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.regexp_replace(_public_name.name, '^(_at_)?_?(.*?)(_everywhere|_of_slot)?$', '\2');
END;
COMMENT ON FUNCTION backfill._public_name(text) IS 'The function that a private function is a part of.';

CREATE FUNCTION backfill._bundle(bundle text, OUT kind text, OUT object_name text, OUT privilege text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END, p.oid::pg_catalog.regprocedure::text, 'EXECUTE'
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND (p.proname = ANY ('{_slot_of,_slot_of_schedule,_queue_of,_failure,_raise,_raise_no_node,_tried,_nodes,_nodes_of,_node_of_token,_warn,_raise_failures,_headers,version,priority,priority_band,backoff_delay,_at_priority,_at_priority_band,_at_backoff_delay}'::name[])
        OR CASE _bundle.bundle
           WHEN 'producer' THEN backfill._public_name(p.proname) = ANY ('{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,enqueue_once,add_job,add_jobs,remove_job}'::text[])
           WHEN 'consumer' THEN backfill._public_name(p.proname) = ANY ('{claim_jobs,oldest_ready_jobs,heartbeat,fail_job,snooze_job,release_jobs,get_job,list_jobs,job_details,list_queues,queue_details,list_tasks,jobs,queues,tasks}'::text[])
               OR p.proname ~ '^_page_'
               OR backfill._public_name(p.proname) = 'complete_jobs' AND 'bigint'::pg_catalog.regtype = p.proargtypes[p.pronargs - 1]
           WHEN 'monitor' THEN backfill._public_name(p.proname) = ANY ('{classify_error,dlq_stats,cron_next,metrics,why_not_running,health,check_nodes,node_state,set_mark,set_silent,overview,list_jobs,job_details,list_queues,queue_details,list_tasks,list_dlq,dlq_groups,list_history,list_schedules,list_audit,jobs,queues,workers,tasks,schedules,dlq,history,audit,retry_policies,error_rules}'::text[])
               OR p.proname ~ '^_page_'
           WHEN 'admin' THEN backfill._public_name(p.proname) <> ALL ('{add_node,accept_node,remove_node,removal,remove,own_slot,move_slot,move_slots,move_step,move_close,move_hold,move_freeze,move_undo,move_read,move_insert,move_forget,check_slots,gave_up,next_move,rebalance,node_join,node_leave,node_number,node_number_of,probe,set_partition,check_conninfo,grant_producer,grant_consumer,grant_monitor,grant_admin,grant,bundle,public_name}'::text[])
           END)
    UNION ALL
    SELECT 'TABLE', c.oid::pg_catalog.regclass::text, 'SELECT'
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND (c.relname = ANY ('{router,node,slot,moved,task_queue}'::name[])
        OR CASE _bundle.bundle
           WHEN 'consumer' THEN c.relname = ANY ('{jobs,queues,tasks}'::name[])
           WHEN 'monitor' THEN c.relkind = 'v'
           WHEN 'admin' THEN c.relkind = 'v'
           END);
END;
COMMENT ON FUNCTION backfill._bundle(text) IS 'What the bundles producer, consumer, monitor and admin consist of, in this database.';

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
COMMENT ON FUNCTION backfill._grant(regrole, text) IS 'Grant a bundle of rights to a role, in this database.';

SELECT backfill._make_every('grant_producer', 'role regrole, tasks text[] DEFAULT NULL', 'void', 'Let a role enqueue jobs, here and on all nodes, where the role must exist.',
    before => 'PERFORM backfill._grant(grant_producer.role, ''producer'');');
SELECT backfill._make_every('grant_consumer', 'role regrole', 'void', 'Let a role claim jobs, here and on all nodes.', before => 'PERFORM backfill._grant(grant_consumer.role, ''consumer'');');
SELECT backfill._make_every('grant_monitor', 'role regrole', 'void', 'Let a role see every view, without payloads, here and on all nodes.', before => 'PERFORM backfill._grant(grant_monitor.role, ''monitor'');');
SELECT backfill._make_every('grant_admin', 'role regrole', 'void', 'Let a role do all but grant and change which nodes there are, here and on all nodes.', before => 'PERFORM backfill._grant(grant_admin.role, ''admin'');');

-- What has made the functions.
DO $$
DECLARE
    maker regprocedure;
BEGIN
    FOR maker IN SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'backfill'::pg_catalog.regnamespace AND p.proname LIKE '\_make\_%' LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s', maker);
    END LOOP;
END;
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA backfill FROM PUBLIC;
