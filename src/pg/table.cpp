/* table.cpp - see table.hpp. */
#include "backfill/pg/table.hpp"

#include "backfill/pg/owner_scope.hpp"

namespace backfill::pg
{

namespace
{

/* After an update of the library, too: until ALTER EXTENSION its SQL objects are the old ones. */
constexpr const char *kUpdateHint =
    "After an update, restart the server and run ALTER EXTENSION backfill UPDATE.";

[[noreturn]] void no_relation(const char *name)
{
    const bool installed = call([] { return OidIsValid(get_extension_oid("backfill", true)); });
    fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
         installed ? "extension \"backfill\" is not as the library knows it"
                   : "extension \"backfill\" is not installed in this database",
         "Relation backfill." + std::string(name) + " does not exist.",
         installed ? kUpdateHint : "Run CREATE EXTENSION backfill.");
}

} // namespace

Oid relation_oid(const char *name)
{
    const Oid oid = call([&] {
        const Oid schema = get_namespace_oid("backfill", true);
        return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    });
    if (!OidIsValid(oid))
        no_relation(name);
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

/* PostgreSQL calls it while it reports an error of our own statement, which may name what the
 * extension has not. The statement of a trigger that users have added may be the one that fails; so
 * the hint says what it is about. Plain. */
void hint_at_update(void *)
{
    const int code = geterrcode();
    if ((code == ERRCODE_UNDEFINED_COLUMN || code == ERRCODE_UNDEFINED_TABLE ||
         code == ERRCODE_UNDEFINED_FUNCTION) &&
        getinternalerrposition() > 0)
        errhint("If this is an object of the extension: %s", kUpdateHint);
}

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

        ErrorContextCallback context{error_context_stack, hint_at_update, nullptr};
        error_context_stack = &context;
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
        error_context_stack = context.previous;
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
