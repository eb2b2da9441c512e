/* From 0.1.0 to 0.2.0: whatever CREATE EXTENSION makes of sql/install now and 0.1.0 had not, in the same
 * words; docs/upgrading.md says how. test/t/135_upgrade.pl names what is missing. */
\echo Use "ALTER EXTENSION backfill UPDATE" to load this file. \quit

CREATE FUNCTION backfill._check_library()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted constant text := (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill');
BEGIN
    -- It may be newer: then this script is not the last one of the update.
    IF pg_catalog.string_to_array(backfill.version(), '.')::int[] < pg_catalog.string_to_array(wanted, '.')::int[] THEN
        RAISE EXCEPTION 'the library of backfill that is loaded, %, is older than the scripts, %', backfill.version(), wanted
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Restart the server, so that it loads the library that is installed now. Where it is not preloaded, a new session will do.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._check_library() IS 'Refuses to create or update the extension while the loaded library is older than the script.';
SELECT backfill._check_library();

CREATE FUNCTION backfill._after_upgrade()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner regrole;
    item record;
BEGIN
    SELECT e.extowner INTO owner FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill';
    -- New is what this transaction, or a subtransaction of it, has made a member. A sequence that belongs to a
    -- column gets its owner with the table, so sequences come last.
    FOR item IN
        SELECT i.type, i.identity
          FROM pg_catalog.pg_depend d
         CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
         WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
           AND d.refobjid = (SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill')
           AND i.type IN ('function', 'procedure', 'table', 'view', 'sequence', 'type')
           AND pg_catalog.age(d.xmin) <= pg_catalog.age(pg_catalog.pg_current_xact_id()::xid)
         ORDER BY i.type = 'sequence'
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %s', item.type, item.identity, owner);
        IF item.type <> 'type' THEN
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC',
                                      CASE item.type WHEN 'view' THEN 'table' ELSE item.type END, item.identity);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill._after_upgrade() IS
    'The end of each script that upgrades: what is new belongs to the owner of the extension, and is closed to PUBLIC, as after CREATE EXTENSION.';

CREATE OR REPLACE FUNCTION backfill._bundle(bundle text, OUT kind text, OUT object_name text, OUT privilege text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- A procedure or function by name (every overload), a view or a table.
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           p.oid::pg_catalog.regprocedure::text, 'EXECUTE'
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'producer' THEN p.proname = ANY ('{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,add_job,add_jobs,remove_job,_lock_job_keys,current_job,snooze,discard,set_progress,set_result,await_job,priority,priority_band,backoff_delay,version}'::name[])
           WHEN 'consumer' THEN p.oid = 'backfill.complete_jobs(bigint[],bigint)'::pg_catalog.regprocedure
               OR p.proname = ANY ('{claim_jobs,heartbeat,fail_job,snooze_job,release_jobs,wait_for_jobs,process_available_jobs,current_job,snooze,discard,set_progress,set_result,await_job,get_job,priority,priority_band,backoff_delay,version,_workers,_claimed,_now,_queue_limit}'::name[])
           WHEN 'monitor' THEN p.proname = ANY ('{priority,priority_band,backoff_delay,classify_error,version,dlq_stats,cron_next,_next_run_at,metrics,prometheus_metrics,why_not_running,health,_workers,_claimed,_now,_queue_limit,_retry_policies,_builtin_error_rules}'::name[])
           WHEN 'admin' THEN p.proname <> ALL ('{grant_producer,grant_consumer,grant_monitor,grant_admin,_bundle,_grant,_check_library,_after_upgrade,_requeue,_bury,_letter_deleted,_dlq_matches,_apply_dlq_retention,_config_changed,_limits_changed,_installed,_cron_tick,_expire_leases,_take_leases,_functions,_owner_is_trusted,_pg_cron_job,_clock_problem,_login_problem,_caller_may_read_jobs}'::name[])
               AND p.proname !~ '^_health_'
           END
    UNION ALL
    SELECT 'TABLE', c.oid::pg_catalog.regclass::text, 'SELECT'
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'consumer' THEN c.relname = ANY ('{jobs,queues,tasks,job}'::name[])
           WHEN 'monitor' THEN c.relkind = 'v'
           WHEN 'admin' THEN c.relkind IN ('v', 'r')
           END;
END;

-- Add above this line.
SELECT backfill._after_upgrade();
