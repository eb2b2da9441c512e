CREATE EXTENSION IF NOT EXISTS backfill;
CREATE TABLE greeting (said text);
CREATE FUNCTION greet(payload jsonb) RETURNS void LANGUAGE sql
    AS $$ INSERT INTO greeting VALUES ('hello, ' || (payload->>'name')) $$;
SELECT backfill.register_task('greet', 'greet(jsonb)');
SELECT backfill.enqueue_fast('greet', '{"name": "world"}') AS id \gset
CALL backfill.await_job(:id, '10 seconds');
TABLE greeting;
