-- Metrics: counters from shared memory, gauges from the tables, as rows and as text for
-- Prometheus.

CREATE FUNCTION backfill._counters(
    OUT name text,
    OUT labels jsonb,
    OUT value double precision,
    OUT sum double precision,
    OUT bucket_bounds double precision[],
    OUT bucket_counts bigint[])
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_counters';
COMMENT ON FUNCTION backfill._counters() IS
    'The counters and histograms of metrics() for this database, from shared memory; no rows if there is none.';

CREATE FUNCTION backfill._metric_catalogue(OUT "position" integer, OUT name text, OUT kind text, OUT help text)
RETURNS SETOF record LANGUAGE c STRICT STABLE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'backfill_metric_catalogue';
COMMENT ON FUNCTION backfill._metric_catalogue() IS 'Every metric that there is, in the order of metrics().';

-- Gauges. A queue or task beyond the number of label sets is shown as "other", as with counters;
-- the longest queues and dead letter queues keep their names.
CREATE FUNCTION backfill._queue_gauges(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.name, v.labels, v.value
      FROM (SELECT CASE WHEN r.rank <= coalesce(pg_catalog.current_setting('backfill.metrics_max_label_sets', true)::bigint, 1000)
                        THEN r.queue_name ELSE 'other' END AS queue_name,
                   pg_catalog.bool_and(r.paused) AS paused, pg_catalog.sum(r.ready) AS ready, pg_catalog.sum(r.scheduled) AS scheduled, pg_catalog.sum(r.active) AS active
              FROM (SELECT n.queue_name, coalesce(c.paused, false) AS paused, coalesce(j.ready, 0) AS ready, coalesce(j.scheduled, 0) AS scheduled, coalesce(j.active, 0) AS active,
                           pg_catalog.row_number() OVER (ORDER BY coalesce(j.total, 0) DESC, n.queue_name) AS rank
                      FROM (SELECT b.queue_name, pg_catalog.bool_or(b.paused) AS paused
                              FROM (SELECT 'fast' COLLATE "C" AS queue_name, false AS paused UNION ALL SELECT 'bulk', false
                                    UNION ALL SELECT q.queue_name, q.paused FROM backfill.queue q) b
                             GROUP BY b.queue_name) c
                      FULL JOIN (SELECT a.queue_name, pg_catalog.count(*) AS total,
                                        pg_catalog.count(*) FILTER (WHERE NOT a.active AND a.due) AS ready,
                                        pg_catalog.count(*) FILTER (WHERE NOT a.active AND NOT a.due) AS scheduled,
                                        pg_catalog.count(*) FILTER (WHERE a.active) AS active
                                   FROM (SELECT coalesce(b.queue_name, '') AS queue_name,
                                                b.run_at <= backfill._now() AS due,
                                                coalesce(b.lease_expires_at > backfill._now(), false)
                                                    OR backfill._claimed(b.ctid, b.xmax) AS active
                                           FROM backfill.job b) a
                                  GROUP BY a.queue_name) j
                        ON j.queue_name = c.queue_name
                     CROSS JOIN LATERAL (SELECT coalesce(c.queue_name, j.queue_name) AS queue_name) n) r
             GROUP BY 1) g
     CROSS JOIN LATERAL (VALUES
           ('backfill_queue_depth', pg_catalog.jsonb_build_object('queue', g.queue_name, 'state', 'ready'), g.ready::double precision),
           ('backfill_queue_depth', pg_catalog.jsonb_build_object('queue', g.queue_name, 'state', 'scheduled'), g.scheduled::double precision),
           ('backfill_queue_active_jobs', pg_catalog.jsonb_build_object('queue', g.queue_name), g.active::double precision),
           ('backfill_queue_is_paused', pg_catalog.jsonb_build_object('queue', g.queue_name), g.paused::integer::double precision)
           ) AS v (name, labels, value);
END;
COMMENT ON FUNCTION backfill._queue_gauges() IS 'The gauges backfill_queue_... of metrics(). Reads the whole table of jobs.';

CREATE FUNCTION backfill._dlq_gauges(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.name, v.labels, v.value
      FROM (SELECT CASE WHEN r.rank <= coalesce(pg_catalog.current_setting('backfill.metrics_max_label_sets', true)::bigint, 1000)
                        THEN r.task_identifier ELSE 'other' END AS task_identifier,
                   pg_catalog.sum(r.letters) AS letters, pg_catalog.min(r.oldest) AS oldest
              FROM (SELECT n.task_identifier, coalesce(l.letters, 0) AS letters, l.oldest,
                           pg_catalog.row_number() OVER (ORDER BY coalesce(l.letters, 0) DESC, n.task_identifier) AS rank
                      FROM (SELECT t.task_identifier FROM backfill.task t UNION SELECT d.task_identifier FROM backfill.dead_letter d) n
                      LEFT JOIN (SELECT d.task_identifier, pg_catalog.count(*) AS letters, pg_catalog.min(d.failed_at) AS oldest
                                   FROM backfill.dead_letter d GROUP BY d.task_identifier) l
                        ON l.task_identifier = n.task_identifier) r
             GROUP BY 1) g
     CROSS JOIN LATERAL (VALUES
           ('backfill_dlq_size', pg_catalog.jsonb_build_object('task', g.task_identifier), g.letters::double precision),
           ('backfill_dlq_age_seconds', pg_catalog.jsonb_build_object('task', g.task_identifier),
            extract(epoch FROM backfill._now() - g.oldest)::double precision)) AS v (name, labels, value)
     WHERE v.value IS NOT NULL;
END;
COMMENT ON FUNCTION backfill._dlq_gauges() IS 'The gauges backfill_dlq_... of metrics(). Reads the whole table of dead letters.';

CREATE FUNCTION backfill._worker_gauges(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.name, pg_catalog.jsonb_build_object('worker_kind', g.kind), v.value
      FROM (SELECT n.kind, pg_catalog.count(w.pid) AS workers,
                   pg_catalog.count(*) FILTER (WHERE w.state = 'busy')::double precision AS busy
              FROM (VALUES ('dispatcher'), ('executor')) AS n (kind)
              LEFT JOIN backfill._workers() w ON w.kind = n.kind
             GROUP BY n.kind) g
     CROSS JOIN LATERAL (VALUES
           ('backfill_worker_active', g.workers::double precision),
           ('backfill_worker_utilization', CASE WHEN g.kind = 'executor' THEN least(g.busy / greatest(
                pg_catalog.current_setting('backfill.max_executors')::integer, 1), 1) END)) AS v (name, value)
     WHERE v.value IS NOT NULL;
END;
COMMENT ON FUNCTION backfill._worker_gauges() IS 'The gauges backfill_worker_... of metrics(), from shared memory.';

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
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- What reads a table is not even called if none of its names can begin with the prefix.
    SELECT c.name, c.kind, m.labels, m.value, m.sum, m.bucket_bounds, m.bucket_counts
      FROM (SELECT k.name, k.labels, k.value, k.sum, k.bucket_bounds, k.bucket_counts FROM backfill._counters() k
            UNION ALL
            SELECT q.name, q.labels, q.value, NULL, NULL, NULL FROM backfill._queue_gauges() q
             WHERE pg_catalog.starts_with('backfill_queue_', coalesce(metrics.name_prefix, ''))
                OR pg_catalog.starts_with(metrics.name_prefix, 'backfill_queue_')
            UNION ALL
            SELECT d.name, d.labels, d.value, NULL, NULL, NULL FROM backfill._dlq_gauges() d
             WHERE pg_catalog.starts_with('backfill_dlq_', coalesce(metrics.name_prefix, ''))
                OR pg_catalog.starts_with(metrics.name_prefix, 'backfill_dlq_')
            UNION ALL
            SELECT w.name, w.labels, w.value, NULL, NULL, NULL FROM backfill._worker_gauges() w) m
      JOIN backfill._metric_catalogue() c ON c.name = m.name
     WHERE pg_catalog.starts_with(c.name, coalesce(metrics.name_prefix, ''))
     ORDER BY c."position", m.labels;
END;
COMMENT ON FUNCTION backfill.metrics(text) IS
    'The metrics of this database: counters since the server''s start, histograms (value counts observations; bucket_counts are cumulative) and gauges. name_prefix restricts the names.';

CREATE FUNCTION backfill.prometheus_metrics(name_prefix text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'backfill_prometheus_metrics';
COMMENT ON FUNCTION backfill.prometheus_metrics(text) IS
    'The rows of metrics() as text in Prometheus'' exposition format 0.0.4; names of counters end in _total there.';

-- Counts deleted letters however they are deleted; TRUNCATE and replicated deletes do not count.
CREATE FUNCTION backfill._letter_deleted()
RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_letter_deleted';
COMMENT ON FUNCTION backfill._letter_deleted() IS 'Counts a deleted dead letter for metrics().';

CREATE TRIGGER letter_deleted AFTER DELETE ON backfill.dead_letter
    FOR EACH ROW EXECUTE FUNCTION backfill._letter_deleted();
