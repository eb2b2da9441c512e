/* facts.cpp - see facts.hpp. */
#include "backfill/insight/facts.hpp"

#include "backfill/table/job_table.hpp"

namespace backfill::queue::facts
{

namespace
{

constexpr std::size_t kMaxQuoted = 300;

} // namespace

/* --- Words -------------------------------------------------------------------------------- */

std::string in_one_line(std::string_view text)
{
    std::string line(text);
    if (line.size() > kMaxQuoted) {
        const int kept = pg::call(
            [&] { return pg_mbcliplen(text.data(), static_cast<int>(text.size()), kMaxQuoted); });
        line.resize(static_cast<std::size_t>(kept));
        line += "...";
    }
    std::replace_if(
        line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
    return line;
}

std::string quoted_name(std::string_view name)
{
    return "\"" + in_one_line(name) + "\"";
}

std::string at_time(TimestampTz time)
{
    return pg::call([&] { return timestamptz_to_str(time); });
}

std::string counted(int64 count, const char *one, const char *many)
{
    return std::to_string(count) + " " + (count == 1 ? one : many);
}

/* --- Asking in SQL, as the owner ------------------------------------------------------------ */

std::string ask_text(const char *sql, std::initializer_list<pg::Param> params)
{
    const pg::TableRows rows = pg::query_as_owner(sql, std::span(params.begin(), params.size()));
    return rows.count == 0 || rows.rows[0].nulls[0] ? std::string()
                                                    : pg::to_string(rows.rows[0].values[0]);
}

int64 ask_count(const char *sql, std::initializer_list<pg::Param> params)
{
    const pg::StatementResult result =
        pg::execute_as_owner(sql, std::span(params.begin(), params.size()));
    return result.has_value ? DatumGetInt64(result.first_value) : 0;
}

bool in_progress(TransactionId xid)
{
    return pg::call([&] { return TransactionIdIsInProgress(xid); });
}

std::string owner_of(TransactionId xid)
{
    const TransactionId top = pg::call([&] { return SubTransGetTopmostTransaction(xid); });
    if (TransactionIdIsCurrentTransactionId(top))
        return "this transaction";
    const pg::Param params[] = {{XIDOID, TransactionIdGetDatum(top), false}};
    const pg::TableRows rows = pg::query_as_owner(
        "SELECT pg_catalog.format('process %s, whose transaction has been open since %s', a.pid,"
        "         a.xact_start)"
        "  FROM pg_catalog.pg_stat_activity a WHERE a.backend_xid = $1"
        " UNION ALL "
        "SELECT pg_catalog.format('the prepared transaction %L of %s', p.gid, p.prepared)"
        "  FROM pg_catalog.pg_prepared_xacts p WHERE p.transaction = $1",
        params);
    return rows.count == 0 ? "a transaction that is just ending"
                           : in_one_line(pg::to_string(rows.rows[0].values[0]));
}

/* --- Reading the row without waiting for a lock
 * ---------------------------------------------------- */

SeenJob read_job(int64 id)
{
    Relation table = JobTable::own().open(AccessShareLock);
    const Oid index_oid = pg::relation_oid("job_pkey");
    return pg::call([&] {
        SeenJob seen{};
        PushActiveSnapshot(GetLatestSnapshot());
        ScanKeyData key;
        ScanKeyInit(&key, JobTable::attribute(Column::kId), BTEqualStrategyNumber, F_INT8EQ,
                    Int64GetDatum(id));
        SysScanDesc scan = systable_beginscan(table, index_oid, true, GetActiveSnapshot(), 1, &key);
        HeapTuple tuple = systable_getnext(scan);
        if (HeapTupleIsValid(tuple)) {
            tuple = heap_copytuple(tuple);
            seen.found = true;
            seen.tid = tuple->t_self;
            seen.xmin = HeapTupleHeaderGetXmin(tuple->t_data);
            JobTable::own().deform(tuple, RelationGetDescr(table), seen.row.values, seen.row.nulls);
        }
        systable_endscan(scan);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
        return seen;
    });
}

std::string table_lockers(bool exclusive)
{
    return ask_text(
        "SELECT pg_catalog.string_agg(coalesce('process ' || l.pid, 'a prepared transaction')"
        "         || ' (' || l.mode || ')', ', ')"
        "  FROM pg_catalog.pg_locks l"
        " WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted"
        "   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d"
        "                      WHERE d.datname = pg_catalog.current_database())"
        "   AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()"
        "   AND (l.mode = 'AccessExclusiveLock' OR NOT $2 AND l.mode IN"
        "        ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock'))",
        {pg::oid_param(pg::relation_oid("job")), pg::bool_param(exclusive)});
}

} // namespace backfill::queue::facts
