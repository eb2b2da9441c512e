-- Graphile Worker's table of job_key modes, cell by cell, through add_job(): each state of
-- the job that has the key, against each mode. (A job that runs: see test/specs/iso_job_key_running.)
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

-- Puts a job with key k into a state, calls add_job() with the key, shows what there is then.
CREATE FUNCTION cell(state text, mode text, old json DEFAULT '"old"', new json DEFAULT '"new"')
RETURNS TABLE (job text, payload jsonb, attempts int, max_attempts int, queue text, prio int, run_at text, error boolean, flags text[]) LANGUAGE plpgsql AS $$
DECLARE
    old_id bigint;
    new_id bigint;
BEGIN
    DELETE FROM backfill.job;
    DELETE FROM backfill.dead_letter;
    IF state <> 'none' THEN
        old_id := (backfill.add_job('t', old, 'old_queue', now() + interval '1 day', 3, 'k', 9, '{old}')).id;
    END IF;
    IF state = 'retrying' THEN
        UPDATE backfill.job j SET attempts = 1, last_error = '{"message": "boom"}', run_at = now() + interval '1 hour';
    ELSIF state = 'leased' THEN
        UPDATE backfill.job j SET worker = 'w', claim_token = 1, lease_expires_at = now() + interval '1 hour';
    ELSIF state = 'failed for good' THEN
        PERFORM backfill.fail_jobs(ARRAY[old_id]);
    END IF;
    new_id := (backfill.add_job('t', new, 'new_queue', now() + interval '2 days', 5, 'k', 1, '{new}', mode)).id;
    RETURN QUERY
    SELECT CASE WHEN j.id = old_id THEN 'the old one' ELSE 'a new one' END || CASE WHEN j.id = new_id THEN ', returned' ELSE '' END,
           j.payload, j.attempts::int, j.max_attempts::int, j.queue_name::text, j.priority::int,
           to_char(j.run_at - now(), 'FMDD "day" FMHH24 "h"'), j.last_error IS NOT NULL, j.flags
      FROM backfill.job j ORDER BY j.id;
END;
$$;

SELECT s.state, m.mode, c.* FROM unnest('{none,waiting,retrying,leased,failed for good}'::text[]) WITH ORDINALITY s(state, n),
       unnest('{replace,preserve_run_at,unsafe_dedupe}'::text[]) WITH ORDINALITY m(mode, n), cell(s.state, m.mode) c
 ORDER BY s.n, m.n;

-- Payloads: two arrays are concatenated, in every other case the new one replaces the old.
SELECT m.mode, p.old::text, p.new::text, c.payload
  FROM unnest('{replace,preserve_run_at,unsafe_dedupe}'::text[]) WITH ORDINALITY m(mode, n),
       (VALUES (1, '[1]'::json, '[2]'::json), (2, '[]', '[2]'), (3, '[[1]]', '[[2]]'), (4, '[1]', '{"a": 2}'), (5, '{"a": 1}', '[2]'),
               (6, '{"a": 1}', '{"b": 2}'), (7, '1', '[2]'), (8, '[1]', '2'), (9, '[1]', NULL)) p(n, old, new),
       cell('waiting', m.mode, p.old, p.new) c
 ORDER BY m.n, p.n;
-- Also when the job has failed before.
SELECT payload, attempts FROM cell('retrying', 'replace', '[1]', '[2]');

-- Three in a row, each mode reaching the same job.
DELETE FROM backfill.job;
SELECT count(DISTINCT id) AS jobs FROM (
    SELECT (backfill.add_job('t', json_build_array(n), job_key => 'k', job_key_mode => m)).id
      FROM unnest('{replace,preserve_run_at,replace,unsafe_dedupe,replace}'::text[]) WITH ORDINALITY modes(m, n)) added;
SELECT payload FROM backfill.jobs;

-- A key is free again when its job is done, removed or cancelled.
CREATE FUNCTION ids_differ(how text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    first_id bigint;
BEGIN
    DELETE FROM backfill.job;
    first_id := (backfill.add_job('note', '1', job_key => 'k')).id;
    EXECUTE how USING first_id;
    RETURN first_id <> (backfill.add_job('note', '2', job_key => 'k', job_key_mode => 'unsafe_dedupe')).id;
END;
$$;
SELECT backfill.register_task('note', 'note(jsonb)');
SELECT how, ids_differ(how) AS free FROM unnest(ARRAY[
    'SELECT $1', 'SELECT backfill.remove_job(''k'') WHERE $1 > 0', 'SELECT backfill.cancel_job($1)', 'SELECT backfill.complete_jobs(ARRAY[$1])',
    'SELECT backfill.permanently_fail_jobs(ARRAY[$1])']) how;
DELETE FROM backfill.job;
SELECT (backfill.add_job('note', '1', job_key => 'k')).id IS NOT NULL AS added;
CALL backfill.process_available_jobs();
SELECT (backfill.add_job('note', '2', job_key => 'k', job_key_mode => 'unsafe_dedupe')).payload;

-- Replacing needs no place in a full queue: there are no more jobs afterwards than before.
DELETE FROM backfill.job;
SELECT backfill.set_queue('full', max_depth => 2);
SELECT (backfill.add_job('t', '1', 'full', job_key => 'a')).payload, (backfill.add_job('t', '1', 'full', job_key => 'b')).payload;
SELECT (backfill.add_job('t', '2', 'full', job_key => 'a')).payload;
SELECT (backfill.add_job('t', '3', 'full', job_key => 'a', job_key_mode => 'preserve_run_at')).payload;
SELECT (backfill.add_job('t', '4', 'full', job_key => 'a', job_key_mode => 'unsafe_dedupe')).payload;
CALL refused($$backfill.add_job('t', '5', 'full', job_key => 'c')$$);
CALL refused($$backfill.enqueue_many('t', '{1}', 'full')$$);
CALL refused($$backfill.enqueue_jobs('[{"task_identifier": "t"}, {"task_identifier": "t", "queue_name": "full"}]')$$);
SELECT job_key, payload FROM backfill.jobs ORDER BY job_key;
-- A key that comes from another queue does need one; refused, it leaves its job alone.
SELECT (backfill.add_job('t', '6', 'elsewhere', job_key => 'd')).payload;
CALL refused($$backfill.add_job('t', '7', 'full', job_key => 'd')$$);
SELECT queue_name, payload FROM backfill.jobs WHERE job_key = 'd';
-- Leased jobs count, too.
UPDATE backfill.job SET worker = 'w', claim_token = 1, lease_expires_at = now() + interval '1 hour' WHERE job_key = 'a';
CALL refused($$backfill.add_job('t', '8', 'full')$$);
