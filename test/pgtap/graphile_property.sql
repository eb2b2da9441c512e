-- Random calls of Graphile Worker's functions, there and here: after each the jobs are the same, but for
-- what docs/compatibility.md says ("What differs"). There stands for its functions what
-- test/data/graphile_worker_functions.sql has.
\set ON_ERROR_STOP on
\getenv seed BACKFILL_TEST_SEED
\if :{?seed}
\else
    SELECT round(random()::numeric, 6) AS seed \gset
\endif
BEGIN;
SET LOCAL client_min_messages = error;
\if :{?graphile_is_real}
\else
    \ir ../data/graphile_worker.sql
    \ir ../data/graphile_worker_functions.sql
\endif
SELECT no_plan();
SELECT diag('random calls of Graphile Worker''s functions: BACKFILL_TEST_SEED=' || :'seed');
SELECT setseed(:seed) \g /dev/null

CREATE SCHEMA property;
-- Which job there is which one here, and whether it has lost its key while it ran.
CREATE TABLE property.pair (there bigint UNIQUE, here bigint UNIQUE);
CREATE TABLE property.call (n int GENERATED ALWAYS AS IDENTITY, what text, there bigint[], here bigint[], revived bigint);

CREATE VIEW property.there AS
SELECT p.here AS id, t.identifier AS task, j.payload::jsonb AS payload, q.queue_name AS queue, j.priority::int AS priority, j.run_at,
       CASE WHEN j.locked_at IS NULL THEN j.attempts END::int AS attempts, j.max_attempts::int AS max_attempts,
       j.key, j.last_error AS error, ARRAY(SELECT jsonb_object_keys(j.flags) ORDER BY 1) AS flags,
       CASE WHEN j.locked_at IS NOT NULL THEN 'running' WHEN j.attempts >= j.max_attempts THEN 'dead' ELSE 'waiting' END AS state
  FROM graphile_worker._private_jobs j
  JOIN graphile_worker._private_tasks t ON t.id = j.task_id
  LEFT JOIN graphile_worker._private_job_queues q ON q.id = j.job_queue_id
  LEFT JOIN property.pair p ON p.there = j.id;
CREATE VIEW property.here AS
-- A job that runs and may not be retried has lost its key. There a running attempt counts already.
SELECT j.id, j.task_identifier AS task, j.payload, nullif(j.queue_name, '') AS queue, j.priority::int AS priority, j.run_at,
       CASE WHEN j.lease_expires_at IS NULL THEN j.attempts END::int AS attempts, j.max_attempts::int AS max_attempts,
       CASE WHEN n.job_id IS NULL THEN j.job_key END AS key, j.last_error ->> 'message' AS error, ARRAY(SELECT unnest(j.flags) ORDER BY 1) AS flags,
       CASE WHEN j.lease_expires_at IS NOT NULL THEN 'running' ELSE 'waiting' END AS state
  FROM backfill.job j LEFT JOIN backfill.no_retry n ON n.job_id = j.id
 UNION ALL
SELECT d.original_job_id, d.task_identifier, d.payload, d.queue_name, d.priority, d.original_run_at,
       d.max_attempts, d.max_attempts, d.job_key, d.last_error ->> 'message', ARRAY(SELECT unnest(d.flags) ORDER BY 1), 'dead'
  FROM backfill.dead_letter d WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = d.original_job_id);

CREATE FUNCTION property.pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql AS $$ SELECT choices[1 + floor(random() * cardinality(choices))::int] $$;
CREATE FUNCTION property.chance(p float) RETURNS boolean LANGUAGE sql AS $$ SELECT random() < p $$;

CREATE PROCEDURE property.step() LANGUAGE plpgsql AS $$
DECLARE
    what text := property.pick('add', 'add', 'add', 'add', 'add_two', 'complete', 'fail', 'fail', 'reschedule', 'reschedule', 'reschedule', 'remove', 'take', 'take', 'end', 'end');
    -- One to three jobs that are or were there.
    pairs property.pair[] := ARRAY(SELECT p FROM property.pair p WHERE p.here IN (SELECT id FROM property.here) ORDER BY random() LIMIT 1 + floor(random() * 3)::int);
    there_ids bigint[] := ARRAY(SELECT (unnest(pairs)).there);
    here_ids bigint[] := ARRAY(SELECT (unnest(pairs)).here);
    job_key text := CASE WHEN property.chance(0.8) THEN property.pick('a', 'b', 'c', 'd', 'e') END;
    task text := property.pick('t1', 't2', 't3');
    payload text := property.pick('[1]', '[2, 3]', '{"a": 4}', '"five"', '[]', 'null', NULL);
    queue text := property.pick(NULL, 'q1', 'q2');
    run_at timestamptz := CASE WHEN property.chance(0.6) THEN now() + floor(random() * 100 - 20) * interval '1 hour' END;
    max_attempts int := CASE WHEN property.chance(0.6) THEN 1 + floor(random() * 4) END;
    attempts int := CASE WHEN property.chance(0.5) THEN floor(random() * 5) END;
    priority int := CASE WHEN property.chance(0.5) THEN floor(random() * 20) - 10 END;
    flags text[] := CASE WHEN property.chance(0.3) THEN ARRAY['x', 'y'] END;
    mode text := property.pick('replace', 'replace', 'preserve_run_at', 'unsafe_dedupe');
    message text := property.pick('it broke', 'boom', NULL);
    dead bigint[] := ARRAY(SELECT h.id FROM property.here h WHERE h.id = ANY (here_ids) AND h.state = 'dead');
    there bigint[];
    here bigint[];
    pair property.pair;
BEGIN
    -- Here a dead letter keeps its key; see the end of this file.
    IF what IN ('add', 'add_two') THEN
        FOR pair IN SELECT p.* FROM property.pair p JOIN property.here h ON h.id = p.here WHERE h.state = 'dead' AND h.key IN (job_key, 'f') LOOP
            PERFORM graphile_worker.complete_jobs(ARRAY[pair.there]), backfill.complete_jobs(ARRAY[pair.here]);
        END LOOP;
    END IF;
    CASE what
    WHEN 'add' THEN
        there := ARRAY[(graphile_worker.add_job(task, payload::json, queue, run_at, max_attempts, job_key, priority, flags, mode)).id];
        here := ARRAY[(backfill.add_job(task, payload::json, queue, run_at, max_attempts, job_key, priority, flags, mode)).id];
    WHEN 'add_two' THEN
        there := ARRAY(SELECT j.id FROM graphile_worker.add_jobs(ARRAY[(task, payload, queue, run_at, max_attempts, job_key, priority, flags), (task, '[0]', NULL, NULL, NULL, 'f', NULL, NULL)]::graphile_worker.job_spec[], mode = 'preserve_run_at') j ORDER BY j.key COLLATE "C");
        here := ARRAY(SELECT j.id FROM backfill.add_jobs(ARRAY[(task, payload, queue, run_at, max_attempts, job_key, priority, flags), (task, '[0]', NULL, NULL, NULL, 'f', NULL, NULL)]::backfill.job_spec[], mode = 'preserve_run_at') j ORDER BY j.job_key COLLATE "C");
    WHEN 'complete' THEN
        there := ARRAY(SELECT j.id FROM graphile_worker.complete_jobs(there_ids) j);
        here := ARRAY(SELECT j.id FROM backfill.complete_jobs(here_ids) j);
    WHEN 'fail' THEN
        there := ARRAY(SELECT j.id FROM graphile_worker.permanently_fail_jobs(there_ids, message) j);
        here := ARRAY(SELECT j.id FROM backfill.permanently_fail_jobs(here_ids, message) j);
    WHEN 'reschedule' THEN
        there := ARRAY(SELECT j.id FROM graphile_worker.reschedule_jobs(there_ids, run_at, priority, attempts, max_attempts) j);
        here := ARRAY(SELECT j.id FROM backfill.reschedule_jobs(here_ids, run_at, priority, attempts, max_attempts) j);
    WHEN 'remove' THEN
        there := ARRAY(SELECT j.id FROM graphile_worker.remove_job(coalesce(job_key, 'f')) j WHERE j.id IS NOT NULL);
        here := ARRAY(SELECT j.id FROM backfill.remove_job(coalesce(job_key, 'f')) j);
    WHEN 'take' THEN
        SELECT p.* INTO pair FROM property.pair p JOIN property.here h ON h.id = p.here WHERE h.state = 'waiting' ORDER BY random() LIMIT 1;
        PERFORM graphile_worker.take(pair.there);
        -- As claim_jobs() leaves it.
        UPDATE backfill.job j SET worker = 'w', claim_token = j.id, lease_expires_at = now() + interval '1 hour' WHERE j.id = pair.here;
    WHEN 'end' THEN
        SELECT p.* INTO pair FROM property.pair p JOIN property.here h ON h.id = p.here WHERE h.state = 'running' ORDER BY random() LIMIT 1;
        IF property.chance(0.4) THEN
            PERFORM graphile_worker.finish(pair.there), backfill.complete_jobs(ARRAY[pair.here], pair.here) WHERE pair.here IS NOT NULL;
        ELSIF pair.here IS NOT NULL THEN
            PERFORM graphile_worker.fail(pair.there, 'it failed');
            IF backfill.fail_job(pair.here, pair.here, 'it failed', false) = 'superseded' THEN
                -- There it has failed for good, without its key; here no letter is written of that.
                PERFORM graphile_worker.complete_jobs(ARRAY[pair.there]), backfill.complete_jobs(ARRAY[pair.here]);
            ELSE
                -- When it runs again is another matter.
                PERFORM graphile_worker.reschedule_jobs(ARRAY[pair.there], run_at => now()), backfill.reschedule_jobs(ARRAY[pair.here], run_at => now());
            END IF;
        END IF;
    END CASE;
    -- Here a dead job has used its attempts, and no more than these.
    UPDATE graphile_worker._private_jobs j SET attempts = j.max_attempts WHERE j.attempts > j.max_attempts AND j.locked_at IS NULL;
    IF what LIKE 'add%' THEN
        INSERT INTO property.pair SELECT * FROM unnest(there, here) ON CONFLICT DO NOTHING;
    END IF;
    there := ARRAY(SELECT p.here FROM unnest(there) t JOIN property.pair p ON p.there = t ORDER BY 1);
    INSERT INTO property.call (what, there, here, revived)
    VALUES (format('%s(%s) key %s mode %s task %s payload %s run_at %s attempts %s of %s', what, here_ids, job_key, mode, task, payload, run_at, attempts, max_attempts),
            there, ARRAY(SELECT h FROM unnest(here) h ORDER BY 1), (SELECT count(*) FROM property.here h WHERE h.id = ANY (dead) AND h.state = 'waiting'));
END;
$$;

CREATE FUNCTION property.steps(calls int) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    differences text;
BEGIN
    FOR i IN 1 .. calls LOOP
        CALL property.step();
        SELECT string_agg(d::text, E'\n' ORDER BY d.side, d.id) INTO differences
          FROM (SELECT 'there' AS side, * FROM (TABLE property.there EXCEPT TABLE property.here) t
                 UNION ALL SELECT 'here', * FROM (TABLE property.here EXCEPT TABLE property.there) h) d;
        IF differences IS NOT NULL OR EXISTS (SELECT FROM property.call c WHERE c.there IS DISTINCT FROM c.here AND c.n = (SELECT max(m.n) FROM property.call m)) THEN
            RETURN NEXT fail(format('call %s leaves other jobs here than there', i));
            RETURN QUERY SELECT diag(format('%s: %s, returned %s there, %s here', c.n, c.what, c.there, c.here)) FROM (SELECT * FROM property.call ORDER BY n DESC LIMIT 12) c ORDER BY c.n;
            RETURN NEXT diag(differences);
            RETURN;
        END IF;
        IF i % 50 = 0 THEN
            RETURN NEXT pass(format('after %s random calls all is as there', i));
        END IF;
    END LOOP;
END;
$$;
SELECT property.steps(600);
SELECT cmp_ok((SELECT count(*) FROM property.call WHERE what LIKE 'reschedule%' AND cardinality(here) > 0), '>', 20::bigint, 'many calls of reschedule_jobs() had something to do');
SELECT cmp_ok((SELECT sum(revived) FROM property.call), '>', 5::numeric, 'some dead jobs were revived');

--
-- What differs, as docs/compatibility.md has it.
--
TRUNCATE backfill.job, backfill.dead_letter, backfill.no_retry;
SELECT (backfill.add_job('t', '[1]', job_key => 'dead', max_attempts => 3)).id AS job \gset
SELECT backfill.permanently_fail_jobs(ARRAY[:job]) \g /dev/null
SELECT isnt((backfill.add_job('t', '[2]', job_key => 'dead', job_key_mode => 'unsafe_dedupe')).id, :job::bigint, 'unsafe_dedupe: a dead letter does not count');
SELECT results_eq($$SELECT payload FROM backfill.job$$, $$VALUES ('[2]'::jsonb)$$, 'the new job begins anew');
SELECT results_eq($$SELECT job_key COLLATE "default" FROM backfill.dead_letter$$, $$VALUES ('dead')$$, 'the dead letter keeps its key');
SELECT is_empty(format($$SELECT id FROM backfill.reschedule_jobs('{%s}', attempts => 0)$$, :job), 'a letter whose key another job has is passed over');
SELECT isnt_empty($$SELECT id FROM backfill.remove_job('dead')$$, 'remove_job() deletes the waiting job');
SELECT is_empty($$SELECT FROM backfill.dead_letter$$, 'the dead letter of the removed job is gone');

-- Found by the random calls: a job that was revived loses its key while it runs; the job that has got
-- the key dies, and its letter takes the place of that of the first. It is not the first one's to end.
TRUNCATE backfill.job, backfill.dead_letter, backfill.no_retry;
SELECT (backfill.add_job('t', '[1]', job_key => 'lost')).id AS first \gset
SELECT backfill.permanently_fail_jobs(ARRAY[:first]), backfill.reschedule_jobs(ARRAY[:first], attempts => 0) \g /dev/null
UPDATE backfill.job j SET worker = 'w', claim_token = j.id, lease_expires_at = now() + interval '1 hour' WHERE j.id = :first;
SELECT (backfill.add_job('t', '[2]', job_key => 'lost')).id AS second \gset
SELECT backfill.permanently_fail_jobs(ARRAY[:second]) \g /dev/null
SELECT results_eq(format('SELECT * FROM backfill.complete_jobs(ARRAY[%1$s], %1$s)', :first), ARRAY[:first::bigint], 'the first job completes');
SELECT results_eq('SELECT original_job_id FROM backfill.dead_letter', ARRAY[:second::bigint], '... and the letter of the second is still there');

SELECT (backfill.add_job('t', job_key => 'much', max_attempts => 3)).id AS job \gset
SELECT backfill.reschedule_jobs(ARRAY[:job], attempts => 9) \g /dev/null
SELECT results_eq(format($$SELECT attempts::int, max_attempts::int FROM backfill.reschedule_jobs('{%s}', max_attempts => 20)$$, :job), $$VALUES (3, 20)$$, 'a dead job has used no more attempts than it had');

SELECT * FROM finish();
ROLLBACK;
