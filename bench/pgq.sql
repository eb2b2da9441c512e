-- PGQ: what fills its queue and what consumes it. It is a log that is read in batches: no
-- job is claimed by itself, none has a priority, and one consumer gets all of them.

\ir common.sql

SELECT pgq.create_queue('bench');
SELECT pgq.register_consumer('bench', 'worker');

-- Events become visible with a tick. One for every 500 events makes batches of that size.
CREATE PROCEDURE bench.fill_pgq(jobs integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 0 .. (jobs - 1) / 500 LOOP
        PERFORM pgq.insert_event('bench', 'bench_noop', jsonb_build_object('n', n)::text)
           FROM generate_series(i * 500 + 1, least((i + 1) * 500, jobs)) n;
        COMMIT;
        PERFORM pgq.ticker('bench');
        COMMIT;
    END LOOP;
END;
$$;

-- A batch is a transaction: if one event's handler raises, all of the batch comes again.
CREATE PROCEDURE bench.drain_pgq(task text, INOUT done bigint DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    batch bigint;
    event record;
BEGIN
    LOOP
        batch := pgq.next_batch('bench', 'worker');
        EXIT WHEN batch IS NULL;
        FOR event IN SELECT e.ev_data FROM pgq.get_batch_events(batch) e LOOP
            IF task = 'bench_insert' THEN
                PERFORM bench.put(event.ev_data::jsonb);
            ELSE
                PERFORM bench.noop(event.ev_data::jsonb);
            END IF;
            done := done + 1;
        END LOOP;
        PERFORM pgq.finish_batch(batch);
        COMMIT;
    END LOOP;
END;
$$;
