-- Roles and work for the tests in the browser. Names and texts try to be markup and script.
\set ON_ERROR_STOP on
SET client_min_messages = error;
CREATE ROLE admin LOGIN PASSWORD 'admin';
CREATE ROLE monitor LOGIN PASSWORD 'monitor';
CREATE ROLE consumer LOGIN PASSWORD 'consumer';
CREATE ROLE producer LOGIN PASSWORD 'producer';
SELECT backfill.grant_admin('admin'), backfill.grant_monitor('monitor'), backfill.grant_consumer('consumer'),
       backfill.grant_producer('producer');

-- Fails until its payload, or the shop, is repaired.
CREATE TABLE public.repaired (at timestamptz);
CREATE FUNCTION public.fragile(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF payload -> 'good' IS NULL AND NOT EXISTS (SELECT FROM public.repaired) THEN
        RAISE EXCEPTION '%', coalesce(payload ->> 'error', 'the shop is closed') USING ERRCODE = coalesce(payload ->> 'code', '23514');
    END IF;
END $$;
-- Goes on for minutes, and says how far it is.
CREATE FUNCTION public.long(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    FOR step IN 1 .. 3000 LOOP
        PERFORM backfill.set_progress(step / 3000.0, format('step %s', step));
        PERFORM pg_sleep(0.1);
    END LOOP;
END $$;
SELECT backfill.register_task('fragile', 'public.fragile(jsonb)', max_attempts => 1, keep_history => '1 hour');
SELECT backfill.register_task('long', 'public.long(jsonb)', keep_history => '1 hour');
SELECT backfill.register_task('waits', keep_history => '1 hour');
SELECT backfill.register_task('<img src=x onerror="alert(1)">', 'public.fragile(jsonb)', max_attempts => 1);
SELECT backfill.set_queue('orders', concurrency => 2);
SELECT backfill.set_queue('"><script>alert(2)</script>', concurrency => 1);
SELECT backfill.schedule('nightly', '0 3 * * *', 'waits', payload => '{"night": true}');
SELECT count(backfill.enqueue('waits', jsonb_build_object('n', n), queue_name => 'orders')) FROM generate_series(1, 60) n;
SELECT count(backfill.enqueue('fragile', jsonb_build_object('n', n))) FROM generate_series(1, 70) n;
SELECT count(backfill.enqueue('fragile', '{"code": "22012", "error": "division by zero"}')) FROM generate_series(1, 11);
SELECT backfill.enqueue('<img src=x onerror="alert(1)">', '{"error": "<script>alert(3)</script><b>bold</b>", "<i>key</i>": "<img src=y onerror=alert(4)>"}',
                        queue_name => '"><script>alert(2)</script>');
SELECT backfill.enqueue('waits', '{"html": "</script><script>alert(5)</script>"}', queue_name => '"><script>alert(2)</script>',
                        job_key => '<svg onload=alert(6)>');
SELECT backfill.enqueue('fragile', '{"good": 1}');
