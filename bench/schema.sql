-- What the benchmarks need in the database with backfill: the tables and procedures that it
-- is compared with, the tasks that they run, and tables for the results.

CREATE EXTENSION backfill;
\ir common.sql

-- The baseline: a queue table in the usual form, with the same columns and indexes,
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

-- The same with the usual trigger that tells consumers of every job.
CREATE TABLE bench.notify_job (LIKE bench.raw_job INCLUDING ALL) WITH (
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);
CREATE FUNCTION bench.notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bench', NEW.task_identifier);
    RETURN NULL;
END;
$$;
CREATE TRIGGER notify AFTER INSERT ON bench.notify_job FOR EACH ROW EXECUTE FUNCTION bench.notify();

-- The handlers: nothing, one row, and the moment of the start.
CREATE FUNCTION bench.note_start(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.seen VALUES ((payload ->> 'n')::bigint, extract(epoch FROM clock_timestamp()));
END;
$$;
CREATE TABLE bench.seen (
    n bigint NOT NULL,
    started numeric NOT NULL
);

CREATE TABLE bench.urgent (
    sent numeric NOT NULL,
    started numeric NOT NULL
);
CREATE FUNCTION bench.note_urgent(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.urgent VALUES ((payload ->> 'sent')::numeric, extract(epoch FROM clock_timestamp()));
END;
$$;
CREATE FUNCTION bench.sleep(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(0.1)';

SELECT backfill.register_task('bench_noop', 'bench.noop(jsonb)');
SELECT backfill.register_task('bench_insert', 'bench.put(jsonb)');
SELECT backfill.register_task('bench_external');
SELECT backfill.register_task('bench_urgent', 'bench.note_urgent(jsonb)');
SELECT backfill.register_task('bench_slow', 'bench.sleep(jsonb)');
SELECT backfill.register_task('bench_latency', 'bench.note_start(jsonb)');

-- The usual worker loop, in its fastest form that we know: claim and delete 64 jobs in one
-- statement, run each in a subtransaction, commit.
CREATE TABLE bench.raw_drain (
    jobs integer NOT NULL,
    started timestamptz NOT NULL,
    ended timestamptz NOT NULL
);
CREATE PROCEDURE bench.drain_skip_locked(task text, time_limit interval) LANGUAGE plpgsql AS $$
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
                    WHERE r.task_identifier = task AND r.queue_name = 'bulk' -- in the order of the index
                      AND r.lease_expires_at IS NULL AND r.run_at <= clock_timestamp()
                    ORDER BY r.priority, r.run_at, r.id
                    LIMIT 64 FOR UPDATE SKIP LOCKED))
            RETURNING *
        LOOP
            jobs := jobs + 1;
            BEGIN
                IF task = 'bench_insert' THEN
                    PERFORM bench.put(job.payload);
                ELSE
                    PERFORM bench.noop(job.payload);
                END IF;
            EXCEPTION WHEN OTHERS THEN
                INSERT INTO bench.raw_job SELECT job.*;
            END;
        END LOOP;
        COMMIT;
        all_jobs := all_jobs + jobs;
        EXIT WHEN jobs = 0 OR clock_timestamp() > loop_started + time_limit;
    END LOOP;
    INSERT INTO bench.raw_drain VALUES (all_jobs, loop_started, clock_timestamp());
END;
$$;

-- Waits for the executors to finish a number of jobs, or for the time limit; says how many
-- they finished in a second, counted from the start of the first one to the moment when the last
-- one has committed and found nothing more. It looks seldom, because it takes time from them on a small
-- machine, and commits each time, because an old snapshot would keep dead rows alive for the
-- others. With a name, the progress is noted under it.
CREATE PROCEDURE bench.watch_executors(jobs bigint, time_limit interval, series text DEFAULT NULL, INOUT rate numeric DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    finished bigint;
    busy boolean;
    first_start timestamptz;
    last_end timestamptz;
    moment timestamptz;
    give_up timestamptz := clock_timestamp() + time_limit;
BEGIN
    LOOP
        SELECT sum(w.jobs_done), bool_or(w.state <> 'idle'), min(w.started_at), max(w.state_since), clock_timestamp()
          INTO finished, busy, first_start, last_end, moment
          FROM backfill.workers w WHERE w.kind = 'executor';
        IF finished >= jobs AND NOT busy THEN
            moment := last_end;
            EXIT;
        END IF;
        EXIT WHEN moment > give_up;
        IF series IS NOT NULL AND first_start IS NOT NULL THEN
            INSERT INTO bench.progress VALUES (series, extract(epoch FROM moment - first_start), finished);
        END IF;
        COMMIT;
        PERFORM pg_sleep(0.05);
    END LOOP;
    IF series IS NOT NULL THEN
        INSERT INTO bench.progress VALUES (series, extract(epoch FROM moment - first_start), finished);
    END IF;
    rate := round(finished / extract(epoch FROM moment - first_start));
END;
$$;

-- How the measurements went on over time. The plot shows it.
CREATE TABLE bench.progress (
    series text NOT NULL,
    seconds numeric NOT NULL,
    done bigint NOT NULL
);

-- What was measured: the subject's value, and the rival's beside it.
CREATE TABLE bench.result (
    position integer GENERATED ALWAYS AS IDENTITY,
    measure text NOT NULL,
    unit text NOT NULL,
    subject text NOT NULL,
    value numeric NOT NULL,
    rival text,
    rival_value numeric
);

-- Medians over the runs. The ratio is the median of the ratios of the single runs, whose
-- two halves were measured one right after the other.
CREATE VIEW bench.summary AS
SELECT min(position) AS position, measure, unit, subject, rival, count(*) AS runs,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value)::numeric AS value,
       min(value) AS lowest_value, max(value) AS highest_value,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY rival_value)::numeric AS rival_value,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value / nullif(rival_value, 0))::numeric AS ratio,
       min(value / nullif(rival_value, 0)) AS lowest, max(value / nullif(rival_value, 0)) AS highest
  FROM bench.result GROUP BY measure, unit, subject, rival;
