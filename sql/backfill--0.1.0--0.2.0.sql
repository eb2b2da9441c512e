/* From 0.1.0 to 0.2.0: whatever CREATE EXTENSION makes of sql/install now and 0.1.0 had not, in the same
 * words; docs/upgrading.md says how. test/t/135_upgrade.pl names what is missing. */
\echo Use "ALTER EXTENSION backfill UPDATE" to load this file. \quit

CREATE FUNCTION backfill._check_library()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted constant text := (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill');
BEGIN
    -- It may be newer: then this script is not the last one of the update.
    IF pg_catalog.string_to_array(backfill.version(), '.')::int[] < pg_catalog.string_to_array(wanted, '.')::int[] THEN
        RAISE EXCEPTION 'the library of backfill that is loaded, %, is older than the scripts, %', backfill.version(), wanted
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Restart the server, so that it loads the library that is installed now. Where it is not preloaded, a new session will do.';
    END IF;
END;
$$;
COMMENT ON FUNCTION backfill._check_library() IS 'Refuses to create or update the extension while the loaded library is older than the script.';
SELECT backfill._check_library();

CREATE FUNCTION backfill._after_upgrade()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner regrole;
    item record;
BEGIN
    SELECT e.extowner INTO owner FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill';
    -- New is what this transaction, or a subtransaction of it, has made a member. A sequence that belongs to a
    -- column gets its owner with the table, so sequences come last.
    FOR item IN
        SELECT i.type, i.identity
          FROM pg_catalog.pg_depend d
         CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
         WHERE d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
           AND d.refobjid = (SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill')
           AND i.type IN ('function', 'procedure', 'table', 'view', 'sequence', 'type')
           -- Row types of tables and array types, which some servers make members, follow what they belong to.
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
                            WHERE d.classid = 'pg_catalog.pg_type'::regclass AND t.oid = d.objid
                              AND (c.relkind <> 'c' OR EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)))
           AND pg_catalog.age(d.xmin) <= pg_catalog.age(pg_catalog.pg_current_xact_id()::xid)
         ORDER BY i.type = 'sequence'
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %s', item.type, item.identity, owner);
        IF item.type <> 'type' THEN
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM PUBLIC',
                                      CASE item.type WHEN 'view' THEN 'table' ELSE item.type END, item.identity);
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION backfill._after_upgrade() IS
    'The end of each script that upgrades: what is new belongs to the owner of the extension, and is closed to PUBLIC, as after CREATE EXTENSION.';

CREATE INDEX dead_letter_error_idx ON backfill.dead_letter (task_identifier, (pg_catalog."left"(coalesce(last_error ->> 'sqlstate', ''), 5)), failed_at, id);

CREATE INDEX job_history_finished_at_idx ON backfill.job_history (finished_at, job_id) WHERE outcome <> 'retried';

CREATE SEQUENCE backfill.audit_log_id_seq;

CREATE TABLE backfill.audit_log (
    id bigint NOT NULL DEFAULT pg_catalog.nextval('backfill.audit_log_id_seq'),
    at timestamptz NOT NULL,
    -- Names, not backfill.role: what was done stays the deed of the role that had the name then.
    actor text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    job_id bigint,
    client_addr inet,
    application_name text,
    objects text[] NOT NULL, -- the first 100 of them
    before jsonb,
    after jsonb
);

ALTER SEQUENCE backfill.audit_log_id_seq OWNED BY backfill.audit_log.id;

COMMENT ON SEQUENCE backfill.audit_log_id_seq IS 'Ids of administrative calls.';

ALTER TABLE backfill.audit_log REPLICA IDENTITY FULL;

CREATE INDEX audit_log_at_idx ON backfill.audit_log (at, id);

COMMENT ON TABLE backfill.audit_log IS
    'Administrative calls; see the view backfill.audit. Only the extension writes to it, and only the owner may change it.';

SELECT pg_catalog.pg_extension_config_dump('backfill.audit_log', '');

SELECT pg_catalog.pg_extension_config_dump('backfill.audit_log_id_seq', '');

CREATE FUNCTION backfill._audit(action text, kind text, objects text[], count bigint, before jsonb, after jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'backfill_audit';

COMMENT ON FUNCTION backfill._audit(text, text, text[], bigint, jsonb, jsonb) IS
    'Note a call of an administrative function; count NULL: as many as objects; nothing is noted of a call that has acted on none.';

CREATE VIEW backfill.audit AS
SELECT l.id,
       l.at,
       l.actor,
       l.role,
       l.application_name,
       l.client_addr,
       l.action,
       l.kind,
       l.objects,
       l.count,
       l.job_id,
       CASE WHEN pg_catalog.has_table_privilege('backfill.audit_log', 'SELECT') THEN l.before END AS before,
       CASE WHEN pg_catalog.has_table_privilege('backfill.audit_log', 'SELECT') THEN l.after END AS after
  FROM backfill.audit_log l;

COMMENT ON VIEW backfill.audit IS 'Which role has done what by administrative calls, also by psql.';

COMMENT ON COLUMN backfill.audit.actor IS 'session_user: the role that logged in.';

COMMENT ON COLUMN backfill.audit.role IS 'The role that acted: current_user of the call, so the one of SET ROLE. Functions for dead letters do not see that they are called by a SECURITY DEFINER function, and name the session''s role.';

COMMENT ON COLUMN backfill.audit.action IS 'The function that was called; of changes to backfill.error_rule: insert, update, delete or truncate.';

COMMENT ON COLUMN backfill.audit.kind IS 'What it acted on: job, dead_letter, queue, task, schedule, hook, retry_policy, error_rule, grant, outbox, node or slot.';

COMMENT ON COLUMN backfill.audit.objects IS 'Ids or names, the first 100 of them.';

COMMENT ON COLUMN backfill.audit.count IS 'How many objects the call has acted on.';

COMMENT ON COLUMN backfill.audit.job_id IS 'The job whose handler made the call; NULL: a session did.';

COMMENT ON COLUMN backfill.audit.before IS 'What was changed or deleted, as it was; NULL for roles that may not read payloads (monitors). Values of more than 4 kB are left out.';

COMMENT ON COLUMN backfill.audit.after IS 'The same as it is now, or what was asked for.';

CREATE FUNCTION backfill.list_audit(
    actor text DEFAULT NULL,
    action text DEFAULT NULL,
    object text DEFAULT NULL,
    after timestamptz DEFAULT NULL,
    before timestamptz DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    place record := backfill._page_place('audit', cursor);
    entry record;
    entries jsonb[] := ARRAY[]::jsonb[];
    looked_at integer := 0;
    last text;
    more boolean := false;
BEGIN
    FOR entry IN
        SELECT a.* FROM backfill.audit a
         WHERE (a.at, a.id) < (coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807))
           AND a.at >= coalesce(list_audit.after, '-infinity') AND a.at < coalesce(list_audit.before, 'infinity')
         ORDER BY a.at DESC, a.id DESC LIMIT 10000
    LOOP
        more := pg_catalog.cardinality(entries) = size;
        EXIT WHEN more;
        looked_at := looked_at + 1;
        last := backfill._page_cursor('audit', entry.at, entry.id, NULL);
        CONTINUE WHEN entry.actor <> list_audit.actor OR entry.action <> list_audit.action
                   OR list_audit.object <> ALL (entry.objects);
        entries := entries || pg_catalog.jsonb_build_object(
            'id', entry.id::text, 'at', entry.at, 'actor', entry.actor, 'role', entry.role,
            'application_name', entry.application_name, 'client_addr', pg_catalog.host(entry.client_addr),
            'action', entry.action, 'kind', entry.kind, 'objects', entry.objects, 'count', entry.count,
            'job_id', entry.job_id::text, 'before', entry.before, 'after', entry.after);
    END LOOP;
    RETURN pg_catalog.jsonb_build_object(
        'entries', pg_catalog.to_jsonb(entries),
        'next', CASE WHEN more OR looked_at = 10000 THEN last END,
        'cut_off', NOT more AND looked_at = 10000);
END;
$$;

COMMENT ON FUNCTION backfill.list_audit(text, text, text, timestamptz, timestamptz, text, integer) IS
    'A page of backfill.audit as JSON, the newest first: {entries, next, cut_off}. after is inclusive, before exclusive; object is an id or a name. Give next as the cursor of the next page; cut_off: 10,000 rows were looked at, and next goes on from there.';

CREATE FUNCTION backfill._audit_error_rules()
RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old_rule jsonb;
    new_rule jsonb;
BEGIN
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        old_rule := pg_catalog.to_jsonb(OLD);
    END IF;
    IF TG_OP IN ('UPDATE', 'INSERT') THEN
        new_rule := pg_catalog.to_jsonb(NEW);
    END IF;
    PERFORM backfill._audit(pg_catalog.lower(TG_OP), 'error_rule',
                            ARRAY[coalesce(new_rule ->> 'id', old_rule ->> 'id')], 1, old_rule, new_rule);
    RETURN NULL;
END;
$$;

COMMENT ON FUNCTION backfill._audit_error_rules() IS 'Notes changes to backfill.error_rule.';

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON backfill.error_rule
    FOR EACH ROW EXECUTE FUNCTION backfill._audit_error_rules();

CREATE TRIGGER audit_truncate AFTER TRUNCATE ON backfill.error_rule
    FOR EACH STATEMENT EXECUTE FUNCTION backfill._audit_error_rules();

CREATE FUNCTION backfill._dlq_change(payload jsonb, notes text, given_payload jsonb, given_notes text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT nullif(CASE WHEN given_payload IS NOT NULL THEN pg_catalog.jsonb_build_object('payload', payload) ELSE '{}' END
                  || CASE WHEN given_notes IS NOT NULL THEN pg_catalog.jsonb_build_object('notes', notes) ELSE '{}' END, '{}');
END;

COMMENT ON FUNCTION backfill._dlq_change(jsonb, text, jsonb, text) IS 'What is noted of a letter: those of its values that a call has given.';

CREATE FUNCTION backfill._dlq_filter(task_identifier text, queue_name text, failed_after timestamptz, failed_before timestamptz, older_than interval, notes text)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT nullif(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'task_identifier', task_identifier, 'queue_name', queue_name, 'failed_after', failed_after,
        'failed_before', failed_before, 'older_than', older_than, 'notes', notes)), '{}');
END;

COMMENT ON FUNCTION backfill._dlq_filter(text, text, timestamptz, timestamptz, interval, text) IS 'What is noted of a call with filters: those that were given.';

CREATE FUNCTION backfill._requeue_letter(dlq_id bigint, payload jsonb, notes text)
RETURNS backfill.dead_letter
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    SELECT d.* INTO letter FROM backfill.dead_letter d WHERE d.id = _requeue_letter.dlq_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dead letter % does not exist', coalesce(dlq_id::text, 'NULL')
            USING ERRCODE = 'undefined_object', HINT = 'See backfill.list_dlq_jobs() for the ids.';
    END IF;
    PERFORM backfill._requeue(letter.original_job_id, letter.id, letter.task_identifier,
                              coalesce(_requeue_letter.payload, letter.payload), letter.queue_name, letter.priority,
                              letter.max_attempts, letter.job_key, letter.retry_policy, letter.timeout_ms, letter.flags,
                              letter.headers);
    UPDATE backfill.dead_letter d
       SET requeued_count = d.requeued_count + 1,
           last_requeued_at = backfill._now(),
           payload = coalesce(_requeue_letter.payload, d.payload),
           notes = coalesce(_requeue_letter.notes, d.notes)
     WHERE d.id = letter.id;
    RETURN letter;
END;
$$;

COMMENT ON FUNCTION backfill._requeue_letter(bigint, jsonb, text) IS 'Requeue a dead letter and return it as it was; the functions that requeue call it.';

CREATE OR REPLACE FUNCTION backfill.requeue_dlq_job(dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter := backfill._requeue_letter(dlq_id, payload, notes);
BEGIN
    PERFORM backfill._audit('requeue_dlq_job', 'dead_letter', ARRAY[letter.id::text], 1,
                            backfill._dlq_change(letter.payload, letter.notes, payload, notes),
                            backfill._dlq_change(payload, notes, payload, notes));
    RETURN letter.original_job_id;
END;
$$;

CREATE FUNCTION backfill._about_letter(letter backfill.dead_letter)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'original_job_id', (letter).original_job_id::text, 'task_identifier', (letter).task_identifier,
        'queue_name', (letter).queue_name, 'job_key', (letter).job_key, 'failed_at', (letter).failed_at,
        'failure_reason', (letter).failure_reason, 'notes', (letter).notes))
        || pg_catalog.jsonb_build_object('payload',
            CASE WHEN pg_catalog.pg_column_size((letter).payload) <= 4096 AND pg_catalog.pg_column_compression((letter).payload) IS NULL THEN (letter).payload
                 ELSE pg_catalog.jsonb_build_object('omitted_bytes', pg_catalog.pg_column_size((letter).payload)) END);
END;

COMMENT ON FUNCTION backfill._about_letter(backfill.dead_letter) IS 'What is noted of a letter that is gone.';

CREATE OR REPLACE FUNCTION backfill.delete_dlq_job(dlq_id bigint)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    DELETE FROM backfill.dead_letter d WHERE d.id = delete_dlq_job.dlq_id RETURNING d.* INTO letter;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM backfill._audit('delete_dlq_job', 'dead_letter', ARRAY[dlq_id::text], 1, backfill._about_letter(letter), NULL);
    RETURN true;
END;
$$;

CREATE OR REPLACE FUNCTION backfill.requeue_dlq_jobs(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    notes text DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- In this order, and the keys of their jobs next and all at once: so no two calls come to wait for each other.
    letter_ids bigint[] := ARRAY(SELECT d.id FROM backfill.dead_letter d
                                  WHERE backfill._dlq_matches(d, requeue_dlq_jobs.task_identifier, requeue_dlq_jobs.queue_name,
                                                              requeue_dlq_jobs.failed_after, requeue_dlq_jobs.failed_before)
                                  ORDER BY d.failed_at, d.id FOR UPDATE);
    letter_id bigint;
    letter backfill.dead_letter;
    letters text[] := ARRAY[]::text[];
    n bigint := 0;
BEGIN
    PERFORM backfill._lock_job_keys(ARRAY(SELECT d.job_key FROM backfill.dead_letter d
                                           WHERE d.id = ANY (letter_ids) AND d.job_key IS NOT NULL));
    FOREACH letter_id IN ARRAY letter_ids LOOP
        BEGIN
            letter := backfill._requeue_letter(letter_id, NULL, requeue_dlq_jobs.notes);
            RETURN NEXT letter.original_job_id;
            n := n + 1;
            IF n <= 100 THEN
                letters := letters || letter_id::text;
            END IF;
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
            NULL; -- its job, or another one with its key, is waiting already
        END;
    END LOOP;
    PERFORM backfill._audit('requeue_dlq_jobs', 'dead_letter', letters, n, NULL,
                            backfill._dlq_filter(task_identifier, queue_name, failed_after, failed_before, NULL, notes));
END;
$$;

CREATE OR REPLACE FUNCTION backfill.update_dlq_job(dlq_id bigint, payload jsonb DEFAULT NULL, notes text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter backfill.dead_letter;
BEGIN
    SELECT d.* INTO letter FROM backfill.dead_letter d WHERE d.id = update_dlq_job.dlq_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE backfill.dead_letter d
       SET payload = coalesce(update_dlq_job.payload, d.payload),
           notes = coalesce(update_dlq_job.notes, d.notes)
     WHERE d.id = update_dlq_job.dlq_id;
    PERFORM backfill._audit('update_dlq_job', 'dead_letter', ARRAY[dlq_id::text], 1,
                            backfill._dlq_change(letter.payload, letter.notes, payload, notes),
                            backfill._dlq_change(payload, notes, payload, notes));
    RETURN true;
END;
$$;

CREATE OR REPLACE FUNCTION backfill.delete_dlq_by_job_key(job_key text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
    letters text[] := ARRAY[]::text[];
BEGIN
    FOR letter_id IN
        DELETE FROM backfill.dead_letter d WHERE d.job_key = delete_dlq_by_job_key.job_key RETURNING d.id
    LOOP
        letters := letters || letter_id::text; -- one of each task
    END LOOP;
    PERFORM backfill._audit('delete_dlq_by_job_key', 'dead_letter', letters, NULL,
                            pg_catalog.jsonb_build_object('job_key', job_key), NULL);
    RETURN pg_catalog.cardinality(letters) > 0;
END;
$$;

CREATE OR REPLACE FUNCTION backfill.add_to_dlq(job_id bigint, reason text, last_error jsonb DEFAULT NULL)
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
    PERFORM backfill._audit('add_to_dlq', 'job', ARRAY[job_id::text], 1, NULL,
                            pg_catalog.jsonb_build_object('dlq_id', letter::text, 'reason', reason, 'last_error', last_error));
    RETURN letter;
END;
$$;

CREATE OR REPLACE FUNCTION backfill.cleanup_dlq(
    older_than interval DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
    letters text[] := ARRAY[]::text[];
    deleted bigint := 0;
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
    FOR letter_id IN
        DELETE FROM backfill.dead_letter d
         WHERE backfill._dlq_matches(d, cleanup_dlq.task_identifier, cleanup_dlq.queue_name, NULL,
                                     backfill._now() - older_than)
        RETURNING d.id
    LOOP
        deleted := deleted + 1;
        IF deleted <= 100 THEN
            letters := letters || letter_id::text;
        END IF;
    END LOOP;
    PERFORM backfill._audit('cleanup_dlq', 'dead_letter', letters, deleted, NULL,
                            backfill._dlq_filter(task_identifier, queue_name, NULL, NULL, older_than, NULL));
    RETURN deleted;
END;
$$;

CREATE FUNCTION backfill._page_count(number bigint, cap bigint, is_complete boolean DEFAULT true)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN pg_catalog.jsonb_build_object('count', least(number, cap), 'capped', number > cap OR NOT is_complete);
END;
$$;
COMMENT ON FUNCTION backfill._page_count(bigint, bigint, boolean) IS
    'A count as pages show it: beyond the cap, or if not all was looked at, it is only known that there are not fewer.';

CREATE FUNCTION backfill._page_size(asked integer)
RETURNS integer LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF asked NOT BETWEEN 1 AND 500 THEN
        RAISE EXCEPTION 'limit is out of range: %', asked
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It must be between 1 and 500.';
    END IF;
    RETURN coalesce(asked, 50);
END;
$$;

COMMENT ON FUNCTION backfill._page_size(integer) IS 'How many things a page has: the limit that the caller gave, or 50.';

CREATE FUNCTION backfill._page_check_max(argument text, number integer)
RETURNS void LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF number IS NULL THEN
        RAISE EXCEPTION '% must not be null', argument
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Say how many at most, between 1 and 10000.';
    ELSIF number NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION '% is out of range: %', argument, number
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'It must be between 1 and 10000.';
    END IF;
END;
$$;

COMMENT ON FUNCTION backfill._page_check_max(text, integer) IS 'Refuses a number of things to act on that is null or out of range.';

CREATE FUNCTION backfill._page_check_word(argument text, word text, words text[])
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF word <> ALL (words) THEN
        RAISE EXCEPTION '% is not valid: "%"', argument, word
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = pg_catalog.format('It must be one of %s.', pg_catalog.array_to_string(words, ', '));
    END IF;
END;
$$;

COMMENT ON FUNCTION backfill._page_check_word(text, text, text[]) IS 'Refuses a word that a filter does not know; NULL is no filter.';

CREATE FUNCTION backfill._page_cursor(list text, at timestamptz, id bigint, name text)
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT _page_cursor.list || '.' || pg_catalog.encode(pg_catalog.convert_to(
        pg_catalog.jsonb_build_array(_page_cursor.at, _page_cursor.id, _page_cursor.name)::text, pg_catalog.getdatabaseencoding()), 'hex');
END;

COMMENT ON FUNCTION backfill._page_cursor(text, timestamptz, bigint, text) IS 'The cursor of a list that goes on behind this place.';

CREATE FUNCTION backfill._page_place(list text, cursor text, OUT at timestamptz, OUT id bigint, OUT name text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parts jsonb;
BEGIN
    IF cursor IS NULL THEN
        RETURN;
    END IF;
    -- Whatever a caller has made up fails as an error of class 22, or leaves nothing to go on from.
    BEGIN
        IF pg_catalog.length(cursor) < 10000 AND pg_catalog.starts_with(cursor, list || '.') THEN
            parts := pg_catalog.convert_from(pg_catalog.decode(pg_catalog.substr(cursor, pg_catalog.length(list) + 2), 'hex'),
                                             pg_catalog.getdatabaseencoding())::jsonb;
            at := (parts ->> 0)::timestamptz;
            id := (parts ->> 1)::bigint;
            name := parts ->> 2;
        END IF;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        parts := NULL;
    END;
    IF parts IS NULL OR (list IN ('jobs', 'letters', 'history', 'audit')) = (id IS NULL) OR (list IN ('letters', 'history', 'audit')) = (at IS NULL)
       OR (list IN ('queues', 'tasks')) = (name IS NULL) THEN
        RAISE EXCEPTION 'cursor is not valid: "%"', pg_catalog.left(cursor, 100)
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = pg_catalog.format('Give what the last page of the same list (%s) had as "next", or leave it out for the first page.', list);
    END IF;
END;
$$;

COMMENT ON FUNCTION backfill._page_place(text, text) IS 'The place that a cursor stands for; refuses what is not a cursor of this list.';

CREATE VIEW backfill._job AS
SELECT j.id,
       j.task_identifier,
       j.queue_name, -- empty: none
       j.job_key,
       j.priority,
       j.run_at,
       j.lease_expires_at,
       j.ctid AS tid,
       j.xmax AS claimer,
       CASE WHEN (SELECT pg_catalog.has_table_privilege('backfill.job', 'SELECT')) THEN j.payload END AS payload,
       pg_catalog.pg_column_size(j.payload) AS payload_size,
       pg_catalog.pg_column_size(j.payload) > 2048 OR pg_catalog.pg_column_compression(j.payload) IS NOT NULL AS payload_is_large
  FROM backfill.job j;

COMMENT ON VIEW backfill._job IS 'The jobs, as list_jobs() searches them. Users see backfill.jobs.';

CREATE FUNCTION backfill._page_job_ranges(
    max_ranges integer,
    task_identifier text,
    min_priority integer,
    max_priority integer,
    OUT task_identifiers text[],
    OUT priorities smallint[],
    OUT complete boolean)
LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.task_identifier, j.priority FROM backfill._job j
          WHERE j.lease_expires_at IS NULL
            AND (j.task_identifier, j.priority) >= (coalesce(_page_job_ranges.task_identifier, ''), (-32768)::smallint)
          ORDER BY j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.task_identifier, n.priority
          FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.task_identifier, j.priority FROM backfill._job j
                WHERE j.lease_expires_at IS NULL AND (j.task_identifier, j.priority) > (l.task_identifier, l.priority)
                ORDER BY j.task_identifier, j.priority LIMIT 1) n
         WHERE _page_job_ranges.task_identifier IS NULL OR n.task_identifier = _page_job_ranges.task_identifier)
    SELECT pg_catalog.array_agg(r.task_identifier) FILTER (WHERE r.matches), pg_catalog.array_agg(r.priority) FILTER (WHERE r.matches),
           pg_catalog.count(*) < _page_job_ranges.max_ranges
      FROM (SELECT l.task_identifier, l.priority,
                   (_page_job_ranges.task_identifier IS NULL OR l.task_identifier = _page_job_ranges.task_identifier)
                   AND (_page_job_ranges.min_priority IS NULL OR l.priority >= _page_job_ranges.min_priority)
                   AND (_page_job_ranges.max_priority IS NULL OR l.priority <= _page_job_ranges.max_priority) AS matches
              FROM leap l LIMIT _page_job_ranges.max_ranges) r;
END;

COMMENT ON FUNCTION backfill._page_job_ranges(integer, text, integer, integer) IS
    'The ranges of jobs that are not leased, by task and priority: those among the first max_ranges that match, and whether there are no more.';

CREATE VIEW backfill._letter AS
SELECT d.id,
       d.task_identifier,
       d.queue_name,
       d.job_key,
       d.failed_at,
       pg_catalog."left"(coalesce(d.last_error ->> 'sqlstate', ''), 5) AS sqlstate, -- empty: a consumer has told of the error, or an operator
       CASE WHEN (SELECT pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT')) THEN d.failure_reason END AS failure_reason,
       CASE WHEN (SELECT pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT')) THEN d.last_error ->> 'message' END AS message,
       pg_catalog.pg_column_size(d.payload) AS payload_size,
       pg_catalog.pg_column_size(d.payload) > 2048 OR pg_catalog.pg_column_compression(d.payload) IS NOT NULL AS payload_is_large
  FROM backfill.dead_letter d;

COMMENT ON VIEW backfill._letter IS 'The dead letters, as list_dlq() searches them. Users see backfill.dlq.';

CREATE FUNCTION backfill._page_job_source(source text)
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT CASE _page_job_source.source
           WHEN 'all' THEN
               '(SELECT j.* FROM backfill._job j ORDER BY j.id DESC LIMIT $11)'
           WHEN 'key' THEN
               '(SELECT j.* FROM backfill._job j WHERE j.job_key >= $6 AND j.job_key <= $6 ORDER BY j.job_key LIMIT $11)'
           WHEN 'queue' THEN
               '(SELECT j.* FROM backfill._job j
                  WHERE j.queue_name >= $3 AND j.queue_name <= $3 AND j.queue_name <> '''' AND j.lease_expires_at IS NULL
                  ORDER BY j.queue_name, j.task_identifier, j.priority, j.run_at, j.id LIMIT $11)'
           WHEN 'ranges' THEN
               '(SELECT j.* FROM ROWS FROM (pg_catalog.unnest($9::text[]), pg_catalog.unnest($10::smallint[])) AS r (task_identifier, priority)
                  CROSS JOIN LATERAL (SELECT j.* FROM backfill._job j
                        WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                          AND (coalesce($7, ''scheduled'') = ''scheduled'' OR j.run_at <= $8)
                          AND (coalesce($7, ''ready'') <> ''scheduled'' OR j.run_at > $8)
                        ORDER BY j.run_at, j.id LIMIT $11) j LIMIT $11)'
           WHEN 'fronts' THEN -- where the running jobs are likely to be
               '(SELECT j.* FROM ROWS FROM (pg_catalog.unnest($9::text[]), pg_catalog.unnest($10::smallint[])) AS r (task_identifier, priority)
                  CROSS JOIN LATERAL (SELECT j.* FROM backfill._job j
                        WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                        ORDER BY j.run_at, j.id LIMIT 1000) j LIMIT $11)
                UNION ALL (SELECT j.* FROM backfill._job j WHERE j.id = ANY (ARRAY(SELECT w.job_id FROM backfill._workers() w)))'
           WHEN 'leases' THEN
               '(SELECT j.* FROM backfill._job j
                  WHERE j.lease_expires_at IS NOT NULL AND (coalesce($7, ''leased'') NOT IN (''scheduled'', ''ready'') OR j.lease_expires_at <= $8)
                  ORDER BY j.lease_expires_at LIMIT $11)'
           END;
END;

COMMENT ON FUNCTION backfill._page_job_source(text) IS 'The text of a query that lists candidates of a search for jobs by one index.';

CREATE FUNCTION backfill._page_job_filter()
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT '($1 IS NULL OR j.task_identifier = $1) AND ($3 IS NULL OR j.queue_name = $3) AND ($6 IS NULL OR j.job_key = $6)
        AND ($4 IS NULL OR j.priority >= $4) AND ($5 IS NULL OR j.priority <= $5)
        AND ($7 IS NULL OR $7 = CASE WHEN j.lease_expires_at = ''infinity'' THEN ''running''
                                     WHEN j.lease_expires_at > $8 THEN ''leased''
                                     WHEN backfill._claimed(j.tid, j.claimer) THEN ''running''
                                     WHEN j.run_at > $8 THEN ''scheduled''
                                     ELSE ''ready'' END)
        AND ($2 IS NULL OR j.payload @> $2)';
END;

COMMENT ON FUNCTION backfill._page_job_filter() IS 'The text of the condition of a search for jobs; the states are those of the view backfill.jobs.';

CREATE FUNCTION backfill._page_job_sources(
    task_identifier text,
    payload jsonb,
    queue_name text,
    min_priority integer,
    max_priority integer,
    job_key text,
    state text,
    ranges_known boolean,
    OUT name text,
    OUT query text,
    OUT is_exact boolean,
    OUT may_be_cut boolean)
RETURNS SETOF record LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 3 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT w.name, backfill._page_job_source(w.name) || CASE WHEN w.and_leases THEN ' UNION ALL ' || backfill._page_job_source('leases') ELSE '' END,
           w.is_exact AND _page_job_sources.payload IS NULL, w.name = 'fronts'
      FROM (VALUES
           (1, 'key', false, job_key IS NOT NULL, false),
           (1, 'leases', false, job_key IS NULL AND state = 'leased', pg_catalog.num_nonnulls(task_identifier, queue_name, min_priority, max_priority) = 0),
           (1, 'queue', true, job_key IS NULL AND state IS DISTINCT FROM 'leased' AND queue_name <> '',
            pg_catalog.num_nonnulls(task_identifier, state, min_priority, max_priority) = 0),
           (2, 'ranges', true, job_key IS NULL AND state IS DISTINCT FROM 'leased' AND ranges_known
                           AND pg_catalog.num_nonnulls(task_identifier, state, min_priority, max_priority) > 0, queue_name IS NULL AND state IS DISTINCT FROM 'running'),
           (3, 'all', false, job_key IS NULL AND state IS DISTINCT FROM 'leased',
            pg_catalog.num_nonnulls(task_identifier, queue_name, state, min_priority, max_priority) = 0),
           (4, 'fronts', true, job_key IS NULL AND state = 'running', false)) AS w (place, name, and_leases, fits, is_exact)
     WHERE w.fits
     ORDER BY w.place;
END;

COMMENT ON FUNCTION backfill._page_job_sources(text, jsonb, text, integer, integer, text, text, boolean) IS
    'The queries by which a search for jobs looks, in this order, until one lists so few candidates that it can look at them all.';

CREATE FUNCTION backfill._page_check_job_filter(state text, payload jsonb)
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._page_check_word('state', state, '{scheduled,ready,running,leased}');
    IF payload IS NOT NULL AND NOT pg_catalog.has_table_privilege('backfill.job', 'SELECT') THEN
        RAISE EXCEPTION 'permission denied to search payloads'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave out payload: only consumers and admins may read payloads.';
    END IF;
END;
$$;

COMMENT ON FUNCTION backfill._page_check_job_filter(text, jsonb) IS 'Refuses a filter of jobs that says nothing, or asks for what the caller may not see.';

CREATE FUNCTION backfill._page_walk_jobs(
    max_jobs integer,
    task_identifier text,
    payload jsonb,
    queue_name text,
    min_priority integer,
    max_priority integer,
    job_key text,
    state text,
    below bigint,
    OUT job_ids bigint[],
    OUT next bigint,
    OUT cut_off boolean)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stop bigint; -- the first job that is not looked at
BEGIN
    IF payload IS NOT NULL THEN
        stop := (SELECT w.id
                   FROM (SELECT j.id, pg_catalog.row_number() OVER newer AS jobs, pg_catalog.sum(j.payload_size) OVER newer AS bytes
                           FROM backfill._job j WHERE j.id < below
                         WINDOW newer AS (ORDER BY j.id DESC ROWS UNBOUNDED PRECEDING)) w
                  WHERE w.jobs > 10000 OR w.bytes > 8 * 1024 * 1024 AND w.jobs > 1
                  ORDER BY w.id DESC LIMIT 1);
    ELSIF pg_catalog.num_nonnulls(task_identifier, queue_name, job_key, state, min_priority, max_priority) > 0 THEN
        stop := (SELECT j.id FROM backfill._job j WHERE j.id < below ORDER BY j.id DESC LIMIT 1 OFFSET 50000);
    END IF;
    EXECUTE pg_catalog.format(
        'SELECT ARRAY(SELECT j.id FROM backfill._job j WHERE j.id < $9 AND j.id > $10 AND %s ORDER BY j.id DESC LIMIT $11)', backfill._page_job_filter())
       INTO job_ids
      USING task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, backfill._now(), below,
            coalesce(stop, -9223372036854775808), max_jobs + 1;
    cut_off := stop IS NOT NULL AND pg_catalog.cardinality(job_ids) <= max_jobs;
    next := CASE WHEN cut_off THEN stop + 1 ELSE job_ids[max_jobs + 1] + 1 END;
    job_ids := job_ids[1:max_jobs];
END;
$$;

COMMENT ON FUNCTION backfill._page_walk_jobs(integer, text, jsonb, text, integer, integer, text, text, bigint) IS
    'The newest jobs below an id that match, among at most 50,000 (10,000, and 8 MB, if payloads are searched).';

CREATE FUNCTION backfill._page_find_jobs(
    max_jobs integer,
    task_identifier text,
    payload jsonb,
    queue_name text,
    min_priority integer,
    max_priority integer,
    job_key text,
    state text,
    below bigint,
    OUT job_ids bigint[],
    OUT next bigint,
    OUT cut_off boolean,
    OUT total jsonb)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cap constant integer := 10000;
    ranges record;
    source record;
    seen bigint;
    unleased bigint;
    bytes bigint;
    at_least integer := 0;
BEGIN
    ranges := backfill._page_job_ranges(2000, task_identifier, min_priority, max_priority);
    FOR source IN SELECT * FROM backfill._page_job_sources(task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, ranges.complete) LOOP
        EXECUTE pg_catalog.format('SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE j.lease_expires_at IS NULL),
                                          coalesce(pg_catalog.sum(CASE WHEN $2 IS NOT NULL THEN j.payload_size END), 0) FROM (%s) j', source.query)
           INTO seen, unleased, bytes
          USING task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, backfill._now(),
                ranges.task_identifiers, ranges.priorities, cap + 1;
        IF source.may_be_cut OR seen <= cap AND bytes <= 8 * 1024 * 1024 THEN
            EXECUTE pg_catalog.format('SELECT ARRAY(SELECT DISTINCT j.id FROM (%s) j WHERE %s ORDER BY j.id DESC)', source.query, backfill._page_job_filter())
               INTO job_ids
              USING task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, backfill._now(),
                    ranges.task_identifiers, ranges.priorities, cap + 1;
            cut_off := source.may_be_cut;
            total := pg_catalog.jsonb_build_object('count', pg_catalog.cardinality(job_ids), 'capped', cut_off);
            job_ids := ARRAY(SELECT i.id FROM pg_catalog.unnest(job_ids) i (id) WHERE i.id < below LIMIT max_jobs + 1);
            next := job_ids[max_jobs + 1] + 1;
            job_ids := job_ids[1:max_jobs];
            RETURN;
        END IF;
        at_least := greatest(at_least, CASE WHEN source.is_exact AND (unleased > cap OR source.name IN ('leases', 'all')) THEN cap END);
    END LOOP;
    SELECT w.job_ids, w.next, w.cut_off INTO job_ids, next, cut_off
      FROM backfill._page_walk_jobs(max_jobs, task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, below) w;
    total := pg_catalog.jsonb_build_object('count', greatest(at_least, pg_catalog.cardinality(job_ids)), 'capped', true);
END;
$$;

COMMENT ON FUNCTION backfill._page_find_jobs(integer, text, jsonb, text, integer, integer, text, text, bigint) IS
    'The newest jobs below an id that match a filter, from where to go on, and how many match in all.';

CREATE FUNCTION backfill._page_jobs_json(job_ids bigint[], with_large_payloads boolean)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) ORDER BY s.id::bigint DESC), '[]')
      FROM (SELECT j.id::text, j.task_identifier,
                   CASE WHEN _page_jobs_json.with_large_payloads OR NOT l.payload_is_large THEN j.payload END AS payload, l.payload_size,
                   j.queue_name, j.priority, j.priority_band, j.run_at, j.attempts, j.max_attempts, j.job_key, j.retry_policy, j.state,
                   j.last_error, j.worker, j.lease_expires_at, extract(epoch FROM j.timeout) AS timeout, j.created_at,
                   j.progress, j.progress_message, j.flags,
                   CASE WHEN _page_jobs_json.with_large_payloads OR pg_catalog.pg_column_size(j.headers) <= 2048 THEN j.headers END AS headers
              FROM backfill.jobs j JOIN backfill._job l ON l.id = j.id
             WHERE j.id = ANY (_page_jobs_json.job_ids) AND l.id = ANY (_page_jobs_json.job_ids)) s;
END;

COMMENT ON FUNCTION backfill._page_jobs_json(bigint[], boolean) IS 'These jobs as the caller may see them in backfill.jobs, as JSON.';

CREATE FUNCTION backfill.list_jobs(
    task_identifier text DEFAULT NULL,
    payload jsonb DEFAULT NULL,
    queue_name text DEFAULT NULL,
    min_priority integer DEFAULT NULL,
    max_priority integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    state text DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
BEGIN
    PERFORM backfill._page_check_job_filter(state, payload);
    found := backfill._page_find_jobs(backfill._page_size("limit"), task_identifier, payload, queue_name, min_priority, max_priority, job_key, state,
                                 coalesce((backfill._page_place('jobs', cursor)).id, 9223372036854775807));
    RETURN pg_catalog.jsonb_build_object('jobs', backfill._page_jobs_json(found.job_ids, false),
                                         'next', CASE WHEN found.next IS NOT NULL THEN backfill._page_cursor('jobs', NULL, found.next, NULL) END,
                                         'cut_off', found.cut_off, 'total', found.total);
END;
$$;

COMMENT ON FUNCTION backfill.list_jobs(text, jsonb, text, integer, integer, text, text, text, integer) IS
    'A page of the jobs that wait or run, the newest first, as JSON. payload: what they must contain (@>); queue_name empty: jobs in no queue. Never reads the whole table.';

CREATE FUNCTION backfill.find_job_ids(
    max_jobs integer,
    task_identifier text DEFAULT NULL,
    payload jsonb DEFAULT NULL,
    queue_name text DEFAULT NULL,
    min_priority integer DEFAULT NULL,
    max_priority integer DEFAULT NULL,
    job_key text DEFAULT NULL,
    state text DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL UNSAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
    missing integer := max_jobs;
    below bigint := 9223372036854775807;
BEGIN
    PERFORM backfill._page_check_job_filter(state, payload);
    PERFORM backfill._page_check_max('max_jobs', max_jobs);
    LOOP
        found := backfill._page_find_jobs(missing, task_identifier, payload, queue_name, min_priority, max_priority, job_key, state, below);
        RETURN QUERY SELECT i.id FROM pg_catalog.unnest(found.job_ids) i (id);
        missing := missing - pg_catalog.cardinality(found.job_ids);
        below := found.next;
        EXIT WHEN missing <= 0 OR below IS NULL;
    END LOOP;
END;
$$;

COMMENT ON FUNCTION backfill.find_job_ids(integer, text, jsonb, text, integer, integer, text, text) IS
    'The ids of the jobs that list_jobs() shows with this filter, the newest first, up to max_jobs of them: to act on all. It goes on until it has max_jobs or has seen all (of running jobs among very many others: all that list_jobs() finds).';

CREATE FUNCTION backfill.update_job(
    job_id bigint,
    payload jsonb DEFAULT NULL,
    queue_name text DEFAULT NULL,
    priority integer DEFAULT NULL,
    run_at timestamptz DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    retry_policy text DEFAULT NULL,
    timeout interval DEFAULT NULL,
    headers jsonb DEFAULT NULL)
RETURNS SETOF backfill.jobs LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'backfill_update_job';

COMMENT ON FUNCTION backfill.update_job(bigint, jsonb, text, integer, timestamptz, integer, text, interval, jsonb) IS
    'Change a waiting job, which keeps its id and its key; NULL leaves a value as it is, headers {} means none from now on. Returns the job; no row if it does not wait: a running or leased job, or one that another transaction is changing, is passed over, never waited for.';

CREATE FUNCTION backfill.requeue_dlq_jobs(dlq_ids bigint[], notes text DEFAULT NULL)
RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_ids bigint[] := ARRAY(SELECT d.id FROM backfill.dead_letter d WHERE d.id = ANY (dlq_ids)
                                  ORDER BY d.failed_at, d.id FOR UPDATE);
    letter_id bigint;
    letter backfill.dead_letter;
    letters text[] := ARRAY[]::text[];
    n bigint := 0;
BEGIN
    PERFORM backfill._lock_job_keys(ARRAY(SELECT d.job_key FROM backfill.dead_letter d
                                           WHERE d.id = ANY (letter_ids) AND d.job_key IS NOT NULL));
    FOREACH letter_id IN ARRAY letter_ids LOOP
        BEGIN
            letter := backfill._requeue_letter(letter_id, NULL, requeue_dlq_jobs.notes);
            RETURN NEXT letter.original_job_id;
            n := n + 1;
            IF n <= 100 THEN
                letters := letters || letter_id::text;
            END IF;
        EXCEPTION WHEN object_not_in_prerequisite_state THEN
            NULL; -- its job, or another one with its key, is waiting already
        END;
    END LOOP;
    PERFORM backfill._audit('requeue_dlq_jobs', 'dead_letter', letters, n, NULL,
                            backfill._dlq_filter(NULL, NULL, NULL, NULL, NULL, notes));
END;
$$;

COMMENT ON FUNCTION backfill.requeue_dlq_jobs(bigint[], text) IS
    'Requeue these dead letters, those that failed first before the others; returns the ids of the jobs. Letters whose job is waiting already, and ids of none, are passed over.';

CREATE FUNCTION backfill.delete_dlq_jobs(dlq_ids bigint[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter_id bigint;
    letters text[] := ARRAY[]::text[];
    deleted bigint := 0;
BEGIN
    -- In the order of requeue_dlq_jobs().
    FOR letter_id IN
        WITH locked AS (SELECT d.id FROM backfill.dead_letter d WHERE d.id = ANY (dlq_ids)
                         ORDER BY d.failed_at, d.id FOR UPDATE)
        DELETE FROM backfill.dead_letter d USING locked l WHERE d.id = l.id RETURNING d.id
    LOOP
        deleted := deleted + 1;
        IF deleted <= 100 THEN
            letters := letters || letter_id::text;
        END IF;
    END LOOP;
    PERFORM backfill._audit('delete_dlq_jobs', 'dead_letter', letters, deleted, NULL, NULL);
    RETURN deleted;
END;
$$;

COMMENT ON FUNCTION backfill.delete_dlq_jobs(bigint[]) IS 'Delete these dead letters; returns how many of them there were.';

CREATE VIEW backfill._attempt AS
SELECT h.job_id,
       h.task_identifier,
       h.queue_name,
       h.job_key,
       h.attempt,
       h.outcome,
       h.created_at,
       h.started_at,
       h.finished_at,
       h.worker,
       CASE WHEN pg_catalog.has_table_privilege('backfill.job_history', 'SELECT') THEN h.error
            WHEN h.error IS NOT NULL THEN pg_catalog.jsonb_build_object('sqlstate', h.error -> 'sqlstate') END AS error
  FROM backfill.job_history h;

COMMENT ON VIEW backfill._attempt IS 'What job_details() and list_history() read: the runs in the history, also of jobs that have not ended. Users see backfill.history.';

CREATE FUNCTION backfill._page_history_json(job_id bigint)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.to_jsonb(h) || pg_catalog.jsonb_build_object('id', h.id::text)
      FROM backfill.history h WHERE h.id = _page_history_json.job_id ORDER BY h.finished_at DESC LIMIT 1;
END;

COMMENT ON FUNCTION backfill._page_history_json(bigint) IS 'How a job ended the last time, as the caller may see it in backfill.history, as JSON.';

CREATE FUNCTION backfill._page_runs_json(job_id bigint)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_agg(a.*) FROM backfill._attempt a WHERE a.job_id = _page_runs_json.job_id;
END;

COMMENT ON FUNCTION backfill._page_runs_json(bigint) IS 'The runs of a job that are in the history, as JSON; NULL: there are none.';

CREATE FUNCTION backfill._page_job_timeline(job_id bigint, job jsonb, letter jsonb, runs jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
    WITH run AS (
        SELECT a.* FROM pg_catalog.jsonb_to_recordset(_page_job_timeline.runs)
               AS a (attempt integer, outcome text, created_at timestamptz, started_at timestamptz, finished_at timestamptz, worker text, error jsonb))
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('at', e.at, 'event', e.event, 'attempt', e.attempt, 'worker', e.worker,
                                                                       'error', e.error, 'outcome', e.outcome)
                                         ORDER BY e.place > 1, coalesce(e.at, e.after), e.place), '[]')
      FROM (SELECT 1 AS place, coalesce((_page_job_timeline.job ->> 'created_at')::timestamptz, (_page_job_timeline.letter ->> 'original_created_at')::timestamptz,
                                        (SELECT pg_catalog.min(r.created_at) FROM run r)) AS at, NULL::timestamptz AS after,
                   'created' AS event, NULL::integer AS attempt, NULL::text AS worker, NULL::jsonb AS error, NULL::text AS outcome
            UNION ALL
            SELECT 2, r.started_at, NULL, 'started', r.attempt, r.worker, NULL, NULL FROM run r
             WHERE r.started_at IS NOT NULL AND r.outcome NOT IN ('retried', 'cancelled', 'superseded')
            UNION ALL
            SELECT 3, r.finished_at, NULL, CASE r.outcome WHEN 'retried' THEN 'attempt_failed' WHEN 'dead' THEN 'dead' WHEN 'discarded' THEN 'dead' ELSE 'ended' END,
                   r.attempt, r.worker, r.error, r.outcome FROM run r
            UNION ALL
            SELECT 3, NULL, (_page_job_timeline.job ->> 'created_at')::timestamptz, 'attempt_failed', (_page_job_timeline.job ->> 'attempts')::integer, NULL,
                   _page_job_timeline.job -> 'last_error', NULL
             WHERE pg_catalog.jsonb_typeof(_page_job_timeline.job -> 'last_error') = 'object' AND NOT EXISTS (SELECT FROM run r)
            UNION ALL
            SELECT 4, (_page_job_timeline.letter ->> 'failed_at')::timestamptz, NULL, 'dead', (_page_job_timeline.letter ->> 'failure_count')::integer, NULL,
                   _page_job_timeline.letter -> 'last_error', 'dead'
             WHERE _page_job_timeline.letter IS NOT NULL AND NOT EXISTS (SELECT FROM run r WHERE r.outcome IN ('dead', 'discarded'))
            UNION ALL
            SELECT 5, (_page_job_timeline.letter ->> 'last_requeued_at')::timestamptz, NULL, 'requeued', NULL, NULL, NULL, NULL
             WHERE _page_job_timeline.letter ->> 'last_requeued_at' IS NOT NULL
            UNION ALL
            SELECT 6, w.state_since, NULL, 'started', w.attempt, w.kind || ' ' || w.pid, NULL, NULL FROM backfill._workers() w
             WHERE w.job_id = _page_job_timeline.job_id AND _page_job_timeline.job ->> 'state' = 'running'
            UNION ALL
            SELECT 7, (_page_job_timeline.job ->> 'run_at')::timestamptz, NULL, 'next_run', (_page_job_timeline.job ->> 'attempts')::integer + 1, NULL, NULL, NULL
             WHERE _page_job_timeline.job ->> 'state' IN ('scheduled', 'ready')) e
     WHERE e.at IS NOT NULL OR e.after IS NOT NULL);
END;
$$;

COMMENT ON FUNCTION backfill._page_job_timeline(bigint, jsonb, jsonb, jsonb) IS 'What has happened to a job, the oldest first, and when it runs next.';

CREATE FUNCTION backfill.job_details(job_id bigint)
RETURNS jsonb LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job constant jsonb := backfill._page_jobs_json(ARRAY[job_id], true) -> 0;
    letter jsonb;
    history jsonb;
    runs jsonb;
    why text;
BEGIN
    IF pg_catalog.has_table_privilege('backfill.dlq', 'SELECT') THEN
        letter := backfill._page_letters_json(ARRAY(SELECT d.id FROM backfill.dlq d WHERE d.original_job_id = job_details.job_id
                                                ORDER BY d.failed_at DESC, d.id DESC LIMIT 1), true) -> 0;
    END IF;
    IF pg_catalog.has_table_privilege('backfill.history', 'SELECT') THEN
        history := backfill._page_history_json(job_id);
        runs := backfill._page_runs_json(job_id);
    END IF;
    IF job IS NOT NULL AND pg_catalog.has_function_privilege('backfill.why_not_running(bigint)', 'EXECUTE') THEN
        why := backfill.why_not_running(job_id);
    END IF;
    IF coalesce(job, letter, history, runs) IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'state', coalesce(job ->> 'state', CASE WHEN letter IS NOT NULL THEN 'dead' ELSE 'ended' END),
        'job', job, 'why', why, 'letter', letter, 'history', history,
        'timeline', backfill._page_job_timeline(job_id, job, letter, runs));
END;
$$;

COMMENT ON FUNCTION backfill.job_details(bigint) IS
    'All that is known of a job, as JSON: the job, why it does not run, its dead letter, its history and a timeline, each if the caller may see it. NULL: no such job is known (any more).';

CREATE FUNCTION backfill._page_letter_sources(task_identifier text, queue_name text, sqlstate text, job_key text)
RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 3 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT 'SELECT d.* FROM backfill._letter d WHERE ' || w.condition || ' LIMIT $10'
      FROM (VALUES
           (1, _page_letter_sources.job_key IS NOT NULL, 'd.job_key >= $6 AND d.job_key <= $6 ORDER BY d.job_key, d.task_identifier'),
           (2, _page_letter_sources.task_identifier IS NOT NULL AND _page_letter_sources.sqlstate IS NOT NULL,
            'd.task_identifier = ANY (ARRAY[$1]) AND d.sqlstate = $3 AND d.failed_at >= coalesce($4, ''-infinity'')
             AND d.failed_at <= coalesce($5, ''infinity'') ORDER BY d.task_identifier, d.failed_at, d.id'),
           (3, _page_letter_sources.task_identifier IS NOT NULL AND _page_letter_sources.sqlstate IS NULL,
            'd.task_identifier >= $1 AND d.task_identifier <= $1 ORDER BY d.task_identifier, d.sqlstate, d.failed_at, d.id'),
           (4, _page_letter_sources.queue_name <> '', 'd.queue_name >= $2 AND d.queue_name <= $2 ORDER BY d.queue_name'),
           (5, true, 'd.failed_at >= coalesce($4, ''-infinity'') AND d.failed_at <= coalesce($5, ''infinity'') ORDER BY d.failed_at, d.id')
           ) AS w (place, fits, condition)
     WHERE w.fits ORDER BY w.place;
END;

COMMENT ON FUNCTION backfill._page_letter_sources(text, text, text, text) IS
    'The queries by which a search for dead letters looks, in this order, until one lists so few candidates that it can look at them all.';

CREATE FUNCTION backfill._page_letter_filter()
RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT '($1 IS NULL OR d.task_identifier = $1) AND ($2 IS NULL OR coalesce(d.queue_name, '''') = $2) AND ($3 IS NULL OR d.sqlstate = $3)
        AND ($4 IS NULL OR d.failed_at >= $4) AND ($5 IS NULL OR d.failed_at < $5) AND ($6 IS NULL OR d.job_key = $6)
        AND ($7 IS NULL OR pg_catalog.strpos(pg_catalog.lower(d.failure_reason), pg_catalog.lower($7)) > 0)';
END;

COMMENT ON FUNCTION backfill._page_letter_filter() IS 'The text of the condition of a search for dead letters. failed_after is inclusive, failed_before exclusive, as elsewhere.';

CREATE FUNCTION backfill._page_find_letters(
    max_letters integer,
    task_identifier text,
    queue_name text,
    sqlstate text,
    failed_after timestamptz,
    failed_before timestamptz,
    job_key text,
    search text,
    before timestamptz,
    below bigint,
    OUT letter_ids bigint[],
    OUT next_at timestamptz,
    OUT next_id bigint,
    OUT cut_off boolean,
    OUT total jsonb)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cap constant integer := 10000;
    filtered constant boolean := pg_catalog.num_nonnulls(task_identifier, queue_name, sqlstate, job_key, search) > 0;
    max_rows integer := cap + 1;
    source text;
    seen bigint;
    matching bigint;
BEGIN
    FOR source IN SELECT * FROM backfill._page_letter_sources(task_identifier, queue_name, sqlstate, job_key) LOOP
        EXECUTE pg_catalog.format('SELECT pg_catalog.count(*) FROM (%s) d', source) INTO seen
          USING task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below, max_rows;
        EXIT WHEN seen <= cap;
    END LOOP;
    IF seen > cap THEN
        max_rows := CASE WHEN filtered THEN 20000 ELSE max_letters + 1 END;
        source := 'SELECT d.* FROM backfill._letter d WHERE (d.failed_at, d.id) < ($8, $9) AND d.failed_at >= coalesce($4, ''-infinity'')
                      AND d.failed_at <= coalesce($5, ''infinity'') ORDER BY d.failed_at DESC, d.id DESC LIMIT $10';
        -- The last one that it looks at, if there may be more.
        EXECUTE pg_catalog.format('SELECT d.failed_at, d.id FROM (%s) d LIMIT 1 OFFSET $10 - 1', source) INTO next_at, next_id
          USING task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below, max_rows;
    END IF;
    EXECUTE pg_catalog.format('SELECT pg_catalog.count(*), (pg_catalog.array_agg(d.id ORDER BY d.failed_at DESC, d.id DESC)
                                                            FILTER (WHERE (d.failed_at, d.id) < ($8, $9)))[1:$11] FROM (%s) d WHERE %s',
                              source, backfill._page_letter_filter())
       INTO matching, letter_ids
      USING task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below, max_rows, max_letters + 1;
    cut_off := next_id IS NOT NULL AND coalesce(pg_catalog.cardinality(letter_ids), 0) <= max_letters;
    IF NOT cut_off THEN
        SELECT d.failed_at, d.id INTO next_at, next_id FROM backfill._letter d
         WHERE d.id = letter_ids[max_letters] AND pg_catalog.cardinality(letter_ids) > max_letters;
    END IF;
    letter_ids := coalesce(letter_ids[1:max_letters], '{}');
    total := pg_catalog.jsonb_build_object('count', CASE WHEN seen <= cap OR filtered THEN matching ELSE cap END, 'capped', seen > cap);
END;
$$;

COMMENT ON FUNCTION backfill._page_find_letters(integer, text, text, text, timestamptz, timestamptz, text, text, timestamptz, bigint) IS
    'The newest dead letters behind a place that match a filter, from where to go on, and how many match in all, as far as that is known.';

CREATE FUNCTION backfill._page_letters_json(letter_ids bigint[], with_large_payloads boolean)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) ORDER BY s.failed_at DESC, s.id::bigint DESC), '[]')
      FROM (SELECT d.id::text, d.original_job_id::text, d.task_identifier,
                   CASE WHEN _page_letters_json.with_large_payloads OR NOT l.payload_is_large THEN d.payload END AS payload, l.payload_size,
                   d.queue_name, d.priority, d.job_key, d.max_attempts, d.failure_reason, d.failure_count, d.last_error,
                   d.original_created_at, d.original_run_at, d.failed_at, d.requeued_count, d.last_requeued_at, d.notes, d.headers,
                   EXISTS (SELECT FROM backfill._job j WHERE j.id = d.original_job_id) AS waiting
              FROM backfill.dlq d JOIN backfill._letter l ON l.id = d.id
             WHERE d.id = ANY (_page_letters_json.letter_ids) AND l.id = ANY (_page_letters_json.letter_ids)) s;
END;

COMMENT ON FUNCTION backfill._page_letters_json(bigint[], boolean) IS 'These dead letters as the caller may see them in backfill.dlq, as JSON.';

CREATE FUNCTION backfill._page_check_letter_filter(search text)
RETURNS void LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF search IS NOT NULL AND NOT pg_catalog.has_table_privilege('backfill.dead_letter', 'SELECT') THEN
        RAISE EXCEPTION 'permission denied to search texts of errors'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Leave out search: only admins may read why jobs have failed.';
    END IF;
END;
$$;

COMMENT ON FUNCTION backfill._page_check_letter_filter(text) IS 'Refuses a filter of dead letters that asks for what the caller may not see.';

CREATE FUNCTION backfill.list_dlq(
    sqlstate text DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    job_key text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    search text DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    place constant record := backfill._page_place('letters', cursor);
    found record;
BEGIN
    PERFORM backfill._page_check_letter_filter(search);
    found := backfill._page_find_letters(backfill._page_size("limit"), task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search,
                                         coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807));
    RETURN pg_catalog.jsonb_build_object('letters', backfill._page_letters_json(found.letter_ids, false),
                                         'next', CASE WHEN found.next_id IS NOT NULL THEN backfill._page_cursor('letters', found.next_at, found.next_id, NULL) END,
                                         'cut_off', found.cut_off, 'total', found.total);
END;
$$;

COMMENT ON FUNCTION backfill.list_dlq(text, text, text, text, timestamptz, timestamptz, text, text, integer) IS
    'A page of the dead letters, the newest first, as JSON. sqlstate empty: errors without one; queue_name empty: of no queue; search: a part of the reason, in whatever case; failed_after is inclusive, failed_before exclusive.';

CREATE FUNCTION backfill.find_dlq_ids(
    max_letters integer,
    sqlstate text DEFAULT NULL,
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    job_key text DEFAULT NULL,
    failed_after timestamptz DEFAULT NULL,
    failed_before timestamptz DEFAULT NULL,
    search text DEFAULT NULL)
RETURNS SETOF bigint LANGUAGE plpgsql STABLE PARALLEL UNSAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found record;
    missing integer := max_letters;
    before timestamptz := timestamptz 'infinity';
    below bigint := 9223372036854775807;
BEGIN
    PERFORM backfill._page_check_letter_filter(search);
    PERFORM backfill._page_check_max('max_letters', max_letters);
    LOOP
        found := backfill._page_find_letters(missing, task_identifier, queue_name, sqlstate, failed_after, failed_before, job_key, search, before, below);
        RETURN QUERY SELECT i.id FROM pg_catalog.unnest(found.letter_ids) AS i (id);
        missing := missing - pg_catalog.cardinality(found.letter_ids);
        before := found.next_at;
        below := found.next_id;
        EXIT WHEN missing <= 0 OR below IS NULL;
    END LOOP;
END;
$$;

COMMENT ON FUNCTION backfill.find_dlq_ids(integer, text, text, text, text, timestamptz, timestamptz, text) IS
    'The ids of the dead letters that list_dlq() shows with this filter, the newest first, up to max_letters of them: to act on all. It goes on until it has max_letters or has seen all.';

CREATE FUNCTION backfill.dlq_groups(failed_after timestamptz DEFAULT NULL, failed_before timestamptz DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
    WITH RECURSIVE leap AS (
        (SELECT d.task_identifier, d.sqlstate FROM backfill._letter d ORDER BY d.task_identifier, d.sqlstate LIMIT 1)
        UNION ALL
        SELECT n.task_identifier, n.sqlstate
          FROM leap l
         CROSS JOIN LATERAL (SELECT d.task_identifier, d.sqlstate FROM backfill._letter d
                              WHERE (d.task_identifier, d.sqlstate) > (l.task_identifier, l.sqlstate)
                              ORDER BY d.task_identifier, d.sqlstate LIMIT 1) n),
    -- All counts together look at 50,000 letters or so.
    kind AS MATERIALIZED (
        SELECT l.task_identifier, l.sqlstate,
               (least(10000, 50000 / pg_catalog.count(*) OVER ()))::integer AS cap, pg_catalog.count(*) OVER () > 500 AS cut_off
          FROM (SELECT l.* FROM leap l LIMIT 501) l),
    counted AS (
        SELECT k.task_identifier, k.sqlstate, k.cap, c.letters, c.oldest, n.failed_at AS newest, n.message AS sample
          FROM (SELECT k.* FROM kind k LIMIT 500) k
         CROSS JOIN LATERAL (
               SELECT pg_catalog.count(*) AS letters, pg_catalog.min(s.failed_at) AS oldest
                 FROM (SELECT d.failed_at FROM backfill._letter d
                        WHERE d.task_identifier = ANY (ARRAY[k.task_identifier]) AND d.sqlstate = k.sqlstate
                          AND d.failed_at >= coalesce(dlq_groups.failed_after, '-infinity')
                          AND (dlq_groups.failed_before IS NULL OR d.failed_at < dlq_groups.failed_before)
                        ORDER BY d.task_identifier, d.failed_at, d.id LIMIT k.cap + 1) s) c
         CROSS JOIN LATERAL (
               SELECT d.failed_at, d.message FROM backfill._letter d
                WHERE d.task_identifier = ANY (ARRAY[k.task_identifier]) AND d.sqlstate = k.sqlstate
                  AND d.failed_at >= coalesce(dlq_groups.failed_after, '-infinity')
                  AND (dlq_groups.failed_before IS NULL OR d.failed_at < dlq_groups.failed_before)
                ORDER BY d.task_identifier DESC, d.failed_at DESC, d.id DESC LIMIT 1) n)
    SELECT pg_catalog.jsonb_build_object(
               'groups', coalesce((SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                                              'task_identifier', c.task_identifier, 'sqlstate', nullif(c.sqlstate, ''),
                                              'letters', backfill._page_count(c.letters, c.cap), 'oldest', c.oldest, 'newest', c.newest, 'sample', c.sample)
                                              ORDER BY c.letters DESC, c.newest DESC, c.task_identifier, c.sqlstate) FROM counted c), '[]'),
               'cut_off', coalesce((SELECT k.cut_off FROM kind k LIMIT 1), false)));
END;
$$;

COMMENT ON FUNCTION backfill.dlq_groups(timestamptz, timestamptz) IS
    'The dead letters grouped by task and SQLSTATE, the largest group first, each with the newest message, as JSON. Of more than 500 groups only the first by name.';

-- A node's begins at its number times 2^47. Of its value a token has the low bits.
ALTER SEQUENCE backfill.claim_token_seq NO MAXVALUE NO CYCLE;

CREATE TABLE backfill.node_identity (
    number smallint PRIMARY KEY CHECK (number BETWEEN 0 AND 63),
    name text COLLATE "C" NOT NULL,
    router_id uuid NOT NULL,
    key uuid NOT NULL -- the router says it with each call
);

CREATE UNIQUE INDEX node_identity_one_idx ON backfill.node_identity ((true));

COMMENT ON TABLE backfill.node_identity IS 'If this database is a node of a router: which one. One row at most.';

CREATE TABLE backfill.held_slot (
    slot smallint PRIMARY KEY CHECK (slot BETWEEN -64 AND 255)
);

COMMENT ON TABLE backfill.held_slot IS 'The slots whose jobs this node takes from its router.';

CREATE TABLE backfill.departing (
    slot smallint NOT NULL,
    kind smallint NOT NULL, -- in the order in which they are put into their tables: queue, schedule, letter, job, forwarded
    name text COLLATE "C" NOT NULL,
    content jsonb NOT NULL,
    PRIMARY KEY (slot, kind, name)
);

COMMENT ON TABLE backfill.departing IS 'What leaves this node because its slot is moved to another; it waits for the router to take it there.';

CREATE TABLE backfill.arrived (
    slot smallint NOT NULL,
    kind smallint NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (slot, kind, name)
);

COMMENT ON TABLE backfill.arrived IS 'What has come to this node by a move that is not over, so that none of it comes twice.';

SELECT pg_catalog.pg_extension_config_dump('backfill.node_identity', '');

SELECT pg_catalog.pg_extension_config_dump('backfill.held_slot', '');

SELECT pg_catalog.pg_extension_config_dump('backfill.departing', '');

SELECT pg_catalog.pg_extension_config_dump('backfill.arrived', '');

CREATE FUNCTION backfill._slot_of(queue_name text, job_key text)
RETURNS smallint LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF queue_name NOT IN ('', 'fast', 'bulk') THEN
        RETURN pg_catalog.hashtextextended(queue_name COLLATE "C", 1) & 255;
    END IF;
    RETURN pg_catalog.hashtextextended(job_key COLLATE "C", 0) & 255;
END;
$$;

COMMENT ON FUNCTION backfill._slot_of(text, text) IS 'The slot of a job: by its queue, unless that is fast or bulk, else by its job_key; NULL: it stays where it is.';

CREATE FUNCTION backfill._slot_of_schedule(name text, queue_name text, job_key text)
RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(backfill._slot_of(_slot_of_schedule.queue_name, _slot_of_schedule.job_key),
                    (pg_catalog.hashtextextended(_slot_of_schedule.name COLLATE "C", 2) & 255)::smallint);
END;

COMMENT ON FUNCTION backfill._slot_of_schedule(text, text, text) IS 'The slot of a schedule: that of its jobs, else by its name.';

CREATE FUNCTION backfill._routed(node_key uuid, mark bigint, router_version text, slot integer DEFAULT NULL, headers text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own record;
BEGIN
    -- A move that closes the slot waits until this transaction has ended. What it has closed is seen after the lock.
    IF slot IS NOT NULL THEN
        PERFORM pg_catalog.pg_advisory_xact_lock_shared(1650549611, slot);
    END IF;
    SELECT i.name, i.key, s.last_value, EXISTS (SELECT FROM backfill.held_slot h WHERE h.slot = _routed.slot) AS holds INTO own
      FROM backfill.job_id_seq s LEFT JOIN backfill.node_identity i ON true;
    IF node_key IS DISTINCT FROM own.key THEN
        RAISE EXCEPTION 'database "%" is not the node that the router takes it for', pg_catalog.current_database()
            USING ERRCODE = 'JB008',
                  HINT = 'See backfill.nodes in the router''s database. A database that was added is a node, and no copy of it.';
    END IF;
    IF backfill.version() NOT LIKE router_version || '.%' THEN
        RAISE EXCEPTION 'node "%" has version % of backfill, and its router is of version %', own.name, backfill.version(), router_version
            USING ERRCODE = 'JB008', HINT = 'Upgrade the older one.';
    END IF;
    IF own.last_value < mark THEN
        RAISE EXCEPTION 'node "%" has gone back in time: the last id that it has given is %, but the router knows of %', own.name, own.last_value, mark
            USING ERRCODE = 'JB008',
                  DETAIL = 'It was restored from a backup, or promoted without its last transactions.',
                  HINT = 'Call backfill.accept_node() in the router''s database.';
    END IF;
    IF slot IS NOT NULL AND NOT own.holds THEN
        RAISE EXCEPTION 'node "%" does not hold slot %', own.name, slot
            USING ERRCODE = 'JB007', HINT = 'The slot is being moved: try again.';
    END IF;
    IF headers IS NOT NULL THEN
        PERFORM pg_catalog.set_config('backfill.headers', headers, true);
    END IF;
    RETURN true;
END;
$$;

COMMENT ON FUNCTION backfill._routed(uuid, bigint, text, integer, text) IS 'Refuses a call of a router that is mistaken about this node, or about a slot. Every call of a router begins with it.';

CREATE FUNCTION backfill._oldest_ready_job(tasks text[], queues text[])
RETURNS timestamptz LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.min(r.run_at)
      FROM (SELECT t.task_identifier FROM backfill.task t WHERE _oldest_ready_job.tasks IS NULL AND t.handler_name IS NULL
            UNION SELECT pg_catalog.unnest(_oldest_ready_job.tasks)) k
     CROSS JOIN LATERAL (SELECT j.run_at FROM backfill.job j
                          WHERE j.task_identifier = k.task_identifier AND j.lease_expires_at IS NULL AND j.run_at <= backfill._now()
                            AND (_oldest_ready_job.queues IS NULL OR j.queue_name = ANY (_oldest_ready_job.queues))
                          ORDER BY j.priority, j.run_at, j.id LIMIT 1) r;
END;

COMMENT ON FUNCTION backfill._oldest_ready_job(text[], text[]) IS 'run_at of the oldest of the first jobs of these external tasks: a router claims from the node that has the oldest.';

CREATE FUNCTION backfill._node_state(
    OUT version text,
    OUT router_id uuid,
    OUT name text,
    OUT number integer,
    OUT last_job_id bigint,
    OUT numbers integer[],
    OUT in_recovery boolean)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill.version(), i.router_id, i.name, (s.last_value >> 47)::integer,
           CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END,
           ARRAY(SELECT DISTINCT (j.id >> 47)::integer FROM backfill.job j
                 UNION SELECT (d.id >> 47)::integer FROM backfill.dead_letter d
                 UNION SELECT (d.original_job_id >> 47)::integer FROM backfill.dead_letter d),
           pg_catalog.pg_is_in_recovery()
      FROM backfill.job_id_seq s LEFT JOIN backfill.node_identity i ON true;
END;

COMMENT ON FUNCTION backfill._node_state() IS 'What a router asks before it adds this database as a node, and when it checks it. number: that of the ids to come; numbers: those in the ids of its jobs and letters.';

CREATE FUNCTION backfill._node_number(number integer, at_least bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := greatest(number::bigint << 47, 1);
    last bigint := ((number::bigint + 1) << 47) - 1;
    sequence text;
    present bigint;
BEGIN
    IF number NOT BETWEEN 0 AND 63 OR at_least >> 47 <> number THEN
        RAISE EXCEPTION 'a node cannot have the number % and ids from %', number, coalesce(at_least, first)
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'Numbers are 0 to 63; ids have that of their node from bit 47 on.';
    END IF;
    -- Back to a number that it had, its ids would begin anew.
    SELECT (s.last_value >> 47) INTO present FROM backfill.job_id_seq s;
    IF present NOT IN (0, number) THEN
        RAISE EXCEPTION 'the ids of database "%" have the number % already', pg_catalog.current_database(), present
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'It was a node, or is restored from a backup of one. Add a new database.';
    END IF;
    FOR sequence IN SELECT pg_catalog.unnest('{job_id_seq,dead_letter_id_seq,claim_token_seq}'::text[]) LOOP
        EXECUTE pg_catalog.format('SELECT CASE WHEN s.is_called THEN s.last_value + 1 ELSE s.last_value END FROM backfill.%I s', sequence) INTO present;
        EXECUTE pg_catalog.format('ALTER SEQUENCE backfill.%I MINVALUE %s MAXVALUE %s START %s RESTART %s', sequence, first, last, first,
            greatest(first, CASE WHEN present >> 47 = number THEN present END, CASE WHEN at_least >> 47 = number THEN at_least END));
    END LOOP;
    PERFORM backfill._audit('accept_node', 'node', ARRAY[i.name], 1, NULL, pg_catalog.jsonb_build_object('at_least', at_least::text))
       FROM backfill.node_identity i WHERE at_least IS NOT NULL;
END;
$$;

COMMENT ON FUNCTION backfill._node_number(integer, bigint) IS 'Give ids and tokens this number, in bits 47 to 52; at_least: no id or token below it is given.';

CREATE FUNCTION backfill._node_join(router_id uuid, number integer, name text, key uuid, slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record := backfill._node_state();
    present integer := (SELECT i.number FROM backfill.node_identity i);
    before jsonb := (SELECT pg_catalog.to_jsonb(i) - 'key' FROM backfill.node_identity i);
BEGIN
    IF state.router_id <> router_id OR present <> number THEN
        RAISE EXCEPTION 'database "%" is a node already: "%", number %, of router %', pg_catalog.current_database(), state.name, present, state.router_id
            USING ERRCODE = 'object_in_use', HINT = 'Remove it from its router first.';
    END IF;
    IF present IS NULL AND NOT state.numbers <@ ARRAY[number] THEN
        RAISE EXCEPTION 'database "%" has jobs or dead letters whose ids have the numbers %', pg_catalog.current_database(), state.numbers
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Jobs of before can stay if the database is added as number 0, which a router can have one of.';
    END IF;
    PERFORM backfill._node_number(number, NULL);
    DELETE FROM backfill.node_identity;
    INSERT INTO backfill.node_identity (number, name, router_id, key) VALUES (number, name, router_id, key);
    PERFORM backfill._audit('add_node', 'node', ARRAY[name], 1, before, (SELECT pg_catalog.to_jsonb(i) - 'key' FROM backfill.node_identity i));
    PERFORM backfill._move_hold(slots);
END;
$$;

COMMENT ON FUNCTION backfill._node_join(uuid, integer, text, uuid, integer[]) IS 'Make this database a node; called again, it changes the name and the key.';

CREATE FUNCTION backfill._node_leave()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    state record := backfill._node_state();
BEGIN
    IF pg_catalog.cardinality(state.numbers) > 0 OR EXISTS (SELECT FROM backfill.held_slot) OR EXISTS (SELECT FROM backfill.departing) THEN
        RAISE EXCEPTION 'database "%" still has jobs, dead letters or slots of its router', pg_catalog.current_database()
            USING ERRCODE = 'object_in_use';
    END IF;
    PERFORM backfill._audit('remove_node', 'node', ARRAY[i.name], 1, pg_catalog.to_jsonb(i) - 'key', NULL) FROM backfill.node_identity i;
    DELETE FROM backfill.node_identity;
END;
$$;

COMMENT ON FUNCTION backfill._node_leave() IS 'This database is no node any more. Its sequences stay where they are.';

CREATE FUNCTION backfill._move_commits_durably()
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF pg_catalog.current_setting('synchronous_commit') = 'off' THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;
END;
$$;

COMMENT ON FUNCTION backfill._move_commits_durably() IS 'Have this transaction wait until its commit is on disk.';

CREATE FUNCTION backfill._move_note(slots smallint[], held boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._audit('move_slots', 'slot', slots::text[], NULL, NULL, pg_catalog.jsonb_build_object('held', held));
END;
$$;
COMMENT ON FUNCTION backfill._move_note(smallint[], boolean) IS 'Note in backfill.audit that this node holds slots, or holds them no more.';

CREATE FUNCTION backfill._move_close(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    slot integer;
    held smallint[];
BEGIN
    PERFORM backfill._move_commits_durably();
    -- Waits for the producers that are at work in the slot; later ones find it closed.
    FOR slot IN SELECT s FROM pg_catalog.unnest(slots) s ORDER BY s LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(1650549611, slot);
    END LOOP;
    WITH RECURSIVE gone AS (DELETE FROM backfill.held_slot h WHERE h.slot = ANY (slots) RETURNING h.slot)
    SELECT pg_catalog.array_agg(g.slot ORDER BY g.slot) INTO held FROM gone g;
    PERFORM backfill._move_note(held, false);
END;
$$;

COMMENT ON FUNCTION backfill._move_close(integer[]) IS 'Take no more jobs of these slots from the router.';

CREATE FUNCTION backfill._move_hold(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held smallint[];
BEGIN
    PERFORM backfill._move_commits_durably();
    DELETE FROM backfill.arrived a WHERE a.slot = ANY (slots);
    WITH RECURSIVE come AS (
        INSERT INTO backfill.held_slot AS h (slot) SELECT s FROM pg_catalog.unnest(slots) s ON CONFLICT DO NOTHING RETURNING h.slot)
    SELECT pg_catalog.array_agg(c.slot ORDER BY c.slot) INTO held FROM come c;
    PERFORM backfill._move_note(held, true);
END;
$$;

COMMENT ON FUNCTION backfill._move_hold(integer[]) IS 'Take jobs of these slots from the router: all that belongs to them is here.';

CREATE FUNCTION backfill._move_freeze(slots integer[])
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own integer := -1 - (SELECT i.number FROM backfill.node_identity i);
    remaining bigint;
BEGIN
    PERFORM backfill._move_commits_durably();
    WITH RECURSIVE gone AS (
        DELETE FROM backfill.job j
         USING (SELECT w.ctid AS tid FROM backfill.job w
                 WHERE w.lease_expires_at IS NULL AND coalesce(backfill._slot_of(w.queue_name, w.job_key), own) = ANY (slots)
                   FOR UPDATE SKIP LOCKED) waiting
         WHERE j.ctid = waiting.tid
        RETURNING coalesce(backfill._slot_of(j.queue_name, j.job_key), own) AS slot, j.id, pg_catalog.to_jsonb(j) AS content)
    INSERT INTO backfill.departing (slot, kind, name, content) SELECT g.slot, 4, g.id, g.content FROM gone g;
    SELECT pg_catalog.count(*) INTO remaining FROM backfill.job j
     WHERE coalesce(backfill._slot_of(j.queue_name, j.job_key), own) = ANY (slots);
    IF remaining = 0 THEN
        PERFORM backfill._move_freeze_rest(slots, own);
    END IF;
    RETURN remaining;
END;
$$;

COMMENT ON FUNCTION backfill._move_freeze(integer[]) IS 'Take what belongs to these slots out of its tables; returns how many of their jobs still run.';

CREATE FUNCTION backfill._move_freeze_rest(slots integer[], own integer)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WITH RECURSIVE gone AS (DELETE FROM backfill.queue q WHERE backfill._slot_of(q.queue_name, NULL) = ANY (slots) RETURNING q.*)
    INSERT INTO backfill.departing (slot, kind, name, content)
    SELECT backfill._slot_of(g.queue_name, NULL), 1, g.queue_name, pg_catalog.to_jsonb(g) - 'id' FROM gone g;

    WITH RECURSIVE gone AS (
        DELETE FROM backfill.cron_schedule c
         USING (SELECT s.name, backfill._slot_of_schedule(s.name, coalesce(s.queue_name, t.queue_name), s.job_key) AS slot
                  FROM backfill.cron_schedule s LEFT JOIN backfill.task t ON t.task_identifier = s.task_identifier) p
         WHERE p.name = c.name AND p.slot = ANY (slots)
        RETURNING p.slot, c.name, pg_catalog.to_jsonb(c) AS content)
    INSERT INTO backfill.departing (slot, kind, name, content) SELECT g.slot, 2, g.name, g.content FROM gone g;

    WITH RECURSIVE gone AS (DELETE FROM backfill.dead_letter d WHERE coalesce(backfill._slot_of(d.queue_name, d.job_key), own) = ANY (slots) RETURNING d.*)
    INSERT INTO backfill.departing (slot, kind, name, content)
    SELECT coalesce(backfill._slot_of(g.queue_name, g.job_key), own), 3, g.id, pg_catalog.to_jsonb(g) FROM gone g;

    WITH RECURSIVE gone AS (DELETE FROM backfill.forwarded f WHERE f.slot = ANY (slots) RETURNING f.*)
    INSERT INTO backfill.departing (slot, kind, name, content)
    SELECT g.slot, 5, g.id, pg_catalog.to_jsonb(g) FROM gone g;
END;
$$;

COMMENT ON FUNCTION backfill._move_freeze_rest(integer[], integer) IS 'The same for what is not a job: queues, schedules, dead letters, what outboxes have forwarded.';

CREATE FUNCTION backfill._move_read(slots integer[], max_rows integer)
RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_agg(d) FROM (
        SELECT p.slot, p.kind, p.name, p.content FROM backfill.departing p WHERE p.slot = ANY (_move_read.slots)
         ORDER BY p.kind, p.slot, p.name LIMIT _move_read.max_rows) d;
END;

COMMENT ON FUNCTION backfill._move_read(integer[], integer) IS 'The next rows of these slots that have to go to the new node; NULL: there are none.';

CREATE FUNCTION backfill._move_forget(moved jsonb)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM backfill.departing d
     USING pg_catalog.jsonb_to_recordset(moved) AS m (slot smallint, kind smallint, name text)
     WHERE d.slot = m.slot AND d.kind = m.kind AND d.name = m.name;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END;
$$;

COMMENT ON FUNCTION backfill._move_forget(jsonb) IS 'Forget rows that the new node has.';

CREATE FUNCTION backfill._move_insert(moved jsonb)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fresh jsonb;
BEGIN
    PERFORM backfill._move_commits_durably();
    WITH RECURSIVE a AS (
        INSERT INTO backfill.arrived AS i (slot, kind, name)
        SELECT r.slot, r.kind, r.name FROM pg_catalog.jsonb_to_recordset(moved) AS r (slot smallint, kind smallint, name text)
            ON CONFLICT DO NOTHING RETURNING i.*)
    SELECT pg_catalog.jsonb_agg(m) INTO fresh
      FROM pg_catalog.jsonb_to_recordset(moved) AS m (slot smallint, kind smallint, name text, content jsonb)
      JOIN a ON a.slot = m.slot AND a.kind = m.kind AND a.name = m.name;
    PERFORM backfill._move_put(fresh);
    RETURN coalesce(pg_catalog.jsonb_array_length(fresh), 0);
END;
$$;

COMMENT ON FUNCTION backfill._move_insert(jsonb) IS 'Put rows of another node into their tables here; those that came before are left out. Returns how many were new.';

CREATE FUNCTION backfill._move_put(moved jsonb)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT r.* FROM pg_catalog.jsonb_to_recordset(moved) AS r (kind smallint, name text, content jsonb) ORDER BY r.kind LOOP
        CASE item.kind
        WHEN 1 THEN
            INSERT INTO backfill.queue AS q (queue_name, concurrency, rate_limit, rate_period, max_depth, paused, automatic)
            SELECT r.queue_name, r.concurrency, r.rate_limit, r.rate_period, r.max_depth, r.paused, r.automatic
              FROM pg_catalog.jsonb_populate_record(NULL::backfill.queue, item.content) r
                ON CONFLICT (queue_name) DO UPDATE SET concurrency = excluded.concurrency, rate_limit = excluded.rate_limit,
                   rate_period = excluded.rate_period, max_depth = excluded.max_depth, paused = excluded.paused, automatic = excluded.automatic;
        WHEN 2 THEN
            DELETE FROM backfill.cron_schedule c WHERE c.name = item.name;
            INSERT INTO backfill.cron_schedule SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.cron_schedule, item.content) r;
        WHEN 3 THEN
            -- A handler of this node may have enqueued a job with that key, which has failed, too: both letters are kept.
            INSERT INTO backfill.dead_letter
            SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.dead_letter, item.content
                       || CASE WHEN EXISTS (SELECT FROM backfill.dead_letter d WHERE d.job_key = item.content ->> 'job_key'
                                               AND d.task_identifier = item.content ->> 'task_identifier') THEN '{"job_key": null}' ELSE '{}' END::jsonb) r;
        WHEN 4 THEN
            INSERT INTO backfill.job SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.job, item.content) r;
        WHEN 5 THEN
            INSERT INTO backfill.forwarded SELECT r.* FROM pg_catalog.jsonb_populate_record(NULL::backfill.forwarded, item.content) r;
        END CASE;
    END LOOP;
END;
$$;

COMMENT ON FUNCTION backfill._move_put(jsonb) IS 'Put rows that were taken out by _move_freeze() into their tables.';

CREATE FUNCTION backfill._move_undo(slots integer[])
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rows jsonb;
BEGIN
    LOOP
        rows := backfill._move_read(slots, 1000);
        EXIT WHEN rows IS NULL;
        PERFORM backfill._move_put(rows);
        PERFORM backfill._move_forget(rows);
    END LOOP;
    PERFORM backfill._move_hold(slots);
END;
$$;

COMMENT ON FUNCTION backfill._move_undo(integer[]) IS 'What was to be moved stays: put it back, and take jobs of these slots again.';

CREATE FUNCTION backfill._overview_queue_depth(
    queue_name text, cap integer,
    OUT ready bigint, OUT scheduled bigint, OUT running bigint,
    OUT oldest_ready_at timestamptz,
    OUT complete boolean)
LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.task_identifier, j.priority FROM backfill._job j
          WHERE j.queue_name >= _overview_queue_depth.queue_name AND j.queue_name <= _overview_queue_depth.queue_name
            AND j.queue_name <> '' AND j.lease_expires_at IS NULL
          ORDER BY j.queue_name, j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.task_identifier, n.priority
          FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.task_identifier, j.priority FROM backfill._job j
                WHERE (j.queue_name, j.task_identifier, j.priority) > (_overview_queue_depth.queue_name, l.task_identifier, l.priority)
                  AND j.queue_name <= _overview_queue_depth.queue_name AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.task_identifier, j.priority LIMIT 1) n),
    range AS MATERIALIZED (SELECT l.* FROM leap l LIMIT 101),
    due AS (
        SELECT d.run_at, backfill._claimed(d.tid, d.claimer) AS claimed
          FROM range r
         CROSS JOIN LATERAL (
               SELECT j.run_at, j.tid, j.claimer FROM backfill._job j
                WHERE j.queue_name = ANY (ARRAY[_overview_queue_depth.queue_name]) AND j.task_identifier = r.task_identifier AND j.priority = r.priority
                  AND j.run_at <= (SELECT backfill._now()) AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.run_at, j.id LIMIT _overview_queue_depth.cap + 1) d
         LIMIT 2 * (_overview_queue_depth.cap + 1)),
    later AS (
        SELECT s.run_at
          FROM range r
         CROSS JOIN LATERAL (
               SELECT j.run_at FROM backfill._job j
                WHERE j.queue_name = ANY (ARRAY[_overview_queue_depth.queue_name]) AND j.task_identifier = r.task_identifier AND j.priority = r.priority
                  AND j.run_at > (SELECT backfill._now()) AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.run_at, j.id LIMIT _overview_queue_depth.cap + 1) s
         LIMIT _overview_queue_depth.cap + 1)
    SELECT pg_catalog.count(*) FILTER (WHERE NOT d.claimed), (SELECT pg_catalog.count(*) FROM later),
           pg_catalog.count(*) FILTER (WHERE d.claimed), pg_catalog.min(d.run_at) FILTER (WHERE NOT d.claimed),
           (SELECT pg_catalog.count(*) FROM range) <= 100
      FROM due d;
END;

COMMENT ON FUNCTION backfill._overview_queue_depth(text, integer) IS 'How many jobs of a queue wait or run, up to a cap and one more, and whether that is of all of its ranges.';

CREATE FUNCTION backfill._overview_queues_json(queue_names text[], cap integer)
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH lease AS MATERIALIZED (
        SELECT s.queue_name, s.run_at, s.state
          FROM (SELECT j.queue_name, j.run_at,
                       CASE WHEN j.lease_expires_at = 'infinity' THEN 'running'
                            WHEN j.lease_expires_at > backfill._now() THEN 'leased'
                            WHEN backfill._claimed(j.tid, j.claimer) THEN 'running'
                            WHEN j.run_at > backfill._now() THEN 'scheduled' ELSE 'ready' END AS state
                  FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at DESC LIMIT 10001) s),
    looked_at AS (SELECT pg_catalog.count(*) <= 10000 AS all_leases FROM lease)
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'queue_name', n.queue_name, 'concurrency', backfill._queue_limit(n.queue_name),
               'rate_limit', q.rate_limit, 'rate_period', extract(epoch FROM q.rate_period), 'max_depth', q.max_depth,
               'paused', coalesce(q.paused, false), 'automatic', coalesce(q.automatic, q.queue_name IS NULL AND n.queue_name NOT IN ('fast', 'bulk')),
               'ready', backfill._page_count(j.ready + l.ready, _overview_queues_json.cap, j.complete AND a.all_leases),
               'scheduled', backfill._page_count(j.scheduled + l.scheduled, _overview_queues_json.cap, j.complete AND a.all_leases),
               'running', j.running + l.running, 'leased', l.leased, 'cut_off', NOT (j.complete AND a.all_leases),
               'oldest_ready_at', least(j.oldest_ready_at, l.oldest_ready_at)) ORDER BY n.place), '[]')
      FROM looked_at a
     CROSS JOIN pg_catalog.unnest(_overview_queues_json.queue_names) WITH ORDINALITY AS n (queue_name, place)
      LEFT JOIN backfill.queue q ON q.queue_name = n.queue_name
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) FILTER (WHERE s.state = 'ready') AS ready, pg_catalog.count(*) FILTER (WHERE s.state = 'scheduled') AS scheduled,
                  pg_catalog.count(*) FILTER (WHERE s.state = 'running') AS running, pg_catalog.count(*) FILTER (WHERE s.state = 'leased') AS leased,
                  pg_catalog.min(s.run_at) FILTER (WHERE s.state = 'ready') AS oldest_ready_at
             FROM lease s WHERE s.queue_name = n.queue_name) l
     CROSS JOIN LATERAL backfill._overview_queue_depth(n.queue_name, _overview_queues_json.cap) j;
END;

COMMENT ON FUNCTION backfill._overview_queues_json(text[], integer) IS 'These queues, with their limits and how many jobs they have, as JSON.';

CREATE FUNCTION backfill._overview_queue_names(max_names integer, after text)
RETURNS SETOF text LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.queue_name FROM backfill._job j
          WHERE j.queue_name > _overview_queue_names.after AND j.queue_name <> '' AND j.lease_expires_at IS NULL
          ORDER BY j.queue_name, j.task_identifier LIMIT 1)
        UNION ALL
        SELECT n.queue_name FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.queue_name FROM backfill._job j
                WHERE j.queue_name > l.queue_name AND j.queue_name <> '' AND j.lease_expires_at IS NULL
                ORDER BY j.queue_name, j.task_identifier LIMIT 1) n)
    SELECT n.queue_name
      FROM ((SELECT l.queue_name FROM leap l LIMIT _overview_queue_names.max_names)
            UNION
            (SELECT q.queue_name FROM backfill.queue q WHERE q.queue_name > _overview_queue_names.after ORDER BY q.queue_name LIMIT _overview_queue_names.max_names)
            UNION
            SELECT l.queue_name
              FROM (SELECT j.queue_name FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at LIMIT 10001) l
             WHERE l.queue_name > _overview_queue_names.after
            UNION
            SELECT b.queue_name FROM (VALUES ('fast' COLLATE "C"), ('bulk')) AS b (queue_name) WHERE b.queue_name > _overview_queue_names.after) n
     ORDER BY n.queue_name LIMIT _overview_queue_names.max_names;
END;

COMMENT ON FUNCTION backfill._overview_queue_names(integer, text) IS 'The names of queues that are configured or have jobs: the next ones after a name.';

CREATE FUNCTION backfill._overview_page_of_names(
    names text[],
    looked_at integer,
    size integer,
    search text,
    among text[],
    OUT page text[],
    OUT next text,
    OUT cut_off boolean)
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.found[1:_overview_page_of_names.size], CASE WHEN c.cut_off THEN _overview_page_of_names.names[_overview_page_of_names.looked_at]
                                                WHEN pg_catalog.cardinality(f.found) > _overview_page_of_names.size THEN f.found[_overview_page_of_names.size] END, c.cut_off
      FROM (SELECT ARRAY(SELECT n.name FROM pg_catalog.unnest(_overview_page_of_names.names) WITH ORDINALITY AS n (name, place)
                          WHERE (_overview_page_of_names.search IS NULL OR pg_catalog.strpos(pg_catalog.lower(n.name), pg_catalog.lower(_overview_page_of_names.search)) > 0)
                            AND (_overview_page_of_names.among IS NULL OR n.name = ANY (_overview_page_of_names.among))
                          ORDER BY n.place) AS found) f
     CROSS JOIN LATERAL (SELECT pg_catalog.cardinality(f.found) <= _overview_page_of_names.size
                                AND pg_catalog.cardinality(_overview_page_of_names.names) >= _overview_page_of_names.looked_at AS cut_off) c;
END;

COMMENT ON FUNCTION backfill._overview_page_of_names(text[], integer, integer, text, text[]) IS
    'The first names that match, among these if any are given, and where to go on. cut_off: looked_at names were looked at, and may not have been all.';

CREATE FUNCTION backfill.list_queues(search text DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    looked_at constant integer := CASE WHEN search IS NULL THEN size + 1 ELSE 5000 END;
    found record;
BEGIN
    found := backfill._overview_page_of_names(ARRAY(SELECT n.* FROM backfill._overview_queue_names(looked_at, coalesce((backfill._page_place('queues', cursor)).name, '')) n),
                                     looked_at, size, search, NULL);
    -- All counts of a page together look at 50,000 jobs or so.
    RETURN pg_catalog.jsonb_build_object('queues', backfill._overview_queues_json(found.page, least(10000, 50000 / size)),
                                         'next', CASE WHEN found.next IS NOT NULL THEN backfill._page_cursor('queues', NULL, NULL, found.next) END,
                                         'cut_off', found.cut_off);
END;
$$;

COMMENT ON FUNCTION backfill.list_queues(text, text, integer) IS
    'A page of the queues that are configured or have jobs, by name, with their limits and counts, as JSON. search: a part of the name, in whatever case. The more queues a page has, the lower counts are capped.';

CREATE FUNCTION backfill.queue_details(queue_name text)
RETURNS jsonb LANGUAGE sql STABLE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT q.queue
      FROM (SELECT backfill._overview_queues_json(ARRAY[queue_details.queue_name], 10000) -> 0 AS queue) q
     WHERE queue_details.queue_name IN ('fast', 'bulk')
        OR EXISTS (SELECT FROM backfill.queue c WHERE c.queue_name = queue_details.queue_name)
        OR (q.queue -> 'ready' ->> 'count')::bigint + (q.queue -> 'scheduled' ->> 'count')::bigint
           + (q.queue ->> 'running')::bigint + (q.queue ->> 'leased')::bigint > 0;
END;

COMMENT ON FUNCTION backfill.queue_details(text) IS 'One queue as list_queues() shows it; NULL if it is not configured and has no jobs.';

CREATE FUNCTION backfill.list_history(
    task_identifier text DEFAULT NULL,
    queue_name text DEFAULT NULL,
    job_key text DEFAULT NULL,
    outcome text DEFAULT NULL,
    finished_after timestamptz DEFAULT NULL,
    finished_before timestamptz DEFAULT NULL,
    cursor text DEFAULT NULL,
    "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    place record := backfill._page_place('history', cursor);
    max_rows constant integer := CASE WHEN pg_catalog.num_nonnulls(task_identifier, queue_name, job_key, outcome) = 0 THEN size + 1 ELSE 20000 END;
    stop record;
    found backfill._attempt[];
    is_cut_off boolean;
BEGIN
    PERFORM backfill._page_check_word('outcome', outcome, '{completed,dead,discarded,cancelled,superseded}');
    -- The last run that it looks at, if there may be more.
    SELECT a.finished_at, a.job_id INTO stop
      FROM backfill._attempt a
     WHERE (a.finished_at, a.job_id) < (coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807)) AND a.outcome <> 'retried'
       AND a.finished_at >= coalesce(finished_after, '-infinity') AND a.finished_at <= coalesce(finished_before, 'infinity')
     ORDER BY a.finished_at DESC, a.job_id DESC LIMIT 1 OFFSET max_rows - 1;
    found := ARRAY(SELECT a FROM backfill._attempt a
                    WHERE (a.finished_at, a.job_id) < (coalesce(place.at, 'infinity'), coalesce(place.id, 9223372036854775807)) AND a.outcome <> 'retried'
                      AND (a.finished_at, a.job_id) >= (coalesce(stop.finished_at, '-infinity'), coalesce(stop.job_id, -9223372036854775808))
                      AND a.finished_at >= coalesce(finished_after, '-infinity')
                      AND (finished_before IS NULL OR a.finished_at < finished_before)
                      AND (list_history.task_identifier IS NULL OR a.task_identifier = list_history.task_identifier)
                      AND (list_history.queue_name IS NULL OR coalesce(a.queue_name, '') = list_history.queue_name)
                      AND (list_history.job_key IS NULL OR a.job_key = list_history.job_key)
                      AND (list_history.outcome IS NULL OR a.outcome = list_history.outcome)
                    ORDER BY a.finished_at DESC, a.job_id DESC LIMIT size + 1);
    is_cut_off := stop.job_id IS NOT NULL AND pg_catalog.cardinality(found) <= size;
    RETURN pg_catalog.jsonb_build_object(
        'history', backfill._page_endings_json(found[1:size]),
        'next', CASE WHEN is_cut_off THEN backfill._page_cursor('history', stop.finished_at, stop.job_id, NULL)
                     WHEN pg_catalog.cardinality(found) > size THEN backfill._page_cursor('history', found[size].finished_at, found[size].job_id, NULL) END,
        'cut_off', is_cut_off);
END;
$$;

COMMENT ON FUNCTION backfill.list_history(text, text, text, text, timestamptz, timestamptz, text, integer) IS
    'A page of the jobs that have ended, of tasks that keep a history, the latest first, as JSON. finished_after is inclusive, finished_before exclusive.';

CREATE FUNCTION backfill._page_endings_json(runs backfill._attempt[])
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(h) || pg_catalog.jsonb_build_object(
                        'id', h.id::text, 'result', CASE WHEN pg_catalog.pg_column_size(h.result) <= 2048 THEN h.result END,
                        'result_size', pg_catalog.pg_column_size(h.result)) ORDER BY h.finished_at DESC, h.id DESC), '[]')
      FROM backfill.history h
     WHERE h.id = ANY (ARRAY(SELECT r.job_id FROM pg_catalog.unnest(_page_endings_json.runs) AS r))
       AND EXISTS (SELECT FROM pg_catalog.unnest(_page_endings_json.runs) AS r WHERE r.job_id = h.id AND r.finished_at = h.finished_at);
END;

COMMENT ON FUNCTION backfill._page_endings_json(backfill._attempt[]) IS 'These ends of jobs as the caller may see them in backfill.history, as JSON.';

CREATE FUNCTION backfill.list_schedules()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object('schedules', coalesce(pg_catalog.jsonb_agg(
               pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object(
                   'timeout', extract(epoch FROM s.timeout), 'fill', extract(epoch FROM s.fill),
                   'next_runs', (WITH RECURSIVE due AS (
                                     SELECT s.next_run_at AS at, 1 AS place WHERE s.next_run_at IS NOT NULL
                                     UNION ALL
                                     SELECT n.at, d.place + 1 FROM due d
                                      CROSS JOIN LATERAL (SELECT backfill._next_run_at(s.cron, s.time_zone, d.at) AS at) n
                                      WHERE d.place < 5 AND n.at IS NOT NULL)
                                 SELECT coalesce(pg_catalog.jsonb_agg(d.at ORDER BY d.place), '[]') FROM due d))
               ORDER BY s.name), '[]'))
      FROM backfill.schedules s;
END;

COMMENT ON FUNCTION backfill.list_schedules() IS 'All schedules, each with the five times at which it is due next, as JSON.';

CREATE TABLE backfill.forwarded (
    id uuid PRIMARY KEY,
    slot smallint, -- where its sender finds it again after a move; NULL: without a router
    job_id bigint,
    created_at timestamptz NOT NULL -- by the sender's clock
);

CREATE INDEX forwarded_created_at_idx ON backfill.forwarded (created_at);

COMMENT ON TABLE backfill.forwarded IS 'What outboxes have forwarded to this database in the last 30 days, so that it is enqueued once.';

CREATE TABLE backfill.outbox (
    server text COLLATE "C" PRIMARY KEY
);

CREATE UNIQUE INDEX outbox_one_idx ON backfill.outbox ((true));

COMMENT ON TABLE backfill.outbox IS 'Where enqueue_via_outbox() forwards to: a foreign server of dblink_fdw. One row at most.';

SELECT pg_catalog.pg_extension_config_dump('backfill.forwarded', '');

SELECT pg_catalog.pg_extension_config_dump('backfill.outbox', '');

CREATE FUNCTION backfill._note_forwarded(id uuid, created_at timestamptz, slot integer, job_id bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    known bigint;
BEGIN
    IF job_id IS NOT NULL THEN
        UPDATE backfill.forwarded f SET job_id = _note_forwarded.job_id WHERE f.id = _note_forwarded.id AND f.job_id IS NULL;
        RETURN job_id;
    END IF;
    -- A letter that an operator requeues after months: it is not known any more whether it was forwarded.
    IF created_at < pg_catalog.now() - interval '29 days' THEN
        RAISE EXCEPTION 'job % was put into its outbox at %, too long ago to know whether it was forwarded', id, created_at
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Look whether it was; if not, enqueue it anew.';
    END IF;
    DELETE FROM backfill.forwarded f
     WHERE f.id IN (SELECT o.id FROM backfill.forwarded o WHERE o.created_at < pg_catalog.now() - interval '30 days' LIMIT 10 FOR UPDATE SKIP LOCKED);
    INSERT INTO backfill.forwarded AS f (id, slot, created_at) VALUES (id, slot, created_at) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT coalesce(f.job_id, 0) INTO known FROM backfill.forwarded f WHERE f.id = _note_forwarded.id;
    END IF;
    RETURN known;
END;
$$;

COMMENT ON FUNCTION backfill._note_forwarded(uuid, timestamptz, integer, bigint) IS
    'Without a job_id: note that a job is forwarded; returns NULL if it is the first time, else the id of the job (0: a hook has skipped it). With one: that is its id.';

CREATE FUNCTION backfill._enqueue_once(id uuid, created_at timestamptz, job jsonb, slot integer DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    job_id bigint := backfill._note_forwarded(id, created_at, slot, NULL);
BEGIN
    IF job_id IS NULL THEN
        job_id := (SELECT j FROM backfill.enqueue_jobs(pg_catalog.jsonb_build_array(job)) j);
        PERFORM backfill._note_forwarded(id, created_at, slot, job_id) WHERE job_id IS NOT NULL;
    END IF;
    RETURN job_id;
END;
$$;

COMMENT ON FUNCTION backfill._enqueue_once(uuid, timestamptz, jsonb, integer) IS
    'Enqueue what an outbox forwards, unless that has been done; returns the id of the job. job is an object as in enqueue_jobs().';

CREATE FUNCTION backfill.enqueue_via_outbox(
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
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF task_identifier IS NULL THEN
        RAISE EXCEPTION 'task_identifier must not be null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    RETURN backfill.enqueue('backfill.outbox', pg_catalog.jsonb_build_object(
               'id', pg_catalog.gen_random_uuid(), 'created_at', pg_catalog.now(),
               'job', pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                   'task_identifier', task_identifier, 'queue_name', queue_name, 'priority', priority, 'run_at', run_at,
                   'max_attempts', max_attempts, 'job_key', job_key, 'job_key_mode', job_key_mode, 'retry_policy', retry_policy,
                   'timeout', timeout::text))
               || pg_catalog.jsonb_build_object('payload', coalesce(payload, '{}'))
               || CASE WHEN headers IS NULL THEN '{}' ELSE pg_catalog.jsonb_build_object('headers', headers) END),
           priority => priority);
END;
$$;

COMMENT ON FUNCTION backfill.enqueue_via_outbox(text, jsonb, text, integer, timestamptz, integer, text, text, text, interval, jsonb) IS
    'Enqueue a job, in the current transaction, that is forwarded to the database that set_outbox() has named, and enqueued there once. Returns the id of the local job that forwards it.';

CREATE FUNCTION backfill._forward(job jsonb)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    server text := (SELECT o.server FROM backfill.outbox o);
    dblink text := (SELECT n.nspname FROM pg_catalog.pg_extension e
                      JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'dblink');
    connected boolean;
    job_id bigint;
BEGIN
    -- One connection for all jobs that this executor forwards. After an error there is a new one.
    EXECUTE pg_catalog.format('SELECT coalesce(''backfill_outbox'' = ANY (%I.dblink_get_connections()), false)', dblink) INTO connected;
    IF NOT connected THEN
        EXECUTE pg_catalog.format('SELECT %I.dblink_connect(''backfill_outbox'', %L)', dblink, server);
    END IF;
    BEGIN
        EXECUTE pg_catalog.format('SELECT f.job_id FROM %I.dblink(''backfill_outbox'', $1) f (job_id bigint)', dblink) INTO job_id
          USING pg_catalog.format('SELECT backfill._enqueue_once(%L, %L, %L)', job ->> 'id', job ->> 'created_at', job -> 'job');
    EXCEPTION WHEN OTHERS THEN
        EXECUTE pg_catalog.format('SELECT %I.dblink_disconnect(''backfill_outbox'')', dblink);
        RAISE;
    END;
    RETURN pg_catalog.jsonb_build_object('job_id', job_id);
END;
$$;

COMMENT ON FUNCTION backfill._forward(jsonb) IS 'The handler of the task backfill.outbox.';

CREATE FUNCTION backfill.set_outbox(server text)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before jsonb := (SELECT pg_catalog.to_jsonb(o) FROM backfill.outbox o);
BEGIN
    PERFORM FROM pg_catalog.pg_extension e WHERE e.extname = 'dblink';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'an outbox needs the extension dblink' USING ERRCODE = 'undefined_object', HINT = 'CREATE EXTENSION dblink;';
    END IF;
    PERFORM FROM pg_catalog.pg_foreign_server s JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw
      WHERE s.srvname = server AND w.fdwname = 'dblink_fdw';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no foreign server "%" of dblink_fdw', coalesce(server, 'NULL')
            USING ERRCODE = 'undefined_object',
                  HINT = 'CREATE SERVER ... FOREIGN DATA WRAPPER dblink_fdw; CREATE USER MAPPING FOR the role that calls set_outbox().';
    END IF;
    DELETE FROM backfill.outbox;
    INSERT INTO backfill.outbox (server) VALUES (server);
    -- After 30 days it is not known any more what was forwarded.
    PERFORM backfill.register_task('backfill.outbox', 'backfill._forward(jsonb)', max_attempts => 32767);
    PERFORM backfill._audit('set_outbox', 'outbox', ARRAY[server], 1, before, pg_catalog.jsonb_build_object('server', server));
END;
$$;

COMMENT ON FUNCTION backfill.set_outbox(text) IS
    'Forward what enqueue_via_outbox() enqueues to this foreign server of dblink_fdw, as the role that calls this and its user mapping.';

CREATE FUNCTION backfill._overview_bands(task_identifiers text[], priorities smallint[], cap integer,
    OUT place bigint, OUT band text, OUT ready bigint, OUT running bigint)
RETURNS SETOF record LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 6 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT b.place, b.band, CASE WHEN c.jobs <= _overview_bands.cap THEN d.ready ELSE c.jobs END, d.running
      FROM (SELECT p.place, backfill.priority_band(p.priority) AS band
              FROM pg_catalog.unnest('{-20,-10,-5,0,5,10}'::smallint[]) WITH ORDINALITY AS p (priority, place)) b
     CROSS JOIN LATERAL (
           SELECT coalesce(pg_catalog.array_agg(r.task_identifier), '{}') AS tasks, coalesce(pg_catalog.array_agg(r.priority), '{}') AS priorities
             FROM ROWS FROM (pg_catalog.unnest(_overview_bands.task_identifiers), pg_catalog.unnest(_overview_bands.priorities)) AS r (task_identifier, priority)
            WHERE backfill.priority_band(r.priority) = b.band) g
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) AS jobs
             FROM (SELECT FROM ROWS FROM (pg_catalog.unnest(g.tasks), pg_catalog.unnest(g.priorities)) AS r (task_identifier, priority)
                    CROSS JOIN LATERAL (
                          SELECT FROM backfill._job j
                           WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                             AND j.run_at <= (SELECT backfill._now()) ORDER BY j.run_at, j.id LIMIT _overview_bands.cap + 1) j
                    LIMIT _overview_bands.cap + 1) s) c
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) FILTER (WHERE NOT s.claimed) AS ready, pg_catalog.count(*) FILTER (WHERE s.claimed) AS running
             FROM (SELECT backfill._claimed(j.tid, j.claimer) AS claimed
                     FROM ROWS FROM (pg_catalog.unnest(g.tasks), pg_catalog.unnest(g.priorities)) AS r (task_identifier, priority)
                    CROSS JOIN LATERAL (
                          SELECT j.tid, j.claimer FROM backfill._job j
                           WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                             AND j.run_at <= (SELECT backfill._now()) ORDER BY j.run_at, j.id LIMIT _overview_bands.cap + 1) j
                    WHERE c.jobs <= _overview_bands.cap) s) d;
END;

COMMENT ON FUNCTION backfill._overview_bands(text[], smallint[], integer) IS 'How many jobs are ready in each priority band, up to a cap and one more, and how many of them run.';

CREATE FUNCTION backfill._overview_longest_queues(max_queues integer)
RETURNS text[] LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first bigint := (SELECT j.id FROM backfill._job j ORDER BY j.id LIMIT 1);
    last bigint := (SELECT j.id FROM backfill._job j ORDER BY j.id DESC LIMIT 1);
    sample text[];
BEGIN
    IF last IS NULL OR NOT EXISTS (SELECT FROM backfill._job j ORDER BY j.id OFFSET 3000) THEN
        sample := ARRAY(SELECT j.queue_name FROM (SELECT j.queue_name FROM backfill._job j ORDER BY j.id LIMIT 3000) j);
    ELSE
        sample := ARRAY(SELECT s.queue_name
                          FROM (SELECT DISTINCT j.id, j.queue_name
                                  FROM pg_catalog.generate_series(0, 299) n
                                 CROSS JOIN LATERAL (SELECT j.id, j.queue_name FROM backfill._job j
                                                      WHERE j.id >= first + (last - first) / 300 * n ORDER BY j.id LIMIT 1) j) s);
    END IF;
    RETURN ARRAY(SELECT s.queue_name FROM pg_catalog.unnest(sample) s (queue_name) WHERE s.queue_name <> ''
                  GROUP BY s.queue_name ORDER BY pg_catalog.count(*) DESC, s.queue_name COLLATE "C" LIMIT max_queues);
END;
$$;

COMMENT ON FUNCTION backfill._overview_longest_queues(integer) IS 'The names of the queues that most jobs wait in, as far as a sample tells.';

CREATE FUNCTION backfill._overview_jobs()
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    cap constant integer := 10000;
    now constant timestamptz := backfill._now();
    ranges record;
    lease record;
    ready record;
    later bigint;
    oldest timestamptz;
BEGIN
    ranges := backfill._page_job_ranges(1000, NULL, NULL, NULL);
    SELECT pg_catalog.sum(least(b.ready, cap)) AS jobs, pg_catalog.bool_or(b.ready > cap) AS capped, pg_catalog.sum(b.running) AS running,
           pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('band', b.band, 'ready', backfill._page_count(b.ready, cap, ranges.complete)) ORDER BY b.place) AS bands
      INTO ready FROM backfill._overview_bands(ranges.task_identifiers, ranges.priorities, cap) b;
    later := (SELECT pg_catalog.count(*)
                FROM (SELECT FROM ROWS FROM (pg_catalog.unnest(ranges.task_identifiers), pg_catalog.unnest(ranges.priorities)) AS r (task_identifier, priority)
                       CROSS JOIN LATERAL (
                             SELECT FROM backfill._job j
                              WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                                AND j.run_at > now ORDER BY j.run_at, j.id LIMIT cap + 1) j
                       LIMIT cap + 1) s);
    oldest := (SELECT pg_catalog.min(j.run_at)
                 FROM ROWS FROM (pg_catalog.unnest(ranges.task_identifiers), pg_catalog.unnest(ranges.priorities)) AS r (task_identifier, priority)
                CROSS JOIN LATERAL (
                      SELECT j.run_at FROM backfill._job j
                       WHERE j.task_identifier = r.task_identifier AND j.priority = r.priority AND j.lease_expires_at IS NULL
                         AND j.run_at <= now AND NOT backfill._claimed(j.tid, j.claimer) ORDER BY j.run_at, j.id LIMIT 1) j);
    SELECT pg_catalog.count(*) FILTER (WHERE j.lease_expires_at = 'infinity') AS procedures,
           pg_catalog.count(*) FILTER (WHERE j.lease_expires_at > now AND j.lease_expires_at < 'infinity') AS leased,
           pg_catalog.count(*) >= cap AS cut_off
      INTO lease
      FROM (SELECT j.lease_expires_at FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at DESC LIMIT cap) j;
    RETURN pg_catalog.jsonb_build_object(
        'jobs', pg_catalog.jsonb_build_object(
            'ready', pg_catalog.jsonb_build_object('count', ready.jobs, 'capped', ready.capped OR NOT ranges.complete),
            'scheduled', backfill._page_count(later, cap, ranges.complete),
            -- What ran before in an executor's transaction still counts; where not all jobs are looked at, each executor runs one.
            'running', lease.procedures + greatest(ready.running, (SELECT pg_catalog.count(w.job_id) FROM backfill._workers() w) - lease.procedures),
            'leased', lease.leased,
            'cut_off', lease.cut_off OR NOT ranges.complete,
            'estimated', (SELECT pg_catalog.round(c.reltuples * pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::integer / c.relpages)
                            FROM pg_catalog.pg_class c WHERE c.oid = 'backfill.job'::pg_catalog.regclass AND c.reltuples >= 0 AND c.relpages > 0),
            'dead', (SELECT backfill._page_count(pg_catalog.count(*), cap) FROM (SELECT FROM backfill._letter d ORDER BY d.id LIMIT cap + 1) d)),
        'bands', ready.bands, 'oldest_ready_at', oldest,
        'dead_today', (SELECT backfill._page_count(pg_catalog.count(*), cap)
                         FROM (SELECT FROM backfill._letter d WHERE d.failed_at >= pg_catalog.date_trunc('day', now)
                                ORDER BY d.failed_at, d.id LIMIT cap + 1) d));
END;
$$;

COMMENT ON FUNCTION backfill._overview_jobs() IS 'The part of overview() that counts jobs and dead letters.';

CREATE FUNCTION backfill._overview_totals(
    OUT name text,
    OUT labels jsonb,
    OUT value double precision,
    OUT sum double precision,
    OUT bucket_bounds double precision[],
    OUT bucket_counts bigint[])
RETURNS SETOF record LANGUAGE c STRICT VOLATILE PARALLEL RESTRICTED ROWS 20 AS 'MODULE_PATHNAME', 'backfill_counter_totals';

COMMENT ON FUNCTION backfill._overview_totals() IS
    'What _counters() has for each task, queue and priority band, of all of them together; no rows if there is no shared memory.';

CREATE FUNCTION backfill._overview_counters()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH c AS MATERIALIZED (
        SELECT k.* FROM backfill._overview_totals() k
         WHERE k.name = ANY ('{backfill_jobs_enqueued,backfill_jobs_completed,backfill_jobs_failed,backfill_retries_attempted,backfill_dlq_jobs_added,backfill_jobs_wait_time_seconds,backfill_jobs_duration_seconds}'))
    SELECT pg_catalog.jsonb_build_object('counters',
               (SELECT pg_catalog.jsonb_object_agg(n.key, coalesce((SELECT pg_catalog.sum(c.value) FROM c WHERE c.name = n.name), 0)::bigint::text)
                  FROM (VALUES ('enqueued', 'backfill_jobs_enqueued'), ('completed', 'backfill_jobs_completed'), ('failed', 'backfill_jobs_failed'),
                               ('retried', 'backfill_retries_attempted'), ('dead', 'backfill_dlq_jobs_added')) AS n (key, name)))
        || (SELECT pg_catalog.jsonb_object_agg(n.key, pg_catalog.jsonb_build_object(
                       'bounds', coalesce((SELECT pg_catalog.to_jsonb(c.bucket_bounds) FROM c WHERE c.name = n.name LIMIT 1), '[]'),
                       'counts', (SELECT coalesce(pg_catalog.jsonb_agg(b.jobs ORDER BY b.place), '[]')
                                    FROM (SELECT x.place, pg_catalog.sum(x.jobs) AS jobs
                                            FROM c CROSS JOIN LATERAL (
                                                 SELECT u.place, u.jobs - coalesce(pg_catalog.lag(u.jobs) OVER (ORDER BY u.place), 0) AS jobs
                                                   FROM pg_catalog.unnest(c.bucket_counts || c.value::bigint) WITH ORDINALITY AS u (jobs, place)) x
                                           WHERE c.name = n.name GROUP BY x.place) b)))
              FROM (VALUES ('wait', 'backfill_jobs_wait_time_seconds'), ('run', 'backfill_jobs_duration_seconds')) AS n (key, name));
END;

COMMENT ON FUNCTION backfill._overview_counters() IS 'The part of overview() that comes from the counters in shared memory, which begin anew when the server starts.';

CREATE FUNCTION backfill.overview()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.jsonb_build_object(
               'at', pg_catalog.clock_timestamp(), 'database', pg_catalog.current_database(), 'version', backfill.version(),
               'server_version', pg_catalog.current_setting('server_version'), 'in_recovery', pg_catalog.pg_is_in_recovery(),
               'queues', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                                     'queue_name', q.queue -> 'queue_name', 'ready', q.queue -> 'ready', 'running', q.queue -> 'running',
                                     'paused', q.queue -> 'paused', 'concurrency', q.queue -> 'concurrency')
                                     ORDER BY (q.queue -> 'ready' ->> 'count')::bigint DESC, q.place), '[]')
                            FROM pg_catalog.jsonb_array_elements(backfill._overview_queues_json(backfill._overview_longest_queues(10), 1000)) WITH ORDINALITY AS q (queue, place)),
               'workers', (SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(w) || pg_catalog.jsonb_build_object('job_id', w.job_id::text)
                                                                ORDER BY w.kind, w.pid), '[]')
                             FROM backfill.workers w))
        || backfill._overview_jobs() || backfill._overview_counters();
END;

COMMENT ON FUNCTION backfill.overview() IS
    'Jobs by state and band, the longest queues, workers, dead letters and counters of this database, in one call that costs little, as JSON: for a dashboard that looks every second.';

CREATE OR REPLACE FUNCTION backfill.force_unlock_workers(worker_ids text[])
RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released bigint := backfill._take_leases(worker_ids);
BEGIN
    PERFORM backfill._audit('force_unlock_workers', 'job', NULL, released, NULL,
                            pg_catalog.jsonb_build_object('worker_ids', worker_ids));
END;
$$;

CREATE OR REPLACE FUNCTION backfill.release_stale_job_locks(older_than interval DEFAULT '0')
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    released bigint := backfill._expire_leases(coalesce(older_than, '0'));
BEGIN
    PERFORM backfill._audit('release_stale_job_locks', 'job', NULL, released, NULL, NULL);
    RETURN released;
END;
$$;

CREATE FUNCTION backfill._bury_exhausted()
RETURNS text[]
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(pg_catalog.array_agg(b.id::text) FILTER (WHERE b.letter IS NOT NULL), '{}')
      FROM (SELECT j.id, backfill._bury(j.id, 'no attempts left', j.last_error) AS letter
              FROM backfill.job j WHERE j.attempts >= j.max_attempts) b; -- leased ones are passed over
END;

COMMENT ON FUNCTION backfill._bury_exhausted() IS 'Move waiting jobs that have no attempts left to the dead letter queue; returns their ids.';

CREATE OR REPLACE FUNCTION backfill.process_failed_jobs()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    jobs text[] := backfill._bury_exhausted();
BEGIN
    PERFORM backfill._audit('process_failed_jobs', 'job', jobs, NULL, NULL, NULL);
    RETURN pg_catalog.cardinality(jobs);
END;
$$;

CREATE OR REPLACE FUNCTION backfill.cleanup_permanently_failed_jobs()
RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    jobs text[] := backfill._bury_exhausted();
BEGIN
    PERFORM backfill._audit('cleanup_permanently_failed_jobs', 'job', jobs, NULL, NULL, NULL);
    RETURN pg_catalog.cardinality(jobs);
END;
$$;

CREATE OR REPLACE FUNCTION backfill.startup_cleanup(OUT released_jobs bigint, OUT dead_lettered_jobs bigint, OUT deleted_letters bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    released_jobs := backfill._expire_leases('0');
    dead_lettered_jobs := pg_catalog.cardinality(backfill._bury_exhausted());
    deleted_letters := backfill._apply_dlq_retention();
    DELETE FROM backfill.no_retry n WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = n.job_id);
    PERFORM backfill._audit('startup_cleanup', 'job', NULL, released_jobs + dead_lettered_jobs + deleted_letters, NULL,
                            pg_catalog.jsonb_build_object('released_jobs', released_jobs, 'dead_lettered_jobs', dead_lettered_jobs,
                                                          'deleted_letters', deleted_letters));
END;
$$;

CREATE OR REPLACE FUNCTION backfill._listing(names text[])
RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT pg_catalog.array_to_string(_listing.names[1:5], ', ')
        || CASE WHEN pg_catalog.cardinality(_listing.names) > 5
                THEN pg_catalog.format(' and %s more', pg_catalog.cardinality(_listing.names) - 5) ELSE '' END;
END;

CREATE OR REPLACE FUNCTION backfill._health_oldest_ready_job(max_wait interval, OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now constant timestamptz := backfill._now();
    seen record;
BEGIN
    check_name := 'oldest_ready_job'; status := 'ok'; detail := 'no job is ready';
    SELECT j.id, j.run_at, now - j.run_at > max_wait AS late INTO seen
      FROM backfill._page_job_ranges(2147483647, NULL, NULL, NULL) w
     CROSS JOIN ROWS FROM (pg_catalog.unnest(w.task_identifiers), pg_catalog.unnest(w.priorities)) AS r (task_identifier, priority)
     CROSS JOIN LATERAL (
           -- Of a task that has very many jobs in paused queues only the first are looked at.
           SELECT f.id, f.run_at
             FROM (SELECT i.id, i.run_at, i.queue_name, i.ctid AS tid, i.xmax AS claimer FROM backfill.job i
                    WHERE i.task_identifier = r.task_identifier AND i.priority = r.priority AND i.lease_expires_at IS NULL AND i.run_at <= now
                    ORDER BY i.run_at, i.id LIMIT 10000) f
            WHERE f.queue_name NOT IN (SELECT q.queue_name FROM backfill.queue q WHERE q.paused) AND NOT backfill._claimed(f.tid, f.claimer)
            LIMIT 1) j
     WHERE r.task_identifier IN (SELECT t.task_identifier FROM backfill.task t)
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

CREATE OR REPLACE FUNCTION backfill._health_unregistered_tasks(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'unregistered_tasks'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s (%s)', u.task_identifier, CASE WHEN j.jobs > 10000 THEN '10000 or more' ELSE j.jobs::text END)
                                ORDER BY j.jobs DESC, u.task_identifier) AS names INTO seen
      FROM backfill._overview_task_names(2147483647, '') AS u (task_identifier)
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) AS jobs
             FROM (SELECT FROM backfill.job i
                    WHERE i.task_identifier >= u.task_identifier AND i.task_identifier <= u.task_identifier AND i.lease_expires_at IS NULL
                    ORDER BY i.task_identifier LIMIT 10001) c) j
     WHERE j.jobs > 0 AND u.task_identifier NOT IN (SELECT t.task_identifier FROM backfill.task t);
    IF seen.names IS NOT NULL THEN
        status := 'warning';
        detail := 'jobs wait for tasks that are not registered: ' || backfill._listing(seen.names);
        hint := 'Call backfill.register_task(), or claim them by naming the task to claim_jobs().';
    END IF;
END;
$$;

DROP FUNCTION backfill._functions();
CREATE FUNCTION backfill._functions(OUT kind text, OUT name text, OUT problem text, OUT foreign_owner text)
RETURNS SETOF record LANGUAGE sql VOLATILE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT f.kind, f.name,
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

CREATE OR REPLACE FUNCTION backfill._health_paused_queues(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
RETURNS record LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    seen record;
BEGIN
    check_name := 'paused_queues'; status := 'ok';
    SELECT pg_catalog.array_agg(pg_catalog.format('%s (%s)', p.queue_name, CASE WHEN j.jobs > 10000 THEN '10000 or more' ELSE j.jobs::text END)
                                ORDER BY j.jobs DESC, p.queue_name) AS names INTO seen
      FROM backfill.queue p
     CROSS JOIN LATERAL (
           SELECT pg_catalog.count(*) AS jobs
             FROM (SELECT FROM backfill.job i
                    WHERE i.queue_name >= p.queue_name AND i.queue_name <= p.queue_name AND i.queue_name <> '' AND i.lease_expires_at IS NULL
                    ORDER BY i.queue_name LIMIT 10001) c) j
     WHERE p.paused AND j.jobs > 0;
    IF seen.names IS NOT NULL THEN
        status := 'warning'; detail := 'jobs wait in paused queues: ' || backfill._listing(seen.names); hint := 'backfill.resume_queue() lets them go on.';
    END IF;
END;
$$;

CREATE OR REPLACE FUNCTION backfill._health_set_aside(OUT check_name text, OUT status text, OUT detail text, OUT hint text)
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
       AND (a.kind <> 'old letter' OR EXISTS (SELECT FROM backfill.dead_letter d WHERE d.id = a.id))
       AND (a.kind <> 'queue' OR EXISTS (SELECT FROM backfill.queue q WHERE q.id = a.id AND q.automatic))
       AND (a.kind <> 'schedule' OR EXISTS (SELECT FROM backfill.cron_schedule s WHERE pg_catalog.hashtextextended(s.name, 0) = a.id));
    IF problems IS NOT NULL THEN
        status := 'warning';
        detail := backfill._listing(problems);
        hint := 'Each of them is tried again by itself, and all others go on. What takes long, or has ended a process, waits longer: SELECT pg_reload_conf() has all of them tried at once.';
    END IF;
END;
$$;

CREATE FUNCTION backfill._overview_task_names(max_names integer, after text)
RETURNS SETOF text LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE leap AS (
        (SELECT j.task_identifier FROM backfill._job j
          WHERE j.task_identifier > _overview_task_names.after AND j.lease_expires_at IS NULL
          ORDER BY j.task_identifier, j.priority LIMIT 1)
        UNION ALL
        SELECT n.task_identifier FROM leap l
         CROSS JOIN LATERAL (
               SELECT j.task_identifier FROM backfill._job j WHERE j.task_identifier > l.task_identifier AND j.lease_expires_at IS NULL
                ORDER BY j.task_identifier, j.priority LIMIT 1) n)
    SELECT n.task_identifier
      FROM ((SELECT l.task_identifier FROM leap l LIMIT _overview_task_names.max_names)
            UNION
            (SELECT t.task_identifier FROM backfill.task t WHERE t.task_identifier > _overview_task_names.after
              ORDER BY t.task_identifier LIMIT _overview_task_names.max_names)
            UNION
            SELECT l.task_identifier
              FROM (SELECT j.task_identifier FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at LIMIT 10001) l
             WHERE l.task_identifier > _overview_task_names.after) n
     ORDER BY n.task_identifier LIMIT _overview_task_names.max_names;
END;

COMMENT ON FUNCTION backfill._overview_task_names(integer, text) IS 'The names of tasks that are registered or have jobs: the next ones after a name.';

CREATE FUNCTION backfill._overview_task_problems(task_identifiers text[], OUT task_identifier text, OUT problem text)
RETURNS SETOF record LANGUAGE sql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH handler AS MATERIALIZED (SELECT f.name, f.problem FROM backfill._functions() f WHERE f.kind = 'task'),
    server AS MATERIALIZED (SELECT s.held_roles FROM backfill._server_state() s)
    SELECT n.task_identifier,
           CASE WHEN t.task_identifier IS NULL THEN 'it is not registered: its jobs wait until it is, or a consumer claims them'
                WHEN t.handler_name IS NULL THEN NULL
                WHEN r.oid IS NULL THEN pg_catalog.format('role %s does not exist', t.run_as)
                ELSE coalesce(h.problem, pg_catalog.format('role %s ', t.run_as) || backfill._login_problem(r.oid),
                              CASE WHEN r.oid = ANY (s.held_roles)
                                   THEN pg_catalog.format('role %s: an executor could not log in, see the server''s log', t.run_as) END) END
      FROM pg_catalog.unnest(_overview_task_problems.task_identifiers) AS n (task_identifier)
     CROSS JOIN server s
      LEFT JOIN backfill.task t ON t.task_identifier = n.task_identifier
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = backfill._role_oid(t.run_as)
      LEFT JOIN handler h ON h.name = n.task_identifier;
END;

COMMENT ON FUNCTION backfill._overview_task_problems(text[]) IS 'What keeps the jobs of these tasks from running, as health() finds it; NULL: nothing that it knows.';

CREATE FUNCTION backfill._overview_tasks_json(task_identifiers text[], cap integer)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (
    WITH lease AS MATERIALIZED (
        SELECT j.task_identifier FROM backfill._job j WHERE j.lease_expires_at IS NOT NULL ORDER BY j.lease_expires_at LIMIT 10001),
    looked_at AS (SELECT pg_catalog.count(*) <= 10000 AS all_leases FROM lease)
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(s) ORDER BY s.task_identifier COLLATE "C"), '[]')
      FROM (SELECT n.task_identifier,
                   CASE WHEN t.task_identifier IS NULL THEN 'unregistered' WHEN t.handler_name IS NULL THEN 'external'
                        WHEN t.handler_is_procedure THEN 'procedure' ELSE 'function' END AS kind,
                   CASE WHEN t.handler_name IS NOT NULL THEN
                       pg_catalog.format('%I.%I(%s)', t.handler_schema, t.handler_name, pg_catalog.array_to_string(t.handler_argtypes, ', ')) END AS handler,
                   CASE WHEN t.handler_name IS NOT NULL THEN EXISTS (
                       SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace c ON c.oid = p.pronamespace
                        WHERE c.nspname = t.handler_schema AND p.proname = t.handler_name
                          AND p.pronargs = 1 AND p.proargtypes[0] = 'pg_catalog.jsonb'::pg_catalog.regtype) END AS handler_exists,
                   t.run_as::text AS run_as, t.queue_name, t.priority, t.max_attempts, t.retry_policy, extract(epoch FROM t.timeout) AS timeout,
                   t.notify_channel, t.registered_at, extract(epoch FROM t.keep_history) AS keep_history, t.savepoint_per_job,
                   backfill._page_count(j.jobs + (SELECT pg_catalog.count(*) FROM lease l WHERE l.task_identifier = n.task_identifier), _overview_tasks_json.cap, a.all_leases) AS jobs,
                   backfill._page_count(d.letters, _overview_tasks_json.cap) AS dead, p.problem
              FROM looked_at a
             CROSS JOIN pg_catalog.unnest(_overview_tasks_json.task_identifiers) AS n (task_identifier)
              LEFT JOIN backfill.task t ON t.task_identifier = n.task_identifier
              LEFT JOIN backfill._overview_task_problems(_overview_tasks_json.task_identifiers) p ON p.task_identifier = n.task_identifier
             CROSS JOIN LATERAL (
                   SELECT pg_catalog.count(*) AS jobs
                     FROM (SELECT FROM backfill._job j
                            WHERE j.task_identifier >= n.task_identifier AND j.task_identifier <= n.task_identifier AND j.lease_expires_at IS NULL
                            ORDER BY j.task_identifier LIMIT _overview_tasks_json.cap + 1) c) j
             CROSS JOIN LATERAL (
                   SELECT pg_catalog.count(*) AS letters
                     FROM (SELECT FROM backfill._letter d WHERE d.task_identifier >= n.task_identifier AND d.task_identifier <= n.task_identifier
                            ORDER BY d.task_identifier LIMIT _overview_tasks_json.cap + 1) c) d) s);
END;
$$;

COMMENT ON FUNCTION backfill._overview_tasks_json(text[], integer) IS 'These tasks, with how many jobs and dead letters they have and what is wrong with them, as JSON.';

CREATE FUNCTION backfill.list_tasks(search text DEFAULT NULL, problem_only boolean DEFAULT NULL, cursor text DEFAULT NULL, "limit" integer DEFAULT 50)
RETURNS jsonb LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    size constant integer := backfill._page_size("limit");
    looked_at constant integer := CASE WHEN search IS NULL AND problem_only IS NOT TRUE THEN size + 1 ELSE 5000 END;
    names text[] := ARRAY(SELECT * FROM backfill._overview_task_names(looked_at, coalesce((backfill._page_place('tasks', cursor)).name, '')));
    troubled text[];
    found record;
BEGIN
    IF problem_only THEN
        troubled := ARRAY(SELECT p.task_identifier FROM backfill._overview_task_problems(names) p WHERE p.problem IS NOT NULL);
    END IF;
    found := backfill._overview_page_of_names(names, looked_at, size, search, troubled);
    RETURN pg_catalog.jsonb_build_object('tasks', backfill._overview_tasks_json(found.page, least(10000, 50000 / size)),
                                         'next', CASE WHEN found.next IS NOT NULL THEN backfill._page_cursor('tasks', NULL, NULL, found.next) END,
                                         'cut_off', found.cut_off);
END;
$$;

COMMENT ON FUNCTION backfill.list_tasks(text, boolean, text, integer) IS
    'A page of the tasks that are registered or have jobs, by name, as JSON. search: a part of the name, in whatever case; problem_only: those whose jobs cannot run. The more tasks a page has, the lower counts are capped.';

DO $$
DECLARE
    page regprocedure;
BEGIN
    FOR page IN
        SELECT p.oid FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = 'backfill'::pg_catalog.regnamespace
           AND p.proname = ANY ('{list_jobs,job_details,find_job_ids,list_queues,queue_details,list_tasks,list_dlq,dlq_groups,find_dlq_ids,list_history,list_audit,list_schedules,overview,_health_oldest_ready_job,_health_unregistered_tasks,_health_paused_queues}'::name[])
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s SET enable_indexscan = on SET enable_indexonlyscan = on SET enable_nestloop = on SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
                                       SET enable_incremental_sort = off SET enable_tidscan = off SET plan_cache_mode = force_custom_plan
                                       SET jit = off SET max_parallel_workers_per_gather = 0', page);
    END LOOP;
END;
$$;

CREATE OR REPLACE FUNCTION backfill._bundle(bundle text, OUT kind text, OUT object_name text, OUT privilege text)
RETURNS SETOF record
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    -- A procedure or function by name (every overload), a view or a table.
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           p.oid::pg_catalog.regprocedure::text, 'EXECUTE'
      FROM pg_catalog.pg_proc p
     WHERE p.pronamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'producer' THEN p.proname = ANY ('{enqueue,enqueue_fast,enqueue_bulk,enqueue_emergency,enqueue_critical,enqueue_fast_with_retries,enqueue_bulk_with_retries,enqueue_serial,enqueue_many,enqueue_jobs,add_job,add_jobs,remove_job,enqueue_via_outbox,_enqueue_once,_note_forwarded,_routed,_lock_job_keys,current_job,snooze,discard,set_progress,set_result,await_job,priority,priority_band,backoff_delay,version}'::name[])
           WHEN 'consumer' THEN p.oid = 'backfill.complete_jobs(bigint[],bigint)'::pg_catalog.regprocedure
               OR p.proname = ANY ('{claim_jobs,_oldest_ready_job,_routed,heartbeat,fail_job,snooze_job,release_jobs,wait_for_jobs,process_available_jobs,current_job,snooze,discard,set_progress,set_result,await_job,get_job,priority,priority_band,backoff_delay,version,_workers,_claimed,_now,_queue_limit,list_jobs,job_details,list_queues,queue_details,list_tasks}'::name[])
               OR p.proname ~ '^_page_'
           WHEN 'monitor' THEN p.proname = ANY ('{priority,priority_band,backoff_delay,classify_error,version,dlq_stats,cron_next,_next_run_at,metrics,prometheus_metrics,list_audit,why_not_running,health,_routed,_node_state,_workers,_claimed,_now,_queue_limit,_retry_policies,_builtin_error_rules,overview,list_jobs,job_details,list_queues,queue_details,list_tasks,list_dlq,dlq_groups,list_history,list_schedules}'::name[])
               OR p.proname ~ '^_page_'
           WHEN 'admin' THEN p.proname <> ALL ('{grant_producer,grant_consumer,grant_monitor,grant_admin,_bundle,_grant,_check_library,_after_upgrade,_requeue,_requeue_letter,_dlq_change,_dlq_filter,_about_letter,_bury,_bury_exhausted,_audit,_audit_error_rules,_letter_deleted,_dlq_matches,_apply_dlq_retention,_config_changed,_limits_changed,_installed,_cron_tick,_expire_leases,_take_leases,_functions,_owner_is_trusted,_pg_cron_job,_clock_problem,_login_problem,_caller_may_read_jobs,set_outbox,_forward}'::name[])
               AND p.proname !~ '^_(health|overview|move|node)_' OR p.proname = '_node_state'
           END
    UNION ALL
    SELECT 'TABLE', c.oid::pg_catalog.regclass::text, 'SELECT'
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'backfill')
       AND CASE _bundle.bundle
           WHEN 'consumer' THEN c.relname = ANY ('{jobs,queues,tasks,job,_job}'::name[])
           WHEN 'monitor' THEN c.relkind = 'v'
           WHEN 'admin' THEN c.relkind IN ('v', 'r')
           END;
END;

CREATE OR REPLACE FUNCTION backfill.grant_producer(role regrole, tasks text[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown text;
    before text[] := (SELECT p.tasks FROM backfill.producer p WHERE backfill._role_oid(p.role_name) = role);
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
    PERFORM backfill._audit('grant_producer', 'grant', ARRAY[pg_catalog.pg_get_userbyid(role)], 1,
                            pg_catalog.jsonb_build_object('tasks', before), pg_catalog.jsonb_build_object('tasks', tasks));
END;
$$;

CREATE OR REPLACE FUNCTION backfill.grant_consumer(role regrole)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._grant(grant_consumer.role, 'consumer');
    SELECT backfill._audit('grant_consumer', 'grant', ARRAY[pg_catalog.pg_get_userbyid(grant_consumer.role)], 1, NULL, NULL);
END;

CREATE OR REPLACE FUNCTION backfill.grant_monitor(role regrole)
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT backfill._grant(grant_monitor.role, 'monitor');
    SELECT backfill._audit('grant_monitor', 'grant', ARRAY[pg_catalog.pg_get_userbyid(grant_monitor.role)], 1, NULL, NULL);
END;

CREATE OR REPLACE FUNCTION backfill.grant_admin(role regrole)
RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM backfill._grant(role, 'admin');
    -- A producer of some tasks stays that.
    INSERT INTO backfill.producer (role_name) VALUES (backfill._role_of(role)) ON CONFLICT DO NOTHING;
    PERFORM backfill._audit('grant_admin', 'grant', ARRAY[pg_catalog.pg_get_userbyid(role)], 1, NULL, NULL);
END;
$$;

-- Add above this line.
SELECT backfill._after_upgrade();
