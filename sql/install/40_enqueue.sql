-- Enqueue. Each returns the id of the job. NULL means: the task's own setting, else the default.

CREATE FUNCTION backfill.enqueue(
    task_identifier text,
    payload jsonb DEFAULT '{}',
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    job_key_mode text DEFAULT 'replace',
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    headers jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue';
COMMENT ON FUNCTION backfill.enqueue(text, jsonb, text, integer, timestamptz, integer, text, text, text, interval, jsonb) IS
    'Enqueue a job in the current transaction; it may run as soon as that commits.';

CREATE FUNCTION backfill.enqueue_fast(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_fast';
COMMENT ON FUNCTION backfill.enqueue_fast(text, jsonb, text) IS 'Enqueue in queue fast with priority FAST_DEFAULT.';

CREATE FUNCTION backfill.enqueue_bulk(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_bulk';
COMMENT ON FUNCTION backfill.enqueue_bulk(text, jsonb, text) IS
    'Enqueue in queue bulk with priority BULK_DEFAULT (many jobs at once: enqueue_many).';

CREATE FUNCTION backfill.enqueue_emergency(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_emergency';
COMMENT ON FUNCTION backfill.enqueue_emergency(text, jsonb, text) IS 'Enqueue in queue fast with priority EMERGENCY, to run now.';

CREATE FUNCTION backfill.enqueue_critical(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_critical';
COMMENT ON FUNCTION backfill.enqueue_critical(text, jsonb, text) IS
    'Enqueue in queue fast with priority FAST_HIGH and retry policy aggressive.';

CREATE FUNCTION backfill.enqueue_fast_with_retries(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_fast_with_retries';
COMMENT ON FUNCTION backfill.enqueue_fast_with_retries(text, jsonb, text) IS
    'Enqueue in queue fast with priority FAST_HIGH and retry policy fast.';

CREATE FUNCTION backfill.enqueue_bulk_with_retries(task_identifier text, payload jsonb DEFAULT '{}', job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_bulk_with_retries';
COMMENT ON FUNCTION backfill.enqueue_bulk_with_retries(text, jsonb, text) IS
    'Enqueue in queue bulk with priority BULK_DEFAULT and retry policy conservative.';

CREATE FUNCTION backfill.enqueue_serial(task_identifier text, payload jsonb, queue_name text, job_key text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_enqueue_serial';
COMMENT ON FUNCTION backfill.enqueue_serial(text, jsonb, text, text) IS
    'Enqueue in a queue that runs its jobs one after the other; makes the queue serial.';

CREATE FUNCTION backfill.enqueue_many(
    task_identifier text,
    payloads jsonb[],
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    headers jsonb DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'backfill_enqueue_many';
COMMENT ON FUNCTION backfill.enqueue_many(text, jsonb[], text, integer, timestamptz, integer, text, interval, jsonb) IS
    'Enqueue one job per payload, all with the same headers; returns their ids in the order of the payloads.';

CREATE FUNCTION backfill.enqueue_jobs(jobs jsonb)
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 AS 'MODULE_PATHNAME', 'backfill_enqueue_jobs';
COMMENT ON FUNCTION backfill.enqueue_jobs(jsonb) IS
    'Enqueue an array of job specifications, objects with the arguments of enqueue() as keys; returns their ids in order.';
