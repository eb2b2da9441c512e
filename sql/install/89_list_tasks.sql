-- Pages of tasks, by name, with what keeps their jobs from running. They show no payload: list_tasks() runs as the
-- extension's owner.

CREATE FUNCTION backfill._overview_task_names(max_names integer, after text)
RETURNS SETOF text LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.task_identifier FROM backfill._job j
          WHERE j.task_identifier > _overview_task_names.after AND j.lease_expires_at IS NULL
          ORDER BY j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.task_identifier FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.task_identifier FROM backfill._job j WHERE j.task_identifier > l.task_identifier AND j.lease_expires_at IS NULL
                ORDER BY j.task_identifier, j.priority LIMIT 1) n)
    SELECT n.task_identifier
      FROM ((SELECT l.task_identifier FROM leap l LIMIT _overview_task_names.max_names)
            UNION
            (SELECT t.task_identifier FROM backfill.task t WHERE t.task_identifier > _overview_task_names.after
              ORDER BY t.task_identifier LIMIT _overview_task_names.max_names)
            UNION
            SELECT l.task_identifier
              FROM (SELECT j.task_identifier FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at LIMIT 10001) l
             WHERE l.task_identifier > _overview_task_names.after) n
     ORDER BY n.task_identifier LIMIT _overview_task_names.max_names;
END;
COMMENT ON FUNCTION backfill._overview_task_names(integer, text) IS 'The names of tasks that are registered or have jobs: the next ones after a name.';

-- What health() finds wrong with tasks.
CREATE FUNCTION backfill._overview_task_problems(task_identifiers text[], OUT task_identifier text, OUT problem text)
RETURNS SETOF record LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH handler AS MATERIALIZED (SELECT f.name, f.problem FROM backfill._functions() f WHERE f.kind = 'task'),
    server AS MATERIALIZED (SELECT s.held_roles FROM backfill._server_state() s)
    SELECT n.task_identifier,
           CASE WHEN t.task_identifier IS NULL THEN 'it is not registered: its jobs wait until it is, or a consumer claims them'
                WHEN t.handler_name IS NULL THEN NULL
                WHEN r.oid IS NULL THEN pg_catalog.format('role %s does not exist', t.run_as)
                ELSE coalesce(h.problem, pg_catalog.format('role %s ', t.run_as) || backfill._login_problem(r.oid),
                              CASE WHEN r.oid = ANY (s.held_roles)
                                   THEN pg_catalog.format('role %s: an executor could not log in, see the server''s log', t.run_as) END) END
      FROM pg_catalog.unnest(_overview_task_problems.task_identifiers) AS n (task_identifier)
     CROSS JOIN server s
      LEFT JOIN backfill.task t ON t.task_identifier = n.task_identifier
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = backfill._role_oid(t.run_as)
      LEFT JOIN handler h ON h.name = n.task_identifier;
END;
COMMENT ON FUNCTION backfill._overview_task_problems(text[]) IS 'What keeps the jobs of these tasks from running, as health() finds it; NULL: nothing that it knows.';

-- Columns as in the view tasks, which counts all jobs. cap: of each count.
CREATE FUNCTION backfill._overview_tasks_json(task_identifiers text[], cap integer)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
    WITH lease AS MATERIALIZED (
        SELECT j.task_identifier FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at LIMIT 10001),
    looked_at AS (SELECT pg_catalog.count(*) <= 10000 AS all_leases FROM lease)
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) ORDER BY s.task_identifier COLLATE "C"), '[]')
      FROM (SELECT n.task_identifier,
                   CASE WHEN t.task_identifier IS NULL THEN 'unregistered' WHEN t.handler_name IS NULL THEN 'external'
                        WHEN t.handler_is_procedure THEN 'procedure' ELSE 'function' END AS kind,
                   CASE WHEN t.handler_name IS NOT NULL THEN
                       pg_catalog.format('%I.%I(%s)', t.handler_schema, t.handler_name, pg_catalog.array_to_string(t.handler_argtypes, ', ')) END AS handler,
                   CASE WHEN t.handler_name IS NOT NULL THEN EXISTS (
                       SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace c ON c.oid = p.pronamespace
                        WHERE c.nspname = t.handler_schema AND p.proname = t.handler_name
                          AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype) END AS handler_exists,
                   t.run_as::text AS run_as, t.queue_name, t.priority, t.max_attempts, t.retry_policy, extract(epoch FROM t.timeout) AS timeout,
                   t.notify_channel, t.registered_at, extract(epoch FROM t.keep_history) AS keep_history, t.savepoint_per_job,
                   backfill._page_count(j.jobs + (SELECT pg_catalog.count(*) FROM lease l WHERE l.task_identifier = n.task_identifier), _overview_tasks_json.cap, a.all_leases) AS jobs,
                   backfill._page_count(d.letters, _overview_tasks_json.cap) AS dead, p.problem
              FROM looked_at a
             CROSS JOIN pg_catalog.unnest(_overview_tasks_json.task_identifiers) AS n (task_identifier)
              LEFT JOIN backfill.task t ON t.task_identifier = n.task_identifier
              LEFT JOIN backfill._overview_task_problems(_overview_tasks_json.task_identifiers) p ON p.task_identifier = n.task_identifier
             CROSS JOIN LATERAL (
                   SELECT pg_catalog.count(*) AS jobs
                     FROM (SELECT FROM backfill._job j
                            WHERE j.task_identifier >= n.task_identifier AND j.task_identifier <= n.task_identifier AND j.lease_expires_at IS NULL
                            ORDER BY j.task_identifier LIMIT _overview_tasks_json.cap + 1) c) j
             CROSS JOIN LATERAL (
                   SELECT pg_catalog.count(*) AS letters
                     FROM (SELECT FROM backfill._letter d WHERE d.task_identifier >= n.task_identifier AND d.task_identifier <= n.task_identifier
                            ORDER BY d.task_identifier LIMIT _overview_tasks_json.cap + 1) c) d) s);
END;
$$;
COMMENT ON FUNCTION backfill._overview_tasks_json(text[], integer) IS 'These tasks, with how many jobs and dead letters they have and what is wrong with them, as JSON.';

CREATE FUNCTION backfill.list_tasks(search text DEFAULT NULL, problem_only boolean DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    looked_at constant integer := CASE WHEN search IS NULL AND problem_only IS NOT TRUE THEN size + 1 ELSE 5000 END;
    names text[] := ARRAY(SELECT * FROM backfill._overview_task_names(looked_at, coalesce((backfill._page_place('tasks', cursor)).name, '')));
    troubled text[];
    found record;
BEGIN
    IF problem_only THEN
        troubled := ARRAY(SELECT p.task_identifier FROM backfill._overview_task_problems(names) p WHERE p.problem IS NOT NULL);
    END IF;
    found := backfill._overview_page_of_names(names, looked_at, size, search, troubled);
    RETURN pg_catalog.jsonb_build_object('tasks', backfill._overview_tasks_json(found.page, least(10000, 50000 / size)),
                                         'next', CASE WHEN found.next IS NOT NULL THEN backfill._page_cursor('tasks', NULL, NULL, found.next) END,
                                         'cut_off', found.cut_off);
END;
$$;
COMMENT ON FUNCTION backfill.list_tasks(text, boolean, text, integer) IS
    'A page of the tasks that are registered or have jobs, by name, as JSON. search: a part of the name, in whatever case; problem_only: those whose jobs cannot run. The more tasks a page has, the lower counts are capped.';
