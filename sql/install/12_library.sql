-- The version of the library, which must not be older than these scripts, and how a script ends that upgrades.

CREATE FUNCTION backfill.version()
RETURNS text LANGUAGE c STRICT STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'backfill_version';
COMMENT ON FUNCTION backfill.version() IS 'The version of the loaded library.';

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
