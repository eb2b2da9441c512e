-- How the functions that return pages are planned, and the checks of health() that look at jobs. Statistics of a queue are never fresh: the table may have been
-- analyzed when it was empty, or never. So their queries have the order of the index that they are meant for, a LIMIT,
-- and no other way: plans do not depend on statistics.
DO $$
DECLARE
    page regprocedure;
BEGIN
    FOR page IN
        SELECT p.oid FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = 'backfill'::pg_catalog.regnamespace
           AND p.proname = ANY ('{list_jobs,job_details,find_job_ids,list_queues,queue_details,list_tasks,list_dlq,dlq_groups,find_dlq_ids,list_history,list_audit,list_schedules,overview,_health_oldest_ready_job,_health_unregistered_tasks,_health_paused_queues}'::name[])
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s SET enable_indexscan = on SET enable_indexonlyscan = on SET enable_nestloop = on SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
                                       SET enable_incremental_sort = off SET enable_tidscan = off SET plan_cache_mode = force_custom_plan
                                       SET jit = off SET max_parallel_workers_per_gather = 0', page);
    END LOOP;
END;
$$;
