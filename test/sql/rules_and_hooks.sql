-- What a handler can say about its job, how errors are classified, and hooks; workers are off.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

DROP TABLE effect;
CREATE TABLE effect (n int GENERATED ALWAYS AS IDENTITY, what jsonb);
CREATE FUNCTION act(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO effect (what) VALUES (payload);
    CASE payload->>'do'
        WHEN 'raise' THEN RAISE EXCEPTION 'raised' USING ERRCODE = payload->>'state', DETAIL = coalesce(payload->>'detail', '');
        WHEN 'snooze' THEN PERFORM backfill.snooze((payload->>'for')::interval);
        WHEN 'discard' THEN PERFORM backfill.discard('not worth it');
        WHEN 'tell' THEN INSERT INTO effect (what) SELECT to_jsonb(j) - 'created_at' - 'run_at' - 'id' FROM backfill.current_job() j;
        ELSE
    END CASE;
END $$;
SELECT backfill.set_retry_policy('exact', 3, '1 hour', '1 day', 2, 0);
SELECT backfill.register_task('act', 'act(jsonb)', retry_policy => 'exact');
SET client_min_messages = error;
CREATE FUNCTION job(payload jsonb) RETURNS TABLE (effects bigint, state text, attempts int, free int, delay text, letter text) LANGUAGE plpgsql AS $$
DECLARE
    job_id bigint;
    n bigint;
BEGIN
    TRUNCATE effect, backfill.job, backfill.dead_letter;
    job_id := backfill.enqueue('act', payload);
    CALL backfill.process_available_jobs(1, processed => n);
    RETURN QUERY
    -- What is retried soon may be due already.
    SELECT (SELECT count(*) FROM effect), CASE WHEN j.run_at < now() + interval '10 minutes' THEN 'waits' ELSE j.state END, j.attempts::int, (SELECT b.free_retries::int FROM backfill.job b WHERE b.id = job_id),
           CASE WHEN j.run_at > now() + interval '10 minutes' THEN to_char(date_trunc('minute', j.run_at - now() + interval '30 seconds'), 'HH24:MI')
                WHEN j.run_at > now() THEN 'soon' END,
           d.failure_reason
      FROM (VALUES (1)) v(i) LEFT JOIN backfill.jobs j ON j.id = job_id LEFT JOIN backfill.dlq d ON d.original_job_id = job_id;
END $$;

-- Effects stay when the handler returns, also when it snoozes or discards; they go when it raises.
SELECT * FROM job('{"do": "nothing"}');
SELECT * FROM job('{"do": "snooze", "for": "2 hours"}');
SELECT * FROM job('{"do": "discard"}');
SELECT * FROM job('{"do": "raise", "state": "P0001"}');
SELECT * FROM job('{"do": "raise", "state": "23505"}');
SELECT * FROM job('{"do": "raise", "state": "40001"}');
SELECT * FROM job('{"do": "raise", "state": "40P01"}');
SELECT * FROM job('{"do": "raise", "state": "55P03"}');
SELECT * FROM job('{"do": "raise", "state": "JB002"}');
SELECT * FROM job('{"do": "raise", "state": "JB003", "detail": "3 hours"}');
SELECT * FROM job('{"do": "raise", "state": "JB003", "detail": "nonsense"}');
SELECT * FROM job('{"do": "snooze", "for": "-1 s"}');
SELECT * FROM job('{"do": "tell"}');
SELECT what FROM effect ORDER BY n;
-- What is said in a block that is rolled back was not said; what was said before it counts again. The
-- last word counts, also that of a block that ends well.
CREATE FUNCTION speak(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payload ? 'first' THEN EXECUTE 'SELECT ' || (payload->>'first'); END IF;
    BEGIN
        BEGIN
            IF payload ? 'inner' THEN EXECUTE 'SELECT ' || (payload->>'inner'); END IF;
            IF payload ? 'inner_error' THEN RAISE 'inner'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
        IF payload ? 'error' THEN RAISE 'outer'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    IF payload ? 'finally' THEN EXECUTE 'SELECT ' || (payload->>'finally'); END IF;
    INSERT INTO effect (what) VALUES ('"spoken"');
END $$;
SELECT backfill.register_task('act', 'speak(jsonb)', retry_policy => 'exact');
SELECT * FROM job('{"inner": "backfill.discard(''no'')"}');
SELECT * FROM job('{"inner": "backfill.discard(''no'')", "inner_error": 1}');
SELECT * FROM job('{"inner": "backfill.discard(''no'')", "error": 1}');
SELECT * FROM job('{"inner": "backfill.snooze(''2 h'')", "inner_error": 1}');
SELECT * FROM job('{"first": "backfill.snooze(''2 h'')", "inner": "backfill.discard(''no'')", "inner_error": 1}');
SELECT * FROM job('{"first": "backfill.snooze(''2 h'')", "inner": "backfill.discard(''no'')", "error": 1}');
SELECT * FROM job('{"first": "backfill.discard(''no'')", "inner": "backfill.snooze(''2 h'')"}');
SELECT * FROM job('{"first": "backfill.discard(''no'')", "inner": "backfill.snooze(''2 h'')", "error": 1, "finally": "backfill.snooze(''4 h'')"}');
SELECT * FROM job('{"first": "backfill.snooze(''2 h'')", "inner": "backfill.snooze(''3 h'')", "inner_error": 1, "finally": "backfill.snooze(''4 h'')"}');
SELECT backfill.register_task('act', 'act(jsonb)', retry_policy => 'exact');
-- No job spins: the shortest delay is 100 ms, by the queue's clock.
BEGIN;
SET LOCAL backfill.fake_now = '2030-01-01 00:00:00+00';
SELECT effects, state FROM job('{"do": "snooze", "for": "0"}');
SELECT run_at - '2030-01-01 00:00:00+00' AS delay FROM backfill.job;
ROLLBACK;
SELECT backfill.current_job();
SELECT backfill.snooze('1 s');
SELECT backfill.discard('x');

-- Every rule that comes with the extension, and rules of one's own.
SELECT id, sqlstate, message_contains, decision,
       decision = backfill.classify_error(sqlstate, 'xx ' || upper(message_contains) || ' xx') AS holds FROM backfill.error_rules ORDER BY id;
SELECT backfill.classify_error('08006'), backfill.classify_error('57014'), backfill.classify_error('XX000'), backfill.classify_error(message => 'odd'), backfill.classify_error();
SELECT backfill.classify_error('not found');
SELECT backfill.classify_error('');
SELECT backfill.classify_error(repeat('MESSAGE ', 20));
INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('08', 'permanent'), ('08006', 'free_retry');
INSERT INTO backfill.error_rule (task_identifier, message_contains, decision) VALUES ('mine', 'odd', 'permanent');
SELECT backfill.classify_error('08001'), backfill.classify_error('08006'), backfill.classify_error(message => 'Odd'), backfill.classify_error(message => 'Odd', task_identifier => 'mine');
INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('x', 'permanent');
INSERT INTO backfill.error_rule (sqlstate, message_contains, decision) VALUES ('08', 'x', 'permanent');
INSERT INTO backfill.error_rule (message_contains, decision) VALUES ('Upper', 'permanent');
INSERT INTO backfill.error_rule (sqlstate, decision) VALUES ('08', 'never');
DELETE FROM backfill.error_rule;

-- Hooks that decide.
CREATE FUNCTION decide(event jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT event->'job'->'payload'->(event->>'event') $$;
SELECT backfill.register_hook(e, 'decide(jsonb)') FROM unnest('{before_job_schedule,before_job_run,after_job_run}'::text[]) e;
SELECT backfill.register_hook('before_job_run', 'decide(jsonb)');
SELECT event, function_schema, function_name, task_identifier FROM backfill.hook ORDER BY id;
TRUNCATE effect;
SELECT backfill.enqueue('act', '{"before_job_schedule": {"action": "skip"}}') IS NULL AS skipped;
SELECT backfill.enqueue('act', '{"before_job_schedule": {"action": "fail", "reason": "not today"}}');
SELECT count(id) FROM backfill.enqueue_many('act', '{"{}","{\"before_job_schedule\": {\"action\": \"skip\"}}"}') id;
SELECT backfill.enqueue('act', '{"before_job_schedule": {"payload": {"do": "changed"}}}') IS NOT NULL AS enqueued;
CALL backfill.process_available_jobs();
SELECT what FROM effect ORDER BY n;
SELECT * FROM job('{"before_job_run": {"action": "skip"}}');
SELECT * FROM job('{"before_job_run": {"action": "fail", "reason": "not now"}}');
SELECT * FROM job('{"before_job_run": {"action": "retry", "delay": "5 hours"}}');
SELECT * FROM job('{"after_job_run": {"action": "fail", "reason": "bad result"}}');
SELECT * FROM job('{"after_job_run": {"action": "retry", "delay": "5 hours"}}');
SELECT * FROM job('{"before_job_run": {"action": "dance"}}');
SELECT * FROM job('{"before_job_run": 7}');
SELECT backfill.unregister_hook(e, 'decide(jsonb)') FROM unnest('{before_job_schedule,before_job_run,after_job_run,job_start}'::text[]) e;

-- Hooks that watch; one that fails changes nothing.
CREATE FUNCTION watch(event jsonb) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO effect (what) SELECT jsonb_build_array(event->'event', event->'job'->'attempt', event->'error'->'message') $$;
CREATE FUNCTION broken(event jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken hook'; END $$;
SELECT backfill.register_hook(e, 'watch(jsonb)', 'act') FROM unnest('{job_start,job_complete,job_fail,job_permanently_fail}'::text[]) e;
SELECT backfill.register_hook('job_start', 'broken(jsonb)');
RESET client_min_messages;
SELECT * FROM job('{}');
SELECT what FROM effect ORDER BY n;
SET client_min_messages = error;
SELECT * FROM job('{"do": "raise", "state": "P0001"}');
SELECT what FROM effect ORDER BY n;
SELECT * FROM job('{"do": "raise", "state": "22000"}');
SELECT what FROM effect ORDER BY n;
-- For another task's jobs they are not called.
SELECT backfill.register_task('other', 'act(jsonb)');
TRUNCATE effect; SELECT backfill.enqueue('other') IS NOT NULL AS enqueued; CALL backfill.process_available_jobs();
SELECT what FROM effect ORDER BY n;
-- A dropped hook fails like a broken one.
DROP FUNCTION watch;
SELECT * FROM job('{}');

-- What cannot be a hook.
SELECT backfill.register_hook('lunch', 'decide(jsonb)');
SELECT backfill.register_hook(NULL, 'decide(jsonb)');
SELECT backfill.register_hook('job_start', NULL);
SELECT backfill.register_hook('job_start', 'lower(text)');
SELECT backfill.register_hook('job_start', 'job(jsonb)');
