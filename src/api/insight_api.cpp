/* insight_api.cpp - SQL functions with which operators look in (sql/install/88_insight.sql,
 * 89_health.sql). */
#include "backfill/guc.hpp"
#include "backfill/insight/why_waiting.hpp"
#include "backfill/pg/datum.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/stats/counters.hpp"

using namespace backfill;

namespace
{

Datum to_oid_array(const std::vector<Oid> &oids)
{
    std::vector<Datum> elements;
    for (const Oid oid : oids)
        elements.push_back(ObjectIdGetDatum(oid));
    return pg::call([&] {
        return PointerGetDatum(construct_array(elements.data(), static_cast<int>(elements.size()),
                                               OIDOID, sizeof(Oid), true, TYPALIGN_INT));
    });
}

bool is_listed_here()
{
    return pg::call([] {
        const char *name = get_database_name(MyDatabaseId);
        return name != nullptr && guc::is_listed(name);
    });
}

} // namespace

BACKFILL_FUNCTION(backfill_why_not_running)
{
    return pg::from_text(queue::why_not_running(*pg::Arguments(fcinfo).int8(0)));
}

BACKFILL_FUNCTION(backfill_server_state)
{
    const bool preloaded = bgworker::available();
    const auto database = bgworker::copy_database();
    const TimestampTz now = GetCurrentTimestamp();
    std::vector<Oid> held;
    if (database)
        for (const bgworker::HeldRole &role : database->held)
            if (OidIsValid(role.role) && role.until > now)
                held.push_back(role.role);
    Datum values[] = {
        BoolGetDatum(preloaded),
        pg::from_text(BACKFILL_VERSION),
        BoolGetDatum(preloaded && bgworker::has_launcher()),
        BoolGetDatum(preloaded && bgworker::has_dispatcher(MyDatabaseId)),
        BoolGetDatum(preloaded && is_listed_here()),
        Int32GetDatum(database ? database->blocked_by : 0),
        TimestampTzGetDatum(database ? database->retry_at : 0),
        to_oid_array(held),
        BoolGetDatum(stats::available() && stats::lacks_places()),
        Int32GetDatum(preloaded ? bgworker::count_databases() : 0),
    };
    bool nulls[std::size(values)] = {};
    nulls[5] = !database || database->blocked_by == 0;
    nulls[6] = !database || database->retry_at == 0;
    return pg::make_row(fcinfo, values, nulls);
}

BACKFILL_FUNCTION(backfill_no_rate_window_at)
{
    const TimestampTz at = bgworker::available() ? bgworker::no_rate_window_at() : 0;
    fcinfo->isnull = at == 0;
    return TimestampTzGetDatum(at);
}

BACKFILL_FUNCTION(backfill_set_aside)
{
    namespace set_aside = bgworker::set_aside;
    pg::ResultSet result(fcinfo);
    for (const set_aside::Entry &entry : set_aside::copy_entries()) {
        const Datum values[] = {
            pg::from_text(set_aside::kind_name(entry.kind)),
            Int64GetDatum(entry.id),
            pg::from_text(entry.name),
            Int32GetDatum(entry.failures),
            TimestampTzGetDatum(entry.since),
            TimestampTzGetDatum(entry.retry_at),
            pg::from_text(entry.sqlstate),
            pg::from_text(entry.message),
        };
        bool nulls[std::size(values)] = {};
        nulls[2] = entry.name[0] == '\0';
        result.add(values, nulls);
    }
    return result.finish();
}
