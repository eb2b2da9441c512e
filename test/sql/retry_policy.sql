-- Retry policies: the presets, set_retry_policy(), backoff_delay().
\getenv test_dir PG_ABS_SRCDIR
\set fresh :test_dir /sql/include/fresh.sql
\i :fresh

SELECT * FROM backfill.retry_policies;

-- A new policy takes the values of the default preset for what is not given.
SELECT backfill.set_retry_policy('new');
SELECT backfill.set_retry_policy('some', max_attempts => 3, multiplier => 1.25);
SELECT backfill.set_retry_policy('every', 6, '2 s', '1 day 02:00', 3, 0.5);
SELECT backfill.set_retry_policy(jitter_factor => 1, multiplier => 1000, max_delay => '0', initial_delay => '0', max_attempts => 32767, policy_name => 'limits');
SELECT * FROM backfill.retry_policies WHERE NOT preset ORDER BY policy_name;

-- Changing: NULL keeps the present value; also of a preset, which stops being one.
SELECT backfill.set_retry_policy('every', max_attempts => 7);
SELECT backfill.set_retry_policy('fast', initial_delay => '250 ms');
SELECT * FROM backfill.retry_policies WHERE policy_name IN ('every', 'fast') ORDER BY policy_name;
SELECT policy_name FROM backfill.retry_policies WHERE preset ORDER BY policy_name;
-- The changed preset is used: by its attempts ...
SELECT backfill.set_retry_policy('fast', max_attempts => 4);
SELECT backfill.enqueue('t', retry_policy => 'fast') > 0 AND backfill.enqueue_fast_with_retries('t') > 0 AS enqueued;
SELECT max_attempts FROM backfill.jobs;
-- ... and its delays.
SELECT backfill.set_retry_policy('fast', jitter_factor => 0);
SELECT backfill.backoff_delay(0, 'fast');

-- In the caller's transaction.
BEGIN;
SELECT backfill.set_retry_policy('every', max_attempts => 1);
SELECT backfill.set_retry_policy('rolled_back');
SELECT count(*) FROM backfill.retry_policies;
ROLLBACK;
SELECT count(*) FROM backfill.retry_policies;
CALL refused($$backfill.backoff_delay(0, 'rolled_back')$$);

-- Bad arguments.
CALL refused($$backfill.set_retry_policy(NULL)$$);
CALL refused($$backfill.set_retry_policy('')$$);
CALL refused($$backfill.set_retry_policy(repeat('p', 129))$$);
CALL refused($$backfill.set_retry_policy('p', max_attempts => 0)$$);
CALL refused($$backfill.set_retry_policy('p', max_attempts => 32768)$$);
CALL refused($$backfill.set_retry_policy('p', initial_delay => '-1 s')$$);
CALL refused($$backfill.set_retry_policy('p', initial_delay => '36501 days')$$);
CALL refused($$backfill.set_retry_policy('p', initial_delay => '-297000 years')$$);
CALL refused($$backfill.set_retry_policy('p', max_delay => '-1 us')$$);
CALL refused($$backfill.set_retry_policy('p', max_delay => '297000 years')$$);
CALL refused($$backfill.set_retry_policy('p', multiplier => 0.99)$$);
CALL refused($$backfill.set_retry_policy('p', multiplier => 1001)$$);
CALL refused($$backfill.set_retry_policy('p', multiplier => 'NaN')$$);
CALL refused($$backfill.set_retry_policy('p', multiplier => 'Infinity')$$);
CALL refused($$backfill.set_retry_policy('p', jitter_factor => -0.1)$$);
CALL refused($$backfill.set_retry_policy('p', jitter_factor => 1.1)$$);
CALL refused($$backfill.set_retry_policy('p', jitter_factor => 'NaN')$$);
SELECT count(*) FROM backfill.retry_policies WHERE policy_name = 'p';

-- backoff_delay(): every delay of every preset, by its bounds, over many samples.
SELECT backfill.set_retry_policy('fast', 3, '100 ms', '30 s', 2, 0.1);
WITH delay AS (
    SELECT p.policy_name, n, least(p.initial_delay * p.multiplier ^ n, p.max_delay) AS exact, p.jitter_factor, backfill.backoff_delay(n, p.policy_name) AS sample
      FROM backfill.retry_policies p, generate_series(0, 12) n, generate_series(1, 200)
     WHERE p.policy_name IN ('default', 'fast', 'aggressive', 'conservative') AND n < p.max_attempts)
SELECT policy_name, n, date_trunc('milliseconds', exact) AS exact,
       bool_and(sample BETWEEN exact * (1 - jitter_factor) - interval '1 us' AND exact * (1 + jitter_factor) + interval '1 us') AS within_bounds,
       count(DISTINCT sample) > 100 AS spread
  FROM delay GROUP BY policy_name, n, exact ORDER BY policy_name, n;

-- After the last attempt there is none.
SELECT backfill.backoff_delay(8, 'default'), backfill.backoff_delay(3, 'fast'), backfill.backoff_delay(12, 'aggressive'), backfill.backoff_delay(5, 'conservative'),
       backfill.backoff_delay(2147483647, 'default');

-- By numbers; n, initial, maximum, multiplier, jitter, attempts.
SELECT n, backfill.backoff_delay(n, 6, '1 s', '10 s', 2, 0) FROM generate_series(0, 7) n;
SELECT backfill.backoff_delay(0, 6, '0', '10 s', 2, 0.5), backfill.backoff_delay(3, 6, '1 s', '0', 2, 0.5), backfill.backoff_delay(5, 6, '1 s', '1 h', 1, 0),
       backfill.backoff_delay(7, 100, '1 s', '36500 days', 1000, 0) = '36500 days' AS longest, backfill.backoff_delay(2147483646, 32767, '1 us', '1 day', 1000, 0), backfill.backoff_delay(32766, 32767, '1 us', '1 day', 1000, 0);
SELECT backfill.backoff_delay(attempt => 1, initial_delay => '1 s', max_delay => '10 s', multiplier => 1.5, jitter_factor => 0, max_attempts => 3),
       backfill.backoff_delay(attempt => 0, retry_policy => 'every') IS NOT NULL AS by_name;
SELECT backfill.backoff_delay(NULL, 'default') IS NULL AND backfill.backoff_delay(0, NULL) IS NULL
   AND backfill.backoff_delay(0, 6, NULL, '10 s', 2, 0) IS NULL AS null_is_null;
CALL refused($$backfill.backoff_delay(-1, 'default')$$);
CALL refused($$backfill.backoff_delay(0, 'slow')$$);
CALL refused($$backfill.backoff_delay(0, 6, '-1 s', '10 s', 2, 0)$$);
CALL refused($$backfill.backoff_delay(0, 6, '1 s', '-10 s', 2, 0)$$);
CALL refused($$backfill.backoff_delay(0, 6, '1 s', '102 years', 2, 0)$$);
CALL refused($$backfill.backoff_delay(0, 6, '1 s', '10 s', 0, 0)$$);
CALL refused($$backfill.backoff_delay(0, 6, '1 s', '10 s', 2, 2)$$);
CALL refused($$backfill.backoff_delay(0, 0, '1 s', '10 s', 2, 0)$$);
CALL refused($$backfill.backoff_delay(0, 40000, '1 s', '10 s', 2, 0)$$);

-- With a seed the jitter is repeatable, without one it is not.
SET backfill.random_seed = 42;
SELECT array_agg(backfill.backoff_delay(n, 'default')) AS first_run FROM generate_series(0, 7) n \gset
SET backfill.random_seed = 42;
SELECT array_agg(backfill.backoff_delay(n, 'default')) = :'first_run' AS same FROM generate_series(0, 7) n;
SET backfill.random_seed = 43;
SELECT array_agg(backfill.backoff_delay(n, 'default')) = :'first_run' AS same FROM generate_series(0, 7) n;
RESET backfill.random_seed;
SELECT array_agg(backfill.backoff_delay(n, 'default')) AS first_run FROM generate_series(0, 7) n \gset
RESET backfill.random_seed;
SELECT array_agg(backfill.backoff_delay(n, 'default')) = :'first_run' AS same FROM generate_series(0, 7) n;
