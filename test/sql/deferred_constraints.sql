-- Deferred constraints are checked inside each job: they fail the job that broke them and
-- neither its neighbours nor the commit of the whole batch.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL CONSTRAINT child_parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED);

-- [child, parent]: inserts the child first; the parent follows, or not.
CREATE FUNCTION add_child(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test.child VALUES ((payload->>0)::int, (payload->>1)::int);
    IF payload->>2 = 'with parent' THEN
        INSERT INTO test.parent VALUES ((payload->>1)::int);
    END IF;
END;
$$;
SELECT backfill.register_task('add_child', 'add_child(jsonb)');

-- A, C: legal in this order only thanks to the deferral. B, D: no parent.
SELECT count(*) FROM backfill.enqueue_many('add_child', ARRAY['[1, 10, "with parent"]', '[2, 20]', '[3, 30, "with parent"]', '[4, 40]', '[5, 10]']::jsonb[]);
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
SELECT * FROM parent ORDER BY id;
SELECT payload, last_error->>'sqlstate' AS sqlstate, last_error->>'message' AS message, last_error->>'detail' AS detail FROM backfill.dlq ORDER BY id;
SELECT count(*) FROM backfill.jobs;

-- The same within the caller's transaction, whose own violations stay the caller's business.
TRUNCATE backfill.dead_letter, child, parent RESTART IDENTITY;
BEGIN;
SELECT count(*) FROM backfill.enqueue_many('add_child', ARRAY['[1, 10, "with parent"]', '[2, 20]', '[3, 30, "with parent"]']::jsonb[]);
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
-- The constraint is deferred after the jobs as it was before them.
INSERT INTO child VALUES (6, 60);
INSERT INTO parent VALUES (60);
COMMIT;
SELECT * FROM child ORDER BY id;
SELECT payload, last_error->>'sqlstate' AS sqlstate FROM backfill.dlq ORDER BY id;

-- A constraint that a job sets to immediate is deferred again for the next job.
TRUNCATE backfill.dead_letter, child, parent RESTART IDENTITY;
CREATE FUNCTION set_immediate(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS ALL IMMEDIATE;
END;
$$;
SELECT backfill.register_task('set_immediate', 'set_immediate(jsonb)');
SELECT backfill.enqueue('set_immediate'), backfill.enqueue('add_child', '[1, 10, "with parent"]');
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
SELECT payload, failure_reason FROM backfill.dlq;

-- A constraint trigger, and a unique constraint that is violated in passing.
TRUNCATE backfill.job, backfill.dead_letter, child, parent RESTART IDENTITY;
CREATE TABLE place (id int PRIMARY KEY, slot int CONSTRAINT place_slot UNIQUE DEFERRABLE INITIALLY DEFERRED);
INSERT INTO place VALUES (1, 1), (2, 2);
CREATE FUNCTION swap(payload jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE test.place SET slot = 2 WHERE id = 1;
    IF payload = '"complete"' THEN
        UPDATE test.place SET slot = 1 WHERE id = 2;
    END IF;
END;
$$;
SELECT backfill.register_task('swap', 'swap(jsonb)');
SELECT backfill.enqueue('swap', '"half"'), backfill.enqueue('swap', '"complete"');
CALL backfill.process_available_jobs();
SELECT * FROM place ORDER BY id;
CREATE FUNCTION no_thirteen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM test.parent WHERE id = 13) THEN
        RAISE 'thirteen' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END;
$$;
CREATE CONSTRAINT TRIGGER no_thirteen AFTER INSERT ON parent DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no_thirteen();
SELECT backfill.enqueue('add_child', '[1, 12, "with parent"]'), backfill.enqueue('add_child', '[2, 13, "with parent"]'), backfill.enqueue('add_child', '[3, 14, "with parent"]');
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
SELECT payload, failure_reason FROM backfill.dlq ORDER BY id;

-- A constraint that this session has not met before, created after jobs have run.
TRUNCATE backfill.job, backfill.dead_letter, child, parent RESTART IDENTITY;
DROP TABLE child, place;
DROP TRIGGER no_thirteen ON parent;
CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL);
SELECT backfill.enqueue('add_child', '[1, 10]');
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
TRUNCATE child;
ALTER TABLE child ADD CONSTRAINT child_parent FOREIGN KEY (parent) REFERENCES parent DEFERRABLE INITIALLY DEFERRED;
SELECT backfill.enqueue('add_child', '[2, 20]'), backfill.enqueue('add_child', '[3, 30, "with parent"]');
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
SELECT payload, failure_reason FROM backfill.dlq ORDER BY id;

-- What the session has left pending before is none of the jobs': its violation fails no job, and
-- its triggers are not fired. A job's own violation fails the transaction then.
TRUNCATE backfill.job, backfill.dead_letter, child, parent RESTART IDENTITY;
BEGIN;
INSERT INTO child VALUES (1, 10);
SELECT backfill.enqueue('add_child', '[2, 20, "with parent"]');
CALL backfill.process_available_jobs();
INSERT INTO parent VALUES (10);
COMMIT;
SELECT * FROM child ORDER BY id;
BEGIN;
INSERT INTO child VALUES (3, 10);
SELECT backfill.enqueue('add_child', '[4, 40]');
CALL backfill.process_available_jobs();
COMMIT;
SELECT count(*) FROM child;
SELECT payload, failure_reason FROM backfill.dlq ORDER BY id;
SELECT count(*) FROM backfill.jobs;
-- Outside a transaction block only the first batch shares a transaction with that.
DO $$
DECLARE
    n bigint;
BEGIN
    INSERT INTO test.child VALUES (5, 10);
    PERFORM backfill.enqueue('add_child', '[6, 10]'), backfill.enqueue('add_child', '[7, 70]', priority => 1);
    CALL backfill.process_available_jobs(1, processed => n);
    CALL backfill.process_available_jobs(processed => n);
END $$;
SELECT * FROM child ORDER BY id;
SELECT payload, failure_reason FROM backfill.dlq ORDER BY id;

-- So a function with other rights that runs jobs does not lend these to the session's triggers.
TRUNCATE backfill.job, backfill.dead_letter, child, parent, effect RESTART IDENTITY;
CREATE ROLE regress_guest;
CREATE SCHEMA guest AUTHORIZATION regress_guest;
CREATE FUNCTION run_jobs() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    n bigint;
BEGIN
    CALL backfill.process_available_jobs(processed => n);
    RETURN n;
END $$;
SELECT backfill.register_task('note', 'note(jsonb)');
GRANT USAGE ON SCHEMA test TO regress_guest;
SET ROLE regress_guest;
CREATE TABLE guest.trap (n int);
CREATE FUNCTION guest.trap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'the trap runs with the rights of %', CASE current_user WHEN 'regress_guest' THEN 'regress_guest' ELSE 'another' END;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER trap AFTER INSERT ON guest.trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION guest.trap();
RESET ROLE;
SELECT count(backfill.enqueue(t)) FROM unnest('{note,set_immediate}'::text[]) t;
SET ROLE regress_guest;
BEGIN;
INSERT INTO guest.trap VALUES (1);
SELECT test.run_jobs();
COMMIT;
RESET ROLE;
SELECT count(*) FROM effect;
SELECT task_identifier, last_error->>'message' AS message, last_error->>'detail' AS detail FROM backfill.jobs;
-- A job may set them where nothing else is pending, or with the session's own rights.
UPDATE backfill.job SET run_at = now() - interval '1 day';
SET ROLE regress_guest;
SELECT test.run_jobs();
RESET ROLE;
SELECT count(*) FROM backfill.jobs;
DROP SCHEMA guest CASCADE;
DROP OWNED BY regress_guest;
DROP ROLE regress_guest;
DROP FUNCTION run_jobs();

-- What a hook violates fails the hook, not the job, nor the transaction.
CREATE FUNCTION break_constraint(event jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO test.child SELECT 100 + count(*), 4711 FROM test.child $$;
SELECT backfill.register_hook(event, 'break_constraint(jsonb)') FROM unnest('{job_start,job_complete,job_fail,job_permanently_fail}'::text[]) event;
\set VERBOSITY terse
SELECT count(backfill.enqueue('add_child', payload)) FROM unnest('{"[1, 10, \"with parent\"]", "[2, 10]", "[3, 30]"}'::jsonb[]) payload;
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
SELECT payload, failure_reason FROM backfill.dlq ORDER BY id;
-- In a deciding hook it is the job's.
SELECT backfill.unregister_hook(event, 'break_constraint(jsonb)') FROM backfill.hook;
SELECT backfill.register_hook('before_job_run', 'break_constraint(jsonb)');
SELECT backfill.enqueue('note', '"refused"');
CALL backfill.process_available_jobs();
SELECT payload, failure_reason FROM backfill.dlq WHERE payload = '"refused"';
SELECT backfill.unregister_hook('before_job_run', 'break_constraint(jsonb)');

-- No hook sets the modes of constraints: they are those of the transaction in which it is called.
CREATE FUNCTION set_modes(event jsonb) RETURNS void LANGUAGE sql AS 'SET CONSTRAINTS ALL IMMEDIATE';
SELECT backfill.register_hook('before_job_schedule', 'set_modes(jsonb)');
CALL refused($$backfill.enqueue('note')$$);
SELECT backfill.unregister_hook('before_job_schedule', 'set_modes(jsonb)');
SELECT backfill.register_hook('job_start', 'set_modes(jsonb)');
SELECT backfill.enqueue('add_child', '[4, 40, "with parent"]');
CALL backfill.process_available_jobs();
SELECT * FROM child ORDER BY id;
