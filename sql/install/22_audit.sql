-- Which role has done what: a row for each call of an administrative function. src/audit writes it.

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
-- It has no key: a restore that comes upon an id which is in use must not fail. So a publication of all tables needs the whole row.
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

-- A page looks at 10,000 rows at most, so that a rare name does not make it read the whole table.
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

-- Error rules are changed by plain SQL.
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
