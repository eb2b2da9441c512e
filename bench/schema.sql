-- What the benchmarks need: the tables and procedures that backfill is compared with, the
-- tasks that they run, and a table for the results.

CREATE EXTENSION backfill;
CREATE SCHEMA bench;

-- The baseline: a queue table as anybody would make it, with the same columns and indexes,
-- and vacuumed as eagerly.
CREATE TABLE bench.raw_job (LIKE backfill.job INCLUDING ALL) WITH (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

-- The baseline's statements name only the columns that say something; counters start at 0.
DO $$
DECLARE
    counter text;
BEGIN
    FOR counter IN
        SELECT a.attname FROM pg_attribute a
         WHERE a.attrelid = 'bench.raw_job'::regclass AND a.attnotnull AND NOT a.atthasdef AND a.atttypid = 'smallint'::regtype
    LOOP
        EXECUTE format('ALTER TABLE bench.raw_job ALTER COLUMN %I SET DEFAULT 0', counter);
    END LOOP;
END;
$$;

-- The two handlers.
CREATE FUNCTION bench.noop(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
END;
$$;

CREATE TABLE bench.seen (
    sent numeric NOT NULL,
    started numeric NOT NULL
);
CREATE FUNCTION bench.note_start(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.seen VALUES ((payload ->> 'sent')::numeric, extract(epoch FROM clock_timestamp()));
END;
$$;

SELECT backfill.register_task('bench_noop', 'bench.noop(jsonb)');
SELECT backfill.register_task('bench_latency', 'bench.note_start(jsonb)');

-- How long a plain INSERT took to commit, in seconds.
CREATE TABLE bench.raw_insert (
    duration numeric NOT NULL
);

-- The usual worker loop, in its fastest form that we know: claim and delete 64 jobs in one
-- statement, run each in a subtransaction, commit.
CREATE TABLE bench.raw_drain (
    jobs integer NOT NULL,
    started timestamptz NOT NULL,
    ended timestamptz NOT NULL
);
CREATE PROCEDURE bench.drain_skip_locked() LANGUAGE plpgsql AS $$
DECLARE
    loop_started timestamptz := clock_timestamp();
    job record;
    jobs integer;
    all_jobs integer := 0;
BEGIN
    LOOP
        jobs := 0;
        FOR job IN
            DELETE FROM bench.raw_job
             WHERE ctid = ANY (ARRAY(
                   SELECT r.ctid FROM bench.raw_job r
                    WHERE r.task_identifier = 'bench_noop' AND r.lease_expires_at IS NULL AND r.run_at <= clock_timestamp()
                    ORDER BY r.priority, r.run_at, r.id
                    LIMIT 64 FOR UPDATE SKIP LOCKED))
            RETURNING *
        LOOP
            jobs := jobs + 1;
            BEGIN
                PERFORM bench.noop(job.payload);
            EXCEPTION WHEN OTHERS THEN
                INSERT INTO bench.raw_job SELECT job.*;
            END;
        END LOOP;
        COMMIT;
        EXIT WHEN jobs = 0;
        all_jobs := all_jobs + jobs;
    END LOOP;
    INSERT INTO bench.raw_drain VALUES (all_jobs, loop_started, clock_timestamp());
END;
$$;

-- Waits for the executors to finish a number of jobs, or for the time limit; says how many
-- they finished in a second, counted from the start of the first one. It commits all the
-- time, because an old snapshot would keep dead rows alive for the others.
CREATE PROCEDURE bench.watch_executors(jobs bigint, time_limit interval, INOUT rate numeric DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    finished bigint;
    first_start timestamptz;
    give_up timestamptz := clock_timestamp() + time_limit;
BEGIN
    LOOP
        SELECT sum(w.jobs_done), min(w.started_at) INTO finished, first_start
          FROM backfill.workers w WHERE w.kind = 'executor';
        EXIT WHEN finished >= jobs OR clock_timestamp() > give_up;
        COMMIT;
        PERFORM pg_sleep(0.002);
    END LOOP;
    rate := round(finished / extract(epoch FROM clock_timestamp() - first_start));
END;
$$;

CREATE TABLE bench.result (
    position integer GENERATED ALWAYS AS IDENTITY,
    measure text NOT NULL,
    unit text NOT NULL,
    ours numeric NOT NULL,
    baseline numeric NOT NULL
);

-- Medians over the runs. The ratio is the median of the ratios of the single runs, whose
-- two halves were measured one right after the other.
CREATE VIEW bench.summary AS
SELECT min(position) AS position, measure, unit, count(*) AS runs,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ours)::numeric AS ours,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY baseline)::numeric AS baseline,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY ours / baseline)::numeric AS ratio,
       min(ours / baseline) AS lowest, max(ours / baseline) AS highest
  FROM bench.result GROUP BY measure, unit;
