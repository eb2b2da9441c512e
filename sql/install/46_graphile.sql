-- Graphile Worker's functions, so that its users change only the schema name.

CREATE FUNCTION backfill.add_job(
    identifier text,
    payload json DEFAULT NULL,
    queue_name text DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    priority integer DEFAULT NULL,
    flags text[] DEFAULT NULL,
    job_key_mode text DEFAULT 'replace')
RETURNS backfill.job LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_add_job';
COMMENT ON FUNCTION backfill.add_job(text, json, text, timestamptz, integer, text, integer, text[], text) IS
    'Graphile Worker''s add_job: 25 attempts, priority 0, no queue (fully parallel), its backoff. A named queue without limits of its own becomes serial. Returns the job''s row.';

CREATE TYPE backfill.job_spec AS (
    identifier text,
    payload json,
    queue_name text,
    run_at timestamptz,
    max_attempts smallint,
    job_key text,
    priority smallint,
    flags text[]);
COMMENT ON TYPE backfill.job_spec IS 'A job for add_jobs().';

CREATE FUNCTION backfill._lock_job_keys(job_keys text[])
RETURNS void LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_lock_job_keys';
COMMENT ON FUNCTION backfill._lock_job_keys(text[]) IS 'Keep other producers of these keys away until the end of the transaction.';

-- Of several specifications with one key the last counts.
CREATE FUNCTION backfill.add_jobs(specs backfill.job_spec[], job_key_preserve_run_at boolean DEFAULT false)
RETURNS SETOF backfill.job
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    spec record;
BEGIN
    PERFORM backfill._lock_job_keys(ARRAY(SELECT s.job_key FROM pg_catalog.unnest(specs) s WHERE s.job_key IS NOT NULL));
    FOR spec IN
        SELECT l.*
          FROM (SELECT s.*, pg_catalog.max(s.ordinality) OVER (PARTITION BY s.job_key) AS last
                  FROM pg_catalog.unnest(specs) WITH ORDINALITY s) l
         WHERE l.job_key IS NULL OR l.ordinality = l.last
         ORDER BY l.ordinality
    LOOP
        RETURN NEXT backfill.add_job(spec.identifier, spec.payload, spec.queue_name, spec.run_at, spec.max_attempts,
                                     spec.job_key, spec.priority, spec.flags,
                                     CASE WHEN job_key_preserve_run_at THEN 'preserve_run_at' ELSE 'replace' END);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.add_jobs(backfill.job_spec[], boolean) IS
    'Graphile Worker''s add_jobs: many at once, with job_key_mode replace or preserve_run_at.';
