-- Every SQL statement in the C++ sources can be prepared against the schema: no table,
-- column, function or type in them is misspelt or gone. Run from the top of the source tree.
\set statements `perl test/pgtap/sql_in_sources.pl src bgworker`
BEGIN;
SELECT no_plan();

-- Prepares a statement. A parameter that the statement does not use, or uses in a place
-- that takes any type, is given type text.
CREATE FUNCTION pg_temp.prepare_statement(statement text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    types text[] := array_fill('unknown'::text, ARRAY[(SELECT coalesce(max(n[1]::int), 0) FROM regexp_matches(statement, '\$(\d+)', 'g') n)]);
    number int;
BEGIN
    LOOP
        BEGIN
            EXECUTE concat('PREPARE from_the_sources ', '(' || nullif(array_to_string(types, ', '), '') || ')', ' AS ', statement);
            DEALLOCATE from_the_sources;
            RETURN;
        EXCEPTION WHEN indeterminate_datatype OR ambiguous_parameter THEN
            number := substring(sqlerrm FROM '\$(\d+)$');
            IF types[number] <> 'unknown' THEN
                RAISE;
            END IF;
            types[number] := 'text';
        END;
    END LOOP;
END;
$$;

-- What speaks to pg_cron is tried with a real one, by test/t/040_schedules.pl.
CREATE TEMP TABLE statement AS
SELECT s FROM regexp_split_to_table(:'statements', E'\n') s WHERE s <> '' AND s !~ '\mcron\.';
SELECT cmp_ok((SELECT count(*) FROM statement), '>=', 6::bigint, 'statements were found in the sources');
SELECT lives_ok(format('SELECT pg_temp.prepare_statement(%L)', s), left(s, 60) || '...') FROM statement;

-- The check itself can fail.
SELECT throws_ok($$SELECT pg_temp.prepare_statement('SELECT no_such_column FROM backfill.job')$$, '42703', NULL, 'a misspelt column is found');
SELECT throws_ok($$SELECT pg_temp.prepare_statement('DELETE FROM backfill.job WHERE id = now()')$$, '42883', NULL, 'a wrong type is found');

SELECT * FROM finish();
ROLLBACK;
