-- Rules that every object of the extension keeps, whatever is added later: comments, pinned
-- search_path, dump marks, labels.
BEGIN;
SELECT no_plan();

CREATE TEMP VIEW member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS name
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'backfill' AND d.deptype = 'e';
SELECT cmp_ok((SELECT count(*) FROM member), '>', 50::bigint, 'the rules below look at the whole extension');

-- Every schema, table, view, sequence, function and procedure has a comment, and the extension itself.
SELECT isnt_empty($$SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'backfill'$$, 'the extension has a comment');
SELECT is_empty($$
    SELECT name FROM member
     WHERE classid IN ('pg_namespace'::regclass, 'pg_class'::regclass, 'pg_proc'::regclass)
       AND obj_description(objid, classid::regclass::name) IS NULL
     ORDER BY name
$$, 'every object has a comment');

-- No function depends on the caller's search_path.
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'backfill'::regnamespace AND l.lanname <> 'c'
       AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
$$, 'every function that is not in C has its search_path pinned');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'backfill'::regnamespace AND l.lanname NOT IN ('c', 'sql', 'plpgsql')
$$, 'functions are in C, SQL or PL/pgSQL');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'backfill'::regnamespace AND p.prokind = 'p' AND (p.proconfig IS NOT NULL OR p.prosecdef)
$$, 'no procedure has a SET clause or is SECURITY DEFINER: it could not commit');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'backfill'::regnamespace AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c') AND probin <> '$libdir/backfill'
$$, 'C functions come from the library of this name');
SELECT set_eq($$
    SELECT proname FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace AND prosecdef
$$, '{health,list_dlq_jobs,get_dlq_job,requeue_dlq_job,delete_dlq_job,dlq_stats,metrics,prometheus_metrics,requeue_dlq_jobs,delete_dlq_jobs,update_dlq_job,delete_dlq_by_job_key,add_to_dlq,cleanup_dlq,_apply_dlq_retention,get_job,force_unlock_workers,release_stale_job_locks,release_stale_queue_locks,process_failed_jobs,cleanup_permanently_failed_jobs,startup_cleanup,overview,list_queues,queue_details,list_tasks,_audit_error_rules,_routed,_node_state,_oldest_ready_job,_note_forwarded}'::name[], 'these functions are SECURITY DEFINER, and no others');

-- Labels.
SELECT set_eq($$
    SELECT proname FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace AND provolatile = 'i'
$$, '{priority,priority_band,_dlq_matches,_builtin_error_rules,_role_oid,_role_cmp,_role_eq,_role_ne,_role_lt,_role_le,_role_ge,_role_gt,_page_size,_page_check_max,_page_job_source,_page_job_sources,_page_job_filter,_page_letter_sources,_page_letter_filter,_overview_page_of_names,_slot_of,_slot_of_schedule}'::name[], 'what depends on nothing but its arguments is IMMUTABLE');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'backfill'::regnamespace AND provolatile <> 'v' AND proname ~ '^(enqueue|register|unregister|schedule|unschedule|add_cron|cron_tick|_cron_tick|set_|requeue|delete|grant|_grant|_requeue)'
$$, 'what writes is VOLATILE');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'backfill'::regnamespace AND proparallel <> 'u' AND proname ~ '^(enqueue|register|unregister|schedule|unschedule|add_cron|cron_tick|_cron_tick|set_|requeue|delete|grant|_grant|_requeue|process)'
$$, 'what writes is PARALLEL UNSAFE');
SELECT is_empty($$
    SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'backfill'::regnamespace AND p.proparallel = 's' AND l.lanname = 'c' AND p.proname NOT IN ('priority', 'priority_band', 'version', 'cron_next', '_next_run_at', '_builtin_error_rules') AND p.proname !~ '^_role'
$$, 'C functions that read the configuration or shared memory are not PARALLEL SAFE');
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'backfill'::regnamespace AND proisstrict AND pronargdefaults > 0
$$, 'a function that takes NULL for "not given" is not STRICT');

-- Arguments are usable by name.
SELECT is_empty($$
    SELECT oid::regprocedure FROM pg_proc
     WHERE pronamespace = 'backfill'::regnamespace AND pronargs > 0 AND (proargnames IS NULL OR '' = ANY (proargnames))
$$, 'every argument has a name');

-- A publication FOR ALL TABLES must not forbid us to delete rows.
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'r' AND c.relreplident <> 'f'
       AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND c.relreplident = 'd')
$$, 'every table has a replica identity');

-- A dump loses nothing.
SELECT is_empty($$
    SELECT c.oid::regclass FROM pg_class c
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind IN ('r', 'p', 'S')
       AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'backfill')
$$, 'every table and sequence is marked for pg_dump');
SELECT is_empty($$
    SELECT condition FROM pg_extension, unnest(extcondition) condition WHERE extname = 'backfill' AND condition <> ''
$$, 'each table is dumped with all its rows');
SELECT is_empty($$
    SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
       AND a.atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regclass'::regtype, 'regrole'::regtype, 'regtype'::regtype, 'oid'::regtype)
$$, 'no column holds an oid or a reg* type, which a dump or pg_upgrade could not carry over');
SELECT is_empty($$
    SELECT s.oid::regclass FROM pg_class s
     WHERE s.relnamespace = 'backfill'::regnamespace AND s.relkind = 'S'
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype = 'a')
$$, 'every sequence is owned by a column');

-- Configuration tables tell every backend about changes, also when rows come by replication.
SELECT is_empty($$
    SELECT t FROM unnest('{task,retry_policy,queue,producer}'::text[]) t
     WHERE NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = ('backfill.' || t)::regclass AND g.tgenabled = 'A'
                          AND g.tgfoid = 'backfill._config_changed()'::regprocedure AND g.tgtype = 4 + 8 + 16 + 32)
$$, 'every configuration table has the trigger for INSERT, UPDATE, DELETE and TRUNCATE, enabled ALWAYS');
SELECT is_empty($$
    SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND a.atttypid = 'text'::regtype
       AND a.attname ~ '^(task_identifier|queue_name|retry_policy|policy_name|job_key|role_name|run_as|worker|handler_schema|handler_name|notify_channel)$'
       AND a.attcollation <> '"C"'::regcollation
$$, 'names compare bytewise');

SELECT * FROM finish();
ROLLBACK;
