-- Tables. They are private: users see the views of 70_views.sql. All of them are
-- dumped by pg_dump, so that a restore loses no task, job or dead letter.
-- Identifiers compare bytewise (COLLATE "C"): they are names, not words.

CREATE TABLE backfill.task (
    task_identifier text COLLATE "C" PRIMARY KEY,
    handler_schema text COLLATE "C",
    handler_name text COLLATE "C",
    handler_argtypes text[],
    queue_name text COLLATE "C",
    priority smallint,
    max_attempts smallint,
    retry_policy text COLLATE "C",
    timeout interval,
    run_as text COLLATE "C" NOT NULL,
    notify_channel text COLLATE "C",
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    -- A handler is stored by name: pg_upgrade refuses reg* columns, and a dropped
    -- function must give a clear error instead of a dangling oid.
    CONSTRAINT task_handler_complete CHECK (
        (handler_schema IS NULL) = (handler_name IS NULL)
        AND (handler_schema IS NULL) = (handler_argtypes IS NULL)),
    CONSTRAINT task_identifier_length CHECK (pg_catalog.length(task_identifier) BETWEEN 1 AND 128)
);
COMMENT ON TABLE backfill.task IS 'Registered tasks; see the view backfill.tasks.';

CREATE TABLE backfill.retry_policy (
    policy_name text COLLATE "C" PRIMARY KEY,
    max_attempts smallint NOT NULL CHECK (max_attempts >= 1),
    initial_delay interval NOT NULL,
    max_delay interval NOT NULL,
    multiplier double precision NOT NULL CHECK (multiplier >= 1),
    jitter_factor double precision NOT NULL CHECK (jitter_factor BETWEEN 0 AND 1)
);
COMMENT ON TABLE backfill.retry_policy IS
    'Retry policies that users defined or changed; the four presets are built in. See the view backfill.retry_policies.';

-- Ids below 100 belong to the built-in queues (fast 1, bulk 2).
CREATE SEQUENCE backfill.queue_id_seq AS integer START WITH 100;
CREATE TABLE backfill.queue (
    queue_name text COLLATE "C" PRIMARY KEY,
    id integer NOT NULL UNIQUE DEFAULT pg_catalog.nextval('backfill.queue_id_seq'),
    concurrency integer CHECK (concurrency >= 1)
);
ALTER SEQUENCE backfill.queue_id_seq OWNED BY backfill.queue.id;
COMMENT ON SEQUENCE backfill.queue_id_seq IS 'Ids of configured queues.';
COMMENT ON TABLE backfill.queue IS
    'Queues whose limits differ from the default (no limit); see the view backfill.queues.';

CREATE TABLE backfill.producer (
    role_name text COLLATE "C" PRIMARY KEY,
    tasks text[]
);
COMMENT ON TABLE backfill.producer IS
    'Roles that grant_producer() admitted; tasks lists the task identifiers they may enqueue, NULL means all.';

-- Column order: fixed-width columns first, so that no row carries padding.
CREATE SEQUENCE backfill.job_id_seq;
CREATE TABLE backfill.job (
    id bigint NOT NULL DEFAULT pg_catalog.nextval('backfill.job_id_seq'),
    run_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    lease_expires_at timestamptz,
    claim_token bigint,
    dead_letter_id bigint,
    priority smallint NOT NULL,
    attempts smallint NOT NULL,
    max_attempts smallint NOT NULL,
    task_identifier text COLLATE "C" NOT NULL,
    queue_name text COLLATE "C",
    retry_policy text COLLATE "C",
    job_key text COLLATE "C",
    worker text COLLATE "C",
    last_error jsonb,
    payload jsonb NOT NULL,
    CONSTRAINT job_pkey PRIMARY KEY (id)
) WITH (
    -- Rows die young and in bulk: vacuum by count, cheaply and without the
    -- exclusive lock that truncation takes.
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_scale_factor = 0.0,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);
ALTER SEQUENCE backfill.job_id_seq OWNED BY backfill.job.id;
COMMENT ON SEQUENCE backfill.job_id_seq IS 'Ids of jobs.';
-- The choice of the next job (src/queue/next_job.cpp) reads one range per task and priority.
CREATE INDEX job_ready_idx ON backfill.job (task_identifier, priority, run_at, id)
    WHERE lease_expires_at IS NULL;
CREATE INDEX job_key_idx ON backfill.job (job_key) WHERE job_key IS NOT NULL;
CREATE INDEX job_lease_idx ON backfill.job (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
COMMENT ON TABLE backfill.job IS
    'The jobs that wait, run or are leased: the only truth. A job that is done is deleted. See the view backfill.jobs.';

CREATE SEQUENCE backfill.dead_letter_id_seq;
CREATE TABLE backfill.dead_letter (
    id bigint PRIMARY KEY DEFAULT pg_catalog.nextval('backfill.dead_letter_id_seq'),
    original_job_id bigint NOT NULL,
    task_identifier text COLLATE "C" NOT NULL,
    payload jsonb NOT NULL,
    queue_name text COLLATE "C",
    priority smallint NOT NULL,
    job_key text COLLATE "C",
    max_attempts smallint NOT NULL,
    retry_policy text COLLATE "C",
    failure_reason text NOT NULL,
    failure_count integer NOT NULL,
    last_error jsonb,
    original_created_at timestamptz NOT NULL,
    original_run_at timestamptz NOT NULL,
    failed_at timestamptz NOT NULL,
    requeued_count integer NOT NULL DEFAULT 0,
    last_requeued_at timestamptz,
    notes text
);
ALTER SEQUENCE backfill.dead_letter_id_seq OWNED BY backfill.dead_letter.id;
COMMENT ON SEQUENCE backfill.dead_letter_id_seq IS 'Ids of dead letters.';
-- One entry per key: a job that was requeued and fails again updates its entry.
CREATE UNIQUE INDEX dead_letter_job_key_idx ON backfill.dead_letter (job_key) WHERE job_key IS NOT NULL;
CREATE INDEX dead_letter_failed_at_idx ON backfill.dead_letter (failed_at, id);
COMMENT ON TABLE backfill.dead_letter IS 'Jobs that failed for good; see the view backfill.dlq.';

SELECT pg_catalog.pg_extension_config_dump('backfill.task', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.retry_policy', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.queue', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.queue_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.producer', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.job', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.job_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.dead_letter_id_seq', '');
