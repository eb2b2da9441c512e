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
    run_as backfill.role NOT NULL,
    notify_channel text COLLATE "C",
    registered_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    keep_history interval,
    handler_is_procedure boolean NOT NULL DEFAULT false,
    handler_owner backfill.role, -- when the task was registered
    savepoint_per_job boolean NOT NULL DEFAULT false, -- else executors decide
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
    'Retry policies that users defined or changed; the presets are built in. See the view backfill.retry_policies.';

-- Ids below 100 belong to the built-in queues (fast 1, bulk 2).
-- Queues may come and go until the ids begin anew; _new_queue_id() passes over those that are still there.
CREATE SEQUENCE backfill.queue_id_seq AS integer MINVALUE 100 CYCLE;
CREATE FUNCTION backfill._new_queue_id()
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_new_queue_id';
COMMENT ON FUNCTION backfill._new_queue_id() IS 'The id of a new row of backfill.queue.';
CREATE TABLE backfill.queue (
    queue_name text COLLATE "C" PRIMARY KEY,
    id integer NOT NULL UNIQUE DEFAULT backfill._new_queue_id(),
    concurrency integer CHECK (concurrency >= 1),
    rate_limit integer CHECK (rate_limit >= 1),
    rate_period interval,
    max_depth integer CHECK (max_depth >= 1),
    paused boolean NOT NULL DEFAULT false,
    -- What may be left of other limits; the trigger limits_changed sets it.
    places integer NOT NULL DEFAULT 0, -- no place of a number from here on was ever taken
    was_unlimited boolean NOT NULL DEFAULT true, -- jobs may run that have no place
    rated_since timestamptz,
    -- Made by a producer, or by pause_queue(), and not configured: goes away when the queue is empty.
    automatic boolean NOT NULL DEFAULT false,
    CONSTRAINT queue_rate_complete CHECK ((rate_limit IS NULL) = (rate_period IS NULL))
);
ALTER SEQUENCE backfill.queue_id_seq OWNED BY backfill.queue.id;
COMMENT ON SEQUENCE backfill.queue_id_seq IS 'Ids of configured queues.';
-- Finds the paused queues among very many.
CREATE INDEX queue_paused_idx ON backfill.queue (queue_name) WHERE paused;
-- What the dispatcher looks through for queues that are empty.
CREATE INDEX queue_automatic_idx ON backfill.queue (id) WHERE automatic AND NOT paused;
COMMENT ON TABLE backfill.queue IS
    'Queues whose limits differ from the default (no limit); see the view backfill.queues.';

CREATE TABLE backfill.producer (
    role_name backfill.role NOT NULL,
    tasks text[]
);
-- Not a key: of roles that are missing after a restore several may have had the same name.
CREATE UNIQUE INDEX producer_role_idx ON backfill.producer (role_name) WHERE backfill._role_oid(role_name) <> 0;
ALTER TABLE backfill.producer REPLICA IDENTITY FULL;
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
    lease_permit integer, -- the place of a leased job in its queue's concurrency; -1: that has no limit
    timeout_ms integer, -- NULL: the task's
    priority smallint NOT NULL,
    attempts smallint NOT NULL,
    max_attempts smallint NOT NULL,
    free_retries smallint NOT NULL,
    task_identifier text COLLATE "C" NOT NULL,
    queue_name text COLLATE "C" NOT NULL, -- empty: no queue, no limit
    retry_policy text COLLATE "C",
    job_key text COLLATE "C",
    worker text COLLATE "C",
    flags text[],
    last_error jsonb,
    payload jsonb NOT NULL,
    headers jsonb, -- an object: what the job carries besides its payload
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
-- A promoted standby may be behind, and would issue tokens again. So a token is the low 35 bits of this sequence's
-- value, the number of the WAL timeline, and the number of the node (include/backfill/core/claim_token.hpp). The
-- sequence has no bounds of its own: a node's begins at its number times 2^47, and a dump restores it from there.
CREATE SEQUENCE backfill.claim_token_seq;
ALTER SEQUENCE backfill.claim_token_seq OWNED BY backfill.job.claim_token;
COMMENT ON SEQUENCE backfill.claim_token_seq IS 'The part of claim tokens that counts claims; the other is the WAL timeline, so that no failover issues a token twice.';
-- The choice of the next job (src/dequeue/next_job.cpp) reads the first of all jobs of a task, however
-- many queues they are in; and, where order within a queue counts, the first of that one.
CREATE INDEX job_ready_idx ON backfill.job (task_identifier, priority, run_at, id) INCLUDE (queue_name)
    WHERE lease_expires_at IS NULL;
CREATE INDEX job_queue_idx ON backfill.job (queue_name, task_identifier, priority, run_at, id)
    WHERE lease_expires_at IS NULL AND queue_name <> '';
CREATE INDEX job_key_idx ON backfill.job (job_key) WHERE job_key IS NOT NULL;
CREATE INDEX job_lease_idx ON backfill.job (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX job_claim_idx ON backfill.job (claim_token) WHERE claim_token IS NOT NULL;
-- So that housekeeping finds the few jobs without attempts left, however many wait.
CREATE INDEX job_exhausted_idx ON backfill.job (id) WHERE attempts >= max_attempts;
CREATE INDEX job_permit_idx ON backfill.job (queue_name, lease_permit) WHERE lease_permit IS NOT NULL;
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
    timeout_ms integer,
    retry_policy text COLLATE "C",
    failure_reason text NOT NULL,
    failure_count integer NOT NULL,
    last_error jsonb,
    original_created_at timestamptz NOT NULL,
    original_run_at timestamptz NOT NULL,
    failed_at timestamptz NOT NULL,
    requeued_count integer NOT NULL DEFAULT 0,
    last_requeued_at timestamptz,
    notes text,
    flags text[],
    headers jsonb
);
ALTER SEQUENCE backfill.dead_letter_id_seq OWNED BY backfill.dead_letter.id;
COMMENT ON SEQUENCE backfill.dead_letter_id_seq IS 'Ids of dead letters.';
-- One entry per key and task: a job that was requeued and fails again updates its entry. Another
-- task's job with that key must not: its producer may have no right to the letter.
CREATE UNIQUE INDEX dead_letter_job_key_idx ON backfill.dead_letter (job_key, task_identifier) WHERE job_key IS NOT NULL;
CREATE INDEX dead_letter_job_idx ON backfill.dead_letter (original_job_id);
CREATE INDEX dead_letter_queue_idx ON backfill.dead_letter (queue_name) WHERE queue_name IS NOT NULL;
CREATE INDEX dead_letter_failed_at_idx ON backfill.dead_letter (failed_at, id);
-- For dlq_groups(), and to list one of its groups.
CREATE INDEX dead_letter_error_idx ON backfill.dead_letter (task_identifier, (pg_catalog."left"(coalesce(last_error ->> 'sqlstate', ''), 5)), failed_at, id);
COMMENT ON TABLE backfill.dead_letter IS 'Jobs that failed for good; see the view backfill.dlq.';

-- Jobs that were cancelled, or whose key was removed or enqueued again, while they ran.
CREATE TABLE backfill.no_retry (
    job_id bigint NOT NULL,
    cancelled boolean NOT NULL DEFAULT false,
    -- So cancel_job() waits for no producer whose transaction has noted the job.
    PRIMARY KEY (job_id, cancelled)
);
COMMENT ON TABLE backfill.no_retry IS 'Jobs that were running when they were cancelled, or their key was removed or enqueued again: they end with this run, however it ends.';
COMMENT ON COLUMN backfill.no_retry.cancelled IS 'Whether cancel_job() noted it: then the job ends as cancelled, else as superseded.';

-- What is kept of jobs that have ended, and of attempts that failed before: of tasks that are
-- registered with keep_history only. src/settle/history.cpp writes it.
CREATE TABLE backfill.job_history (
    job_id bigint NOT NULL,
    finished_at timestamptz NOT NULL,
    keep_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    max_attempts smallint NOT NULL,
    outcome text COLLATE "C" NOT NULL, -- retried: a failed attempt; else the job's end
    task_identifier text COLLATE "C" NOT NULL,
    queue_name text COLLATE "C",
    job_key text COLLATE "C",
    worker text COLLATE "C",
    error jsonb,
    result jsonb,
    headers jsonb
);
-- It has no key, and rows are deleted: a publication of all tables would forbid that.
ALTER TABLE backfill.job_history REPLICA IDENTITY FULL;
CREATE INDEX job_history_job_idx ON backfill.job_history (job_id);
CREATE INDEX job_history_keep_until_idx ON backfill.job_history (keep_until);
CREATE INDEX job_history_finished_at_idx ON backfill.job_history (finished_at, job_id) WHERE outcome <> 'retried';
COMMENT ON TABLE backfill.job_history IS
    'Jobs that have ended, and their failed attempts, of tasks registered with keep_history; see the view backfill.history.';

-- How errors are classified; the built-in rules are in src/core/retry_decision.cpp. Rules of a task beat general ones, a user's beat the
-- built-in ones, a whole SQLSTATE beats a class; texts are tried in order of their id.
CREATE SEQUENCE backfill.error_rule_id_seq AS integer START WITH 1000;
CREATE TABLE backfill.error_rule (
    id integer PRIMARY KEY DEFAULT pg_catalog.nextval('backfill.error_rule_id_seq'),
    task_identifier text COLLATE "C",
    sqlstate text COLLATE "C",
    message_contains text COLLATE "C",
    decision text NOT NULL,
    CONSTRAINT error_rule_decision CHECK (decision IN ('permanent', 'retry', 'free_retry')),
    CONSTRAINT error_rule_sqlstate_or_message_contains CHECK ((sqlstate IS NULL) <> (message_contains IS NULL)),
    CONSTRAINT error_rule_sqlstate CHECK (sqlstate ~ '^([0-9A-Z]{2}|[0-9A-Z]{5})$'),
    CONSTRAINT error_rule_message_contains_lower_case CHECK (message_contains = pg_catalog.lower(message_contains) AND message_contains <> '')
);
ALTER SEQUENCE backfill.error_rule_id_seq OWNED BY backfill.error_rule.id;
COMMENT ON SEQUENCE backfill.error_rule_id_seq IS 'Ids of error rules that users add.';
COMMENT ON TABLE backfill.error_rule IS
    'Which errors are permanent, retried, or retried without costing an attempt, where that is not as the built-in rules have it. See the view backfill.error_rules.';
COMMENT ON COLUMN backfill.error_rule.task_identifier IS 'Only for this task; NULL: for all.';
COMMENT ON COLUMN backfill.error_rule.sqlstate IS 'A SQLSTATE or its class (two characters), of jobs that the server ran.';
COMMENT ON COLUMN backfill.error_rule.message_contains IS 'A part of the error text in lower case, of failures that consumers report.';

CREATE SEQUENCE backfill.hook_id_seq AS integer;
CREATE TABLE backfill.hook (
    id integer PRIMARY KEY DEFAULT pg_catalog.nextval('backfill.hook_id_seq'),
    event text COLLATE "C" NOT NULL,
    function_schema text COLLATE "C" NOT NULL,
    function_name text COLLATE "C" NOT NULL,
    task_identifier text COLLATE "C",
    -- Whose rights it has, and where it finds things by name. Never the session's.
    run_as backfill.role NOT NULL,
    search_path text COLLATE "C" NOT NULL,
    function_owner backfill.role, -- when the hook was registered
    UNIQUE NULLS NOT DISTINCT (event, function_schema, function_name, task_identifier)
);
ALTER SEQUENCE backfill.hook_id_seq OWNED BY backfill.hook.id;
COMMENT ON SEQUENCE backfill.hook_id_seq IS 'Ids of hooks.';
COMMENT ON TABLE backfill.hook IS 'Functions that are called at certain moments of a job''s life; see register_hook().';

SELECT pg_catalog.pg_extension_config_dump('backfill.task', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.hook', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.hook_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.no_retry', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.error_rule', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.error_rule_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.retry_policy', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.queue', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.queue_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.producer', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.job', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.job_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.claim_token_seq', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.job_history', '');
SELECT pg_catalog.pg_extension_config_dump('backfill.dead_letter_id_seq', '');
