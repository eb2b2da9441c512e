-- What load.py works with: every committed enqueue is a row of intended, every run of an SQL job one of
-- effect, every job that a consumer has completed one of completion. None of the last two has a key,
-- so that what happens twice is there twice.
CREATE TABLE intended (token text PRIMARY KEY, kind text NOT NULL, job_key text, job_id bigint, server text DEFAULT current_setting('port'), at xid8 DEFAULT pg_current_xact_id());
CREATE TABLE effect (token text, attempt int, server text DEFAULT current_setting('port'), at xid8 DEFAULT pg_current_xact_id());
CREATE TABLE completion (token text, claim bigint, server text DEFAULT current_setting('port'), at xid8 DEFAULT pg_current_xact_id());

-- Some runs fail, after their effect. Those with {"gate": true} wait while a session holds that lock.
CREATE FUNCTION work(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(20260105) WHERE payload ? 'gate';
	INSERT INTO effect (token, attempt) VALUES (payload->>'token', (backfill.current_job()).attempt);
	IF random() < 0.02 THEN
		RAISE EXCEPTION 'a job fails now and then';
	END IF;
END $$;

SELECT backfill.set_retry_policy('quick', 1000, '1 ms', '20 ms', 2, 0.5);
SELECT backfill.register_task('work', 'work(jsonb)', retry_policy => 'quick', max_attempts => 1000);
SELECT backfill.register_task('outside', retry_policy => 'quick', max_attempts => 1000);
SELECT backfill.set_queue('narrow', 1);
