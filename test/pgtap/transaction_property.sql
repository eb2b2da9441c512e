-- Over random trees of savepoints, kept and rolled back: exactly the jobs whose enqueue was
-- kept run, each once, whether enqueued one by one, in lists, with or without keys.
BEGIN;
SELECT no_plan();

CREATE SCHEMA property;
CREATE TABLE property.effect (payload jsonb);
CREATE TABLE property.kept (payload jsonb); -- written beside every enqueue, so rolled back with it
CREATE FUNCTION property.note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO property.effect VALUES (payload)';
SELECT backfill.register_task('note', 'property.note(jsonb)');
CREATE SEQUENCE property.tried;

-- One block: some enqueues, some inner blocks; then it is kept or rolled back.
CREATE FUNCTION property.block(depth int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    n jsonb;
BEGIN
    FOR i IN 1 .. 1 + floor(random() * 4) LOOP
        n := to_jsonb(nextval('property.tried'));
        CASE floor(random() * 4)::int
        WHEN 0 THEN PERFORM backfill.enqueue('note', n, priority => (random() * 10)::int);
        WHEN 1 THEN PERFORM backfill.enqueue_many('note', ARRAY[n]);
        WHEN 2 THEN PERFORM backfill.enqueue_jobs(jsonb_build_array(jsonb_build_object('task_identifier', 'note', 'payload', n)));
        ELSE PERFORM backfill.enqueue('note', n, job_key => n::text);
        END CASE;
        INSERT INTO property.kept VALUES (n);
        IF depth > 0 AND random() < 0.7 THEN
            BEGIN
                PERFORM property.block(depth - 1);
            EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
                NULL;
            END;
        END IF;
    END LOOP;
    IF random() < 0.4 THEN
        RAISE 'roll back' USING ERRCODE = 'UNDO1';
    END IF;
END;
$$;
SELECT setseed(0.125);
DO $$
BEGIN
    FOR i IN 1 .. 60 LOOP
        BEGIN
            PERFORM property.block(4);
        EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
            NULL;
        END;
    END LOOP;
END;
$$;
SELECT cmp_ok((SELECT count(*) FROM property.kept), '>', 200::bigint, 'many enqueues were kept');
SELECT cmp_ok((SELECT last_value FROM property.tried), '>', 2 * (SELECT count(*) FROM property.kept), 'more jobs than that are rolled back');
SELECT bag_eq('SELECT payload FROM backfill.job', 'SELECT payload FROM property.kept', 'the kept jobs wait, and no others');

CREATE FUNCTION pg_temp.run() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(processed => n);
    RETURN n;
END;
$$;
SELECT is(pg_temp.run(), (SELECT count(*) FROM property.kept), 'as many jobs run as were committed');
SELECT bag_eq('SELECT payload FROM property.effect', 'SELECT payload FROM property.kept', 'exactly those, each once');
SELECT is(pg_temp.run(), 0::bigint, 'no job is left');

-- Running is undone in the same way: jobs that ran in a rolled-back block wait again.
TRUNCATE property.effect, property.kept;
SELECT backfill.enqueue_many('note', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 200) i));
DO $$
DECLARE
    n bigint;
    total bigint := 0;
BEGIN
    WHILE total < 200 LOOP
        BEGIN
            CALL backfill.process_available_jobs(1 + floor(random() * 9)::int, processed => n);
            IF random() < 0.5 THEN
                RAISE 'roll back' USING ERRCODE = 'UNDO1';
            END IF;
            total := total + n;
        EXCEPTION WHEN SQLSTATE 'UNDO1' THEN
            NULL;
        END;
    END LOOP;
END;
$$;
SELECT bag_eq('SELECT payload FROM property.effect', 'SELECT to_jsonb(i) FROM generate_series(1, 200) i', 'after all rollbacks each job has run once');

SELECT * FROM finish();
ROLLBACK;
