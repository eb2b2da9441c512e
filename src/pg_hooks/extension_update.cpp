/* extension_update.cpp - see extension_update.hpp. */
#include "backfill/pg_hooks/extension_update.hpp"

namespace backfill::hooks
{

pg::TableRows bundle_holders()
{
    if (!pg::call([] { return OidIsValid(get_extension_oid("backfill", true)); }))
        return {};
    /* As any version has it: of the extension it needs _bundle() only. */
    return pg::query_as_owner(
        "WITH item AS ("
        " SELECT b.bundle, o.object_name, o.privilege, CASE o.kind"
        "        WHEN 'TABLE' THEN (SELECT c.relacl FROM pg_catalog.pg_class c"
        "          WHERE c.oid = o.object_name::pg_catalog.regclass)"
        "        ELSE (SELECT p.proacl FROM pg_catalog.pg_proc p"
        "          WHERE p.oid = o.object_name::pg_catalog.regprocedure) END AS acl"
        "   FROM pg_catalog.unnest('{producer,consumer,monitor,admin}'::pg_catalog.text[]) b "
        "(bundle)"
        "  CROSS JOIN LATERAL backfill._bundle(b.bundle) o)"
        " SELECT a.grantee::pg_catalog.regrole, i.bundle"
        "   FROM item i CROSS JOIN LATERAL pg_catalog.aclexplode(i.acl) a"
        "  WHERE a.privilege_type = i.privilege"
        "    AND a.grantee <> 0 AND a.grantee <> CURRENT_USER::pg_catalog.regrole"
        "  GROUP BY a.grantee, i.bundle"
        " HAVING pg_catalog.count(DISTINCT i.object_name) ="
        "        (SELECT pg_catalog.count(*) FROM item t WHERE t.bundle = i.bundle)",
        {});
}

void grant_bundles(const pg::TableRows &holders)
{
    pg::call([] { CommandCounterIncrement(); });
    for (int i = 0; i < holders.count; i++) {
        const Datum *const holder = holders.rows[i].values;
        (void) pg::execute_as_owner("SELECT backfill._grant($1, $2)",
                                    std::initializer_list<pg::Param>{{REGROLEOID, holder[0], false},
                                                                     {TEXTOID, holder[1], false}});
    }
}

} // namespace backfill::hooks
