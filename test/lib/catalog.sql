-- Everything that the catalogs of PostgreSQL know of the extension, one fact a line, so that two databases
-- can be compared by a diff: the one fresh, the other upgraded. Objects are named, never numbered. Columns
-- are in no order, except those of views and types, because ALTER TABLE can only add them at the end.
-- What many facts are about is looked up once, into temporary tables; compiling the query costs more than it takes.

SET jit = off;
CREATE TEMP TABLE member AS
SELECT d.classid, d.objid
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'backfill' AND d.deptype = 'e';

-- With what belongs to a member: indexes, types of tables, constraints, triggers, defaults, rules, parts of operator classes.
CREATE TEMP TABLE thing AS
WITH RECURSIVE t AS (
    SELECT classid, objid FROM member
    UNION
    SELECT d.classid, d.objid FROM t JOIN pg_depend d ON d.refclassid = t.classid AND d.refobjid = t.objid
     WHERE d.deptype IN ('a', 'i', 'P', 'S') AND d.classid <> 'pg_extension'::regclass)
SELECT t.classid, t.objid, i.type, i.identity, t.classid::regclass AS catalog
  FROM t CROSS JOIN LATERAL pg_identify_object(t.classid, t.objid, 0) i
 WHERE NOT (t.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class c WHERE c.oid = t.objid AND c.relnamespace = 'pg_toast'::regnamespace));
ANALYZE member, thing;

CREATE TEMP VIEW relation AS
SELECT c.*, t.type || ' ' || t.identity AS name FROM thing t JOIN pg_class c ON t.classid = 'pg_class'::regclass AND c.oid = t.objid;

CREATE FUNCTION pg_temp.role_name(role oid) RETURNS text LANGUAGE sql AS $$
    SELECT CASE role WHEN 0 THEN 'PUBLIC' WHEN (SELECT extowner FROM pg_extension WHERE extname = 'backfill') THEN 'the owner'
                     ELSE coalesce((SELECT rolname FROM pg_roles WHERE oid = role), 'a role that is gone') END $$;
-- The rights of an object, one a line. Privileges that are not set are those by default.
CREATE FUNCTION pg_temp.rights(acl aclitem[], kind "char", owner oid) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT a.privilege_type || CASE WHEN a.is_grantable THEN ' with grant option' ELSE '' END || ' for ' || pg_temp.role_name(a.grantee) || ' from ' || pg_temp.role_name(a.grantor)
      FROM aclexplode(coalesce(acl, acldefault(kind, owner))) a $$;

-- What has an owner and rights.
CREATE TEMP VIEW owned AS
SELECT t.classid, t.objid, t.type || ' ' || t.identity AS name, o.owner, o.acl, o.kind
  FROM thing t
  JOIN (SELECT 'pg_class'::regclass, oid, relowner, relacl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'S', 'f', 'p')
        UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, proacl, 'f' FROM pg_proc
        UNION ALL SELECT 'pg_type'::regclass, oid, typowner, typacl, 'T' FROM pg_type WHERE typelem = 0
        UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, nspacl, 'n' FROM pg_namespace
        UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner, NULL, NULL FROM pg_operator
        UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner, NULL, NULL FROM pg_opclass
        UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner, NULL, NULL FROM pg_opfamily
        UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtowner, NULL, NULL FROM pg_event_trigger
       ) o (classid, objid, owner, acl, kind) USING (classid, objid);

SELECT replace(fact, E'\n', ' ') FROM (
    SELECT format('extension: version %s, relocatable %s, schema %s', extversion, extrelocatable, extnamespace::regnamespace) FROM pg_extension WHERE extname = 'backfill'
    UNION ALL
    SELECT format('dumped: %s %s', c.oid::regclass, c.condition) FROM pg_extension e, unnest(e.extconfig, e.extcondition) c (oid, condition) WHERE e.extname = 'backfill'
    UNION ALL
    SELECT format('%s: there%s', type || ' ' || identity, CASE WHEN (classid, objid) IN (SELECT classid, objid FROM member) THEN ', of the extension' ELSE '' END) FROM thing
     WHERE type NOT LIKE '%[]' AND catalog NOT IN ('pg_rewrite'::regclass, 'pg_attrdef'::regclass)
    UNION ALL
    SELECT format('%s: owner %s', name, pg_temp.role_name(owner)) FROM owned
    UNION ALL
    SELECT format('%s: right %s', name, r) FROM owned, pg_temp.rights(acl, kind, owner) r WHERE kind IS NOT NULL
    UNION ALL
    SELECT format('%s: right at first %s', name, r)
      FROM owned o LEFT JOIN pg_init_privs p ON p.classoid = o.classid AND p.objoid = o.objid AND p.objsubid = 0, pg_temp.rights(p.initprivs, kind, owner) r
     WHERE kind IS NOT NULL
    UNION ALL
    SELECT format('%s, column %s: right %s', r.name, a.attname, x) FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid, pg_temp.rights(a.attacl, 'c', r.relowner) x
    UNION ALL
    SELECT format('%s: comment%s %s', t.type || ' ' || t.identity,
                  CASE WHEN d.objsubid <> 0 THEN ' on column ' || (SELECT attname FROM pg_attribute WHERE attrelid = d.objoid AND attnum = d.objsubid) ELSE '' END, d.description)
      FROM pg_description d JOIN thing t ON t.classid = d.classoid AND t.objid = d.objoid
    UNION ALL
    SELECT 'extension: comment ' || obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'backfill'
    UNION ALL
    SELECT format('%s: label of %s: %s', t.type || ' ' || t.identity, l.provider, l.label) FROM pg_seclabel l JOIN thing t ON t.classid = l.classoid AND t.objid = l.objoid
    UNION ALL
    -- Relations.
    SELECT format('%s: kind %s, persistence %s, access method %s, replica identity %s, row security %s %s, tablespace %s', name, relkind, relpersistence,
                  (SELECT amname FROM pg_am WHERE oid = relam), relreplident, relrowsecurity, relforcerowsecurity, reltablespace) FROM relation
    UNION ALL
    SELECT format('%s: option %s', name, o) FROM relation, unnest(reloptions) o
    UNION ALL
    SELECT format('%s: option of its TOAST table %s', r.name, o) FROM relation r JOIN pg_class c ON c.oid = r.reltoastrelid, unnest(c.reloptions) o
    UNION ALL
    SELECT format('%s, column %s: type %s, collation %s, not null %s, identity "%s", generated "%s", default %s, storage %s, compression "%s", statistics %s, options %s',
                  r.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, a.attnotnull, a.attidentity, a.attgenerated,
                  pg_get_expr(d.adbin, d.adrelid), a.attstorage, a.attcompression, coalesce(a.attstattarget, -1),
                  -- Minor releases keep a number of their own there.
                  (SELECT array_agg(o ORDER BY o) FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg_attver=%'))
      FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
     WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('%s: columns %s', r.name, string_agg(a.attname, ', ' ORDER BY a.attnum)) FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid
     WHERE r.relkind IN ('v', 'm', 'c') AND a.attnum > 0 GROUP BY r.name
    UNION ALL
    SELECT format('%s: definition %s', r.name, pg_get_indexdef(r.oid)) || format(' unique %s primary %s valid %s clustered %s replica identity %s', indisunique, indisprimary, indisvalid, indisclustered, indisreplident)
      FROM relation r JOIN pg_index i ON i.indexrelid = r.oid
    UNION ALL
    SELECT format('%s: definition %s', name, pg_get_viewdef(oid)) FROM relation WHERE relkind IN ('v', 'm')
    UNION ALL
    SELECT format('%s: rule %s, enabled %s', r.name, pg_get_ruledef(w.oid), w.ev_enabled) FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT format('%s: constraint %s %s, validated %s', t.name, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
      FROM pg_constraint c
      JOIN (SELECT oid, name FROM relation UNION ALL SELECT objid, type || ' ' || identity FROM thing WHERE classid = 'pg_type'::regclass) t ON t.oid IN (c.conrelid, c.contypid)
    UNION ALL
    SELECT format('%s: trigger %s, enabled %s', r.name, pg_get_triggerdef(g.oid), g.tgenabled) FROM relation r JOIN pg_trigger g ON g.tgrelid = r.oid WHERE NOT g.tgisinternal
    UNION ALL
    SELECT format('%s: policy %s %s %s', r.name, p.polname, p.polcmd, concat_ws(' ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))) FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL
    SELECT format('%s: statistics %s', r.name, pg_get_statisticsobjdef(s.oid)) FROM relation r JOIN pg_statistic_ext s ON s.stxrelid = r.oid
    UNION ALL
    SELECT format('%s: type %s, start %s, increment %s, minimum %s, maximum %s, cache %s, cycle %s', r.name, seqtypid::regtype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle)
      FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
    UNION ALL
    -- Functions and types.
    SELECT format('%s: rows %s, cost %s, leakproof %s, result %s, definition %s', t.type || ' ' || t.identity, p.prorows, p.procost, p.proleakproof, pg_get_function_result(p.oid), pg_get_functiondef(p.oid))
      FROM thing t JOIN pg_proc p ON t.classid = 'pg_proc'::regclass AND p.oid = t.objid WHERE p.prokind <> 'a'
    UNION ALL
    SELECT format('%s: %s', t.type || ' ' || t.identity, concat_ws(' ', typtype, typlen, typbyval, typcategory, typispreferred, typisdefined, typinput, typoutput, typreceive, typsend, typmodin, typmodout,
                  typanalyze, typalign, typstorage, typnotnull, typbasetype::regtype, typdefault, typcollation::regcollation))
      FROM thing t JOIN pg_type y ON t.classid = 'pg_type'::regclass AND y.oid = t.objid
    UNION ALL
    SELECT format('%s: label %s is number %s', t.type || ' ' || t.identity, e.enumlabel, rank() OVER (PARTITION BY enumtypid ORDER BY enumsortorder))
      FROM thing t JOIN pg_enum e ON t.classid = 'pg_type'::regclass AND e.enumtypid = t.objid
    UNION ALL
    SELECT format('%s: %s', t.type || ' ' || t.identity, concat_ws(' ', oprkind, oprcanmerge, oprcanhash, oprresult::regtype, oprcom::regoperator, oprnegate::regoperator, oprcode, oprrest, oprjoin))
      FROM thing t JOIN pg_operator o ON t.classid = 'pg_operator'::regclass AND o.oid = t.objid
    UNION ALL
    SELECT format('%s: default %s, key %s', t.type || ' ' || t.identity, opcdefault, opckeytype::regtype) FROM thing t JOIN pg_opclass o ON t.classid = 'pg_opclass'::regclass AND o.oid = t.objid
    UNION ALL
    SELECT format('%s: %s', type || ' ' || identity, pg_describe_object(classid, objid, 0)) FROM thing WHERE catalog IN ('pg_amop'::regclass, 'pg_amproc'::regclass)
    UNION ALL
    SELECT format('%s: context %s, method %s, function %s', t.type || ' ' || t.identity, castcontext, castmethod, castfunc::regprocedure) FROM thing t JOIN pg_cast c ON t.classid = 'pg_cast'::regclass AND c.oid = t.objid
    UNION ALL
    SELECT format('%s: %s %s, enabled %s, tags %s', t.type || ' ' || t.identity, evtevent, evtfoid::regprocedure, evtenabled, evttags)
      FROM thing t JOIN pg_event_trigger e ON t.classid = 'pg_event_trigger'::regclass AND e.oid = t.objid
    UNION ALL
    -- What would be dropped, or stand in the way of a drop, or go along with a column.
    SELECT format('%s: depends (%s) on %s', t.type || ' ' || t.identity, d.deptype, r.type || ' ' || r.identity)
      FROM pg_depend d JOIN thing t ON t.classid = d.classid AND t.objid = d.objid CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) r
     WHERE d.deptype <> 'e' AND r.identity NOT LIKE 'pg_toast.%'
) f (fact)
ORDER BY fact COLLATE "C";
