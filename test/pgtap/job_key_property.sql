-- Over random enqueues with few keys and every mode: the table is always what a simple model
-- of the three modes says.
BEGIN;
SELECT no_plan();

CREATE SCHEMA property;
-- The model: at most one row per key.
CREATE TABLE property.model (job_key text PRIMARY KEY, id bigint, task text, payload jsonb, priority int, run_at timestamptz, attempts int, max_attempts int);

CREATE SEQUENCE property.concatenations;

CREATE FUNCTION property.random_payload() RETURNS jsonb LANGUAGE sql AS $$
    SELECT (ARRAY['[1]', '[2, 3]', '{"a": 4}', '"five"', '6', '[]', 'null'])[1 + floor(random() * 7)]::jsonb
$$;
CREATE FUNCTION property.step() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    spec record;
    old property.model;
    new_id bigint;
BEGIN
    SELECT 'key ' || floor(random() * 6) AS key, 'task ' || floor(random() * 3) AS task, property.random_payload() AS payload,
           (random() * 10)::int AS priority, now() + (random() * 100)::int * interval '1 hour' AS run_at, 1 + floor(random() * 9)::int AS max_attempts,
           (ARRAY['replace', 'preserve_run_at', 'unsafe_dedupe'])[1 + floor(random() * 3)] AS mode
      INTO spec;
    new_id := backfill.enqueue(spec.task, spec.payload, priority => spec.priority, run_at => spec.run_at, max_attempts => spec.max_attempts,
                               job_key => spec.key, job_key_mode => spec.mode);
    SELECT * INTO old FROM property.model WHERE job_key = spec.key;
    IF NOT FOUND THEN
        INSERT INTO property.model VALUES (spec.key, new_id, spec.task, spec.payload, spec.priority, spec.run_at, 0, spec.max_attempts);
        RETURN;
    END IF;
    IF new_id <> old.id THEN
        RAISE 'key % came back with id % instead of %', spec.key, new_id, old.id;
    END IF;
    IF spec.mode <> 'unsafe_dedupe' THEN
        UPDATE property.model
           SET task = spec.task, priority = spec.priority, max_attempts = spec.max_attempts, attempts = 0,
               payload = CASE WHEN jsonb_typeof(old.payload) = 'array' AND jsonb_typeof(spec.payload) = 'array' AND nextval('property.concatenations') > 0
                              THEN old.payload || spec.payload ELSE spec.payload END,
               run_at = CASE WHEN spec.mode = 'preserve_run_at' AND old.attempts = 0 THEN old.run_at ELSE spec.run_at END
         WHERE job_key = spec.key;
    END IF;
    -- Now and then a job fails, or is done.
    IF random() < 0.2 THEN
        UPDATE backfill.job SET attempts = 2, last_error = '{}' WHERE job_key = spec.key;
        UPDATE property.model SET attempts = 2 WHERE job_key = spec.key;
    ELSIF random() < 0.1 THEN
        DELETE FROM backfill.job WHERE job_key = spec.key;
        DELETE FROM property.model WHERE job_key = spec.key;
    END IF;
END;
$$;

SELECT setseed(0.375);
-- In blocks of 40 steps, so that a failure says roughly where.
CREATE FUNCTION property.steps(n int) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    FOR block IN 1 .. n LOOP
        FOR i IN 1 .. 40 LOOP
            PERFORM property.step();
        END LOOP;
        RETURN NEXT results_eq(
            'SELECT job_key COLLATE "default", id, task_identifier COLLATE "default", payload, priority::int, run_at, attempts::int, max_attempts::int FROM backfill.job ORDER BY job_key',
            'SELECT job_key, id, task, payload, priority, run_at, attempts, max_attempts FROM property.model ORDER BY job_key COLLATE "C"',
            format('after %s random enqueues the table is what the model says', block * 40));
    END LOOP;
END;
$$;
SELECT property.steps(15);
SELECT is_empty('SELECT id FROM backfill.job WHERE last_error IS NOT NULL AND attempts = 0', 'a job that starts anew has no error');
SELECT cmp_ok((SELECT last_value FROM property.concatenations), '>', 20::bigint, 'many arrays were concatenated');

SELECT * FROM finish();
ROLLBACK;
