-- CREATE EXTENSION and DROP EXTENSION: what stands in their way, what they leave, and a
-- session that lives through both.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

-- How many objects there are that only this extension makes.
CREATE VIEW objects AS
SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'backfill') AS schemas,
       (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('backfill')) > 0 AS relations,
       (SELECT count(*) FROM pg_proc WHERE probin LIKE '%backfill%') > 0 AS functions,
       (SELECT count(*) FROM pg_extension WHERE extname = 'backfill') AS extensions;
TABLE objects;

-- Twice is once too much.
CREATE EXTENSION backfill;
CREATE EXTENSION IF NOT EXISTS backfill;

-- It stays where it is.
ALTER EXTENSION backfill SET SCHEMA test;
DROP SCHEMA backfill CASCADE;
DROP FUNCTION backfill.enqueue;
DROP TABLE backfill.job;

-- Dropping removes everything, jobs included.
SELECT backfill.enqueue('t'), backfill.register_task('t', 'note(jsonb)');
DROP EXTENSION backfill;
TABLE objects;
SELECT backfill.enqueue('t');
CALL backfill.process_available_jobs();
SELECT * FROM backfill.jobs;

-- A schema that another role made beforehand is not adopted ... (From version 18 on the
-- error has a context line.)
\set SHOW_CONTEXT never
CREATE SCHEMA backfill;
CREATE EXTENSION backfill;
CREATE EXTENSION backfill SCHEMA backfill;
TABLE objects;
-- ... whatever is in it.
CREATE FUNCTION backfill.enqueue(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE EXTENSION backfill;
SELECT proname FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace;
DROP SCHEMA backfill CASCADE;

-- Only a superuser may install it.
CREATE ROLE regress_backfill_user;
DO $$
BEGIN
    EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_backfill_user', current_database());
END;
$$;
SET ROLE regress_backfill_user;
CREATE EXTENSION backfill;
RESET ROLE;
DROP OWNED BY regress_backfill_user;
DROP ROLE regress_backfill_user;

-- Neither search_path nor objects of the same names lead the script astray.
CREATE SCHEMA trap;
CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''2000-01-01''::timestamptz';
CREATE FUNCTION trap.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT -1::bigint';
CREATE FUNCTION trap.length(text) RETURNS int LANGUAGE sql AS 'SELECT -1';
CREATE TABLE trap.job (id int);
SET search_path = trap, test, pg_catalog;
CREATE EXTENSION backfill;
SET search_path = test;
SELECT count(*) FROM pg_depend d WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_class'::regclass)
   AND d.refobjid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'trap'::regnamespace UNION ALL SELECT oid FROM pg_class WHERE relnamespace = 'trap'::regnamespace)
   AND d.objid IN (SELECT objid FROM pg_depend WHERE deptype = 'e');
DROP SCHEMA trap CASCADE;

-- The same session goes on after all this: nothing that it remembered misleads it.
SELECT backfill.enqueue('t');
SELECT task_identifier, kind FROM backfill.tasks;
SELECT backfill.register_task('t', 'note(jsonb)');
SELECT backfill.enqueue('t', '"after reinstalling"');
CALL backfill.process_available_jobs();
SELECT payload FROM effect ORDER BY step;

-- In a transaction: usable at once, and gone after a rollback.
DROP EXTENSION backfill;
BEGIN;
CREATE EXTENSION backfill;
SELECT backfill.register_task('t', 'note(jsonb)');
SELECT backfill.enqueue('t', '"rolled back"');
CALL backfill.process_available_jobs();
SELECT backfill.enqueue('t', '"rolled back, too"');
ROLLBACK;
TABLE objects;
SELECT backfill.enqueue('t');
BEGIN;
CREATE EXTENSION backfill;
DROP EXTENSION backfill;
CREATE EXTENSION backfill;
SELECT backfill.enqueue('t');
COMMIT;
SELECT id, task_identifier FROM backfill.jobs;
BEGIN;
SELECT backfill.enqueue('t', '"not lost"');
DROP EXTENSION backfill;
ROLLBACK;
SELECT id, task_identifier FROM backfill.jobs;

-- What depends on it keeps it, unless CASCADE says otherwise.
CREATE VIEW mine AS SELECT id FROM backfill.jobs;
DROP EXTENSION backfill;
DROP EXTENSION backfill CASCADE;
TABLE objects;
SELECT to_regclass('mine') IS NULL AS gone;
-- Users' handlers are their own.
SELECT to_regprocedure('note(jsonb)') IS NOT NULL AS kept;
CREATE EXTENSION backfill;
TABLE objects;
