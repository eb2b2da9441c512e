-- What an administrator may do to our tables: add columns, constraints, triggers, rules and
-- indexes. All of it holds for what the engine writes below SQL, too, or is refused by name.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh
CREATE FUNCTION fail(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = '55000'; END $$;
SELECT backfill.register_task('note', 'test.note(jsonb)', keep_history => '1 day');
SELECT backfill.register_task('fail', 'test.fail(jsonb)', max_attempts => 2, keep_history => '1 day');
SELECT backfill.register_task('outside', keep_history => '1 day');
SELECT backfill.set_retry_policy('at_once', 5, '0', '0', 1, 0);

-- One of each: enqueued one by one, together and with a key; done, retried, dead, claimed by a consumer.
CREATE PROCEDURE live() LANGUAGE plpgsql AS $$
DECLARE
    token bigint;
    id bigint;
    n bigint;
BEGIN
    TRUNCATE effect, backfill.job_history;
    PERFORM backfill.enqueue('note', '"one"');
    PERFORM backfill.enqueue_jobs('[{"task_identifier": "note", "payload": "of two"}, {"task_identifier": "note", "payload": "of two"}]');
    PERFORM backfill.enqueue('note', '"replaced"', job_key => 'k');
    PERFORM backfill.enqueue('note', '"by this"', job_key => 'k');
    PERFORM backfill.enqueue('fail', '{}', retry_policy => 'at_once', max_attempts => 2);
    CALL backfill.process_available_jobs(processed => n);
    PERFORM backfill.enqueue('outside');
    SELECT c.id, c.claim_token INTO id, token FROM backfill.claim_jobs('consumer', tasks => '{outside}') c;
    PERFORM backfill.release_jobs(ARRAY[id], token);
    SELECT c.id, c.claim_token INTO id, token FROM backfill.claim_jobs('consumer', tasks => '{outside}') c;
    PERFORM backfill.complete_jobs(ARRAY[id], token);
    PERFORM backfill.cancel_job(backfill.enqueue('note', run_at => '2100-01-01'));
    PERFORM backfill.get_job(backfill.enqueue('note', '"next"', run_at => '2100-01-01'));
    DELETE FROM backfill.job;
    DELETE FROM backfill.dead_letter;
END $$;
CREATE VIEW lived AS SELECT
    (SELECT string_agg(payload #>> '{}', ', ' ORDER BY payload) FROM effect) AS effects,
    (SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n FROM backfill.job_history GROUP BY 1) h) AS history;
CALL live();
TABLE lived;

-- A column of the queues: their limits are what they were.
SELECT backfill.set_queue('limited', concurrency => 2);
ALTER TABLE backfill.queue ADD COLUMN remark text;
UPDATE backfill.queue SET remark = 'x';
SELECT queue_name, concurrency FROM backfill.queues WHERE queue_name = 'limited';
SELECT count(backfill.enqueue('outside', queue_name => 'limited', run_at => '2001-01-01')) FROM generate_series(1, 5);
SELECT count(*) FROM backfill.claim_jobs('consumer', max_jobs => 5, tasks => '{outside}');
DELETE FROM backfill.job;
ALTER TABLE backfill.queue DROP COLUMN remark;

-- Added columns, and some that are no longer there, in every table.
DO $$
DECLARE
    t text;
BEGIN
    FOR t IN SELECT relname FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE backfill.%I ADD COLUMN gone int, ADD COLUMN remark text', t);
        EXECUTE format('ALTER TABLE backfill.%I DROP COLUMN gone', t);
    END LOOP;
END $$;
UPDATE backfill.task SET remark = 'mine';
SELECT backfill.set_queue('q', concurrency => 2, rate_limit => 3, rate_period => '1 hour');
UPDATE backfill.queue SET remark = 'x';
SELECT queue_name, concurrency, rate_limit, rate_period FROM backfill.queues WHERE queue_name = 'q';
CALL live();
TABLE lived;
SELECT task_identifier, payload FROM backfill.add_job('note', '[1]', run_at => '2100-01-01', job_key => 'a');
SELECT backfill.why_not_running(id) FROM backfill.job;
SELECT task_identifier, payload FROM backfill.remove_job('a');

\set VERBOSITY terse
-- With a default, generated, NOT NULL: as INSERT would have it.
ALTER TABLE backfill.job ADD COLUMN tenant text NOT NULL DEFAULT 'unknown', ADD COLUMN shout text GENERATED ALWAYS AS (upper(task_identifier)) STORED;
ALTER TABLE backfill.job_history ADD COLUMN seen boolean DEFAULT false;
CALL live();
TABLE lived;
SELECT count(*) FILTER (WHERE seen IS NULL) AS unset FROM backfill.job_history;
SELECT backfill.enqueue('note', run_at => '2100-01-01') IS NOT NULL;
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "note", "run_at": "2100-01-01"}, {"task_identifier": "fail", "run_at": "2100-01-01"}]');
SELECT task_identifier, tenant, shout FROM backfill.job ORDER BY id;
ALTER TABLE backfill.job ADD COLUMN must text;
UPDATE backfill.job SET must = '';
ALTER TABLE backfill.job ALTER must SET NOT NULL;
SELECT backfill.enqueue('note');
ALTER TABLE backfill.job DROP COLUMN must, DROP COLUMN tenant, DROP COLUMN shout;
ALTER TABLE backfill.job ALTER job_key SET NOT NULL;
DELETE FROM backfill.job;
ALTER TABLE backfill.job ALTER job_key SET NOT NULL;
SELECT backfill.enqueue('note');
ALTER TABLE backfill.job ALTER job_key DROP NOT NULL;

-- CHECKs.
ALTER TABLE backfill.job ADD CONSTRAINT no_boom CHECK (task_identifier <> 'boom');
ALTER TABLE backfill.job_history ADD CONSTRAINT no_boom CHECK (task_identifier <> 'boom');
SELECT backfill.enqueue('boom');
SELECT count(*) FROM backfill.enqueue_jobs('[{"task_identifier": "note"}, {"task_identifier": "boom"}]');
SELECT count(*) FROM backfill.job;
CALL live();
TABLE lived;
ALTER TABLE backfill.job DROP CONSTRAINT no_boom;
ALTER TABLE backfill.job_history DROP CONSTRAINT no_boom;

-- Triggers: a row's, a statement's with its rows, a deferred one. They run as the extension's owner.
CREATE TABLE audit (step serial, what text, task text, role name DEFAULT current_user);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.audit (what, task) VALUES (TG_NAME || ' ' || TG_OP, CASE TG_OP WHEN 'DELETE' THEN OLD.task_identifier ELSE NEW.task_identifier END);
    RETURN NULL;
END $$;
CREATE FUNCTION count_new() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.audit (what) SELECT TG_NAME || ' ' || count(*) FROM fresh;
    RETURN NULL;
END $$;
CREATE TRIGGER every AFTER INSERT OR UPDATE OR DELETE ON backfill.job FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER history AFTER INSERT ON backfill.job_history FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER statement AFTER INSERT ON backfill.job REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION count_new();
CREATE ROLE regress_producer;
SELECT backfill.grant_producer('regress_producer');
SET ROLE regress_producer;
BEGIN;
SELECT backfill.enqueue('note', '"audited"') IS NOT NULL;
COMMIT;
RESET ROLE;
BEGIN;
CALL backfill.process_available_jobs();
COMMIT;
SELECT what, task, role = current_user AS by_owner FROM audit ORDER BY step;
TRUNCATE audit;
CALL live();
TABLE lived;
SELECT what, task, count(*) FROM audit WHERE what NOT LIKE 'statement%' GROUP BY 1, 2 ORDER BY 1, 2;
DROP TRIGGER every ON backfill.job;
DROP TRIGGER statement ON backfill.job;
DROP TRIGGER history ON backfill.job_history;
TRUNCATE audit;
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR DELETE ON backfill.job DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit();
BEGIN;
SELECT backfill.enqueue('note') IS NOT NULL;
SELECT count(*) FROM audit;
COMMIT;
SELECT what FROM audit ORDER BY step;
DROP TRIGGER late ON backfill.job;
DELETE FROM backfill.job;
-- In a transaction with a snapshot of its own, too.
CREATE TRIGGER every AFTER INSERT OR UPDATE OR DELETE ON backfill.job FOR EACH ROW EXECUTE FUNCTION audit();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT backfill.enqueue('note', '"first"', job_key => 'k') = backfill.enqueue('note', '"second"', job_key => 'k') AS one_id;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL backfill.process_available_jobs();
COMMIT;
SELECT count(*) FROM backfill.job;
DROP TRIGGER every ON backfill.job;

-- One that changes the row, and one that keeps rows: nothing hangs.
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.payload := '"changed"'; RETURN NEW; END $$;
CREATE TRIGGER change BEFORE INSERT ON backfill.job FOR EACH ROW EXECUTE FUNCTION change();
CALL live();
TABLE lived;
DROP TRIGGER change ON backfill.job;
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER keep BEFORE DELETE ON backfill.job FOR EACH ROW EXECUTE FUNCTION keep();
SELECT backfill.enqueue('note', '"kept"') IS NOT NULL;
CALL backfill.process_available_jobs();
SELECT task_identifier, payload FROM backfill.job;
DROP TRIGGER keep ON backfill.job;
DELETE FROM backfill.job;

-- A rule.
CREATE RULE also AS ON INSERT TO backfill.job DO ALSO INSERT INTO test.audit (what) VALUES ('rule ' || NEW.task_identifier);
SELECT backfill.enqueue('note') IS NOT NULL;
DROP RULE also ON backfill.job;
SELECT what FROM audit WHERE what LIKE 'rule%';
DELETE FROM backfill.job;

-- Foreign keys: of a job, but not to jobs, whose rows come and go.
CREATE TABLE allowed (task text COLLATE "C" PRIMARY KEY);
INSERT INTO allowed VALUES ('note'), ('fail'), ('outside');
ALTER TABLE backfill.job ADD CONSTRAINT only_allowed FOREIGN KEY (task_identifier) REFERENCES allowed;
SELECT backfill.enqueue('boom');
CALL live();
TABLE lived;
ALTER TABLE backfill.job DROP CONSTRAINT only_allowed;
\set VERBOSITY default
CREATE TABLE mine (job_id bigint REFERENCES backfill.job (id) ON DELETE CASCADE);
CREATE TABLE mine (job_id bigint);
ALTER TABLE mine ADD FOREIGN KEY (job_id) REFERENCES backfill.job;
CREATE TABLE child () INHERITS (backfill.job);
CREATE TABLE child () INHERITS (backfill.task);

-- Indexes: unique, with an expression, with a predicate, deferred.
CREATE FUNCTION tenant(payload jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN coalesce(payload->>'tenant', ''); END $$;
REVOKE EXECUTE ON FUNCTION tenant(jsonb) FROM PUBLIC;
CREATE INDEX by_tenant ON backfill.job (tenant(payload));
CREATE INDEX by_state ON backfill.job_history ((error->>'sqlstate')) WHERE outcome = 'retried';
CALL live();
TABLE lived;
SET ROLE regress_producer;
SELECT backfill.enqueue('note') IS NOT NULL;
RESET ROLE;
CREATE UNIQUE INDEX one_each ON backfill.job ((payload->>'only')) WHERE payload ? 'only';
SELECT backfill.enqueue('note', '{"only": 1}') IS NOT NULL;
\set VERBOSITY terse
SELECT backfill.enqueue('note', '{"only": 1}');
\set VERBOSITY default
DROP INDEX backfill.by_tenant, backfill.one_each;
ALTER TABLE backfill.job ADD CONSTRAINT one_time UNIQUE (run_at, id) DEFERRABLE INITIALLY DEFERRED;
CALL live();
TABLE lived;
ALTER TABLE backfill.job DROP CONSTRAINT one_time;
DROP INDEX backfill.by_state;

-- Row security is for roles that read the tables, not for the engine; UNLOGGED and another tablespace are no matter.
ALTER TABLE backfill.job ENABLE ROW LEVEL SECURITY;
ALTER TABLE backfill.job_history ENABLE ROW LEVEL SECURITY;
ALTER TABLE backfill.task ENABLE ROW LEVEL SECURITY;
SET ROLE regress_producer;
SELECT backfill.enqueue('note', '"secured"') IS NOT NULL;
RESET ROLE;
ALTER TABLE backfill.job FORCE ROW LEVEL SECURITY;
CALL live();
TABLE lived;
ALTER TABLE backfill.job NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY;
ALTER TABLE backfill.job_history DISABLE ROW LEVEL SECURITY;
ALTER TABLE backfill.task DISABLE ROW LEVEL SECURITY;
ALTER TABLE backfill.job SET UNLOGGED;
CALL live();
TABLE lived;

-- A column of ours that is gone or another: the error names it.
BEGIN;
ALTER TABLE backfill.job RENAME lease_permit TO permit;
CALL refused($$backfill.enqueue('note')$$);
ROLLBACK;
BEGIN;
ALTER TABLE backfill.no_retry ALTER cancelled DROP DEFAULT, ALTER cancelled TYPE text;
SELECT backfill.enqueue('note', job_key => 'k') IS NOT NULL;
CALL refused($$backfill.enqueue('note', job_key => 'k')$$);
ROLLBACK;
BEGIN;
ALTER TABLE backfill.hook ALTER run_as DROP NOT NULL;
CALL refused($$backfill.enqueue('note')$$);
ROLLBACK;
BEGIN;
ALTER TABLE backfill.queue RENAME TO queue2;
CREATE VIEW backfill.queue AS TABLE backfill.queue2;
CALL refused($$backfill.enqueue('note', queue_name => 'another')$$);
ROLLBACK;
SELECT backfill.enqueue('note', job_key => 'k') IS NOT NULL;
DROP OWNED BY regress_producer;
DROP ROLE regress_producer;
