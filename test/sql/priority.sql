-- priority() and priority_band().
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT name, backfill.priority(name), backfill.priority_band(backfill.priority(name))
  FROM unnest('{EMERGENCY,FAST_HIGH,FAST_DEFAULT,BULK_DEFAULT,BULK_LOW,BULK_LOWEST}'::text[]) name;
SELECT backfill.priority('fast_high'), backfill.priority('Fast_High'), pg_typeof(backfill.priority('FAST_HIGH'));
SELECT backfill.priority(NULL) IS NULL AS null_is_null, backfill.priority_band(NULL) IS NULL AS null_is_null;
CALL refused($$backfill.priority('')$$);
CALL refused($$backfill.priority('HIGH')$$);
CALL refused($$backfill.priority('FAST_HIGH ')$$);
CALL refused($$backfill.priority('-10')$$);

-- Every border of the bands.
SELECT band, min(priority), max(priority)
  FROM generate_series(-32768, 32767) priority, backfill.priority_band(priority) band
 GROUP BY band ORDER BY 2;
SELECT backfill.priority_band(-2147483648), backfill.priority_band(2147483647);

-- A name works wherever a priority is asked for, and in a generated column.
SELECT backfill.enqueue('t', priority => backfill.priority('BULK_LOW')) > 0 AS enqueued;
SELECT priority, priority_band FROM backfill.jobs;
CREATE TABLE plan (name text, priority smallint GENERATED ALWAYS AS (backfill.priority(name)) STORED);
INSERT INTO plan VALUES ('BULK_LOWEST');
SELECT * FROM plan;
