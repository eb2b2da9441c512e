/* compat.hpp - every difference between PostgreSQL 15 and 18 that this code meets. */
#pragma once

#if PG_VERSION_NUM < 150000
#error "backfill needs PostgreSQL 15 or later"
#endif

#include <cstdlib>

extern "C" {
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
}

namespace backfill::pg
{

/* Workers may log in as a role that has no LOGIN (PostgreSQL 17 and later). */
#if PG_VERSION_NUM >= 170000
inline constexpr bool kWorkersNeedLogin = false;
inline constexpr uint32 kWorkerConnectFlags = BGWORKER_BYPASS_ROLELOGINCHECK;
#else
inline constexpr bool kWorkersNeedLogin = true;
inline constexpr uint32 kWorkerConnectFlags = 0;
#endif

inline bool may_execute_function(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
    return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

inline bool may_use_schema(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
    return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
    return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* The parts of my_schema."my name"; raises if it cannot be read. */
inline List *parse_qualified_name(const char *text)
{
#if PG_VERSION_NUM >= 160000
    return stringToQualifiedNameList(text, nullptr);
#else
    return stringToQualifiedNameList(text);
#endif
}

inline bool may_act_as(Oid member, Oid role)
{
#if PG_VERSION_NUM >= 160000
    return member_can_set_role(member, role);
#else
    return is_member_of_role(member, role);
#endif
}

inline bool owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(DatabaseRelationId, database, role);
#else
    return pg_database_ownercheck(database, role);
#endif
}

inline bool owns_extension(Oid extension, Oid role)
{
#if PG_VERSION_NUM >= 160000
    return object_ownercheck(ExtensionRelationId, extension, role);
#else
    return pg_extension_ownercheck(extension, role);
#endif
}

inline IndexScanDesc begin_index_scan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
    return index_beginscan(heap, index, snapshot, nullptr, nkeys, 0);
#else
    return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

inline List *insert_index_entries(ResultRelInfo *relation, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
    return ExecInsertIndexTuples(relation, slot, estate, false, false, nullptr, NIL, false);
#else
    return ExecInsertIndexTuples(relation, slot, estate, false, false, nullptr, NIL);
#endif
}

/* What a setting's check hook leaves for its assign hook; null if there is no memory. */
inline void *allocate_for_setting(Size size)
{
#if PG_VERSION_NUM >= 160000
    return guc_malloc(LOG, size);
#else
    return std::calloc(1, size);
#endif
}

/* Whether a text is JSON. Raises only if it is nested so deeply that the stack is too small for it;
 * needs no transaction. */
inline bool is_json(const char *text)
{
    const size_t length = strlen(text);
#if PG_VERSION_NUM >= 170000
    JsonLexContext *lexer = makeJsonLexContextCstringLen(nullptr, const_cast<char *>(text), length,
                                                         GetDatabaseEncoding(), false);
    const bool valid = pg_parse_json(lexer, &nullSemAction) == JSON_SUCCESS;
    freeJsonLexContext(lexer);
#else
    JsonLexContext *lexer = makeJsonLexContextCstringLen(
        const_cast<char *>(text), static_cast<int>(length), GetDatabaseEncoding(), false);
    const bool valid = pg_parse_json(lexer, &nullSemAction) == JSON_SUCCESS;
    pfree(lexer);
#endif
    return valid;
}

/* All settings that this process knows. */
inline config_generic **settings(int *count)
{
#if PG_VERSION_NUM >= 160000
    return get_guc_variables(count);
#else
    *count = GetNumConfigOptions();
    return get_guc_variables();
#endif
}

inline void run_portal(Portal portal, DestReceiver *receiver, QueryCompletion *completion)
{
#if PG_VERSION_NUM >= 180000
    (void) PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion);
#else
    (void) PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, completion);
#endif
}

} // namespace backfill::pg
