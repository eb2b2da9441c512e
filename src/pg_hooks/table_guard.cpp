/* table_guard.cpp - see table_guard.hpp. */
#include "backfill/pg_hooks/table_guard.hpp"

#include "backfill/pg/pg.hpp"

namespace backfill::hooks
{

namespace
{

object_access_hook_type previous_object_access_hook = nullptr;

/* The table that a new foreign key refers to; InvalidOid: it is none. */
Oid referenced_table(Oid constraint)
{
    Oid referenced = InvalidOid;
    ScanKeyData key;
    Relation constraints = table_open(ConstraintRelationId, AccessShareLock);
    ScanKeyInit(&key, Anum_pg_constraint_oid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(constraint));
    /* The row is not yet visible to a usual snapshot. */
    SysScanDesc scan =
        systable_beginscan(constraints, ConstraintOidIndexId, true, SnapshotSelf, 1, &key);
    if (const HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        const auto *form = reinterpret_cast<Form_pg_constraint>(GETSTRUCT(tuple));
        if (form->contype == CONSTRAINT_FOREIGN)
            referenced = form->confrelid;
    }
    systable_endscan(scan);
    table_close(constraints, AccessShareLock);
    return referenced;
}

void check_foreign_key(Oid constraint)
{
    const Oid schema = get_namespace_oid("backfill", true);
    const Oid jobs = OidIsValid(schema) ? get_relname_relid("job", schema) : InvalidOid;
    if (OidIsValid(jobs) && referenced_table(constraint) == jobs)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a foreign key cannot refer to backfill.job"),
                        errdetail("A job's row is deleted when the job starts, and is inserted "
                                  "again when it is retried."),
                        errhint("Store the job's id without a foreign key; of tasks registered "
                                "with keep_history, backfill.history says how it has ended.")));
}

void check_inheritance(Oid parent)
{
    const Oid schema = get_namespace_oid("backfill", true);
    if (OidIsValid(schema) && get_rel_namespace(parent) == schema &&
        get_rel_relkind(parent) == RELKIND_RELATION)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a table cannot inherit from backfill.%s", get_rel_name(parent)),
                        errdetail("The queue would not see its rows.")));
}

void on_object_access(ObjectAccessType access, Oid class_oid, Oid object, int sub_id, void *arg)
{
    if (previous_object_access_hook != nullptr)
        previous_object_access_hook(access, class_oid, object, sub_id, arg);
    if (access == OAT_POST_CREATE && class_oid == ConstraintRelationId)
        check_foreign_key(object);
    else if (access == OAT_POST_ALTER && class_oid == InheritsRelationId)
        check_inheritance(static_cast<ObjectAccessPostAlter *>(arg)->auxiliary_id);
}

} // namespace

void install_table_guard()
{
    previous_object_access_hook = object_access_hook;
    object_access_hook = on_object_access;
}

} // namespace backfill::hooks
