-- What every database of the benchmarks has, the peers' ones too.

CREATE SCHEMA bench;

CREATE FUNCTION bench.noop(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
END;
$$;

CREATE TABLE bench.effect (
    n bigint NOT NULL
);
CREATE FUNCTION bench.put(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO bench.effect VALUES ((payload ->> 'n')::bigint);
END;
$$;

-- When the jobs of the latency benchmark were sent, and when their commit had returned.
-- Milliseconds, as JavaScript counts them.
CREATE TABLE bench.sent (
    n bigint NOT NULL,
    sent numeric NOT NULL,
    acknowledged numeric NOT NULL
);

-- Enqueues jobs one by one on an idle system, each in its own transaction. The statement's
-- $1 is the job's number, which is below 1 for those that only warm up. It runs inside the
-- server, so that no round trip blurs the moment of the commit.
CREATE PROCEDURE bench.latency_probe(statement text, samples integer, warm_up integer) LANGUAGE plpgsql AS $$
DECLARE
    begun timestamptz;
    committed timestamptz;
BEGIN
    TRUNCATE bench.sent;
    COMMIT;
    FOR i IN 1 - warm_up .. samples LOOP
        begun := clock_timestamp();
        EXECUTE statement USING i;
        COMMIT;
        committed := clock_timestamp();
        PERFORM pg_sleep(0.012);
        INSERT INTO bench.sent VALUES (i, 1000 * extract(epoch FROM begun), 1000 * extract(epoch FROM committed));
        COMMIT;
        PERFORM pg_sleep(0.012);
    END LOOP;
END;
$$;
