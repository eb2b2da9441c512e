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
