-- The demo's work: a shop that sends mail, charges cards, makes reports and resizes images.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION backfill;

CREATE ROLE admin LOGIN PASSWORD 'admin';
CREATE ROLE monitor LOGIN PASSWORD 'monitor';
CREATE ROLE consumer LOGIN PASSWORD 'consumer';
CREATE ROLE producer LOGIN PASSWORD 'producer';
SELECT backfill.grant_admin('admin'), backfill.grant_monitor('monitor'), backfill.grant_consumer('consumer'),
       backfill.grant_producer('producer');

CREATE SCHEMA shop;
GRANT USAGE ON SCHEMA shop TO PUBLIC;
CREATE TABLE shop.card (number text PRIMARY KEY, amount numeric NOT NULL CHECK (amount > 0));

-- Mostly quick. One in eight meets a mail server that is busy, and is tried again.
CREATE FUNCTION shop.send_mail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * 0.4);
    IF random() < 0.12 THEN
        RAISE EXCEPTION 'the mail server answers "421 too busy, come again"' USING ERRCODE = 'connection_failure';
    END IF;
END $$;

-- Fails for good in several ways: what is wrong with these cards stays wrong.
CREATE FUNCTION shop.charge_card(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * 0.2);
    INSERT INTO shop.card VALUES (payload ->> 'card', (payload ->> 'amount')::numeric);
END $$;

CREATE FUNCTION shop.currency_rate(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 100 / (payload ->> 'units')::integer;
END $$;

-- Takes half a minute and says how far it is.
CREATE FUNCTION shop.make_report(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    steps constant integer := 20 + (random() * 40)::integer;
BEGIN
    FOR step IN 1 .. steps LOOP
        PERFORM backfill.set_progress(step::float8 / steps, format('page %s of %s', step, steps));
        PERFORM pg_sleep(0.6);
    END LOOP;
END $$;

CREATE FUNCTION shop.clean_up(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM shop.card;
END $$;

SELECT backfill.set_retry_policy('patient', max_attempts => 12, initial_delay => '3 seconds', max_delay => '1 minute',
                                 multiplier => 2, jitter_factor => 0.3);
SELECT backfill.register_task('send_mail', 'shop.send_mail(jsonb)', retry_policy => 'patient', keep_history => '1 day');
SELECT backfill.register_task('charge_card', 'shop.charge_card(jsonb)', priority => -10, max_attempts => 2, keep_history => '7 days');
SELECT backfill.register_task('currency_rate', 'shop.currency_rate(jsonb)', max_attempts => 1);
SELECT backfill.register_task('make_report', 'shop.make_report(jsonb)', timeout => '5 minutes', keep_history => '7 days');
SELECT backfill.register_task('clean_up', 'shop.clean_up(jsonb)', keep_history => '7 days');
-- These two are a consumer's; send_postcard is registered, but no consumer asks for it.
SELECT backfill.register_task('resize_image', keep_history => '1 day');
SELECT backfill.register_task('send_postcard');

SELECT backfill.set_queue('reports', concurrency => 2);
SELECT backfill.set_queue('mail', concurrency => 3, rate_limit => 40, rate_period => '10 seconds');
SELECT backfill.set_queue('images', max_depth => 500);
SELECT backfill.set_queue('newsletter', concurrency => 1);
SELECT backfill.pause_queue('newsletter');

SELECT backfill.schedule('nightly clean-up', '0 3 * * *', 'clean_up', time_zone => 'Europe/Berlin');
SELECT backfill.schedule('report of the hour', '0 * * * *', 'make_report', payload => '{"what": "hour"}', queue_name => 'reports');
SELECT backfill.schedule('heartbeat', '* * * * *', 'send_mail', payload => '{"to": "operator@example.org"}', queue_name => 'mail');
SELECT backfill.schedule('monthly invoices', '30 6 1 * *', 'charge_card', payload => '{"card": "5500-0000", "amount": 20}', fill => '1 day');

-- What customers do in a moment. The producer calls it again and again.
CREATE FUNCTION shop.customers_come() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    customer constant text := 'customer-' || (random() * 30)::integer;
    dice constant float8 := random();
BEGIN
    PERFORM backfill.enqueue('send_mail', jsonb_build_object('to', customer || '@example.org', 'template', 'order'), queue_name => 'mail')
       FROM generate_series(1, 1 + (random() * 2)::integer);
    PERFORM backfill.enqueue('resize_image', jsonb_build_object('file', customer || '.jpg', 'width', 640), queue_name => 'images');
    -- The orders of one customer are handled one after another.
    PERFORM backfill.enqueue_serial('charge_card',
        jsonb_build_object('card', md5(random()::text), 'amount', round((random() * 100)::numeric, 2) + 1), customer);
    IF dice < 0.08 THEN
        PERFORM backfill.enqueue('charge_card', jsonb_build_object('card', md5(random()::text), 'amount', -5));
    ELSIF dice < 0.13 THEN
        PERFORM backfill.enqueue('charge_card', jsonb_build_object('card', md5(random()::text), 'amount', 'twelve'));
    ELSIF dice < 0.17 THEN
        PERFORM backfill.enqueue('currency_rate', '{"units": 0}');
    ELSIF dice < 0.25 THEN
        PERFORM backfill.enqueue('make_report', jsonb_build_object('customer', customer), queue_name => 'reports',
            job_key => 'report of ' || customer, priority => 20);
    ELSIF dice < 0.3 THEN
        PERFORM backfill.enqueue('send_mail', jsonb_build_object('to', customer || '@example.org', 'template', 'reminder'),
            run_at => now() + random() * interval '3 hours', priority => 30);
    END IF;
END $$;

-- A consumer: claims images, works on them for a moment, completes most of them.
CREATE PROCEDURE shop.consume() LANGUAGE plpgsql AS $$
DECLARE
    job record;
BEGIN
    FOR job IN SELECT * FROM backfill.claim_jobs('image-server-1', 3, '{resize_image}', lease => '1 minute') LOOP
        COMMIT;
        PERFORM pg_sleep(0.2 + random() * 0.3);
        IF random() < 0.06 THEN
            PERFORM backfill.fail_job(job.id, job.claim_token, 'not an image: ' || (job.payload ->> 'file'), permanent => random() < 0.5);
        ELSE
            PERFORM backfill.complete_jobs(ARRAY[job.id], job.claim_token);
        END IF;
        COMMIT;
    END LOOP;
END $$;

-- What was there before the dashboard is opened for the first time.
SELECT count(shop.customers_come()) FROM generate_series(1, 60);
SELECT count(backfill.enqueue('send_mail', jsonb_build_object('to', 'reader-' || n || '@example.org', 'template', 'news'),
                              queue_name => 'newsletter', priority => 50)) FROM generate_series(1, 400) n;
SELECT count(backfill.enqueue('charge_card', jsonb_build_object('card', 'c' || n, 'amount', n - 20))) FROM generate_series(1, 20) n;
SELECT count(backfill.enqueue('currency_rate', '{"units": 0}')) FROM generate_series(1, 15);
SELECT count(backfill.enqueue('charge_card', '{"card": "1234-5678", "amount": 5}')) FROM generate_series(1, 4);
SELECT backfill.enqueue('make_report', '{"what": "year"}', queue_name => 'reports');
SELECT backfill.enqueue('send_postcard', '{"to": "Ada, 1 Analytical Lane"}');
-- Nothing runs it: no task has this name.
SELECT backfill.enqueue('send_fax', '{"to": "+49 30 0"}');
