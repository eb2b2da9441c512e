\set ECHO none
-- The start of every test: a new installation of the extension (so ids begin at 1), an
-- empty schema "test" that is first in the search_path, and these helpers:
--
--   CALL refused('f(args)')   evaluates an expression that must fail; shows SQLSTATE,
--                             message, detail and hint
--   note(payload jsonb)       a handler that appends its payload to the table effect
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS test CASCADE;
DROP EXTENSION backfill;
CREATE EXTENSION backfill;
CREATE SCHEMA test;
SET search_path = test;

CREATE PROCEDURE refused(expression text) LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE 'SELECT ' || expression;
    RAISE WARNING 'not refused: %', expression;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE NOTICE '%', concat_ws(E'\n         ', sqlstate || '  ' || sqlerrm, nullif(detail, ''), nullif(hint, ''));
END;
$$;

CREATE TABLE effect (step serial, payload jsonb);
CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO test.effect (payload) VALUES (payload)';

RESET client_min_messages;
\set ECHO all
