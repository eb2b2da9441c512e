/* backfill: a durable priority job queue that runs its jobs inside the server.
 * Assembled from sql/install/NN_*.sql by the Makefile; edit those parts. */
\echo Use "CREATE EXTENSION backfill" to load this file. \quit
-- The schema is created here, not by the control file: a schema that another
-- role made beforehand would otherwise be adopted and stay that role's.
CREATE SCHEMA backfill;
COMMENT ON SCHEMA backfill IS 'Job queue: enqueue(), register_task(), views jobs, queues, workers, tasks, dlq.';
-- backfill.role: a role as our tables keep it. It is its oid, so that a renamed role stays itself and
-- another one that gets its name does not; and in a dump its name, because another cluster has other
-- oids. regrole would do the first, but a role that is missing at a restore would cost the whole table.

CREATE TYPE backfill.role;

CREATE FUNCTION backfill._role_in(name cstring)
RETURNS backfill.role LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_in';
COMMENT ON FUNCTION backfill._role_in(cstring) IS 'Input of the type backfill.role.';
CREATE FUNCTION backfill._role_out(role backfill.role)
RETURNS cstring LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_out';
COMMENT ON FUNCTION backfill._role_out(backfill.role) IS 'Output of the type backfill.role.';
CREATE FUNCTION backfill._role_recv(message internal)
RETURNS backfill.role LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_recv';
COMMENT ON FUNCTION backfill._role_recv(internal) IS 'Binary input of the type backfill.role.';
CREATE FUNCTION backfill._role_send(role backfill.role)
RETURNS bytea LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_send';
COMMENT ON FUNCTION backfill._role_send(backfill.role) IS 'Binary output of the type backfill.role.';

CREATE TYPE backfill.role (
    INPUT = backfill._role_in,
    OUTPUT = backfill._role_out,
    RECEIVE = backfill._role_recv,
    SEND = backfill._role_send,
    INTERNALLENGTH = 68, -- an oid and a name
    ALIGNMENT = int4,
    CATEGORY = 'U'
);
COMMENT ON TYPE backfill.role IS
    'A role that stays the same when it is renamed. It is read and shown as its name; one that does not exist (any more) as "name (missing)", which no later role of that name becomes.';

CREATE FUNCTION backfill._role_of(role regrole)
RETURNS backfill.role LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_of';
COMMENT ON FUNCTION backfill._role_of(regrole) IS 'The role as the tables keep it.';
CREATE FUNCTION backfill._role_oid(role backfill.role)
RETURNS oid LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_oid';
COMMENT ON FUNCTION backfill._role_oid(backfill.role) IS
    'The oid of the role, which may have been dropped since; 0 if it was missing when the value was read in.';

CREATE FUNCTION backfill._role_cmp(a backfill.role, b backfill.role)
RETURNS integer LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_cmp';
COMMENT ON FUNCTION backfill._role_cmp(backfill.role, backfill.role) IS 'Order of the type backfill.role: by oid, missing ones by name.';
CREATE FUNCTION backfill._role_eq(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_eq';
COMMENT ON FUNCTION backfill._role_eq(backfill.role, backfill.role) IS 'Operator = of the type backfill.role.';
CREATE FUNCTION backfill._role_ne(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_ne';
COMMENT ON FUNCTION backfill._role_ne(backfill.role, backfill.role) IS 'Operator <> of the type backfill.role.';
CREATE FUNCTION backfill._role_lt(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_lt';
COMMENT ON FUNCTION backfill._role_lt(backfill.role, backfill.role) IS 'Operator < of the type backfill.role.';
CREATE FUNCTION backfill._role_le(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_le';
COMMENT ON FUNCTION backfill._role_le(backfill.role, backfill.role) IS 'Operator <= of the type backfill.role.';
CREATE FUNCTION backfill._role_ge(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_ge';
COMMENT ON FUNCTION backfill._role_ge(backfill.role, backfill.role) IS 'Operator >= of the type backfill.role.';
CREATE FUNCTION backfill._role_gt(a backfill.role, b backfill.role)
RETURNS boolean LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_role_gt';
COMMENT ON FUNCTION backfill._role_gt(backfill.role, backfill.role) IS 'Operator > of the type backfill.role.';

CREATE OPERATOR backfill.= (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_eq,
    COMMUTATOR = OPERATOR(backfill.=), NEGATOR = OPERATOR(backfill.<>), RESTRICT = eqsel, JOIN = eqjoinsel, MERGES);
CREATE OPERATOR backfill.<> (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_ne,
    COMMUTATOR = OPERATOR(backfill.<>), NEGATOR = OPERATOR(backfill.=), RESTRICT = neqsel, JOIN = neqjoinsel);
CREATE OPERATOR backfill.< (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_lt,
    COMMUTATOR = OPERATOR(backfill.>), NEGATOR = OPERATOR(backfill.>=), RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR backfill.<= (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_le,
    COMMUTATOR = OPERATOR(backfill.>=), NEGATOR = OPERATOR(backfill.>), RESTRICT = scalarlesel, JOIN = scalarlejoinsel);
CREATE OPERATOR backfill.>= (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_ge,
    COMMUTATOR = OPERATOR(backfill.<=), NEGATOR = OPERATOR(backfill.<), RESTRICT = scalargesel, JOIN = scalargejoinsel);
CREATE OPERATOR backfill.> (LEFTARG = backfill.role, RIGHTARG = backfill.role, FUNCTION = backfill._role_gt,
    COMMUTATOR = OPERATOR(backfill.<), NEGATOR = OPERATOR(backfill.<=), RESTRICT = scalargtsel, JOIN = scalargtjoinsel);
CREATE OPERATOR CLASS backfill.role_ops DEFAULT FOR TYPE backfill.role USING btree AS
    OPERATOR 1 backfill.<, OPERATOR 2 backfill.<=, OPERATOR 3 backfill.=, OPERATOR 4 backfill.>=, OPERATOR 5 backfill.>,
    FUNCTION 1 backfill._role_cmp(backfill.role, backfill.role);
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
-- A promoted standby may be behind, and would issue tokens again. So a token is this sequence's value plus the
-- number of the WAL timeline times 2^35 (include/backfill/core/claim_token.hpp). It stays below 2^47.
CREATE SEQUENCE backfill.claim_token_seq MAXVALUE 34359738367 CYCLE;
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
-- Tasks and retry policies.

CREATE FUNCTION backfill.register_task(
    task_identifier text,
    handler regprocedure DEFAULT NULL,
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    run_as regrole DEFAULT NULL,
    notify_channel text DEFAULT NULL,
    keep_history interval DEFAULT NULL,
    savepoint_per_job boolean DEFAULT false)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_register_task';
COMMENT ON FUNCTION backfill.register_task(text, regprocedure, text, integer, integer, text, interval, regrole, text, interval, boolean) IS
    'Tie a task to the function or procedure that runs its jobs (handler NULL: external consumers); registering again replaces every setting.';

CREATE FUNCTION backfill.unregister_task(task_identifier text)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_unregister_task';
COMMENT ON FUNCTION backfill.unregister_task(text) IS
    'Forget a task; its waiting jobs stay and wait. Returns false if no such task was registered.';

CREATE FUNCTION backfill.register_hook(
    event text,
    function regprocedure,
    task_identifier text DEFAULT NULL,
    run_as regrole DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_register_hook';
COMMENT ON FUNCTION backfill.register_hook(text, regprocedure, text, regrole) IS
    'Have a function f(event jsonb) called at a moment of every job''s life, or of one task''s jobs; as run_as (NULL: the caller), with the present search_path. See the guide for the events and what a hook may answer.';

CREATE FUNCTION backfill.unregister_hook(event text, function regprocedure, task_identifier text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_unregister_hook';
COMMENT ON FUNCTION backfill.unregister_hook(text, regprocedure, text) IS 'Stop calling a hook; returns false if it was not registered.';

CREATE FUNCTION backfill.unregister_hook(event text, function text, task_identifier text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_unregister_hook_by_name';
COMMENT ON FUNCTION backfill.unregister_hook(text, text, text) IS
    'The same by name, my_schema.my_hook(jsonb), also when the function is gone; without a schema: the first one of the search_path that has such a hook.';

CREATE FUNCTION backfill.priority(name text)
RETURNS smallint LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_priority';
COMMENT ON FUNCTION backfill.priority(text) IS
    'The number of a named priority: EMERGENCY, FAST_HIGH, FAST_DEFAULT, BULK_DEFAULT, BULK_LOW, BULK_LOWEST. Smaller runs first.';

CREATE FUNCTION backfill.priority_band(priority integer)
RETURNS text LANGUAGE c STRICT IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_priority_band';
COMMENT ON FUNCTION backfill.priority_band(integer) IS 'The band that a priority belongs to, as metrics show it.';

CREATE FUNCTION backfill.set_retry_policy(
    policy_name text,
    max_attempts integer DEFAULT NULL,
    initial_delay interval DEFAULT NULL,
    max_delay interval DEFAULT NULL,
    multiplier double precision DEFAULT NULL,
    jitter_factor double precision DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_retry_policy';
COMMENT ON FUNCTION backfill.set_retry_policy(text, integer, interval, interval, double precision, double precision) IS
    'Create or change a retry policy; NULL keeps the present value (of a new policy: the value of preset default).';

CREATE FUNCTION backfill.backoff_delay(attempt integer, retry_policy text)
RETURNS interval LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_backoff_delay_policy';
COMMENT ON FUNCTION backfill.backoff_delay(integer, text) IS
    'A sample of the jittered delay before retry number attempt (0 is the first); zero when the policy has no more retries.';

CREATE FUNCTION backfill.backoff_delay(
    attempt integer,
    max_attempts integer,
    initial_delay interval,
    max_delay interval,
    multiplier double precision,
    jitter_factor double precision)
RETURNS interval LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_backoff_delay';
COMMENT ON FUNCTION backfill.backoff_delay(integer, integer, interval, interval, double precision, double precision) IS
    'The same for a policy given by its numbers.';

CREATE FUNCTION backfill._retry_policies(
    OUT policy_name text,
    OUT max_attempts smallint,
    OUT initial_delay interval,
    OUT max_delay interval,
    OUT multiplier double precision,
    OUT jitter_factor double precision,
    OUT preset boolean)
RETURNS SETOF record LANGUAGE c STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_retry_policies';
COMMENT ON FUNCTION backfill._retry_policies() IS 'The rows of the view backfill.retry_policies.';

-- Every backend caches the configuration tables; any change to them, also by COPY
-- or logical replication, tells all backends to read them again.
CREATE FUNCTION backfill._config_changed()
RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_config_changed';
COMMENT ON FUNCTION backfill._config_changed() IS 'Tells every session that a configuration table changed.';

CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.task
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.retry_policy
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.queue
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.producer
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.error_rule
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
ALTER TABLE backfill.error_rule ENABLE ALWAYS TRIGGER config_changed;
-- So that a claim need not look into the table while it is empty.
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.no_retry
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
ALTER TABLE backfill.no_retry ENABLE ALWAYS TRIGGER config_changed;
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON backfill.hook
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._config_changed();
ALTER TABLE backfill.hook ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE backfill.task ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE backfill.retry_policy ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE backfill.queue ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE backfill.producer ENABLE ALWAYS TRIGGER config_changed;
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
-- Queues: limits, pause and resume.

CREATE FUNCTION backfill.set_queue(
    queue_name text,
    concurrency integer DEFAULT NULL,
    rate_limit integer DEFAULT NULL,
    rate_period interval DEFAULT '1 second',
    max_depth integer DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_queue';
COMMENT ON FUNCTION backfill.set_queue(text, integer, integer, interval, integer) IS
    'Set all limits of a queue: jobs that run at once, that start per period, that wait or run in all. NULL: no limit (queues fast and bulk: the setting).';

CREATE FUNCTION backfill.pause_queue(queue_name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_pause_queue';
COMMENT ON FUNCTION backfill.pause_queue(text) IS 'Start no more jobs of a queue; running jobs finish, and jobs can be enqueued.';

CREATE FUNCTION backfill.resume_queue(queue_name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_resume_queue';
COMMENT ON FUNCTION backfill.resume_queue(text) IS 'Run the jobs of a paused queue again.';

CREATE FUNCTION backfill.delete_queue(queue_name text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_delete_queue';
COMMENT ON FUNCTION backfill.delete_queue(text) IS
    'Forget the limits of a queue that has no jobs; false if it has none. Its name can be used again, without limits.';

-- Jobs that run when a limit is lowered or set keep their places beyond it. Whatever sets limits,
-- the row remembers where those may be.
CREATE FUNCTION backfill._limits_changed()
RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.places := coalesce(NEW.concurrency, 0);
        NEW.was_unlimited := true;
        NEW.rated_since := CASE WHEN NEW.rate_limit IS NOT NULL THEN pg_catalog.clock_timestamp() END;
    ELSE
        NEW.places := greatest(OLD.places, OLD.concurrency, NEW.concurrency);
        NEW.was_unlimited := OLD.was_unlimited OR OLD.concurrency IS NULL OR NEW.concurrency IS NULL;
        NEW.rated_since := CASE WHEN NEW.rate_limit IS NULL THEN NULL
                                WHEN OLD.rate_limit IS NULL THEN pg_catalog.clock_timestamp()
                                ELSE OLD.rated_since END;
    END IF;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION backfill._limits_changed() IS 'Notes in a queue''s row what may be left of its former limits.';

CREATE TRIGGER limits_changed BEFORE INSERT OR UPDATE OF concurrency, rate_limit ON backfill.queue
    FOR EACH ROW EXECUTE FUNCTION backfill._limits_changed();
-- Running jobs in the caller's session, and what the server's workers tell about themselves.

-- No SET clause: the procedure commits between its batches.
CREATE PROCEDURE backfill.process_available_jobs(
    max_jobs integer DEFAULT NULL,
    tasks text[] DEFAULT NULL,
    INOUT processed bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_process_available_jobs';
COMMENT ON PROCEDURE backfill.process_available_jobs(integer, text[], bigint) IS
    'Run the ready jobs of tasks that run as the current user, in this session; needs no workers. Returns how many ran. Jobs whose handler is a procedure are left to the workers.';

CREATE FUNCTION backfill._now()
RETURNS timestamptz LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_now';
COMMENT ON FUNCTION backfill._now() IS 'The time that the queue goes by: that of the machine, or backfill.fake_now.';

CREATE FUNCTION backfill._workers(
    OUT pid integer,
    OUT kind text,
    OUT role_oid oid,
    OUT state text,
    OUT xid xid,
    OUT job_id bigint,
    OUT task_identifier text,
    OUT attempt integer,
    OUT started_at timestamptz,
    OUT state_since timestamptz,
    OUT jobs_done bigint,
    OUT jobs_failed bigint,
    OUT progress double precision,
    OUT progress_message text)
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'backfill_workers';
COMMENT ON FUNCTION backfill._workers() IS 'This database''s workers, from shared memory; the rows of the view backfill.workers.';

CREATE FUNCTION backfill._claimed(ctid tid, xmax xid)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_claimed';
COMMENT ON FUNCTION backfill._claimed(tid, xid) IS
    'Whether a visible row of backfill.job is being run: a transaction in progress has deleted it. One that only locks it does not count.';

CREATE FUNCTION backfill._installed()
RETURNS void LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_installed';
COMMENT ON FUNCTION backfill._installed() IS 'Tells the launcher, at commit, that this database has the extension now.';

CREATE FUNCTION backfill._queue_limit(queue_name text)
RETURNS integer LANGUAGE c STRICT STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_queue_limit';
COMMENT ON FUNCTION backfill._queue_limit(text) IS 'How many jobs of a queue may run at once; NULL: no limit.';

CREATE FUNCTION backfill.version()
RETURNS text LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_version';
COMMENT ON FUNCTION backfill.version() IS 'The version of the loaded library.';
-- How far a running job is, what came of it, and waiting for that.

CREATE FUNCTION backfill.set_progress(fraction double precision, message text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_progress';
COMMENT ON FUNCTION backfill.set_progress(double precision, text) IS
    'From a handler: how much of the job is done, 0 to 1 (NULL: unknown), and what it is doing. Others see it at once in backfill.jobs and backfill.workers.';

CREATE FUNCTION backfill.set_result(result jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_set_result';
COMMENT ON FUNCTION backfill.set_result(jsonb) IS
    'From a handler: what came of the job, shown by backfill.history and await_job(); the last call counts. A handler that returns jsonb need not call it. Kept if its task is registered with keep_history.';

-- No SET clause: the procedure ends its transaction before it waits.
CREATE PROCEDURE backfill.await_job(
    job_id bigint,
    timeout interval DEFAULT '30 seconds',
    INOUT outcome text DEFAULT NULL,
    INOUT result jsonb DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_await_job';
COMMENT ON PROCEDURE backfill.await_job(bigint, interval, text, jsonb) IS
    'Wait until a job has ended, however often it is retried before: completed, dead, discarded, cancelled, superseded, gone (no such job: it ended before and its outcome was not kept, or its transaction was rolled back) or timeout. Holds no snapshot while it waits. result: if its task keeps a history, and the caller may enqueue it.';

CREATE VIEW backfill.history AS
SELECT h.job_id AS id,
       h.task_identifier,
       h.queue_name,
       h.priority,
       h.job_key,
       h.outcome,
       h.attempt AS attempts,
       h.max_attempts,
       h.created_at,
       h.started_at,
       h.finished_at,
       h.worker,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.result END AS result,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.error
            WHEN h.error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', h.error -> 'sqlstate') END AS error,
       e.earlier_errors,
       h.keep_until,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.headers END AS headers
  FROM backfill.job_history h
 CROSS JOIN LATERAL (
     SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                'attempt', a.attempt, 'started_at', a.started_at, 'failed_at', a.finished_at, 'worker', a.worker,
                'error', CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN a.error
                              WHEN a.error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', a.error -> 'sqlstate') END)
                ORDER BY a.finished_at) AS earlier_errors
       FROM backfill.job_history a WHERE a.job_id = h.job_id AND a.outcome = 'retried') e
 WHERE h.outcome <> 'retried';
COMMENT ON VIEW backfill.history IS 'Jobs that have ended, of tasks registered with keep_history.';
COMMENT ON COLUMN backfill.history.outcome IS 'completed, dead (in the dead letter queue), discarded (by its handler), cancelled or superseded (by a newer job with its key)';
COMMENT ON COLUMN backfill.history.attempts IS 'How many times it was run; after free retries that number does not grow.';
COMMENT ON COLUMN backfill.history.started_at IS 'When the last run began; NULL for external consumers.';
COMMENT ON COLUMN backfill.history.result IS 'What the handler returned or set; NULL for roles that may not read it (monitors).';
COMMENT ON COLUMN backfill.history.error IS 'Of the last run, if it failed; only its sqlstate for roles that may not read results (monitors).';
COMMENT ON COLUMN backfill.history.earlier_errors IS 'The attempts that failed before, the last 20 of them: attempt, started_at, failed_at, worker and error of each.';
COMMENT ON COLUMN backfill.history.keep_until IS 'When it is deleted.';
COMMENT ON COLUMN backfill.history.headers IS 'What the job carried besides its payload; NULL for roles that may not read it (monitors).';
-- External consumers: claim jobs over SQL, and say what became of them. A claim is a lease: it
-- runs out unless its consumer is heard of in time, and then its token is worth nothing.

CREATE FUNCTION backfill.claim_jobs(
    worker text,
    max_jobs integer DEFAULT 1,
    tasks text[] DEFAULT NULL,
    queues text[] DEFAULT NULL,
    lease interval DEFAULT '5 minutes',
    OUT id bigint,
    OUT task_identifier text,
    OUT payload jsonb,
    OUT queue_name text,
    OUT priority smallint,
    OUT run_at timestamptz,
    OUT attempt integer,
    OUT max_attempts integer,
    OUT job_key text,
    OUT last_error jsonb,
    OUT created_at timestamptz,
    OUT lease_expires_at timestamptz,
    OUT claim_token bigint,
    OUT headers jsonb)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_claim_jobs';
COMMENT ON FUNCTION backfill.claim_jobs(text, integer, text[], text[], interval) IS
    'Claim up to max_jobs ready jobs for an external consumer, best first, under one new token: a number below 2^53, exact in JSON, which no other claim gets, also after a failover. NULL: all tasks registered without a handler; all queues.';

CREATE FUNCTION backfill.heartbeat(claim_token bigint, lease interval DEFAULT '5 minutes')
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_heartbeat';
COMMENT ON FUNCTION backfill.heartbeat(bigint, interval) IS
    'Prolong a claim''s leases, which end after the interval lease from now; returns the jobs that the claim still has. Drop work on any other.';

CREATE FUNCTION backfill.complete_jobs(job_ids bigint[], claim_token bigint)
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_complete_claimed_jobs';
COMMENT ON FUNCTION backfill.complete_jobs(bigint[], bigint) IS
    'Claimed jobs are done; returns those that the claim still had. The leases of the others are over.';

CREATE FUNCTION backfill.fail_job(job_id bigint, claim_token bigint, error text, permanent boolean DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_fail_job';
COMMENT ON FUNCTION backfill.fail_job(bigint, bigint, text, boolean) IS
    'A claimed job has failed; permanent NULL: the error''s text decides. Returns retry, dead (in the dead letter queue), superseded (a newer job has its key) or lost (the claim does not have it any more).';

CREATE FUNCTION backfill.snooze_job(job_id bigint, claim_token bigint, delay interval)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_snooze_job';
COMMENT ON FUNCTION backfill.snooze_job(bigint, bigint, interval) IS
    'Give a claimed job back for later; costs no attempt. False if the claim does not have it any more.';

CREATE FUNCTION backfill.release_jobs(job_ids bigint[], claim_token bigint)
RETURNS SETOF bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_release_jobs';
COMMENT ON FUNCTION backfill.release_jobs(bigint[], bigint) IS
    'Give claimed jobs back, ready at once; costs no attempt. Returns those that the claim still had.';

-- No SET clause: the procedure ends its transaction before it waits.
CREATE PROCEDURE backfill.wait_for_jobs(
    timeout interval DEFAULT '30 seconds',
    tasks text[] DEFAULT NULL,
    queues text[] DEFAULT NULL,
    INOUT ready boolean DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_wait_for_jobs';
COMMENT ON PROCEDURE backfill.wait_for_jobs(interval, text[], text[], boolean) IS
    'Wait until claim_jobs() with these filters would find a job (true), or the timeout has passed (false). Holds no snapshot while it waits.';

CREATE FUNCTION backfill._expire_leases(older_than interval)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_expire_leases';
COMMENT ON FUNCTION backfill._expire_leases(interval) IS 'Ends leases that ran out longer ago than this; returns how many.';

CREATE FUNCTION backfill._take_leases(workers text[])
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_take_leases';
COMMENT ON FUNCTION backfill._take_leases(text[]) IS 'Ends all leases of these consumers; returns how many.';
-- Schedules: jobs that are enqueued at certain minutes. The dispatcher ticks when one is due, or
-- pg_cron calls cron_tick() once a minute; which minutes are due, and that each is enqueued once, is
-- decided here.

CREATE TABLE backfill.cron_schedule (
    name text COLLATE "C" PRIMARY KEY CHECK (pg_catalog.length(name) BETWEEN 1 AND 128),
    cron text NOT NULL,
    time_zone text NOT NULL,
    fill interval NOT NULL,
    max_catchup integer NOT NULL CHECK (max_catchup >= 1),
    catchup text NOT NULL CHECK (catchup IN ('all', 'latest')),
    task_identifier text COLLATE "C" NOT NULL,
    queue_name text COLLATE "C", -- NULL: the task's; empty: no queue
    priority smallint,
    max_attempts smallint,
    job_key text COLLATE "C",
    job_key_mode text NOT NULL,
    retry_policy text COLLATE "C",
    timeout interval,
    -- Whose rights count when the jobs are enqueued.
    scheduled_by backfill.role NOT NULL,
    payload jsonb NOT NULL CHECK (pg_catalog.jsonb_typeof(payload) = 'object'),
    -- No minute before it is ever enqueued: the schedule, or its times, did not exist then.
    known_since timestamptz NOT NULL,
    -- Every minute up to here has been enqueued or left out for good.
    checked_until timestamptz NOT NULL,
    last_run_at timestamptz,
    last_error text
) WITH (fillfactor = 50); -- every row may be updated every minute
COMMENT ON TABLE backfill.cron_schedule IS 'Schedules and how far they have been followed; see the view backfill.schedules.';
SELECT pg_catalog.pg_extension_config_dump('backfill.cron_schedule', '');

CREATE FUNCTION backfill.schedule(
    name text,
    cron text,
    task_identifier text,
    payload jsonb DEFAULT '{}',
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    job_key_mode text DEFAULT 'replace',
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    time_zone text DEFAULT 'UTC',
    fill interval DEFAULT '0',
    max_catchup integer DEFAULT 1000,
    catchup text DEFAULT 'all')
RETURNS timestamptz LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_schedule';
COMMENT ON FUNCTION backfill.schedule(text, text, text, jsonb, text, integer, integer, text, text, text, interval, text, interval, integer, text) IS
    'Enqueue a job whenever a cron expression is due; the same name again replaces the schedule. Returns when it is due next.';

CREATE FUNCTION backfill.unschedule(name text)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_unschedule';
COMMENT ON FUNCTION backfill.unschedule(text) IS
    'Remove a schedule; jobs that it has enqueued stay. Returns false if there is none with that name.';

CREATE FUNCTION backfill.add_cron_schedule(line text)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_add_cron_schedule';
COMMENT ON FUNCTION backfill.add_cron_schedule(text) IS
    'Add or replace one schedule, given as a line of a Graphile Worker crontab. Returns its name.';

CREATE FUNCTION backfill.schedule_crontab(crontab text)
RETURNS SETOF text LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'backfill_schedule_crontab';
COMMENT ON FUNCTION backfill.schedule_crontab(text) IS
    'Add or replace the schedules of a Graphile Worker crontab, all of them or, if a line is wrong, none. Others stay. Returns their names.';

CREATE FUNCTION backfill.cron_next(cron text, time_zone text DEFAULT 'UTC', after timestamptz DEFAULT NULL)
RETURNS timestamptz LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_cron_next';
COMMENT ON FUNCTION backfill.cron_next(text, text, timestamptz) IS
    'The first time after a given one (NULL: now) at which a cron expression is due; NULL if it never is.';

CREATE FUNCTION backfill.cron_tick()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cron_tick';
COMMENT ON FUNCTION backfill.cron_tick() IS
    'Enqueue what is due; a clock other than the dispatcher calls it once a minute. Returns the number of jobs. Calling it more often, or late, does no harm.';

CREATE FUNCTION backfill._cron_tick(now timestamptz)
RETURNS bigint LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cron_tick_at';
COMMENT ON FUNCTION backfill._cron_tick(timestamptz) IS
    'Run a tick at a given time (in tests): what it has decided about that time is final.';

CREATE FUNCTION backfill._next_run_at(cron text, time_zone text, after timestamptz)
RETURNS timestamptz LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_next_run_at';
COMMENT ON FUNCTION backfill._next_run_at(text, text, timestamptz) IS
    'cron_next() for the view schedules, where one schedule that cannot be followed must not hide the others: NULL if the expression cannot be read or the time zone is unknown.';

CREATE VIEW backfill.schedules AS
SELECT s.name,
       s.cron,
       s.time_zone,
       s.task_identifier,
       CASE WHEN pg_catalog.has_table_privilege('backfill.cron_schedule', 'SELECT') THEN s.payload END AS payload,
       s.queue_name,
       s.priority,
       s.max_attempts,
       s.job_key,
       s.job_key_mode,
       s.retry_policy,
       s.timeout,
       s.fill,
       s.max_catchup,
       s.catchup,
       backfill._next_run_at(s.cron, s.time_zone, greatest(s.known_since, s.checked_until)) AS next_run_at,
       s.last_run_at,
       s.known_since,
       s.checked_until,
       CASE WHEN pg_catalog.has_table_privilege('backfill.cron_schedule', 'SELECT') THEN s.last_error
            WHEN s.last_error IS NOT NULL THEN 'the last tick could not enqueue' END AS last_error,
       s.scheduled_by::text COLLATE "C" AS scheduled_by
  FROM backfill.cron_schedule s;
COMMENT ON VIEW backfill.schedules IS 'Schedules, when they ran last and when they run next.';
COMMENT ON COLUMN backfill.schedules.queue_name IS 'NULL: the queue of the task; empty: none, as in a crontab line without queue.';
COMMENT ON COLUMN backfill.schedules.next_run_at IS 'The next due minute that no tick has dealt with. It lies in the past if the clock stands still: see health(). NULL if there is none, or if the schedule cannot be followed: see last_error.';
COMMENT ON COLUMN backfill.schedules.last_run_at IS 'The due minute of the last job that was enqueued.';
COMMENT ON COLUMN backfill.schedules.known_since IS 'When the schedule was made or its times were changed; it is never filled before that.';
COMMENT ON COLUMN backfill.schedules.checked_until IS 'Every minute up to here has been enqueued or left out for good. With the dispatcher as the clock it is the last one that was due, with any other the last tick.';
COMMENT ON COLUMN backfill.schedules.last_error IS 'Why the last tick could not enqueue; it is tried again at the next tick. The message is hidden from roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.schedules.scheduled_by IS 'The role that called schedule() last: the jobs are enqueued with its rights. "(missing)": it does not exist (any more); call schedule() again.';
COMMENT ON COLUMN backfill.schedules.payload IS 'NULL for roles that may not read payloads (monitors).';
-- What users look at. A payload, or an error's text, which may quote it, is shown only to roles that may read backfill.job
-- (admins and consumers), so that monitors can watch without seeing data.

CREATE VIEW backfill.jobs AS
SELECT j.id,
       j.task_identifier,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN j.payload END AS payload,
       nullif(j.queue_name, '') AS queue_name,
       j.priority,
       backfill.priority_band(j.priority) AS priority_band,
       j.run_at,
       j.attempts,
       j.max_attempts,
       j.job_key,
       coalesce(j.retry_policy, 'default') AS retry_policy,
       CASE WHEN j.lease_expires_at = 'infinity' THEN 'running' -- a procedure
            WHEN j.lease_expires_at > backfill._now() THEN 'leased'
            WHEN backfill._claimed(j.ctid, j.xmax) THEN 'running'
            WHEN j.run_at > backfill._now() THEN 'scheduled'
            ELSE 'ready' END AS state,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN j.last_error
            WHEN j.last_error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', j.last_error -> 'sqlstate') END AS last_error,
       coalesce(j.worker, w.kind || ' ' || w.pid) AS worker,
       nullif(j.lease_expires_at, 'infinity') AS lease_expires_at,
       j.timeout_ms * interval '1 millisecond' AS timeout,
       j.created_at,
       p.progress,
       p.progress_message,
       j.flags,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN j.headers END AS headers
  FROM backfill.job j
  LEFT JOIN backfill._workers() w ON w.xid = j.xmax
  -- An executor that has met an error of ours still shows the job that it ran, which another may run by now.
  LEFT JOIN backfill._workers() p ON p.job_id = j.id
        AND (p.xid = j.xmax OR j.lease_expires_at = 'infinity' AND j.worker = p.kind || ' ' || p.pid);
COMMENT ON VIEW backfill.jobs IS 'Jobs that are scheduled, ready, running or leased. Finished jobs are gone; failed ones are in backfill.dlq.';
COMMENT ON COLUMN backfill.jobs.state IS 'scheduled (run_at is in the future), ready, running (in a worker now), leased (by an external consumer). In a row that a function returns also dead (in the dead letter queue), or NULL: it is gone, or goes when its present run ends.';
COMMENT ON COLUMN backfill.jobs.attempts IS 'Failed attempts so far; the running one does not count.';
COMMENT ON COLUMN backfill.jobs.timeout IS 'How long the job may run; NULL: as long as its task says.';
COMMENT ON COLUMN backfill.jobs.payload IS 'NULL for roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.jobs.last_error IS 'sqlstate, message, detail, hint and context; only sqlstate for roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.jobs.progress IS 'How much of a running job is done, 0 to 1, as its handler says by set_progress(); NULL: it has not said.';
COMMENT ON COLUMN backfill.jobs.worker IS 'The process that runs the job: a worker of this server with its pid, or the name an external consumer gave.';
COMMENT ON COLUMN backfill.jobs.flags IS 'As add_job() got them; they mean nothing to the server.';
COMMENT ON COLUMN backfill.jobs.headers IS 'What the job carries besides its payload, such as traceparent; NULL for roles that may not read payloads (monitors).';

CREATE VIEW backfill.queues AS
SELECT coalesce(c.queue_name, j.queue_name) AS queue_name,
       backfill._queue_limit(coalesce(c.queue_name, j.queue_name)) AS concurrency,
       q.rate_limit,
       q.rate_period,
       q.max_depth,
       coalesce(q.paused, false) AS paused,
       coalesce(j.ready, 0) AS ready,
       coalesce(j.scheduled, 0) AS scheduled,
       coalesce(j.running, 0) AS running,
       coalesce(j.leased, 0) AS leased,
       j.oldest_ready_at
  FROM (SELECT 'fast' COLLATE "C" AS queue_name UNION SELECT 'bulk' UNION SELECT q.queue_name FROM backfill.queue q) c
  FULL JOIN (SELECT s.queue_name,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'ready') AS ready,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'scheduled') AS scheduled,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'running') AS running,
                    pg_catalog.count(*) FILTER (WHERE s.state = 'leased') AS leased,
                    pg_catalog.min(s.run_at) FILTER (WHERE s.state = 'ready') AS oldest_ready_at
               FROM backfill.jobs s WHERE s.queue_name IS NOT NULL GROUP BY s.queue_name) j
    ON j.queue_name = c.queue_name
  LEFT JOIN backfill.queue q ON q.queue_name = c.queue_name;
COMMENT ON VIEW backfill.queues IS 'Queues with their limits and how many jobs wait in them.';
COMMENT ON COLUMN backfill.queues.concurrency IS 'How many jobs of the queue may run at once; NULL: no limit.';
COMMENT ON COLUMN backfill.queues.rate_limit IS 'How many jobs of the queue may start in any rate_period; NULL: no limit.';
COMMENT ON COLUMN backfill.queues.max_depth IS 'Enqueueing fails with SQLSTATE JB001 while max_depth jobs wait or run; NULL: no limit.';
COMMENT ON COLUMN backfill.queues.oldest_ready_at IS 'run_at of the ready job that has waited longest.';

CREATE VIEW backfill.workers AS
SELECT w.pid,
       w.kind,
       r.rolname AS role,
       w.state,
       w.job_id,
       w.task_identifier,
       w.attempt,
       w.state_since,
       w.started_at,
       w.jobs_done,
       w.jobs_failed,
       w.progress,
       w.progress_message
  FROM backfill._workers() w
  LEFT JOIN pg_catalog.pg_roles r ON r.oid = w.role_oid;
COMMENT ON VIEW backfill.workers IS 'The background workers of this database and what they do now.';
COMMENT ON COLUMN backfill.workers.state_since IS 'While a job runs: when it began.';
COMMENT ON COLUMN backfill.workers.progress IS 'Of the running job, 0 to 1, as its handler says by set_progress().';
COMMENT ON COLUMN backfill.workers.jobs_done IS 'Jobs that this worker has finished since it started.';

CREATE VIEW backfill.tasks AS
SELECT coalesce(t.task_identifier, j.task_identifier) AS task_identifier,
       CASE WHEN t.task_identifier IS NULL THEN 'unregistered'
            WHEN t.handler_name IS NULL THEN 'external'
            WHEN t.handler_is_procedure THEN 'procedure'
            ELSE 'function' END AS kind,
       h.handler,
       -- Not by to_regprocedure(), which refuses roles that may not use the function's schema.
       CASE WHEN h.handler IS NOT NULL THEN EXISTS (SELECT FROM pg_catalog.pg_proc p
                 JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname = t.handler_schema AND p.proname = t.handler_name
                  AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype) END AS handler_exists,
       t.run_as::text COLLATE "C" AS run_as,
       t.queue_name,
       t.priority,
       t.max_attempts,
       t.retry_policy,
       t.timeout,
       t.notify_channel,
       coalesce(j.jobs, 0) AS jobs,
       t.registered_at,
       t.keep_history,
       t.savepoint_per_job
  FROM backfill.task t
  FULL JOIN (SELECT k.task_identifier, pg_catalog.count(*) AS jobs FROM backfill.job k GROUP BY k.task_identifier) j
    ON j.task_identifier = t.task_identifier
 CROSS JOIN LATERAL (
     SELECT CASE WHEN t.handler_name IS NOT NULL THEN
                pg_catalog.format('%I.%I(%s)', t.handler_schema, t.handler_name,
                                  pg_catalog.array_to_string(t.handler_argtypes, ', ')) END AS handler) h;
COMMENT ON VIEW backfill.tasks IS 'Registered tasks, and unregistered ones that have jobs.';
COMMENT ON COLUMN backfill.tasks.kind IS 'function (the server runs it), procedure (the server runs it; it may commit), external (consumers claim its jobs), unregistered (jobs wait until the task is registered or a consumer claims them)';
COMMENT ON COLUMN backfill.tasks.handler_exists IS 'false: the function was dropped or changed; its jobs go to the dead letter queue until it is back. NULL: the task has none.';
COMMENT ON COLUMN backfill.tasks.run_as IS 'The role that jobs run as. "(missing)": it does not exist (any more); a new role of that name is another one. Register the task again.';
COMMENT ON COLUMN backfill.tasks.keep_history IS 'How long ended jobs stay in backfill.history; NULL: not at all.';
COMMENT ON COLUMN backfill.tasks.savepoint_per_job IS 'Each job runs in a savepoint of its own; false: executors decide (backfill.savepoint_per_job).';
COMMENT ON COLUMN backfill.tasks.jobs IS 'Jobs of the task that wait or run now.';

CREATE VIEW backfill.dlq AS
SELECT d.id,
       d.original_job_id,
       d.task_identifier,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.payload END AS payload,
       d.queue_name,
       d.priority,
       d.job_key,
       d.max_attempts,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.failure_reason END AS failure_reason,
       d.failure_count,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.last_error
            WHEN d.last_error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', d.last_error -> 'sqlstate') END AS last_error,
       d.original_created_at,
       d.original_run_at,
       d.failed_at,
       d.requeued_count,
       d.last_requeued_at,
       d.notes,
       CASE WHEN pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN d.headers END AS headers
  FROM backfill.dead_letter d;
COMMENT ON VIEW backfill.dlq IS 'The dead letter queue: jobs that failed for good.';
COMMENT ON COLUMN backfill.dlq.headers IS 'What the job carried besides its payload; it does again when it is requeued. NULL for roles that may not read payloads (monitors).';
COMMENT ON COLUMN backfill.dlq.original_run_at IS 'When the last run was due, so after retries not the first.';
COMMENT ON COLUMN backfill.dlq.last_error IS 'sqlstate, message, detail, hint and context of the last error; only sqlstate for roles that may not read payloads (monitors), and no failure_reason';

CREATE VIEW backfill.retry_policies AS
SELECT p.policy_name, p.max_attempts, p.initial_delay, p.max_delay, p.multiplier, p.jitter_factor, p.preset
  FROM backfill._retry_policies() p;
COMMENT ON VIEW backfill.retry_policies IS 'Retry policies: the presets and those set with set_retry_policy().';
COMMENT ON COLUMN backfill.retry_policies.preset IS 'true for a built-in policy that was not changed';
-- Metrics: counters from shared memory, gauges from the tables, as rows and as text for
-- Prometheus.

CREATE FUNCTION backfill._counters(
    OUT name text,
    OUT labels jsonb,
    OUT value double precision,
    OUT sum double precision,
    OUT bucket_bounds double precision[],
    OUT bucket_counts bigint[])
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_counters';
COMMENT ON FUNCTION backfill._counters() IS
    'The counters and histograms of metrics() for this database, from shared memory; no rows if there is none.';

CREATE FUNCTION backfill._metric_catalogue(OUT "position" integer, OUT name text, OUT kind text, OUT help text)
RETURNS SETOF record LANGUAGE c STRICT STABLE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'backfill_metric_catalogue';
COMMENT ON FUNCTION backfill._metric_catalogue() IS 'Every metric that there is, in the order of metrics().';

-- Gauges. A queue or task beyond the number of label sets is shown as "other", as with counters;
-- the longest queues and dead letter queues keep their names.
CREATE FUNCTION backfill._queue_gauges(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.name, v.labels, v.value
      FROM (SELECT CASE WHEN r.rank <= coalesce(pg_catalog.current_setting('backfill.metrics_max_label_sets', true)::bigint, 1000)
                        THEN r.queue_name ELSE 'other' END AS queue_name,
                   pg_catalog.bool_and(r.paused) AS paused, pg_catalog.sum(r.ready) AS ready, pg_catalog.sum(r.scheduled) AS scheduled, pg_catalog.sum(r.active) AS active
              FROM (SELECT n.queue_name, coalesce(c.paused, false) AS paused, coalesce(j.ready, 0) AS ready, coalesce(j.scheduled, 0) AS scheduled, coalesce(j.active, 0) AS active,
                           pg_catalog.row_number() OVER (ORDER BY coalesce(j.total, 0) DESC, n.queue_name) AS rank
                      FROM (SELECT b.queue_name, pg_catalog.bool_or(b.paused) AS paused
                              FROM (SELECT 'fast' COLLATE "C" AS queue_name, false AS paused UNION ALL SELECT 'bulk', false
                                    UNION ALL SELECT q.queue_name, q.paused FROM backfill.queue q) b
                             GROUP BY b.queue_name) c
                      FULL JOIN (SELECT a.queue_name, pg_catalog.count(*) AS total,
                                        pg_catalog.count(*) FILTER (WHERE NOT a.active AND a.due) AS ready,
                                        pg_catalog.count(*) FILTER (WHERE NOT a.active AND NOT a.due) AS scheduled,
                                        pg_catalog.count(*) FILTER (WHERE a.active) AS active
                                   FROM (SELECT coalesce(b.queue_name, '') AS queue_name,
                                                b.run_at <= backfill._now() AS due,
                                                coalesce(b.lease_expires_at > backfill._now(), false)
                                                    OR backfill._claimed(b.ctid, b.xmax) AS active
                                           FROM backfill.job b) a
                                  GROUP BY a.queue_name) j
                        ON j.queue_name = c.queue_name
                     CROSS JOIN LATERAL (SELECT coalesce(c.queue_name, j.queue_name) AS queue_name) n) r
             GROUP BY 1) g
     CROSS JOIN LATERAL (VALUES
           ('backfill_queue_depth', pg_catalog.jsonb_build_object('queue', g.queue_name, 'state', 'ready'), g.ready::double precision),
           ('backfill_queue_depth', pg_catalog.jsonb_build_object('queue', g.queue_name, 'state', 'scheduled'), g.scheduled::double precision),
           ('backfill_queue_active_jobs', pg_catalog.jsonb_build_object('queue', g.queue_name), g.active::double precision),
           ('backfill_queue_is_paused', pg_catalog.jsonb_build_object('queue', g.queue_name), g.paused::integer::double precision)
           ) AS v (name, labels, value);
END;
COMMENT ON FUNCTION backfill._queue_gauges() IS 'The gauges backfill_queue_... of metrics(). Reads the whole table of jobs.';

CREATE FUNCTION backfill._dlq_gauges(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.name, v.labels, v.value
      FROM (SELECT CASE WHEN r.rank <= coalesce(pg_catalog.current_setting('backfill.metrics_max_label_sets', true)::bigint, 1000)
                        THEN r.task_identifier ELSE 'other' END AS task_identifier,
                   pg_catalog.sum(r.letters) AS letters, pg_catalog.min(r.oldest) AS oldest
              FROM (SELECT n.task_identifier, coalesce(l.letters, 0) AS letters, l.oldest,
                           pg_catalog.row_number() OVER (ORDER BY coalesce(l.letters, 0) DESC, n.task_identifier) AS rank
                      FROM (SELECT t.task_identifier FROM backfill.task t UNION SELECT d.task_identifier FROM backfill.dead_letter d) n
                      LEFT JOIN (SELECT d.task_identifier, pg_catalog.count(*) AS letters, pg_catalog.min(d.failed_at) AS oldest
                                   FROM backfill.dead_letter d GROUP BY d.task_identifier) l
                        ON l.task_identifier = n.task_identifier) r
             GROUP BY 1) g
     CROSS JOIN LATERAL (VALUES
           ('backfill_dlq_size', pg_catalog.jsonb_build_object('task', g.task_identifier), g.letters::double precision),
           ('backfill_dlq_age_seconds', pg_catalog.jsonb_build_object('task', g.task_identifier),
            extract(epoch FROM backfill._now() - g.oldest)::double precision)) AS v (name, labels, value)
     WHERE v.value IS NOT NULL;
END;
COMMENT ON FUNCTION backfill._dlq_gauges() IS 'The gauges backfill_dlq_... of metrics(). Reads the whole table of dead letters.';

CREATE FUNCTION backfill._worker_gauges(OUT name text, OUT labels jsonb, OUT value double precision)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT v.name, pg_catalog.jsonb_build_object('worker_kind', g.kind), v.value
      FROM (SELECT n.kind, pg_catalog.count(w.pid) AS workers,
                   pg_catalog.count(*) FILTER (WHERE w.state = 'busy')::double precision AS busy
              FROM (VALUES ('dispatcher'), ('executor')) AS n (kind)
              LEFT JOIN backfill._workers() w ON w.kind = n.kind
             GROUP BY n.kind) g
     CROSS JOIN LATERAL (VALUES
           ('backfill_worker_active', g.workers::double precision),
           ('backfill_worker_utilization', CASE WHEN g.kind = 'executor' THEN least(g.busy / greatest(
                pg_catalog.current_setting('backfill.max_executors')::integer, 1), 1) END)) AS v (name, value)
     WHERE v.value IS NOT NULL;
END;
COMMENT ON FUNCTION backfill._worker_gauges() IS 'The gauges backfill_worker_... of metrics(), from shared memory.';

CREATE FUNCTION backfill.metrics(
    name_prefix text DEFAULT NULL,
    OUT name text,
    OUT kind text,
    OUT labels jsonb,
    OUT value double precision,
    OUT sum double precision,
    OUT bucket_bounds double precision[],
    OUT bucket_counts bigint[])
RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- What reads a table is not even called if none of its names can begin with the prefix.
    SELECT c.name, c.kind, m.labels, m.value, m.sum, m.bucket_bounds, m.bucket_counts
      FROM (SELECT k.name, k.labels, k.value, k.sum, k.bucket_bounds, k.bucket_counts FROM backfill._counters() k
            UNION ALL
            SELECT q.name, q.labels, q.value, NULL, NULL, NULL FROM backfill._queue_gauges() q
             WHERE pg_catalog.starts_with('backfill_queue_', coalesce(metrics.name_prefix, ''))
                OR pg_catalog.starts_with(metrics.name_prefix, 'backfill_queue_')
            UNION ALL
            SELECT d.name, d.labels, d.value, NULL, NULL, NULL FROM backfill._dlq_gauges() d
             WHERE pg_catalog.starts_with('backfill_dlq_', coalesce(metrics.name_prefix, ''))
                OR pg_catalog.starts_with(metrics.name_prefix, 'backfill_dlq_')
            UNION ALL
            SELECT w.name, w.labels, w.value, NULL, NULL, NULL FROM backfill._worker_gauges() w) m
      JOIN backfill._metric_catalogue() c ON c.name = m.name
     WHERE pg_catalog.starts_with(c.name, coalesce(metrics.name_prefix, ''))
     ORDER BY c."position", m.labels;
END;
COMMENT ON FUNCTION backfill.metrics(text) IS
    'The metrics of this database: counters since the server''s start, histograms (value counts observations; bucket_counts are cumulative) and gauges. name_prefix restricts the names.';

CREATE FUNCTION backfill.prometheus_metrics(name_prefix text DEFAULT NULL)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'backfill_prometheus_metrics';
COMMENT ON FUNCTION backfill.prometheus_metrics(text) IS
    'The rows of metrics() as text in Prometheus'' exposition format 0.0.4; names of counters end in _total there.';

-- Counts deleted letters however they are deleted; TRUNCATE and replicated deletes do not count.
CREATE FUNCTION backfill._letter_deleted()
RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', 'backfill_letter_deleted';
COMMENT ON FUNCTION backfill._letter_deleted() IS 'Counts a deleted dead letter for metrics().';

CREATE TRIGGER letter_deleted AFTER DELETE ON backfill.dead_letter
    FOR EACH ROW EXECUTE FUNCTION backfill._letter_deleted();
-- The dead letter queue as operators use it: look, fix, requeue, delete.

CREATE FUNCTION backfill._requeue(
    job_id bigint,
    dead_letter_id bigint,
    task_identifier text,
    payload jsonb,
    queue_name text,
    priority integer,
    max_attempts integer,
    job_key text,
    retry_policy text,
    timeout_ms integer,
    flags text[],
    headers jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_requeue';
COMMENT ON FUNCTION backfill._requeue(bigint, bigint, text, jsonb, text, integer, integer, text, text, integer, text[], jsonb) IS
    'Insert a job again under its old id; requeue_dlq_job() calls it.';

-- A filter of dead letters: the one place for its meaning.
CREATE FUNCTION backfill._dlq_matches(
    letter backfill.dead_letter,
    task_identifier text,
    queue_name text,
    failed_after timestamptz,
    failed_before timestamptz)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT (_dlq_matches.task_identifier IS NULL OR (letter).task_identifier = _dlq_matches.task_identifier)
       AND (_dlq_matches.queue_name IS NULL OR (letter).queue_name = _dlq_matches.queue_name)
       AND (_dlq_matches.failed_after IS NULL OR (letter).failed_at >= _dlq_matches.failed_after)
       AND (_dlq_matches.failed_before IS NULL OR (letter).failed_at < _dlq_matches.failed_before);
END;
COMMENT ON FUNCTION backfill._dlq_matches(backfill.dead_letter, text, text, timestamptz, timestamptz) IS
    'Whether a dead letter passes the filters of list_dlq_jobs(), requeue_dlq_jobs() and cleanup_dlq(). failed_after is inclusive, failed_before exclusive.';

CREATE FUNCTION backfill.list_dlq_jobs(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    "limit" integer DEFAULT 50,
    "offset" integer DEFAULT 0)
RETURNS TABLE (
    id bigint,
    original_job_id bigint,
    task_identifier text,
    payload jsonb,
    queue_name text,
    priority smallint,
    job_key text,
    max_attempts smallint,
    failure_reason text,
    failure_count integer,
    last_error jsonb,
    original_created_at timestamptz,
    original_run_at timestamptz,
    failed_at timestamptz,
    requeued_count integer,
    last_requeued_at timestamptz,
    notes text,
    headers jsonb,
    total bigint)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.id, d.original_job_id, d.task_identifier, d.payload, d.queue_name, d.priority, d.job_key, d.max_attempts,
           d.failure_reason, d.failure_count, d.last_error, d.original_created_at, d.original_run_at, d.failed_at,
           d.requeued_count, d.last_requeued_at, d.notes, d.headers, pg_catalog.count(*) OVER ()
      FROM backfill.dead_letter d
     WHERE backfill._dlq_matches(d, list_dlq_jobs.task_identifier, list_dlq_jobs.queue_name,
                                 list_dlq_jobs.failed_after, list_dlq_jobs.failed_before)
     ORDER BY d.failed_at DESC, d.id DESC
     LIMIT list_dlq_jobs."limit" OFFSET list_dlq_jobs."offset";
END;
COMMENT ON FUNCTION backfill.list_dlq_jobs(text, text, timestamptz, timestamptz, integer, integer) IS
    'Dead letters, newest first; total is how many match in all. failed_after is inclusive, failed_before exclusive.';

CREATE FUNCTION backfill.get_dlq_job(dlq_id bigint)
RETURNS SETOF backfill.dlq
LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT d.* FROM backfill.dlq d WHERE d.id = get_dlq_job.dlq_id;
END;
COMMENT ON FUNCTION backfill.get_dlq_job(bigint) IS 'One dead letter; no row if there is none with that id.';

CREATE FUNCTION backfill.requeue_dlq_job(dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    SELECT d.* INTO letter FROM backfill.dead_letter d WHERE d.id = requeue_dlq_job.dlq_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dead letter % does not exist', coalesce(dlq_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'See backfill.list_dlq_jobs() for the ids.';
    END IF;
    PERFORM backfill._requeue(letter.original_job_id, letter.id, letter.task_identifier,
                              coalesce(requeue_dlq_job.payload, letter.payload), letter.queue_name, letter.priority,
                              letter.max_attempts, letter.job_key, letter.retry_policy, letter.timeout_ms, letter.flags,
                              letter.headers);
    UPDATE backfill.dead_letter d
       SET requeued_count = d.requeued_count + 1,
           last_requeued_at = backfill._now(),
           payload = coalesce(requeue_dlq_job.payload, d.payload),
           notes = coalesce(requeue_dlq_job.notes, d.notes)
     WHERE d.id = letter.id;
    RETURN letter.original_job_id;
END;
$$;
COMMENT ON FUNCTION backfill.requeue_dlq_job(bigint, jsonb, text) IS
    'Give a dead job its attempts back and run it again under its old id, with a corrected payload if one is given. The letter stays until the job succeeds.';

CREATE FUNCTION backfill.delete_dlq_job(dlq_id bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM backfill.dead_letter d WHERE d.id = delete_dlq_job.dlq_id;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION backfill.delete_dlq_job(bigint) IS 'Delete a dead letter; returns false if there is none with that id.';

CREATE FUNCTION backfill.dlq_stats(
    OUT total_jobs bigint,
    OUT total_failures bigint,
    OUT requeued_jobs bigint,
    OUT oldest_failed_at timestamptz,
    OUT newest_failed_at timestamptz,
    OUT jobs_by_task jsonb,
    OUT jobs_by_queue jsonb)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.count(*),
           coalesce(pg_catalog.sum(d.failure_count), 0),
           pg_catalog.count(*) FILTER (WHERE d.requeued_count > 0),
           pg_catalog.min(d.failed_at),
           pg_catalog.max(d.failed_at),
           coalesce((SELECT pg_catalog.jsonb_object_agg(t.task_identifier, t.n)
                       FROM (SELECT e.task_identifier, pg_catalog.count(*) AS n
                               FROM backfill.dead_letter e GROUP BY e.task_identifier) t), '{}'),
           coalesce((SELECT pg_catalog.jsonb_object_agg(q.queue_name, q.n)
                       FROM (SELECT e.queue_name, pg_catalog.count(*) AS n
                               FROM backfill.dead_letter e WHERE e.queue_name IS NOT NULL GROUP BY e.queue_name) q), '{}')
      FROM backfill.dead_letter d;
END;
COMMENT ON FUNCTION backfill.dlq_stats() IS 'How many dead letters there are, by task and queue, and since when.';

CREATE FUNCTION backfill.requeue_dlq_jobs(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    notes text DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
BEGIN
    FOR letter_id IN
        SELECT d.id FROM backfill.dead_letter d
         WHERE backfill._dlq_matches(d, requeue_dlq_jobs.task_identifier, requeue_dlq_jobs.queue_name,
                                     requeue_dlq_jobs.failed_after, requeue_dlq_jobs.failed_before)
         ORDER BY d.failed_at, d.id
    LOOP
        BEGIN
            RETURN NEXT backfill.requeue_dlq_job(letter_id, notes => requeue_dlq_jobs.notes);
        EXCEPTION WHEN object_not_in_prerequisite_state OR undefined_object THEN
            NULL; -- it is waiting already, or was deleted meanwhile
        END;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.requeue_dlq_jobs(text, text, timestamptz, timestamptz, text) IS
    'Requeue all dead letters that match, the oldest first; returns the ids of the jobs. Letters whose job is waiting already are passed over.';

CREATE FUNCTION backfill.update_dlq_job(dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE backfill.dead_letter d
       SET payload = coalesce(update_dlq_job.payload, d.payload),
           notes = coalesce(update_dlq_job.notes, d.notes)
     WHERE d.id = update_dlq_job.dlq_id;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION backfill.update_dlq_job(bigint, jsonb, text) IS
    'Correct the payload or the notes of a dead letter before it is requeued; false if there is none with that id.';

CREATE FUNCTION backfill.delete_dlq_by_job_key(job_key text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM backfill.dead_letter d WHERE d.job_key = delete_dlq_by_job_key.job_key;
    RETURN FOUND;
END;
$$;
COMMENT ON FUNCTION backfill.delete_dlq_by_job_key(text) IS 'Delete the dead letters with this job_key, of whatever task; false if there is none.';

CREATE FUNCTION backfill.add_to_dlq(job_id bigint, reason text, last_error jsonb DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter bigint := backfill._bury(job_id, reason, last_error);
BEGIN
    IF letter IS NULL THEN
        RAISE EXCEPTION 'job % is not waiting', coalesce(job_id::text, 'NULL')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'It is running, done, or never was; see backfill.jobs.';
    END IF;
    RETURN letter;
END;
$$;
COMMENT ON FUNCTION backfill.add_to_dlq(bigint, text, jsonb) IS 'Move a waiting job to the dead letter queue; returns the letter''s id.';

CREATE FUNCTION backfill.cleanup_dlq(
    older_than interval DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deleted bigint;
BEGIN
    -- A parameter that happens to be NULL must not empty the dead letter queue.
    IF older_than IS NULL AND task_identifier IS NULL AND queue_name IS NULL THEN
        RAISE EXCEPTION 'cleanup_dlq() needs at least one condition that is not null'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'To delete every dead letter, call backfill.cleanup_dlq(older_than => ''0'').';
    END IF;
    IF older_than < '0' THEN
        RAISE EXCEPTION 'older_than must not be negative: %', older_than
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM backfill.dead_letter d
     WHERE backfill._dlq_matches(d, cleanup_dlq.task_identifier, cleanup_dlq.queue_name, NULL,
                                 backfill._now() - older_than);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END;
$$;
COMMENT ON FUNCTION backfill.cleanup_dlq(interval, text, text) IS
    'Delete dead letters that failed longer ago than this (NULL: whenever) and match; returns how many.';

CREATE FUNCTION backfill._apply_dlq_retention(max_letters bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    retention interval := pg_catalog.current_setting('backfill.dlq_retention', true)::interval;
    deleted bigint := 0;
BEGIN
    IF retention > '0' THEN
        -- Letters that a session is working on are left for the next time.
        DELETE FROM backfill.dead_letter d
         WHERE d.id IN (SELECT l.id FROM backfill.dead_letter l
                         WHERE l.failed_at < backfill._now() - retention
                         LIMIT max_letters
                           FOR UPDATE SKIP LOCKED);
        GET DIAGNOSTICS deleted = ROW_COUNT;
    END IF;
    RETURN deleted;
END;
$$;
COMMENT ON FUNCTION backfill._apply_dlq_retention(bigint) IS 'Delete the dead letters that backfill.dlq_retention no longer keeps, at most max_letters of them.';
-- Control over jobs from outside, and what a handler can say about its own job. What Graphile Worker
-- and the crate have for that is in 87_compatibility.sql.

CREATE FUNCTION backfill._bury(job_id bigint, reason text, last_error jsonb)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_bury';
COMMENT ON FUNCTION backfill._bury(bigint, text, jsonb) IS
    'Move a waiting job to the dead letter queue; returns the letter''s id, NULL if the job does not wait.';

CREATE FUNCTION backfill._builtin_error_rules(OUT id integer, OUT sqlstate text, OUT message_contains text, OUT decision text)
RETURNS SETOF record LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 30 AS 'MODULE_PATHNAME', 'backfill_builtin_error_rules';
COMMENT ON FUNCTION backfill._builtin_error_rules() IS 'The built-in rows of the view backfill.error_rules.';

CREATE VIEW backfill.error_rules AS
SELECT r.id, r.task_identifier, r.sqlstate, r.message_contains, r.decision, false AS builtin FROM backfill.error_rule r
UNION ALL
SELECT b.id, NULL, b.sqlstate, b.message_contains, b.decision, true FROM backfill._builtin_error_rules() b;
COMMENT ON VIEW backfill.error_rules IS 'How errors are classified: the built-in rules, and those in the table backfill.error_rule.';

CREATE FUNCTION backfill.classify_error(sqlstate text DEFAULT NULL, message text DEFAULT NULL, task_identifier text DEFAULT NULL)
RETURNS text LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_classify_error';
COMMENT ON FUNCTION backfill.classify_error(text, text, text) IS
    'What the rules in backfill.error_rules make of an error, by its SQLSTATE or else by its text: permanent, retry or free_retry.';

CREATE FUNCTION backfill.current_job(
    OUT id bigint,
    OUT task_identifier text,
    OUT payload jsonb,
    OUT queue_name text,
    OUT priority smallint,
    OUT run_at timestamptz,
    OUT attempt integer,
    OUT max_attempts integer,
    OUT job_key text,
    OUT last_error jsonb,
    OUT created_at timestamptz,
    OUT headers jsonb)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_current_job';
COMMENT ON FUNCTION backfill.current_job() IS 'The job whose handler calls this; last_error is that of the attempt before.';

CREATE FUNCTION backfill.snooze(delay interval)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_snooze';
COMMENT ON FUNCTION backfill.snooze(interval) IS
    'From a handler: when it returns, keep its effects and run the job again after the delay, which counts as 100 ms if it is shorter; costs no attempt.';

CREATE FUNCTION backfill.discard(reason text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_discard';
COMMENT ON FUNCTION backfill.discard(text) IS
    'From a handler: when it returns, keep its effects and move the job to the dead letter queue.';

CREATE FUNCTION backfill.get_job(job_id bigint)
RETURNS SETOF backfill.jobs
LANGUAGE sql STABLE STRICT PARALLEL RESTRICTED SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT j.* FROM backfill.jobs j WHERE j.id = get_job.job_id;
END;
COMMENT ON FUNCTION backfill.get_job(bigint) IS 'One job that waits or runs; no row if it is done or dead.';

CREATE FUNCTION backfill.cancel_job(job_id bigint)
RETURNS boolean LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_cancel_job';
COMMENT ON FUNCTION backfill.cancel_job(bigint) IS
    'End a job, without a retry or a dead letter: a waiting or leased one is deleted, the worker that runs it is told to stop, at once and not only at the commit. False if there is no such job (any more). Called again after a second, it ends a worker that has not obeyed.';
-- The names of Graphile Worker and of the crate: calls of theirs stay as they are, only the schema
-- changes. The arguments and their order are those of the originals. They act on jobs that wait, and on dead
-- letters; a job that runs or is leased is passed over, never waited for.

-- --- Graphile Worker ---

CREATE FUNCTION backfill.add_job(
    identifier text,
    payload json DEFAULT NULL,
    queue_name text DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    priority integer DEFAULT NULL,
    flags text[] DEFAULT NULL,
    job_key_mode text DEFAULT 'replace')
RETURNS backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_add_job';
COMMENT ON FUNCTION backfill.add_job(text, json, text, timestamptz, integer, text, integer, text[], text) IS
    'Graphile Worker''s add_job: 25 attempts, priority 0, no queue (fully parallel), its backoff. A named queue without limits of its own becomes serial. Returns the job. For its users; see enqueue().';

CREATE TYPE backfill.job_spec AS (
    identifier text,
    payload json,
    queue_name text,
    run_at timestamptz,
    max_attempts smallint,
    job_key text,
    priority smallint,
    flags text[]);
COMMENT ON TYPE backfill.job_spec IS 'A job for add_jobs().';

CREATE FUNCTION backfill._lock_job_keys(job_keys text[])
RETURNS void LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_lock_job_keys';
COMMENT ON FUNCTION backfill._lock_job_keys(text[]) IS 'Keep other producers of these keys away until the end of the transaction.';

-- Of several specifications with one key the last counts.
CREATE FUNCTION backfill.add_jobs(specs backfill.job_spec[], job_key_preserve_run_at boolean DEFAULT false)
RETURNS SETOF backfill.jobs
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    spec record;
BEGIN
    PERFORM backfill._lock_job_keys(ARRAY(SELECT s.job_key FROM pg_catalog.unnest(specs) s WHERE s.job_key IS NOT NULL));
    FOR spec IN
        SELECT l.*
          FROM (SELECT s.*, pg_catalog.max(s.ordinality) OVER (PARTITION BY s.job_key) AS last
                  FROM pg_catalog.unnest(specs) WITH ORDINALITY s) l
         WHERE l.job_key IS NULL OR l.ordinality = l.last
         ORDER BY l.ordinality
    LOOP
        RETURN NEXT backfill.add_job(spec.identifier, spec.payload, spec.queue_name, spec.run_at, spec.max_attempts,
                                     spec.job_key, spec.priority, spec.flags,
                                     CASE WHEN job_key_preserve_run_at THEN 'preserve_run_at' ELSE 'replace' END);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill.add_jobs(backfill.job_spec[], boolean) IS
    'Graphile Worker''s add_jobs: many at once, with job_key_mode replace or preserve_run_at. For its users; see enqueue_jobs().';

CREATE FUNCTION backfill.complete_jobs(job_ids bigint[])
RETURNS SETOF backfill.jobs LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_complete_jobs';
COMMENT ON FUNCTION backfill.complete_jobs(bigint[]) IS
    'Graphile Worker''s complete_jobs: ends waiting and dead jobs without a run. The history and await_job() call that cancelled. Returns them; running and leased jobs are passed over. A consumer completes its jobs with the claim_token.';

CREATE FUNCTION backfill.remove_job(job_key text)
RETURNS SETOF backfill.jobs LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'backfill_remove_job';
COMMENT ON FUNCTION backfill.remove_job(text) IS
    'Graphile Worker''s remove_job: deletes the waiting job with this key and its dead letter, or else keeps the running one from being retried, or else deletes the dead letters with the key. Returns it. Roles that may enqueue the task may call it.';

CREATE FUNCTION backfill.permanently_fail_jobs(job_ids bigint[], error_message text DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_permanently_fail_jobs';
COMMENT ON FUNCTION backfill.permanently_fail_jobs(bigint[], text) IS
    'Graphile Worker''s permanently_fail_jobs: moves waiting jobs to the dead letter queue, and changes the reason of dead ones. Returns them; running and leased jobs are passed over.';

CREATE FUNCTION backfill.fail_jobs(job_ids bigint[], reason text DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_permanently_fail_jobs';
COMMENT ON FUNCTION backfill.fail_jobs(bigint[], text) IS 'The same as permanently_fail_jobs(), and not fail_job() for many: a consumer calls that for a job that it has run.';

CREATE FUNCTION backfill.reschedule_jobs(
    job_ids bigint[],
    run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL,
    attempts integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_reschedule_jobs';
COMMENT ON FUNCTION backfill.reschedule_jobs(bigint[], timestamptz, integer, integer, integer) IS
    'Graphile Worker''s reschedule_jobs: changes when and how waiting and dead jobs run; NULL leaves a value as it is. A dead job has used up its attempts: with some left it waits again; a waiting job with none left is dead. Returns them; running and leased jobs are passed over.';

CREATE FUNCTION backfill.force_unlock_workers(worker_ids text[])
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._take_leases(worker_ids);
END;
$$;
COMMENT ON FUNCTION backfill.force_unlock_workers(text[]) IS
    'Graphile Worker''s force_unlock_workers: ends the leases of these external consumers as if they had run out now. The server''s own workers lock nothing that outlives them.';

-- --- The crate ---

CREATE FUNCTION backfill.init_dlq()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT;
END;
COMMENT ON FUNCTION backfill.init_dlq() IS 'Does nothing: the dead letter queue is part of the extension. For users of the crate.';

-- What can go stale are leases of external consumers.
CREATE FUNCTION backfill.release_stale_job_locks(older_than interval DEFAULT '0')
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._expire_leases(coalesce(release_stale_job_locks.older_than, '0'));
END;
COMMENT ON FUNCTION backfill.release_stale_job_locks(interval) IS
    'End leases that ran out longer ago than this: each costs an attempt, and its job is ready again or dead. Returns how many. The dispatcher does it at once. Also releases the jobs of procedures whose worker is gone.';

CREATE FUNCTION backfill.release_stale_queue_locks(older_than interval DEFAULT '0')
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 0::bigint;
END;
COMMENT ON FUNCTION backfill.release_stale_queue_locks(interval) IS
    'Always 0: a queue''s permits are locks of the running transactions and cannot go stale. For users of the crate.';

CREATE FUNCTION backfill.process_failed_jobs()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.count(backfill._bury(j.id, 'no attempts left', j.last_error))
      FROM backfill.job j WHERE j.attempts >= j.max_attempts; -- leased ones are passed over
END;
COMMENT ON FUNCTION backfill.process_failed_jobs() IS
    'Move waiting jobs that have no attempts left (only an UPDATE by hand can do that to them) to the dead letter queue; returns how many.';

CREATE FUNCTION backfill.cleanup_permanently_failed_jobs()
RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill.process_failed_jobs();
END;
COMMENT ON FUNCTION backfill.cleanup_permanently_failed_jobs() IS
    'The same as process_failed_jobs(): failed jobs never stay among the waiting ones.';

CREATE FUNCTION backfill.startup_cleanup(OUT released_jobs bigint, OUT dead_lettered_jobs bigint, OUT deleted_letters bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    released_jobs := backfill.release_stale_job_locks();
    dead_lettered_jobs := backfill.process_failed_jobs();
    deleted_letters := backfill._apply_dlq_retention();
    DELETE FROM backfill.no_retry n WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = n.job_id);
END;
$$;
COMMENT ON FUNCTION backfill.startup_cleanup() IS
    'All housekeeping at once; the dispatcher does it every backfill.dlq_processor_interval.';
-- Looking in: why a job does not run. It only looks.

CREATE FUNCTION backfill.why_not_running(job_id bigint)
RETURNS text LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_why_not_running';
COMMENT ON FUNCTION backfill.why_not_running(bigint) IS
    'Why a job does not run now, in one line: a code, a colon and the reason with its particulars. The guide to monitoring lists the codes.';
-- What an operator must know: health() has a row for each check, and each check is a function of its
-- own, backfill._health_<check>(). They only look, and only health(), which runs as the owner, may call them.

CREATE FUNCTION backfill._worker_processes()
RETURNS bigint LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
     WHERE a.backend_type <> ALL (ARRAY['client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer',
               'checkpointer', 'archiver', 'startup', 'walreceiver', 'walsender', 'walwriter', 'walsummarizer', 'slotsync worker',
               'io worker', 'logger', 'standalone backend', 'dead-end client backend']);
END;
COMMENT ON FUNCTION backfill._worker_processes() IS 'How many of max_worker_processes are in use, by whatever extension or parallel query.';

CREATE FUNCTION backfill._server_state(
    OUT preloaded boolean,
    OUT library_version text,
    OUT launcher boolean,
    OUT dispatcher boolean,
    OUT listed boolean,
    OUT blocked_by integer,
    OUT no_slot_until timestamptz,
    OUT held_roles oid[],
    OUT other_labels boolean,
    OUT databases integer)
RETURNS record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_server_state';
COMMENT ON FUNCTION backfill._server_state() IS 'What the library and shared memory know of this database; health() shows it.';

CREATE FUNCTION backfill._no_rate_window_at()
RETURNS timestamptz LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_no_rate_window_at';
COMMENT ON FUNCTION backfill._no_rate_window_at() IS 'When a queue with a rate last found no place where its starts could be counted; NULL: never.';

CREATE FUNCTION backfill._set_aside(
    OUT kind text,
    OUT id bigint,
    OUT name text,
    OUT failures integer,
    OUT since timestamptz,
    OUT retry_at timestamptz,
    OUT sqlstate text,
    OUT message text)
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 10 AS 'MODULE_PATHNAME', 'backfill_set_aside';
COMMENT ON FUNCTION backfill._set_aside() IS
    'What has failed in this database for reasons of the server''s and is tried again later: jobs, leases, charges and the like, from shared memory. health() shows it.';

-- The text of an error may quote a payload. The caller is not the current user, because health() runs as its owner.
CREATE FUNCTION backfill._caller_may_read_jobs()
RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.has_table_privilege(CASE WHEN pg_catalog.current_setting('role') = 'none' THEN SESSION_USER
                                               ELSE pg_catalog.current_setting('role')::name END, 'backfill.job', 'SELECT');
END;
COMMENT ON FUNCTION backfill._caller_may_read_jobs() IS 'Whether the role that this session acts as may read payloads, and so texts of errors.';

-- The first five of many names, as a line of text.
CREATE FUNCTION backfill._listing(names text[])
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.array_to_string(_listing.names[1:5], ', ')
        || CASE WHEN pg_catalog.cardinality(_listing.names) > 5
                THEN pg_catalog.format(' and %s more', pg_catalog.cardinality(_listing.names) - 5) ELSE '' END;
END;
COMMENT ON FUNCTION backfill._listing(text[]) IS 'The first five of many names, and how many more there are.';

-- Whose snapshots keep vacuum from removing the dead rows of backfill.job; the oldest first.
CREATE FUNCTION backfill._vacuum_holders(OUT holder text, OUT xmin_age integer, OUT since timestamptz)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL UNSAFE ROWS 10 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT h.holder, pg_catalog.age(h.xmin), h.since
      FROM (SELECT CASE WHEN a.backend_type = 'walsender' THEN pg_catalog.format('standby %s (hot_standby_feedback, walsender %s)', a.application_name, a.pid)
                        ELSE pg_catalog.format('%s %s, user %s, %s', a.backend_type, a.pid, coalesce(a.usename, '?'), coalesce(a.state, 'active')) END AS holder,
                   a.backend_xmin AS xmin, a.xact_start AS since
              FROM pg_catalog.pg_stat_activity a
             WHERE a.backend_xmin IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
               AND (a.datname = pg_catalog.current_database() OR a.backend_type = 'walsender')
               AND a.backend_type <> 'autovacuum worker'
            UNION ALL
            SELECT pg_catalog.format('%s %s, user %s, %s', a.backend_type, a.pid, coalesce(a.usename, '?'), coalesce(a.state, 'active')), a.backend_xid, a.xact_start
              FROM pg_catalog.pg_stat_activity a
             WHERE a.backend_xid IS NOT NULL AND a.backend_xmin IS NULL AND a.pid <> pg_catalog.pg_backend_pid()
               AND a.datname = pg_catalog.current_database()
            UNION ALL
            SELECT pg_catalog.format('replication slot %s (%s)', s.slot_name, CASE WHEN s.active THEN 'active' ELSE 'not in use' END), s.xmin, NULL
              FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL
            UNION ALL
            SELECT pg_catalog.format('prepared transaction %s of %s', p.gid, p.owner), p.transaction, p.prepared
              FROM pg_catalog.pg_prepared_xacts p WHERE p.database = pg_catalog.current_database()) h
     ORDER BY pg_catalog.age(h.xmin) DESC;
END;
COMMENT ON FUNCTION backfill._vacuum_holders() IS
    'Processes, standbys, replication slots and prepared transactions whose snapshots keep vacuum from removing dead rows of backfill.job, the oldest first.';

CREATE FUNCTION backfill._health_preloaded(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'preloaded'; status := 'ok';
    IF NOT server.preloaded THEN
        status := 'critical';
        detail := 'backfill is not in shared_preload_libraries: the server does not run jobs';
        hint := 'Add it and restart the server, or run jobs with CALL backfill.process_available_jobs().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_preloaded() IS 'A check of health(): whether the library is preloaded.';

CREATE FUNCTION backfill._health_version(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    seen record;
BEGIN
    check_name := 'version'; status := 'ok';
    SELECT e.extversion INTO seen FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill';
    detail := pg_catalog.format('library %s, extension %s', server.library_version, seen.extversion);
    IF seen.extversion <> server.library_version THEN
        status := 'critical';
        hint := 'Run ALTER EXTENSION backfill UPDATE, or restart the server if its library is the older one.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_version() IS 'A check of health(): whether the library and the SQL objects are of one version.';

CREATE FUNCTION backfill._health_launcher(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'launcher'; status := 'ok';
    IF pg_catalog.pg_is_in_recovery() THEN
        detail := 'a standby: jobs run on the primary';
    ELSIF server.preloaded AND NOT server.launcher THEN
        status := 'critical'; detail := 'the launcher does not run'; hint := 'See the server''s log.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_launcher() IS 'A check of health(): whether the launcher runs.';

CREATE FUNCTION backfill._health_dispatcher(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    slow record;
BEGIN
    check_name := 'dispatcher'; status := 'ok';
    IF NOT server.preloaded OR pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    ELSIF server.dispatcher THEN
        SELECT a.pid, a.state_change, a.wait_event_type, a.wait_event INTO slow
          FROM pg_catalog.pg_stat_activity a
         WHERE a.backend_type = 'backfill dispatcher' AND a.datname = pg_catalog.current_database()
           AND a.state = 'active' AND a.state_change < pg_catalog.clock_timestamp() - interval '10 seconds';
        IF FOUND THEN
            status := 'warning';
            detail := pg_catalog.format('process %s has been looking for work since %s and waits for %s', slow.pid, slow.state_change,
                                        coalesce(slow.wait_event_type || ' ' || slow.wait_event, 'nothing'));
            hint := 'Meanwhile no executor is started, and no lease is ended: see pg_stat_activity for the process.';
        END IF;
        RETURN;
    END IF;
    status := 'critical';
    IF NOT server.listed THEN
        detail := 'backfill.databases does not name this database';
        hint := 'Name it, or "*", and reload the configuration.';
    ELSIF server.blocked_by IS NOT NULL THEN
        detail := pg_catalog.format('process %s has ended the workers of this database for the time of its command', server.blocked_by);
    ELSE
        detail := 'no dispatcher runs in this database';
        hint := 'See the server''s log; it needs a place in max_worker_processes, and one of the 256 that there are for databases.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_dispatcher() IS 'A check of health(): whether this database has a dispatcher.';

CREATE FUNCTION backfill._health_executors(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    max_executors constant integer := coalesce(pg_catalog.current_setting('backfill.max_executors', true)::integer, 0);
    executors integer;
    busy integer;
BEGIN
    check_name := 'executors'; status := 'ok';
    SELECT pg_catalog.count(*), pg_catalog.count(w.job_id) INTO executors, busy FROM backfill._workers() w WHERE w.kind = 'executor';
    detail := pg_catalog.format('%s of at most %s, %s with a job', executors, max_executors, busy);
    IF max_executors = 0 AND server.preloaded THEN
        status := 'warning'; hint := 'Set backfill.max_executors, or run jobs with CALL backfill.process_available_jobs().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_executors() IS 'A check of health(): how many executors there are.';

CREATE FUNCTION backfill._health_worker_slots(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'worker_slots'; status := 'ok';
    detail := pg_catalog.format('%s of %s in use', backfill._worker_processes(), pg_catalog.current_setting('max_worker_processes'));
    IF server.no_slot_until > pg_catalog.clock_timestamp()
       OR server.preloaded AND NOT pg_catalog.pg_is_in_recovery() AND NOT server.dispatcher
          AND backfill._worker_processes() >= pg_catalog.current_setting('max_worker_processes')::integer THEN
        status := 'warning'; detail := detail || ': no executor can be started'; hint := 'Raise max_worker_processes, or lower backfill.max_executors.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_worker_slots() IS 'A check of health(): whether the server has room for background workers.';

CREATE FUNCTION backfill._health_oldest_ready_job(max_wait interval, OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    seen record;
BEGIN
    check_name := 'oldest_ready_job'; status := 'ok'; detail := 'no job is ready';
    SELECT j.id, j.run_at, now - j.run_at > max_wait AS late INTO seen
      FROM backfill.job j
     WHERE j.run_at <= now AND j.lease_expires_at IS NULL
       AND j.queue_name NOT IN (SELECT q.queue_name FROM backfill.queue q WHERE q.paused)
       AND j.task_identifier IN (SELECT t.task_identifier FROM backfill.task t)
       AND NOT backfill._claimed(j.ctid, j.xmax)
     ORDER BY j.run_at, j.id LIMIT 1;
    IF FOUND THEN
        detail := pg_catalog.format('job %s since %s', seen.id, seen.run_at);
        IF seen.late THEN
            status := 'warning';
            detail := detail || '; ' || coalesce(backfill.why_not_running(seen.id), '');
            hint := 'backfill.why_not_running(id) says why a job waits.';
        END IF;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_oldest_ready_job(interval) IS 'A check of health(): the job that has been ready for longest.';

CREATE FUNCTION backfill._health_unregistered_tasks(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'unregistered_tasks'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s (%s)', j.task_identifier, j.jobs) ORDER BY j.jobs DESC, j.task_identifier) AS names INTO seen
      FROM (SELECT k.task_identifier, pg_catalog.count(*) AS jobs FROM backfill.job k GROUP BY k.task_identifier) j
     WHERE j.task_identifier NOT IN (SELECT t.task_identifier FROM backfill.task t);
    IF seen.names IS NOT NULL THEN
        status := 'warning';
        detail := 'jobs wait for tasks that are not registered: ' || backfill._listing(seen.names);
        hint := 'Call backfill.register_task(), or claim them by naming the task to claim_jobs().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_unregistered_tasks() IS 'A check of health(): jobs whose tasks are not registered.';

CREATE FUNCTION backfill._owner_is_trusted(owner oid, run_as oid)
RETURNS boolean LANGUAGE c STRICT STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'backfill_owner_is_trusted';
COMMENT ON FUNCTION backfill._owner_is_trusted(oid, oid) IS
    'Whether the owner of a function may act as the role that the function runs as, or owns the extension.';

-- The functions that run as a role of ours: what keeps them from running, and which other role could use that role's rights by them.
CREATE FUNCTION backfill._functions(OUT kind text, OUT problem text, OUT foreign_owner text)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.kind,
           CASE WHEN p.oid IS NULL THEN pg_catalog.format('%s: %I.%I does not exist', f.name, f.schema, f.function)
                WHEN r.oid IS NULL THEN CASE WHEN f.kind = 'hook' THEN pg_catalog.format('%s: role %s', f.name, f.run_as) END
                WHEN NOT (pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE') AND pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE'))
                THEN pg_catalog.format('%s: role %I may not execute %I.%I', f.name, r.rolname, f.schema, f.function)
                WHEN NOT o.trusted AND p.proowner IS DISTINCT FROM backfill._role_oid(f.owner)
                THEN pg_catalog.format('%s: %I.%I belongs to role %I now, which may not act as role %I', f.name, f.schema, f.function,
                                       pg_catalog.pg_get_userbyid(p.proowner), r.rolname) END,
           CASE WHEN NOT o.trusted
                THEN pg_catalog.format('%s: role %I owns %I.%I, which runs as role %I', f.name, pg_catalog.pg_get_userbyid(p.proowner),
                                       f.schema, f.function, r.rolname) END
      FROM (SELECT 'task' AS kind, t.task_identifier AS name, t.handler_schema AS schema, t.handler_name AS function,
                   t.run_as, t.handler_owner AS owner
              FROM backfill.task t WHERE t.handler_name IS NOT NULL
            UNION ALL
            SELECT 'hook', h.event, h.function_schema, h.function_name, h.run_as, h.function_owner FROM backfill.hook h) f
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = backfill._role_oid(f.run_as)
      LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = f.schema
      LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = f.function
            AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype
     CROSS JOIN LATERAL (SELECT coalesce(backfill._owner_is_trusted(p.proowner, r.oid), true) AS trusted) o;
END;
COMMENT ON FUNCTION backfill._functions() IS 'Handlers and hooks: why they cannot run, and owners that may not act as the role that they run as.';

CREATE FUNCTION backfill._health_handlers(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'handlers'; status := 'ok';
    names := ARRAY(SELECT f.problem FROM backfill._functions() f WHERE f.kind = 'task' AND f.problem IS NOT NULL ORDER BY 1);
    IF names <> '{}' THEN
        status := 'critical';
        detail := backfill._listing(names);
        hint := 'Jobs of these tasks become dead letters. Create the function again, grant EXECUTE, or register the task anew.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_handlers() IS 'A check of health(): handlers that are gone, that their roles may not execute, or that have got another owner.';

CREATE FUNCTION backfill._health_hooks(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'hooks'; status := 'ok';
    names := ARRAY(SELECT f.problem FROM backfill._functions() f WHERE f.kind = 'hook' AND f.problem IS NOT NULL ORDER BY 1);
    IF names <> '{}' THEN
        status := 'critical';
        detail := backfill._listing(names);
        hint := 'Jobs about which a deciding hook decides fail now. Repair the function, register the hook again, or call backfill.unregister_hook().';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_hooks() IS 'A check of health(): hooks that cannot run.';

CREATE FUNCTION backfill._health_function_owners(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'function_owners'; status := 'ok';
    names := ARRAY(SELECT f.foreign_owner FROM backfill._functions() f WHERE f.problem IS NULL AND f.foreign_owner IS NOT NULL ORDER BY 1);
    IF names <> '{}' THEN
        status := 'warning';
        detail := backfill._listing(names);
        hint := 'The owner of a function can replace it, and use the rights of the role that it runs as. Give it to that role, or to one that may act as it.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_function_owners() IS 'A check of health(): handlers and hooks whose owners could use the rights of another role by them.';

CREATE FUNCTION backfill._login_problem(role_oid oid)
RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE WHEN NOT r.rolcanlogin AND pg_catalog.current_setting('server_version_num')::integer < 170000 THEN 'has no LOGIN'
                WHEN NOT pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
                THEN 'may not CONNECT to the database' END
      FROM pg_catalog.pg_roles r WHERE r.oid = _login_problem.role_oid;
END;
COMMENT ON FUNCTION backfill._login_problem(oid) IS
    'Why no executor can log in as a role, as far as the catalogs tell; NULL: they tell of nothing. health() and why_not_running() call it.';

CREATE FUNCTION backfill._health_roles(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
    seen record;
BEGIN
    check_name := 'roles'; status := 'ok';
    SELECT pg_catalog.array_agg(DISTINCT c.problem) AS names INTO seen
      FROM (SELECT CASE WHEN r.oid IS NULL THEN t.run_as::text
                        WHEN backfill._login_problem(r.oid) IS NOT NULL THEN pg_catalog.format('%s %s', t.run_as, backfill._login_problem(r.oid))
                        WHEN r.oid = ANY (server.held_roles) THEN pg_catalog.format('%s: an executor could not log in, see the server''s log', t.run_as) END AS problem
              FROM backfill.task t LEFT JOIN pg_catalog.pg_roles r ON r.oid = backfill._role_oid(t.run_as)
             WHERE t.handler_name IS NOT NULL) c
     WHERE c.problem IS NOT NULL;
    IF seen.names IS NOT NULL THEN
        status := 'critical';
        detail := 'no executor can log in as the roles of some tasks: ' || backfill._listing(seen.names);
        hint := 'Give the role what it lacks, or register its tasks with another run_as. If it was missing or dropped and is there again, register them again.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_roles() IS 'A check of health(): roles of tasks that executors cannot log in as.';

CREATE FUNCTION backfill._health_producers(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    names text[];
BEGIN
    check_name := 'producers'; status := 'ok';
    names := ARRAY(SELECT DISTINCT r.rolname::text
                     FROM pg_catalog.pg_proc p CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) a JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
                    WHERE p.pronamespace = 'backfill'::pg_catalog.regnamespace AND p.proname = 'enqueue'
                      AND NOT pg_catalog.pg_has_role(r.oid, p.proowner, 'USAGE')
                      AND NOT EXISTS (SELECT FROM backfill.producer g JOIN pg_catalog.pg_roles h ON h.oid = backfill._role_oid(g.role_name)
                                       WHERE pg_catalog.pg_has_role(r.oid, h.oid, 'USAGE'))
                    ORDER BY 1);
    IF names <> '{}' THEN
        status := 'warning';
        detail := 'roles with EXECUTE on backfill.enqueue() that may enqueue no task: ' || backfill._listing(names);
        hint := 'Call backfill.grant_producer() for them, or revoke EXECUTE.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_producers() IS 'A check of health(): roles that can call backfill.enqueue(), but that grant_producer() allows nothing.';

CREATE FUNCTION backfill._health_dead_letters(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'dead_letters'; status := 'ok';
    SELECT pg_catalog.sum(d.letters) AS letters, pg_catalog.min(d.oldest) AS oldest, pg_catalog.max(d.newest) AS newest,
           pg_catalog.array_agg(pg_catalog.format('%s (%s)', d.task_identifier, d.letters) ORDER BY d.letters DESC, d.task_identifier) AS names INTO seen
      FROM (SELECT l.task_identifier, pg_catalog.count(*) AS letters, pg_catalog.min(l.failed_at) AS oldest, pg_catalog.max(l.failed_at) AS newest
              FROM backfill.dead_letter l GROUP BY l.task_identifier) d;
    IF seen.letters > 0 THEN
        status := 'warning';
        detail := pg_catalog.format('%s, the oldest since %s, the latest since %s: %s', seen.letters, seen.oldest, seen.newest, backfill._listing(seen.names));
        hint := 'See backfill.dlq; requeue_dlq_job() and delete_dlq_job() settle them.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_dead_letters() IS 'A check of health(): the dead letters.';

CREATE FUNCTION backfill._health_expired_leases(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    seen record;
BEGIN
    check_name := 'expired_leases'; status := 'ok';
    SELECT pg_catalog.count(*) AS leases, pg_catalog.min(j.lease_expires_at) AS oldest INTO seen
      FROM backfill.job j WHERE j.lease_expires_at < now - interval '10 seconds';
    IF seen.leases > 0 AND NOT pg_catalog.pg_is_in_recovery() THEN
        status := 'warning';
        detail := pg_catalog.format('%s ran out, the first at %s, and have not been ended', seen.leases, seen.oldest);
        hint := 'The dispatcher does that: see whether it runs. SELECT backfill.release_stale_job_locks() does it now.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_expired_leases() IS 'A check of health(): leases that ran out and were not ended.';

CREATE FUNCTION backfill._health_paused_queues(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'paused_queues'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s (%s)', q.queue_name, q.jobs) ORDER BY q.jobs DESC, q.queue_name) AS names INTO seen
      FROM (SELECT p.queue_name, pg_catalog.count(*) AS jobs
              FROM backfill.queue p JOIN backfill.job j ON j.queue_name = p.queue_name WHERE p.paused GROUP BY p.queue_name) q;
    IF seen.names IS NOT NULL THEN
        status := 'warning'; detail := 'jobs wait in paused queues: ' || backfill._listing(seen.names); hint := 'backfill.resume_queue() lets them go on.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_paused_queues() IS 'A check of health(): paused queues that have jobs.';

CREATE FUNCTION backfill._health_rate_windows(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missed_at constant timestamptz := backfill._no_rate_window_at();
BEGIN
    check_name := 'rate_windows'; status := 'ok';
    IF missed_at > pg_catalog.clock_timestamp() - interval '1 minute' THEN
        status := 'warning';
        detail := pg_catalog.format('at %s a queue with a rate found that as many others as the server can count had started jobs within their periods; its jobs wait', missed_at);
        hint := 'The server, all its databases together, counts the starts of 1024 such queues at a time. Shorten their rate_period, or limit fewer of them.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_rate_windows() IS 'A check of health(): whether the starts of all queues with a rate can be counted.';

-- Any producer can name any priority. Each look for a job takes a step for every range.
CREATE FUNCTION backfill._health_ranges(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'ranges'; status := 'ok';
    WITH RECURSIVE range AS (
        (SELECT j.task_identifier, j.priority FROM backfill.job j
          WHERE j.lease_expires_at IS NULL ORDER BY j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.* FROM range r CROSS JOIN LATERAL (
            SELECT j.task_identifier, j.priority FROM backfill.job j
             WHERE j.lease_expires_at IS NULL AND (j.task_identifier, j.priority) > (r.task_identifier, r.priority)
             ORDER BY j.task_identifier, j.priority LIMIT 1) n)
    SELECT pg_catalog.sum(t.ranges) AS ranges, pg_catalog.array_agg(pg_catalog.format('%s (%s)', t.task_identifier, t.ranges) ORDER BY t.ranges DESC, t.task_identifier) AS names
      INTO seen
      FROM (SELECT f.task_identifier, pg_catalog.count(*) AS ranges FROM (SELECT r.task_identifier FROM range r LIMIT 1001) f GROUP BY f.task_identifier) t;
    IF seen.ranges > 1000 THEN
        status := 'warning';
        detail := 'jobs wait in more than 1000 combinations of task and priority, and each look for a job goes through all of them: ' || backfill._listing(seen.names);
        hint := 'Use fewer priorities: one for each row or customer is too many. Any producer can name them; backfill.jobs shows which.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_ranges() IS 'A check of health(): whether jobs wait at too many priorities, so that looking for them takes long.';

CREATE FUNCTION backfill._pg_cron_job(OUT home text, OUT installed boolean, OUT id bigint, OUT active boolean, OUT schedule text, OUT status text, OUT message text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    its_schema constant name := (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname = 'cron' AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'));
BEGIN
    -- Not current_setting(): the configuration may have it although the server does not load pg_cron.
    home := (SELECT s.setting FROM pg_catalog.pg_settings s WHERE s.name = 'cron.database_name');
    installed := EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron');
    IF home = pg_catalog.current_database() AND installed AND its_schema IS NOT NULL THEN
        -- By the owner of the extension, as which this runs: others may have jobs that call cron_tick(), too.
        EXECUTE pg_catalog.format($query$SELECT j.jobid, j.active, j.schedule, d.status, d.return_message
                         FROM %1$I.job j
                         LEFT JOIN LATERAL (SELECT r.status, r.return_message FROM %1$I.job_run_details r
                                             WHERE r.jobid = j.jobid ORDER BY r.runid DESC LIMIT 1) d ON true
                        WHERE j.jobname = 'backfill.cron_tick()' AND j.command = 'SELECT backfill.cron_tick()'
                          AND j.database = pg_catalog.current_database() AND j.username = CURRENT_USER
                        ORDER BY j.jobid LIMIT 1$query$, its_schema) INTO id, active, schedule, status, message;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._pg_cron_job() IS
    'The job of pg_cron that calls backfill.cron_tick() in this database, and how its last run went; the database that pg_cron lives in, and whether the extension is here.';

-- Also called by schedule(), whose caller wants to know at once.
CREATE FUNCTION backfill._clock_problem(OUT clock text, OUT problem text, OUT hint text, OUT stands_in boolean)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    setting constant text := coalesce(pg_catalog.current_setting('backfill.cron_clock', true), 'auto');
    server constant record := backfill._server_state();
    by_worker constant boolean := pg_catalog.current_setting('cron.use_background_workers', true) = 'on';
    login_hint constant text := 'Set cron.use_background_workers to on and restart the server'
        || CASE WHEN setting = 'auto' THEN ', or set backfill.cron_clock to dispatcher.' ELSE '.' END;
    job record;
BEGIN
    clock := setting; stands_in := false;
    IF setting = 'external' THEN
        RETURN;
    END IF;
    SELECT j.* INTO job FROM backfill._pg_cron_job() j WHERE setting <> 'dispatcher';
    IF job.id IS NULL AND setting = 'pg_cron' THEN
        problem := CASE WHEN job.home IS NULL THEN 'the server does not load pg_cron'
                        WHEN job.home <> pg_catalog.current_database() THEN pg_catalog.format('pg_cron runs in database %I only', job.home)
                        WHEN NOT job.installed THEN 'extension pg_cron is not installed in this database'
                        ELSE pg_catalog.format('pg_cron has no job of role %I that calls backfill.cron_tick()', CURRENT_USER) END;
        hint := 'Call backfill.schedule() again for one of the schedules: its error says what is missing. Or set backfill.cron_clock to auto.';
    ELSIF job.id IS NULL THEN
        clock := 'dispatcher';
        IF NOT server.preloaded OR NOT server.listed THEN
            problem := CASE WHEN server.preloaded THEN 'backfill.databases does not name this database, which so has no dispatcher'
                            ELSE 'backfill is not in shared_preload_libraries, so that there is no dispatcher' END;
            hint := 'Let the dispatcher run, or have something else call backfill.cron_tick() every minute and set backfill.cron_clock to external.';
        END IF;
    ELSE
        clock := 'pg_cron';
        -- With auto the dispatcher makes up for pg_cron, unless an operator has paused the clock.
        stands_in := setting = 'auto' AND job.active AND server.dispatcher;
        IF NOT job.active OR job.schedule <> '* * * * *' THEN
            problem := pg_catalog.format('job %s of pg_cron, the clock, %s', job.id,
                                         CASE WHEN job.active THEN pg_catalog.format('runs at "%s" only', job.schedule) ELSE 'is not active' END);
            hint := pg_catalog.format('SELECT cron.alter_job(%s, schedule => ''* * * * *'', active => true) activates it.', job.id);
        ELSIF job.status = 'failed' THEN
            problem := pg_catalog.format('the last run of job %s of pg_cron, the clock, failed%s', job.id,
                                         CASE WHEN backfill._caller_may_read_jobs() THEN ': ' || job.message END);
            hint := CASE WHEN job.message ~ 'connection' AND NOT by_worker THEN 'pg_cron cannot log in. ' || login_hint ELSE 'See cron.job_run_details.' END;
        ELSIF job.status IS NULL AND NOT by_worker AND pg_catalog.current_setting('listen_addresses') = ''
              AND pg_catalog.current_setting('cron.host', true) !~ '^(/|$)' THEN
            problem := pg_catalog.format('pg_cron cannot log in: it connects to %s, where the server does not listen', pg_catalog.current_setting('cron.host', true));
            hint := login_hint;
        END IF;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._clock_problem() IS
    'What ticks for the schedules of this database, as backfill.cron_clock has it; what keeps it from that, and what to do about it (NULL: nothing that is known); whether the dispatcher stands in.';

CREATE FUNCTION backfill._health_schedules(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    last_tick constant timestamptz := (SELECT pg_catalog.max(s.checked_until) FROM backfill.cron_schedule s);
    seen record;
    clock record;
BEGIN
    check_name := 'schedules'; status := 'ok';
    IF last_tick IS NULL OR pg_catalog.pg_is_in_recovery() THEN
        RETURN;
    END IF;
    SELECT c.* INTO clock FROM backfill._clock_problem() c;
    -- The dispatcher ticks when something is due, the others every minute: two minutes may not pass unseen.
    IF clock.problem IS NULL AND clock.clock <> 'dispatcher' AND last_tick < now - interval '100 seconds' THEN
        clock.problem := pg_catalog.format('the clock, %s, has not ticked since %s',
                                           CASE clock.clock WHEN 'external' THEN 'which is external' ELSE clock.clock END, last_tick);
        clock.hint := CASE clock.clock WHEN 'external' THEN 'backfill.cron_clock is external: something must call backfill.cron_tick() every minute.'
                                       ELSE 'pg_cron calls backfill.cron_tick() every minute: see cron.job, cron.job_run_details, and in pg_stat_activity whether its launcher runs.' END;
    END IF;
    SELECT pg_catalog.array_agg(s.problem ORDER BY s.problem) AS names INTO seen
      FROM (SELECT CASE WHEN c.last_error IS NOT NULL THEN pg_catalog.format('%s: the last tick could not enqueue, see last_error in backfill.schedules', c.name)
                        WHEN clock.problem IS NULL AND n.next < now - interval '1 minute'
                        THEN pg_catalog.format('%s: what was due at %s is not enqueued', c.name, n.next) END AS problem
              FROM backfill.cron_schedule c
              LEFT JOIN LATERAL (SELECT backfill._next_run_at(c.cron, c.time_zone, greatest(c.known_since, c.checked_until)) AS next) n ON true) s
     WHERE s.problem IS NOT NULL;
    IF clock.problem IS NOT NULL OR seen.names IS NOT NULL THEN
        status := 'critical';
        detail := pg_catalog.concat_ws('; ', clock.problem, backfill._listing(seen.names));
        hint := coalesce(clock.hint, pg_catalog.format('The clock is %s. A session may have locked the schedule: see the checks dispatcher and set_aside, and pg_locks.', clock.clock));
    ELSE
        detail := pg_catalog.format('the clock is %s', clock.clock);
    END IF;
    IF clock.problem IS NOT NULL AND clock.stands_in AND seen.names IS NULL THEN
        status := 'warning';
        detail := detail || '; meanwhile the dispatcher sees to the schedules, two minutes late';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_schedules() IS 'A check of health(): schedules whose tick failed, or is missing.';

CREATE FUNCTION backfill._health_dead_rows(max_dead_rows bigint, OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'dead_rows'; status := 'ok';
    SELECT pg_catalog.pg_stat_get_dead_tuples('backfill.job'::pg_catalog.regclass) AS dead_rows, v.holder, v.xmin_age, v.since INTO seen
      FROM (SELECT 1) one LEFT JOIN (SELECT * FROM backfill._vacuum_holders() h LIMIT 1) v ON true;
    detail := pg_catalog.format('backfill.job has some %s dead rows', seen.dead_rows);
    IF seen.holder IS NOT NULL THEN
        detail := detail || pg_catalog.format('; the oldest snapshot is that of %s, %s transactions old%s', seen.holder, seen.xmin_age,
                                              ', since ' || seen.since);
    END IF;
    IF seen.dead_rows >= max_dead_rows THEN
        status := 'warning';
        hint := CASE WHEN seen.holder IS NULL THEN 'Nothing holds vacuum back, but it does not keep up: see pg_stat_progress_vacuum and the setting autovacuum.'
                     ELSE 'Vacuum cannot remove rows that died after the oldest snapshot was taken: end its transaction, or drop its slot.' END;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_dead_rows(bigint) IS 'A check of health(): dead rows of backfill.job, and what keeps vacuum from removing them.';

CREATE FUNCTION backfill._health_autovacuum(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    check_name := 'autovacuum'; status := 'ok';
    IF NOT pg_catalog.current_setting('autovacuum')::boolean OR NOT pg_catalog.current_setting('track_counts')::boolean
       OR EXISTS (SELECT FROM pg_catalog.pg_class c, pg_catalog.unnest(c.reloptions) o
                   WHERE c.oid = 'backfill.job'::pg_catalog.regclass AND o IN ('autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0', 'autovacuum_enabled=no')) THEN
        status := 'warning';
        detail := pg_catalog.concat_ws(', ', CASE WHEN NOT pg_catalog.current_setting('autovacuum')::boolean THEN 'autovacuum is off' END,
                                       CASE WHEN NOT pg_catalog.current_setting('track_counts')::boolean THEN 'track_counts is off' END);
        detail := coalesce(nullif(detail, ''), 'autovacuum is turned off for backfill.job');
        hint := 'Every job leaves a dead row; without vacuum backfill.job only grows.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_autovacuum() IS 'A check of health(): whether vacuum looks after backfill.job.';

CREATE FUNCTION backfill._health_metrics_labels(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    server constant record := backfill._server_state();
BEGIN
    check_name := 'metrics_labels'; status := 'ok';
    IF server.other_labels THEN
        status := 'warning';
        detail := 'all places for counters of tasks, queues and priorities are in use, and some of this database are counted as "other"';
        hint := 'Raise backfill.metrics_max_label_sets and restart the server, or use fewer names; delete_queue() and unregister_task() give places back, as do names that count nothing for backfill.metrics_idle_time.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_metrics_labels() IS 'A check of health(): whether tasks and queues have run out of labels.';

-- A job may have been cancelled since.
CREATE FUNCTION backfill._health_set_aside(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    with_texts constant boolean := backfill._caller_may_read_jobs();
    problems text[];
BEGIN
    check_name := 'set_aside'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s %s%s since %s, failed %s times, next try at %s: %s%s', a.kind, a.id, ' (' || a.name || ')',
                                                  a.since, a.failures, a.retry_at, a.sqlstate, CASE WHEN with_texts THEN ' ' || a.message END) ORDER BY a.since, a.kind, a.id) INTO problems
      FROM backfill._set_aside() a
     -- One executor was terminated, perhaps by an operator: that is no trouble. 0: several things together.
     WHERE NOT (a.sqlstate = '57P01' AND a.failures = 1) AND a.id <> 0
       AND (a.kind NOT IN ('job', 'lease', 'claim', 'charge') OR EXISTS (SELECT FROM backfill.job j WHERE j.id = a.id))
       AND (a.kind <> 'schedule' OR EXISTS (SELECT FROM backfill.cron_schedule s WHERE pg_catalog.hashtextextended(s.name, 0) = a.id));
    IF problems IS NOT NULL THEN
        status := 'warning';
        detail := backfill._listing(problems);
        hint := 'Each of them is tried again by itself, and all others go on. What takes long, or has ended a process, waits longer: SELECT pg_reload_conf() has all of them tried at once.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_set_aside() IS 'A check of health(): what cannot be settled now, and is tried again later.';

CREATE FUNCTION backfill._health_triggers(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'triggers'; status := 'ok';
    -- pg_restore --disable-triggers leaves them enabled, but no longer for replication.
    SELECT pg_catalog.array_agg(pg_catalog.format('%s', c.oid::pg_catalog.regclass) ORDER BY c.relname) AS tables,
           pg_catalog.string_agg(pg_catalog.format('ALTER TABLE backfill.%I ENABLE ALWAYS TRIGGER config_changed;', c.relname), ' ' ORDER BY c.relname) AS commands
      INTO seen
      FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'config_changed'
     WHERE c.relnamespace = 'backfill'::pg_catalog.regnamespace
       AND c.relname IN ('task', 'retry_policy', 'queue', 'producer', 'error_rule', 'no_retry', 'hook')
       AND t.tgenabled IS DISTINCT FROM 'A';
    IF seen.tables IS NOT NULL THEN
        status := 'warning';
        detail := 'workers are not told of every change of ' || backfill._listing(seen.tables);
        hint := seen.commands;
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._health_triggers() IS 'A check of health(): whether the triggers that tell of new settings fire always.';

CREATE FUNCTION backfill.health(
    max_wait interval DEFAULT '5 minutes',
    max_dead_rows bigint DEFAULT 100000,
    OUT check_name text,
    OUT status text,
    OUT detail text,
    OUT hint text)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 20 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF max_wait IS NULL OR max_dead_rows IS NULL THEN
        RAISE EXCEPTION '% must not be null', CASE WHEN max_wait IS NULL THEN 'max_wait' ELSE 'max_dead_rows' END
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Leave it out for the default.';
    END IF;
    RETURN QUERY
              SELECT * FROM backfill._health_preloaded()
    UNION ALL SELECT * FROM backfill._health_version()
    UNION ALL SELECT * FROM backfill._health_launcher()
    UNION ALL SELECT * FROM backfill._health_dispatcher()
    UNION ALL SELECT * FROM backfill._health_executors()
    UNION ALL SELECT * FROM backfill._health_worker_slots()
    UNION ALL SELECT * FROM backfill._health_oldest_ready_job(max_wait)
    UNION ALL SELECT * FROM backfill._health_unregistered_tasks()
    UNION ALL SELECT * FROM backfill._health_handlers()
    UNION ALL SELECT * FROM backfill._health_hooks()
    UNION ALL SELECT * FROM backfill._health_function_owners()
    UNION ALL SELECT * FROM backfill._health_roles()
    UNION ALL SELECT * FROM backfill._health_producers()
    UNION ALL SELECT * FROM backfill._health_dead_letters()
    UNION ALL SELECT * FROM backfill._health_expired_leases()
    UNION ALL SELECT * FROM backfill._health_paused_queues()
    UNION ALL SELECT * FROM backfill._health_rate_windows()
    UNION ALL SELECT * FROM backfill._health_ranges()
    UNION ALL SELECT * FROM backfill._health_schedules()
    UNION ALL SELECT * FROM backfill._health_dead_rows(max_dead_rows)
    UNION ALL SELECT * FROM backfill._health_autovacuum()
    UNION ALL SELECT * FROM backfill._health_metrics_labels()
    UNION ALL SELECT * FROM backfill._health_set_aside()
    UNION ALL SELECT * FROM backfill._health_triggers();
END;
$$;
COMMENT ON FUNCTION backfill.health(interval, bigint) IS
    'What an operator must know, a row for each check: status is ok, warning or critical. max_wait: how long a ready job may wait; max_dead_rows: how many dead rows backfill.job may have.';
-- Rights. Nothing is granted to PUBLIC; grant_producer(), grant_consumer(), grant_monitor()
-- and grant_admin() hand out bundles. _bundles is the one place that says what is in which.

CREATE FUNCTION backfill._bundle(bundle text, OUT kind text, OUT object_name text, OUT privilege text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- A procedure or function by name (every overload), a view or a table.
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           p.oid::pg_catalog.regprocedure::text, 'EXECUTE'
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'producer' THEN p.proname = ANY ('{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,add_job,add_jobs,remove_job,_lock_job_keys,current_job,snooze,discard,set_progress,set_result,await_job,priority,priority_band,backoff_delay,version}'::name[])
           WHEN 'consumer' THEN p.oid = 'backfill.complete_jobs(bigint[],bigint)'::pg_catalog.regprocedure
               OR p.proname = ANY ('{claim_jobs,heartbeat,fail_job,snooze_job,release_jobs,wait_for_jobs,process_available_jobs,current_job,snooze,discard,set_progress,set_result,await_job,get_job,priority,priority_band,backoff_delay,version,_workers,_claimed,_now,_queue_limit}'::name[])
           WHEN 'monitor' THEN p.proname = ANY ('{priority,priority_band,backoff_delay,classify_error,version,dlq_stats,cron_next,_next_run_at,metrics,prometheus_metrics,why_not_running,health,_workers,_claimed,_now,_queue_limit,_retry_policies,_builtin_error_rules}'::name[])
           WHEN 'admin' THEN p.proname <> ALL ('{grant_producer,grant_consumer,grant_monitor,grant_admin,_bundle,_grant,_requeue,_bury,_letter_deleted,_dlq_matches,_apply_dlq_retention,_config_changed,_limits_changed,_installed,_cron_tick,_expire_leases,_take_leases,_functions,_owner_is_trusted,_pg_cron_job,_clock_problem,_login_problem,_caller_may_read_jobs}'::name[])
               AND p.proname !~ '^_health_'
           END
    UNION ALL
    SELECT 'TABLE', c.oid::pg_catalog.regclass::text, 'SELECT'
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'consumer' THEN c.relname = ANY ('{jobs,queues,tasks,job}'::name[])
           WHEN 'monitor' THEN c.relkind = 'v'
           WHEN 'admin' THEN c.relkind IN ('v', 'r')
           END;
END;
COMMENT ON FUNCTION backfill._bundle(text) IS 'What the bundles producer, consumer, monitor and admin consist of.';

-- Runs with the caller's rights: only a role that could GRANT by hand can grant by these.
CREATE FUNCTION backfill._grant(role regrole, bundle text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'role must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA backfill TO %s', role);
    FOR item IN SELECT b.kind, b.object_name, b.privilege FROM backfill._bundle(bundle) b LOOP
        EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %s', item.privilege, item.kind, item.object_name, role);
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill._grant(regrole, text) IS 'Grant a bundle of rights to a role.';

CREATE FUNCTION backfill.grant_producer(role regrole, tasks text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text;
BEGIN
    PERFORM backfill._grant(role, 'producer');
    -- A task may be registered later, so that a misspelt name is no error.
    FOR unknown IN
        SELECT g.task FROM pg_catalog.unnest(grant_producer.tasks) g (task)
         WHERE g.task NOT IN (SELECT t.task_identifier FROM backfill.task t) ORDER BY g.task
    LOOP
        RAISE NOTICE 'task "%" is not registered', unknown USING HINT = 'See backfill.tasks for the names.';
    END LOOP;
    DELETE FROM backfill.producer p
     WHERE backfill._role_oid(p.role_name) NOT IN (SELECT r.oid FROM pg_catalog.pg_roles r);
    INSERT INTO backfill.producer AS p (role_name, tasks)
    VALUES (backfill._role_of(role), grant_producer.tasks)
    ON CONFLICT (role_name) WHERE backfill._role_oid(role_name) <> 0 DO UPDATE SET tasks = excluded.tasks;
END;
$$;
COMMENT ON FUNCTION backfill.grant_producer(regrole, text[]) IS
    'Let a role enqueue jobs: of all tasks, or only of the given ones. Granting again replaces the list.';

CREATE FUNCTION backfill.grant_consumer(role regrole)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._grant(grant_consumer.role, 'consumer');
END;
COMMENT ON FUNCTION backfill.grant_consumer(regrole) IS
    'Let a role claim the jobs of external tasks, run those of its own tasks in its own sessions, and see jobs with their payloads.';

CREATE FUNCTION backfill.grant_monitor(role regrole)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._grant(grant_monitor.role, 'monitor');
END;
COMMENT ON FUNCTION backfill.grant_monitor(regrole) IS 'Let a role see every view, without payloads.';

CREATE FUNCTION backfill.grant_admin(role regrole)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._grant(role, 'admin');
    -- A producer of some tasks stays that.
    INSERT INTO backfill.producer (role_name) VALUES (backfill._role_of(role)) ON CONFLICT DO NOTHING;
END;
$$;
COMMENT ON FUNCTION backfill.grant_admin(regrole) IS
    'Let a role register tasks, enqueue all of them (unless grant_producer() has limited it), run, watch, and manage the dead letter queue.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL PROCEDURES IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA backfill FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA backfill FROM PUBLIC;

SELECT backfill._installed();
