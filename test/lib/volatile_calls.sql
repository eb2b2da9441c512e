-- Creates the view pg_temp.volatile_call: functions of backfill that are declared immutable and call what is not.
-- Names are found in the text of the bodies, so arguments do not count: of functions with the same name, one that may change is enough.
CREATE TEMP VIEW volatile_call AS
WITH immutable AS (
    SELECT p.oid::regprocedure AS caller, regexp_replace(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), '''[^'']*''', '', 'g') AS body
      FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
     WHERE p.pronamespace = 'backfill'::regnamespace AND p.provolatile = 'i' AND l.lanname IN ('sql', 'plpgsql'))
SELECT DISTINCT i.caller::text, p.proname::text AS callee
  FROM immutable i
 CROSS JOIN LATERAL regexp_matches(i.body, '\m(\w+)\(', 'g') m
  JOIN pg_proc p ON p.proname = m[1] AND p.pronamespace IN ('backfill'::regnamespace, 'pg_catalog'::regnamespace) AND p.provolatile <> 'i';
