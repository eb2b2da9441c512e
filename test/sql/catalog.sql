-- The surface: everything that the extension consists of, read from the catalogs in a way
-- that does not depend on the server's version. A change here is a change for users.
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

-- What the extension owns, as \dx+ would show it. (From version 17 on that lists row types, too.)
SELECT o.object
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid,
       pg_describe_object(d.classid, d.objid, 0) o (object)
 WHERE e.extname = 'backfill' AND d.deptype = 'e' AND d.classid <> 'pg_type'::regclass
 ORDER BY o.object COLLATE "C";
-- Everything in the schema belongs to it.
SELECT count(*) FROM pg_proc p WHERE pronamespace = 'backfill'::regnamespace
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e');
SELECT extversion = backfill.version() AS version_is_the_librarys, extrelocatable, extnamespace::regnamespace FROM pg_extension WHERE extname = 'backfill';

-- Functions: arguments with defaults.
\pset format unaligned
\pset tuples_only on
SELECT format(E'%s %s\n    %s\n    returns %s', CASE prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, proname,
              coalesce(nullif(pg_get_function_arguments(oid), ''), '(no arguments)'), coalesce(pg_get_function_result(oid), 'nothing'))
  FROM pg_proc WHERE pronamespace = 'backfill'::regnamespace
 ORDER BY proname COLLATE "C", pronargs;
\pset tuples_only off
\pset format aligned

-- Functions: labels.
SELECT p.proname AS name, p.pronargs AS args, l.lanname AS language, CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END AS volatility,
       CASE p.proparallel WHEN 's' THEN 'safe' WHEN 'r' THEN 'restricted' ELSE 'unsafe' END AS parallel, p.proisstrict AS strict,
       p.prosecdef AS definer, array_to_string(p.proconfig, '; ') AS settings
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'backfill'::regnamespace
 ORDER BY p.proname COLLATE "C", p.pronargs;

-- Views and tables: columns.
SELECT c.relname AS view, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
 ORDER BY c.relname COLLATE "C", a.attnum;
SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type, a.attcollation::regcollation AS collation, a.attnotnull AS not_null,
       pg_get_expr(d.adbin, d.adrelid) AS default
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'backfill'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
 ORDER BY c.relname COLLATE "C", a.attnum;

-- Constraints (NOT NULL ones are in the list above), indexes, triggers, sequences.
SELECT conrelid::regclass AS table, conname, pg_get_constraintdef(oid) AS definition
  FROM pg_constraint WHERE connamespace = 'backfill'::regnamespace AND contype <> 'n'
 ORDER BY conrelid::regclass::text COLLATE "C", conname COLLATE "C";
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'backfill' ORDER BY indexname COLLATE "C";
SELECT tgrelid::regclass AS table, tgname, tgenabled, pg_get_triggerdef(oid) AS definition
  FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'backfill'::regnamespace) AND NOT tgisinternal
 ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
SELECT s.seqrelid::regclass AS sequence, s.seqtypid::regtype AS type, s.seqstart AS start, d.refobjid::regclass AS owner
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'a'
 WHERE c.relnamespace = 'backfill'::regnamespace ORDER BY c.relname;
SELECT c.relname, c.reloptions FROM pg_class c WHERE c.relnamespace = 'backfill'::regnamespace AND c.reloptions IS NOT NULL ORDER BY c.relname;

-- Settings.
SELECT name, vartype, unit, context, boot_val, min_val, max_val, short_desc FROM pg_settings WHERE name LIKE 'backfill.%' ORDER BY name;
SET backfill.no_such_setting = 1;
SET backfill.max_executors = 1;
SET backfill.random_seed = -2;
