-- Every function's body is valid against the schema as it is: PL/pgSQL by plpgsql_check,
-- SQL by defining it again.
LOAD 'plpgsql_check'; -- before any PL/pgSQL function runs
BEGIN;
SELECT no_plan();

CREATE TEMP VIEW body AS
SELECT p.oid, p.oid::regprocedure AS name, l.lanname AS language
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'backfill'::regnamespace AND l.lanname IN ('sql', 'plpgsql')
 ORDER BY p.oid::regprocedure::text;

-- _grant() puts together a GRANT from a regrole, whose text is quoted, and from what
-- _bundle() says, _after_upgrade() a REVOKE from what pg_identify_object() has quoted, and the searches of pages put
-- queries together from constant texts of ours; plpgsql_check cannot know that. Pages read tables in the snapshot of the query that
-- calls them, as STABLE functions do, and shared memory as it is, with functions that are VOLATILE. The function of a trigger is checked for its table.
SELECT is_empty(
    format($$SELECT level, lineno, message, detail, hint FROM plpgsql_check_function_tb(%s, relid => %s, other_warnings => true, extra_warnings => true,
        performance_warnings => false, security_warnings => %L)
         WHERE message <> 'name of parameter "limit" is reserved keyword' AND (%L OR message <> 'routine is marked as STABLE, but expression is VOLATILE')$$, oid, coalesce((SELECT t.tgrelid FROM pg_trigger t WHERE t.tgfoid = body.oid LIMIT 1), 0), name::text !~ '^backfill._(grant|after_upgrade|page_find_jobs|page_find_letters|page_walk_jobs)\(', name::text !~ '^backfill.(_overview_jobs|_page_find_jobs|_page_walk_jobs|_page_job_timeline|job_details)\('),
    format('plpgsql_check finds nothing in %s', name))
  FROM body WHERE language = 'plpgsql';
SELECT cmp_ok((SELECT count(*) FROM body WHERE language = 'plpgsql'), '>', 0::bigint, 'there are PL/pgSQL functions');

\ir ../lib/volatile_calls.sql
SELECT is_empty('TABLE volatile_call', 'what is immutable calls nothing else');

SET check_function_bodies = on;
SELECT lives_ok(pg_get_functiondef(oid), format('%s is valid', name)) FROM body WHERE language = 'sql';
SELECT cmp_ok((SELECT count(*) FROM body WHERE language = 'sql'), '>', 0::bigint, 'there are SQL functions');

-- Views, too: each can be read.
SELECT lives_ok(format('SELECT * FROM %s', oid::regclass), format('view %s can be read', oid::regclass))
  FROM pg_class WHERE relnamespace = 'backfill'::regnamespace AND relkind = 'v' ORDER BY relname;

SELECT * FROM finish();
ROLLBACK;
