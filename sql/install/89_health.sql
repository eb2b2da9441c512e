-- What an operator must know: health() has a row for each check, and each check is a function of its
-- own, backfill._health_<check>(). They only look, and only health(), which runs as the owner, may call them.

CREATE FUNCTION backfill._worker_processes()
RETURNS bigint LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
     WHERE a.backend_type <> ALL (ARRAY['client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer',
               'checkpointer', 'archiver', 'startup', 'walreceiver', 'walsender', 'walwriter', 'walsummarizer', 'slotsync worker',
               'io worker', 'logger', 'standalone backend', 'dead-end client backend']);
END;
COMMENT ON FUNCTION backfill._worker_processes() IS 'How many of max_worker_processes are in use, by whatever extension or parallel query.';

CREATE FUNCTION backfill._server_state(
    OUT preloaded boolean,
    OUT library_version text,
    OUT launcher boolean,
    OUT dispatcher boolean,
    OUT listed boolean,
    OUT blocked_by integer,
    OUT no_slot_until timestamptz,
    OUT held_roles oid[],
    OUT other_labels boolean,
    OUT databases integer)
RETURNS record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_server_state';
COMMENT ON FUNCTION backfill._server_state() IS 'What the library and shared memory know of this database; health() shows it.';

CREATE FUNCTION backfill._no_rate_window_at()
RETURNS timestamptz LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_no_rate_window_at';
COMMENT ON FUNCTION backfill._no_rate_window_at() IS 'When a queue with a rate last found no place where its starts could be counted; NULL: never.';

CREATE FUNCTION backfill._set_aside(
    OUT kind text,
    OUT id bigint,
    OUT name text,
    OUT failures integer,
    OUT since timestamptz,
    OUT retry_at timestamptz,
    OUT sqlstate text,
    OUT message text)
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'backfill_set_aside';
COMMENT ON FUNCTION backfill._set_aside() IS
    'What has failed in this database for reasons of the server''s and is tried again later: jobs, leases, charges and the like, from shared memory. health() shows it.';

-- The text of an error may quote a payload. The caller is not the current user, because health() runs as its owner.
CREATE FUNCTION backfill._caller_may_read_jobs()
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.has_table_privilege(CASE WHEN pg_catalog.current_setting('role') = 'none' THEN SESSION_USER
                                               ELSE pg_catalog.current_setting('role')::name END, 'backfill.job', 'SELECT');
END;
COMMENT ON FUNCTION backfill._caller_may_read_jobs() IS 'Whether the role that this session acts as may read payloads, and so texts of errors.';

-- The first five of many names, as a line of text.
CREATE FUNCTION backfill._listing(names text[])
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.array_to_string(_listing.names[1:5], ', ')
        || CASE WHEN pg_catalog.cardinality(_listing.names) > 5
                THEN pg_catalog.format(' and %s more', pg_catalog.cardinality(_listing.names) - 5) ELSE '' END;
END;
COMMENT ON FUNCTION backfill._listing(text[]) IS 'The first five of many names, and how many more there are.';

-- Whose snapshots keep vacuum from removing the dead rows of backfill.job; the oldest first.
CREATE FUNCTION backfill._vacuum_holders(OUT holder text, OUT xmin_age integer, OUT since timestamptz)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT h.holder, pg_catalog.age(h.xmin), h.since
      FROM (SELECT CASE WHEN a.backend_type = 'walsender' THEN pg_catalog.format('standby %s (hot_standby_feedback, walsender %s)', a.application_name, a.pid)
                        ELSE pg_catalog.format('%s %s, user %s, %s', a.backend_type, a.pid, coalesce(a.usename, '?'), coalesce(a.state, 'active')) END AS holder,
                   a.backend_xmin AS xmin, a.xact_start AS since
              FROM pg_catalog.pg_stat_activity a
             WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
               AND (a.datname = pg_catalog.current_database() OR a.backend_type = 'walsender')
               AND a.backend_type <> 'autovacuum worker'
            UNION ALL
            SELECT pg_catalog.format('%s %s, user %s, %s', a.backend_type, a.pid, coalesce(a.usename, '?'), coalesce(a.state, 'active')), a.backend_xid, a.xact_start
              FROM pg_catalog.pg_stat_activity a
             WHERE a.backend_xid IS NOT NULL AND a.backend_xmin IS NULL AND a.pid <> pg_catalog.pg_backend_pid()
               AND a.datname = pg_catalog.current_database()
            UNION ALL
            SELECT pg_catalog.format('replication slot %s (%s)', s.slot_name, CASE WHEN s.active THEN 'active' ELSE 'not in use' END), s.xmin, NULL
              FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL
            UNION ALL
            SELECT pg_catalog.format('prepared transaction %s of %s', p.gid, p.owner), p.transaction, p.prepared
              FROM pg_catalog.pg_prepared_xacts p WHERE p.database = pg_catalog.current_database()) h
     ORDER BY pg_catalog.age(h.xmin) DESC;
END;
COMMENT ON FUNCTION backfill._vacuum_holders() IS
    'Processes, standbys, replication slots and prepared transactions whose snapshots keep vacuum from removing dead rows of backfill.job, the oldest first.';

CREATE FUNCTION backfill._health_preloaded(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'preloaded'; status := 'ok';
    IF NOT server.preloaded THEN
        status := 'critical';
        detail := 'backfill is not in shared_preload_libraries: the server does not run jobs';
        hint := 'Add it and restart the server, or run jobs with CALL backfill.process_available_jobs().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_preloaded() IS 'A check of health(): whether the library is preloaded.';

CREATE FUNCTION backfill._health_version(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    seen record;
BEGIN
    check_name := 'version'; status := 'ok';
    SELECT e.extversion INTO seen FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill';
    detail := pg_catalog.format('library %s, extension %s', server.library_version, seen.extversion);
    IF seen.extversion <> server.library_version THEN
        status := 'critical';
        hint := 'Run ALTER EXTENSION backfill UPDATE, or restart the server if its library is the older one.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_version() IS 'A check of health(): whether the library and the SQL objects are of one version.';

CREATE FUNCTION backfill._health_launcher(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'launcher'; status := 'ok';
    IF pg_catalog.pg_is_in_recovery() THEN
        detail := 'a standby: jobs run on the primary';
    ELSIF server.preloaded AND NOT server.launcher THEN
        status := 'critical'; detail := 'the launcher does not run'; hint := 'See the server''s log.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_launcher() IS 'A check of health(): whether the launcher runs.';

CREATE FUNCTION backfill._health_dispatcher(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    slow record;
BEGIN
    check_name := 'dispatcher'; status := 'ok';
    IF NOT server.preloaded OR pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    ELSIF server.dispatcher THEN
        SELECT a.pid, a.state_change, a.wait_event_type, a.wait_event INTO slow
          FROM pg_catalog.pg_stat_activity a
         WHERE a.backend_type = 'backfill dispatcher' AND a.datname = pg_catalog.current_database()
           AND a.state = 'active' AND a.state_change < pg_catalog.clock_timestamp() - interval '10 seconds';
        IF FOUND THEN
            status := 'warning';
            detail := pg_catalog.format('process %s has been looking for work since %s and waits for %s', slow.pid, slow.state_change,
                                        coalesce(slow.wait_event_type || ' ' || slow.wait_event, 'nothing'));
            hint := 'Meanwhile no executor is started, and no lease is ended: see pg_stat_activity for the process.';
        END IF;
        RETURN;
    END IF;
    status := 'critical';
    IF NOT server.listed THEN
        detail := 'backfill.databases does not name this database';
        hint := 'Name it, or "*", and reload the configuration.';
    ELSIF server.blocked_by IS NOT NULL THEN
        detail := pg_catalog.format('process %s has ended the workers of this database for the time of its command', server.blocked_by);
    ELSE
        detail := 'no dispatcher runs in this database';
        hint := 'See the server''s log; it needs a place in max_worker_processes, and one of the 256 that there are for databases.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_dispatcher() IS 'A check of health(): whether this database has a dispatcher.';

CREATE FUNCTION backfill._health_executors(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    max_executors constant integer := coalesce(pg_catalog.current_setting('backfill.max_executors', true)::integer, 0);
    executors integer;
    busy integer;
BEGIN
    check_name := 'executors'; status := 'ok';
    SELECT pg_catalog.count(*), pg_catalog.count(w.job_id) INTO executors, busy FROM backfill._workers() w WHERE w.kind = 'executor';
    detail := pg_catalog.format('%s of at most %s, %s with a job', executors, max_executors, busy);
    IF max_executors = 0 AND server.preloaded THEN
        status := 'warning'; hint := 'Set backfill.max_executors, or run jobs with CALL backfill.process_available_jobs().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_executors() IS 'A check of health(): how many executors there are.';

CREATE FUNCTION backfill._health_worker_slots(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'worker_slots'; status := 'ok';
    detail := pg_catalog.format('%s of %s in use', backfill._worker_processes(), pg_catalog.current_setting('max_worker_processes'));
    IF server.no_slot_until > pg_catalog.clock_timestamp()
       OR server.preloaded AND NOT pg_catalog.pg_is_in_recovery() AND NOT server.dispatcher
          AND backfill._worker_processes() >= pg_catalog.current_setting('max_worker_processes')::integer THEN
        status := 'warning'; detail := detail || ': no executor can be started'; hint := 'Raise max_worker_processes, or lower backfill.max_executors.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_worker_slots() IS 'A check of health(): whether the server has room for background workers.';

CREATE FUNCTION backfill._health_oldest_ready_job(max_wait interval, OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    seen record;
BEGIN
    check_name := 'oldest_ready_job'; status := 'ok'; detail := 'no job is ready';
    SELECT j.id, j.run_at, now - j.run_at > max_wait AS late INTO seen
      FROM backfill._page_job_ranges(2147483647, NULL, NULL, NULL) w
     CROSS JOIN ROWS FROM (pg_catalog.unnest(w.task_identifiers), pg_catalog.unnest(w.priorities)) AS r (task_identifier, priority)
     CROSS JOIN LATERAL (
           -- Of a task that has very many jobs in paused queues only the first are looked at.
           SELECT f.id, f.run_at
             FROM (SELECT i.id, i.run_at, i.queue_name, i.ctid AS tid, i.xmax AS claimer FROM backfill.job i
                    WHERE i.task_identifier = r.task_identifier AND i.priority = r.priority AND i.lease_expires_at IS NULL AND i.run_at <= now
                    ORDER BY i.run_at, i.id LIMIT 10000) f
            WHERE f.queue_name NOT IN (SELECT q.queue_name FROM backfill.queue q WHERE q.paused) AND NOT backfill._claimed(f.tid, f.claimer)
            LIMIT 1) j
     WHERE r.task_identifier IN (SELECT t.task_identifier FROM backfill.task t)
     ORDER BY j.run_at, j.id LIMIT 1;
    IF FOUND THEN
        detail := pg_catalog.format('job %s since %s', seen.id, seen.run_at);
        IF seen.late THEN
            status := 'warning';
            detail := detail || '; ' || coalesce(backfill.why_not_running(seen.id), '');
            hint := 'backfill.why_not_running(id) says why a job waits.';
        END IF;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_oldest_ready_job(interval) IS 'A check of health(): the job that has been ready for longest.';

CREATE FUNCTION backfill._health_unregistered_tasks(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'unregistered_tasks'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s (%s)', u.task_identifier, CASE WHEN j.jobs > 10000 THEN '10000 or more' ELSE j.jobs::text END)
                                ORDER BY j.jobs DESC, u.task_identifier) AS names INTO seen
      FROM backfill._overview_task_names(2147483647, '') AS u (task_identifier)
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) AS jobs
             FROM (SELECT FROM backfill.job i
                    WHERE i.task_identifier >= u.task_identifier AND i.task_identifier <= u.task_identifier AND i.lease_expires_at IS NULL
                    ORDER BY i.task_identifier LIMIT 10001) c) j
     WHERE j.jobs > 0 AND u.task_identifier NOT IN (SELECT t.task_identifier FROM backfill.task t);
    IF seen.names IS NOT NULL THEN
        status := 'warning';
        detail := 'jobs wait for tasks that are not registered: ' || backfill._listing(seen.names);
        hint := 'Call backfill.register_task(), or claim them by naming the task to claim_jobs().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_unregistered_tasks() IS 'A check of health(): jobs whose tasks are not registered.';

CREATE FUNCTION backfill._owner_is_trusted(owner oid, run_as oid)
RETURNS boolean LANGUAGE c STRICT STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_owner_is_trusted';
COMMENT ON FUNCTION backfill._owner_is_trusted(oid, oid) IS
    'Whether the owner of a function may act as the role that the function runs as, or owns the extension.';

-- The functions that run as a role of ours: what keeps them from running, and which other role could use that role's rights by them.
CREATE FUNCTION backfill._functions(OUT kind text, OUT name text, OUT problem text, OUT foreign_owner text)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.kind, f.name,
           CASE WHEN p.oid IS NULL THEN pg_catalog.format('%s: %I.%I does not exist', f.name, f.schema, f.function)
                WHEN r.oid IS NULL THEN CASE WHEN f.kind = 'hook' THEN pg_catalog.format('%s: role %s', f.name, f.run_as) END
                WHEN NOT (pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE') AND pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE'))
                THEN pg_catalog.format('%s: role %I may not execute %I.%I', f.name, r.rolname, f.schema, f.function)
                WHEN NOT o.trusted AND p.proowner IS DISTINCT FROM backfill._role_oid(f.owner)
                THEN pg_catalog.format('%s: %I.%I belongs to role %I now, which may not act as role %I', f.name, f.schema, f.function,
                                       pg_catalog.pg_get_userbyid(p.proowner), r.rolname) END,
           CASE WHEN NOT o.trusted
                THEN pg_catalog.format('%s: role %I owns %I.%I, which runs as role %I', f.name, pg_catalog.pg_get_userbyid(p.proowner),
                                       f.schema, f.function, r.rolname) END
      FROM (SELECT 'task' AS kind, t.task_identifier AS name, t.handler_schema AS schema, t.handler_name AS function,
                   t.run_as, t.handler_owner AS owner
              FROM backfill.task t WHERE t.handler_name IS NOT NULL
            UNION ALL
            SELECT 'hook', h.event, h.function_schema, h.function_name, h.run_as, h.function_owner FROM backfill.hook h) f
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = backfill._role_oid(f.run_as)
      LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = f.schema
      LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = f.function
            AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype
     CROSS JOIN LATERAL (SELECT coalesce(backfill._owner_is_trusted(p.proowner, r.oid), true) AS trusted) o;
END;
COMMENT ON FUNCTION backfill._functions() IS 'Handlers and hooks: why they cannot run, and owners that may not act as the role that they run as.';

CREATE FUNCTION backfill._health_handlers(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'handlers'; status := 'ok';
    names := ARRAY(SELECT f.problem FROM backfill._functions() f WHERE f.kind = 'task' AND f.problem IS NOT NULL ORDER BY 1);
    IF names <> '{}' THEN
        status := 'critical';
        detail := backfill._listing(names);
        hint := 'Jobs of these tasks become dead letters. Create the function again, grant EXECUTE, or register the task anew.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_handlers() IS 'A check of health(): handlers that are gone, that their roles may not execute, or that have got another owner.';

CREATE FUNCTION backfill._health_hooks(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'hooks'; status := 'ok';
    names := ARRAY(SELECT f.problem FROM backfill._functions() f WHERE f.kind = 'hook' AND f.problem IS NOT NULL ORDER BY 1);
    IF names <> '{}' THEN
        status := 'critical';
        detail := backfill._listing(names);
        hint := 'Jobs about which a deciding hook decides fail now. Repair the function, register the hook again, or call backfill.unregister_hook().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_hooks() IS 'A check of health(): hooks that cannot run.';

CREATE FUNCTION backfill._health_function_owners(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'function_owners'; status := 'ok';
    names := ARRAY(SELECT f.foreign_owner FROM backfill._functions() f WHERE f.problem IS NULL AND f.foreign_owner IS NOT NULL ORDER BY 1);
    IF names <> '{}' THEN
        status := 'warning';
        detail := backfill._listing(names);
        hint := 'The owner of a function can replace it, and use the rights of the role that it runs as. Give it to that role, or to one that may act as it.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_function_owners() IS 'A check of health(): handlers and hooks whose owners could use the rights of another role by them.';

CREATE FUNCTION backfill._login_problem(role_oid oid)
RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN NOT r.rolcanlogin AND pg_catalog.current_setting('server_version_num')::integer < 170000 THEN 'has no LOGIN'
                WHEN NOT pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
                THEN 'may not CONNECT to the database' END
      FROM pg_catalog.pg_roles r WHERE r.oid = _login_problem.role_oid;
END;
COMMENT ON FUNCTION backfill._login_problem(oid) IS
    'Why no executor can log in as a role, as far as the catalogs tell; NULL: they tell of nothing. health() and why_not_running() call it.';

CREATE FUNCTION backfill._health_roles(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    seen record;
BEGIN
    check_name := 'roles'; status := 'ok';
    SELECT pg_catalog.array_agg(DISTINCT c.problem) AS names INTO seen
      FROM (SELECT CASE WHEN r.oid IS NULL THEN t.run_as::text
                        WHEN backfill._login_problem(r.oid) IS NOT NULL THEN pg_catalog.format('%s %s', t.run_as, backfill._login_problem(r.oid))
                        WHEN r.oid = ANY (server.held_roles) THEN pg_catalog.format('%s: an executor could not log in, see the server''s log', t.run_as) END AS problem
              FROM backfill.task t LEFT JOIN pg_catalog.pg_roles r ON r.oid = backfill._role_oid(t.run_as)
             WHERE t.handler_name IS NOT NULL) c
     WHERE c.problem IS NOT NULL;
    IF seen.names IS NOT NULL THEN
        status := 'critical';
        detail := 'no executor can log in as the roles of some tasks: ' || backfill._listing(seen.names);
        hint := 'Give the role what it lacks, or register its tasks with another run_as. If it was missing or dropped and is there again, register them again.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_roles() IS 'A check of health(): roles of tasks that executors cannot log in as.';

CREATE FUNCTION backfill._health_producers(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'producers'; status := 'ok';
    names := ARRAY(SELECT DISTINCT r.rolname::text
                     FROM pg_catalog.pg_proc p CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
                    WHERE p.pronamespace = 'backfill'::pg_catalog.regnamespace AND p.proname = 'enqueue'
                      AND NOT pg_catalog.pg_has_role(r.oid, p.proowner, 'USAGE')
                      AND NOT EXISTS (SELECT FROM backfill.producer g JOIN pg_catalog.pg_roles h ON h.oid = backfill._role_oid(g.role_name)
                                       WHERE pg_catalog.pg_has_role(r.oid, h.oid, 'USAGE'))
                    ORDER BY 1);
    IF names <> '{}' THEN
        status := 'warning';
        detail := 'roles with EXECUTE on backfill.enqueue() that may enqueue no task: ' || backfill._listing(names);
        hint := 'Call backfill.grant_producer() for them, or revoke EXECUTE.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_producers() IS 'A check of health(): roles that can call backfill.enqueue(), but that grant_producer() allows nothing.';

CREATE FUNCTION backfill._health_dead_letters(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'dead_letters'; status := 'ok';
    SELECT pg_catalog.sum(d.letters) AS letters, pg_catalog.min(d.oldest) AS oldest, pg_catalog.max(d.newest) AS newest,
           pg_catalog.array_agg(pg_catalog.format('%s (%s)', d.task_identifier, d.letters) ORDER BY d.letters DESC, d.task_identifier) AS names INTO seen
      FROM (SELECT l.task_identifier, pg_catalog.count(*) AS letters, pg_catalog.min(l.failed_at) AS oldest, pg_catalog.max(l.failed_at) AS newest
              FROM backfill.dead_letter l GROUP BY l.task_identifier) d;
    IF seen.letters > 0 THEN
        status := 'warning';
        detail := pg_catalog.format('%s, the oldest since %s, the latest since %s: %s', seen.letters, seen.oldest, seen.newest, backfill._listing(seen.names));
        hint := 'See backfill.dlq; requeue_dlq_job() and delete_dlq_job() settle them.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_dead_letters() IS 'A check of health(): the dead letters.';

CREATE FUNCTION backfill._health_expired_leases(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    seen record;
BEGIN
    check_name := 'expired_leases'; status := 'ok';
    SELECT pg_catalog.count(*) AS leases, pg_catalog.min(j.lease_expires_at) AS oldest INTO seen
      FROM backfill.job j WHERE j.lease_expires_at < now - interval '10 seconds';
    IF seen.leases > 0 AND NOT pg_catalog.pg_is_in_recovery() THEN
        status := 'warning';
        detail := pg_catalog.format('%s ran out, the first at %s, and have not been ended', seen.leases, seen.oldest);
        hint := 'The dispatcher does that: see whether it runs. SELECT backfill.release_stale_job_locks() does it now.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_expired_leases() IS 'A check of health(): leases that ran out and were not ended.';

CREATE FUNCTION backfill._health_paused_queues(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'paused_queues'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s (%s)', p.queue_name, CASE WHEN j.jobs > 10000 THEN '10000 or more' ELSE j.jobs::text END)
                                ORDER BY j.jobs DESC, p.queue_name) AS names INTO seen
      FROM backfill.queue p
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) AS jobs
             FROM (SELECT FROM backfill.job i
                    WHERE i.queue_name >= p.queue_name AND i.queue_name <= p.queue_name AND i.queue_name <> '' AND i.lease_expires_at IS NULL
                    ORDER BY i.queue_name LIMIT 10001) c) j
     WHERE p.paused AND j.jobs > 0;
    IF seen.names IS NOT NULL THEN
        status := 'warning'; detail := 'jobs wait in paused queues: ' || backfill._listing(seen.names); hint := 'backfill.resume_queue() lets them go on.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_paused_queues() IS 'A check of health(): paused queues that have jobs.';

CREATE FUNCTION backfill._health_rate_windows(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missed_at constant timestamptz := backfill._no_rate_window_at();
BEGIN
    check_name := 'rate_windows'; status := 'ok';
    IF missed_at > pg_catalog.clock_timestamp() - interval '1 minute' THEN
        status := 'warning';
        detail := pg_catalog.format('at %s a queue with a rate found that as many others as the server can count had started jobs within their periods; its jobs wait', missed_at);
        hint := 'The server, all its databases together, counts the starts of 1024 such queues at a time. Shorten their rate_period, or limit fewer of them.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_rate_windows() IS 'A check of health(): whether the starts of all queues with a rate can be counted.';

-- Any producer can name any priority. Each look for a job takes a step for every range.
CREATE FUNCTION backfill._health_ranges(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'ranges'; status := 'ok';
    WITH RECURSIVE range AS (
        (SELECT j.task_identifier, j.priority FROM backfill.job j
          WHERE j.lease_expires_at IS NULL ORDER BY j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.* FROM range r CROSS JOIN LATERAL (
            SELECT j.task_identifier, j.priority FROM backfill.job j
             WHERE j.lease_expires_at IS NULL AND (j.task_identifier, j.priority) > (r.task_identifier, r.priority)
             ORDER BY j.task_identifier, j.priority LIMIT 1) n)
    SELECT pg_catalog.sum(t.ranges) AS ranges, pg_catalog.array_agg(pg_catalog.format('%s (%s)', t.task_identifier, t.ranges) ORDER BY t.ranges DESC, t.task_identifier) AS names
      INTO seen
      FROM (SELECT f.task_identifier, pg_catalog.count(*) AS ranges FROM (SELECT r.task_identifier FROM range r LIMIT 1001) f GROUP BY f.task_identifier) t;
    IF seen.ranges > 1000 THEN
        status := 'warning';
        detail := 'jobs wait in more than 1000 combinations of task and priority, and each look for a job goes through all of them: ' || backfill._listing(seen.names);
        hint := 'Use fewer priorities: one for each row or customer is too many. Any producer can name them; backfill.jobs shows which.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_ranges() IS 'A check of health(): whether jobs wait at too many priorities, so that looking for them takes long.';

CREATE FUNCTION backfill._pg_cron_job(OUT home text, OUT installed boolean, OUT id bigint, OUT active boolean, OUT schedule text, OUT status text, OUT message text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    its_schema constant name := (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname = 'cron' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'));
BEGIN
    -- Not current_setting(): the configuration may have it although the server does not load pg_cron.
    home := (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'cron.database_name');
    installed := EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron');
    IF home = pg_catalog.current_database() AND installed AND its_schema IS NOT NULL THEN
        -- By the owner of the extension, as which this runs: others may have jobs that call cron_tick(), too.
        EXECUTE pg_catalog.format($query$SELECT j.jobid, j.active, j.schedule, d.status, d.return_message
                         FROM %1$I.job j
                         LEFT JOIN LATERAL (SELECT r.status, r.return_message FROM %1$I.job_run_details r
                                             WHERE r.jobid = j.jobid ORDER BY r.runid DESC LIMIT 1) d ON true
                        WHERE j.jobname = 'backfill.cron_tick()' AND j.command = 'SELECT backfill.cron_tick()'
                          AND j.database = pg_catalog.current_database() AND j.username = CURRENT_USER
                        ORDER BY j.jobid LIMIT 1$query$, its_schema) INTO id, active, schedule, status, message;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._pg_cron_job() IS
    'The job of pg_cron that calls backfill.cron_tick() in this database, and how its last run went; the database that pg_cron lives in, and whether the extension is here.';

-- Also called by schedule(), whose caller wants to know at once.
CREATE FUNCTION backfill._clock_problem(OUT clock text, OUT problem text, OUT hint text, OUT stands_in boolean)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    setting constant text := coalesce(pg_catalog.current_setting('backfill.cron_clock', true), 'auto');
    server constant record := backfill._server_state();
    by_worker constant boolean := pg_catalog.current_setting('cron.use_background_workers', true) = 'on';
    login_hint constant text := 'Set cron.use_background_workers to on and restart the server'
        || CASE WHEN setting = 'auto' THEN ', or set backfill.cron_clock to dispatcher.' ELSE '.' END;
    job record;
BEGIN
    clock := setting; stands_in := false;
    IF setting = 'external' THEN
        RETURN;
    END IF;
    SELECT j.* INTO job FROM backfill._pg_cron_job() j WHERE setting <> 'dispatcher';
    IF job.id IS NULL AND setting = 'pg_cron' THEN
        problem := CASE WHEN job.home IS NULL THEN 'the server does not load pg_cron'
                        WHEN job.home <> pg_catalog.current_database() THEN pg_catalog.format('pg_cron runs in database %I only', job.home)
                        WHEN NOT job.installed THEN 'extension pg_cron is not installed in this database'
                        ELSE pg_catalog.format('pg_cron has no job of role %I that calls backfill.cron_tick()', CURRENT_USER) END;
        hint := 'Call backfill.schedule() again for one of the schedules: its error says what is missing. Or set backfill.cron_clock to auto.';
    ELSIF job.id IS NULL THEN
        clock := 'dispatcher';
        IF NOT server.preloaded OR NOT server.listed THEN
            problem := CASE WHEN server.preloaded THEN 'backfill.databases does not name this database, which so has no dispatcher'
                            ELSE 'backfill is not in shared_preload_libraries, so that there is no dispatcher' END;
            hint := 'Let the dispatcher run, or have something else call backfill.cron_tick() every minute and set backfill.cron_clock to external.';
        END IF;
    ELSE
        clock := 'pg_cron';
        -- With auto the dispatcher makes up for pg_cron, unless an operator has paused the clock.
        stands_in := setting = 'auto' AND job.active AND server.dispatcher;
        IF NOT job.active OR job.schedule <> '* * * * *' THEN
            problem := pg_catalog.format('job %s of pg_cron, the clock, %s', job.id,
                                         CASE WHEN job.active THEN pg_catalog.format('runs at "%s" only', job.schedule) ELSE 'is not active' END);
            hint := pg_catalog.format('SELECT cron.alter_job(%s, schedule => ''* * * * *'', active => true) activates it.', job.id);
        ELSIF job.status = 'failed' THEN
            problem := pg_catalog.format('the last run of job %s of pg_cron, the clock, failed%s', job.id,
                                         CASE WHEN backfill._caller_may_read_jobs() THEN ': ' || job.message END);
            hint := CASE WHEN job.message ~ 'connection' AND NOT by_worker THEN 'pg_cron cannot log in. ' || login_hint ELSE 'See cron.job_run_details.' END;
        ELSIF job.status IS NULL AND NOT by_worker AND pg_catalog.current_setting('listen_addresses') = ''
              AND pg_catalog.current_setting('cron.host', true) !~ '^(/|$)' THEN
            problem := pg_catalog.format('pg_cron cannot log in: it connects to %s, where the server does not listen', pg_catalog.current_setting('cron.host', true));
            hint := login_hint;
        END IF;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._clock_problem() IS
    'What ticks for the schedules of this database, as backfill.cron_clock has it; what keeps it from that, and what to do about it (NULL: nothing that is known); whether the dispatcher stands in.';

CREATE FUNCTION backfill._health_schedules(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    last_tick constant timestamptz := (SELECT pg_catalog.max(s.checked_until) FROM backfill.cron_schedule s);
    seen record;
    clock record;
BEGIN
    check_name := 'schedules'; status := 'ok';
    IF last_tick IS NULL OR pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    END IF;
    SELECT c.* INTO clock FROM backfill._clock_problem() c;
    -- The dispatcher ticks when something is due, the others every minute: two minutes may not pass unseen.
    IF clock.problem IS NULL AND clock.clock <> 'dispatcher' AND last_tick < now - interval '100 seconds' THEN
        clock.problem := pg_catalog.format('the clock, %s, has not ticked since %s',
                                           CASE clock.clock WHEN 'external' THEN 'which is external' ELSE clock.clock END, last_tick);
        clock.hint := CASE clock.clock WHEN 'external' THEN 'backfill.cron_clock is external: something must call backfill.cron_tick() every minute.'
                                       ELSE 'pg_cron calls backfill.cron_tick() every minute: see cron.job, cron.job_run_details, and in pg_stat_activity whether its launcher runs.' END;
    END IF;
    SELECT pg_catalog.array_agg(s.problem ORDER BY s.problem) AS names INTO seen
      FROM (SELECT CASE WHEN c.last_error IS NOT NULL THEN pg_catalog.format('%s: the last tick could not enqueue, see last_error in backfill.schedules', c.name)
                        WHEN clock.problem IS NULL AND n.next < now - interval '1 minute'
                        THEN pg_catalog.format('%s: what was due at %s is not enqueued', c.name, n.next) END AS problem
              FROM backfill.cron_schedule c
              LEFT JOIN LATERAL (SELECT backfill._next_run_at(c.cron, c.time_zone, greatest(c.known_since, c.checked_until)) AS next) n ON true) s
     WHERE s.problem IS NOT NULL;
    IF clock.problem IS NOT NULL OR seen.names IS NOT NULL THEN
        status := 'critical';
        detail := pg_catalog.concat_ws('; ', clock.problem, backfill._listing(seen.names));
        hint := coalesce(clock.hint, pg_catalog.format('The clock is %s. A session may have locked the schedule: see the checks dispatcher and set_aside, and pg_locks.', clock.clock));
    ELSE
        detail := pg_catalog.format('the clock is %s', clock.clock);
    END IF;
    IF clock.problem IS NOT NULL AND clock.stands_in AND seen.names IS NULL THEN
        status := 'warning';
        detail := detail || '; meanwhile the dispatcher sees to the schedules, two minutes late';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_schedules() IS 'A check of health(): schedules whose tick failed, or is missing.';

CREATE FUNCTION backfill._health_dead_rows(max_dead_rows bigint, OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'dead_rows'; status := 'ok';
    SELECT pg_catalog.pg_stat_get_dead_tuples('backfill.job'::pg_catalog.regclass) AS dead_rows, v.holder, v.xmin_age, v.since INTO seen
      FROM (SELECT 1) one LEFT JOIN (SELECT * FROM backfill._vacuum_holders() h LIMIT 1) v ON true;
    detail := pg_catalog.format('backfill.job has some %s dead rows', seen.dead_rows);
    IF seen.holder IS NOT NULL THEN
        detail := detail || pg_catalog.format('; the oldest snapshot is that of %s, %s transactions old%s', seen.holder, seen.xmin_age,
                                              ', since ' || seen.since);
    END IF;
    IF seen.dead_rows >= max_dead_rows THEN
        status := 'warning';
        hint := CASE WHEN seen.holder IS NULL THEN 'Nothing holds vacuum back, but it does not keep up: see pg_stat_progress_vacuum and the setting autovacuum.'
                     ELSE 'Vacuum cannot remove rows that died after the oldest snapshot was taken: end its transaction, or drop its slot.' END;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_dead_rows(bigint) IS 'A check of health(): dead rows of backfill.job, and what keeps vacuum from removing them.';

CREATE FUNCTION backfill._health_autovacuum(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    check_name := 'autovacuum'; status := 'ok';
    IF NOT pg_catalog.current_setting('autovacuum')::boolean OR NOT pg_catalog.current_setting('track_counts')::boolean
       OR EXISTS (SELECT FROM pg_catalog.pg_class c, pg_catalog.unnest(c.reloptions) o
                   WHERE c.oid = 'backfill.job'::pg_catalog.regclass AND o IN ('autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0', 'autovacuum_enabled=no')) THEN
        status := 'warning';
        detail := pg_catalog.concat_ws(', ', CASE WHEN NOT pg_catalog.current_setting('autovacuum')::boolean THEN 'autovacuum is off' END,
                                       CASE WHEN NOT pg_catalog.current_setting('track_counts')::boolean THEN 'track_counts is off' END);
        detail := coalesce(nullif(detail, ''), 'autovacuum is turned off for backfill.job');
        hint := 'Every job leaves a dead row; without vacuum backfill.job only grows.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_autovacuum() IS 'A check of health(): whether vacuum looks after backfill.job.';

CREATE FUNCTION backfill._health_metrics_labels(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'metrics_labels'; status := 'ok';
    IF server.other_labels THEN
        status := 'warning';
        detail := 'all places for counters of tasks, queues and priorities are in use, and some of this database are counted as "other"';
        hint := 'Raise backfill.metrics_max_label_sets and restart the server, or use fewer names; delete_queue() and unregister_task() give places back, as do names that count nothing for backfill.metrics_idle_time.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_metrics_labels() IS 'A check of health(): whether tasks and queues have run out of labels.';

-- A job may have been cancelled since.
CREATE FUNCTION backfill._health_set_aside(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    with_texts constant boolean := backfill._caller_may_read_jobs();
    problems text[];
BEGIN
    check_name := 'set_aside'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s %s%s since %s, failed %s times, next try at %s: %s%s', a.kind, a.id, ' (' || a.name || ')',
                                                  a.since, a.failures, a.retry_at, a.sqlstate, CASE WHEN with_texts THEN ' ' || a.message END) ORDER BY a.since, a.kind, a.id) INTO problems
      FROM backfill._set_aside() a
     -- One executor was terminated, perhaps by an operator: that is no trouble. 0: several things together.
     WHERE NOT (a.sqlstate = '57P01' AND a.failures = 1) AND a.id <> 0
       AND (a.kind NOT IN ('job', 'lease', 'claim', 'charge') OR EXISTS (SELECT FROM backfill.job j WHERE j.id = a.id))
       AND (a.kind <> 'old letter' OR EXISTS (SELECT FROM backfill.dead_letter d WHERE d.id = a.id))
       AND (a.kind <> 'queue' OR EXISTS (SELECT FROM backfill.queue q WHERE q.id = a.id AND q.automatic))
       AND (a.kind <> 'schedule' OR EXISTS (SELECT FROM backfill.cron_schedule s WHERE pg_catalog.hashtextextended(s.name, 0) = a.id));
    IF problems IS NOT NULL THEN
        status := 'warning';
        detail := backfill._listing(problems);
        hint := 'Each of them is tried again by itself, and all others go on. What takes long, or has ended a process, waits longer: SELECT pg_reload_conf() has all of them tried at once.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_set_aside() IS 'A check of health(): what cannot be settled now, and is tried again later.';

CREATE FUNCTION backfill._health_triggers(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'triggers'; status := 'ok';
    -- pg_restore --disable-triggers leaves them enabled, but no longer for replication.
    SELECT pg_catalog.array_agg(pg_catalog.format('%s', c.oid::pg_catalog.regclass) ORDER BY c.relname) AS tables,
           pg_catalog.string_agg(pg_catalog.format('ALTER TABLE backfill.%I ENABLE ALWAYS TRIGGER config_changed;', c.relname), ' ' ORDER BY c.relname) AS commands
      INTO seen
      FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'config_changed'
     WHERE c.relnamespace = 'backfill'::pg_catalog.regnamespace
       AND c.relname IN ('task', 'retry_policy', 'queue', 'producer', 'error_rule', 'no_retry', 'hook')
       AND t.tgenabled IS DISTINCT FROM 'A';
    IF seen.tables IS NOT NULL THEN
        status := 'warning';
        detail := 'workers are not told of every change of ' || backfill._listing(seen.tables);
        hint := seen.commands;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_triggers() IS 'A check of health(): whether the triggers that tell of new settings fire always.';

CREATE FUNCTION backfill.health(
    max_wait interval DEFAULT '5 minutes',
    max_dead_rows bigint DEFAULT 100000,
    OUT check_name text,
    OUT status text,
    OUT detail text,
    OUT hint text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 20 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF max_wait IS NULL OR max_dead_rows IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN max_wait IS NULL THEN 'max_wait' ELSE 'max_dead_rows' END
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Leave it out for the default.';
    END IF;
    RETURN QUERY
              SELECT * FROM backfill._health_preloaded()
    UNION ALL SELECT * FROM backfill._health_version()
    UNION ALL SELECT * FROM backfill._health_launcher()
    UNION ALL SELECT * FROM backfill._health_dispatcher()
    UNION ALL SELECT * FROM backfill._health_executors()
    UNION ALL SELECT * FROM backfill._health_worker_slots()
    UNION ALL SELECT * FROM backfill._health_oldest_ready_job(max_wait)
    UNION ALL SELECT * FROM backfill._health_unregistered_tasks()
    UNION ALL SELECT * FROM backfill._health_handlers()
    UNION ALL SELECT * FROM backfill._health_hooks()
    UNION ALL SELECT * FROM backfill._health_function_owners()
    UNION ALL SELECT * FROM backfill._health_roles()
    UNION ALL SELECT * FROM backfill._health_producers()
    UNION ALL SELECT * FROM backfill._health_dead_letters()
    UNION ALL SELECT * FROM backfill._health_expired_leases()
    UNION ALL SELECT * FROM backfill._health_paused_queues()
    UNION ALL SELECT * FROM backfill._health_rate_windows()
    UNION ALL SELECT * FROM backfill._health_ranges()
    UNION ALL SELECT * FROM backfill._health_schedules()
    UNION ALL SELECT * FROM backfill._health_dead_rows(max_dead_rows)
    UNION ALL SELECT * FROM backfill._health_autovacuum()
    UNION ALL SELECT * FROM backfill._health_metrics_labels()
    UNION ALL SELECT * FROM backfill._health_set_aside()
    UNION ALL SELECT * FROM backfill._health_triggers();
END;
$$;
COMMENT ON FUNCTION backfill.health(interval, bigint) IS
    'What an operator must know, a row for each check: status is ok, warning or critical. max_wait: how long a ready job may wait; max_dead_rows: how many dead rows backfill.job may have.';
