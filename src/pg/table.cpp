/* table.cpp - see table.hpp. */
#include "backfill/pg/table.hpp"

#include "backfill/pg/owner_scope.hpp"

namespace backfill::pg
{

Oid relation_oid(const char *name)
{
    const Oid oid = call([&] {
        const Oid schema = get_namespace_oid("backfill", true);
        return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    });
    if (!OidIsValid(oid))
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
             "extension \"backfill\" is not installed in this database",
             "Relation backfill." + std::string(name) + " does not exist.",
             "Run CREATE EXTENSION backfill.");
    return oid;
}

Relation open_table(const char *name, LOCKMODE lock)
{
    for (;;) {
        const Oid oid = relation_oid(name);
        Relation table = call([&] { return try_table_open(oid, lock); });
        if (table != nullptr)
            return table;
    }
}

Oid extension_owner()
{
    const Oid task_table = relation_oid("task");
    return call([&] {
        HeapTuple table = SearchSysCache1(RELOID, ObjectIdGetDatum(task_table));
        if (!HeapTupleIsValid(table))
            elog(ERROR, "cache lookup failed for relation %u", task_table);
        const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(table))->relowner;
        ReleaseSysCache(table);
        return owner;
    });
}

HeapTuple with_own_values(HeapTuple tuple, TupleDesc columns)
{
    return HeapTupleHasExternal(tuple) ? toast_flatten_tuple(tuple, columns) : tuple;
}

namespace
{

/* Runs sql as the owner; take_result, which is plain code, runs while SPI still has what came
 * of it. */
template <class Result>
Result run_as_owner(const char *sql, std::span<const Param> params, Sees sees,
                    void (*take_result)(Result &))
{
    const Oid owner = extension_owner();
    Result result{};
    call([&] {
        constexpr int kMaxParams = 32;
        Oid types[kMaxParams];
        Datum values[kMaxParams];
        char nulls[kMaxParams];
        const int count = static_cast<int>(params.size());
        if (count > kMaxParams)
            elog(ERROR, "too many parameters: %d", count);
        for (int i = 0; i < count; i++) {
            types[i] = params[i].type;
            values[i] = params[i].value;
            nulls[i] = params[i].is_null ? 'n' : ' ';
        }

        OwnerScope as_owner(owner);
        /* A worker has none of its own outside of a portal. */
        PushActiveSnapshot(sees == Sees::kLatest ? GetLatestSnapshot() : GetTransactionSnapshot());
        SPI_connect();
        const int code =
            sees == Sees::kLatest
                ? SPI_execute_snapshot(SPI_prepare(sql, count, types), values, nulls,
                                       GetActiveSnapshot(), InvalidSnapshot, false, true, 0)
                : SPI_execute_with_args(sql, count, types, values, nulls, false, 0);
        if (code < 0)
            elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(code));
        take_result(result);
        SPI_finish();
        PopActiveSnapshot();
        as_owner.leave();
    });
    return result;
}

void take_first_value(StatementResult &result)
{
    result.rows = SPI_processed;
    if (SPI_processed > 0 && SPI_tuptable != nullptr) {
        bool is_null;
        result.first_value =
            SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
        result.has_value = !is_null;
    }
}

/* Into the caller's memory, where SPI_palloc and SPI_copytuple allocate: it outlives SPI's. */
void take_rows(TableRows &result)
{
    const TupleDesc columns = SPI_tuptable->tupdesc;
    const auto width = static_cast<Size>(columns->natts);
    result.count = static_cast<int>(SPI_processed);
    result.rows = static_cast<TableRow *>(SPI_palloc(sizeof(TableRow) * (SPI_processed + 1)));
    for (int i = 0; i < result.count; i++) {
        TableRow &row = result.rows[i];
        row.values = static_cast<Datum *>(SPI_palloc(sizeof(Datum) * width));
        row.nulls = static_cast<bool *>(SPI_palloc(sizeof(bool) * width));
        HeapTuple tuple = with_own_values(SPI_tuptable->vals[i], columns);
        heap_deform_tuple(SPI_copytuple(tuple), columns, row.values, row.nulls);
    }
}

} // namespace

StatementResult execute_as_owner(const char *sql, std::span<const Param> params, Sees sees)
{
    return run_as_owner<StatementResult>(sql, params, sees, take_first_value);
}

TableRows query_as_owner(const char *sql, std::span<const Param> params)
{
    return run_as_owner<TableRows>(sql, params, Sees::kAsUsual, take_rows);
}

} // namespace backfill::pg
