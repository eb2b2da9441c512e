/* no_retry.cpp - see no_retry.hpp. */
#include "backfill/settle/no_retry.hpp"

#include "backfill/pg/invalidation_flag.hpp"
#include "backfill/pg/own_table.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

/* The columns of backfill.no_retry. */
enum NoRetryColumn { kJobId, kCancelled, kColumns };
constexpr pg::OwnColumn kOwnColumns[] = {{"job_id", INT8OID, true}, {"cancelled", BOOLOID, true}};
static_assert(std::size(kOwnColumns) == kColumns);
constinit pg::OwnTable own_table("no_retry", kOwnColumns);

/* Whether backfill.no_retry is known to be empty, as it nearly always is: every claim asks. A
 * trigger tells of changes. */
bool no_retry_empty = false;
pg::InvalidationFlag outdated;

/* What the rows say that a snapshot taken now sees; of this job, if one is given. That it was
 * cancelled says more than that it was superseded. */
std::optional<core::Fate> find_no_retry(const int64 *job_id)
{
    Relation table = own_table.open(AccessShareLock);
    const Oid index_oid = pg::relation_oid("no_retry_pkey");
    outdated.set_relations({pg::call([&] { return RelationGetRelid(table); })});
    return pg::call([&] {
        PushActiveSnapshot(GetLatestSnapshot());
        ScanKeyData key;
        if (job_id != nullptr)
            ScanKeyInit(&key, own_table.attribute(kJobId), BTEqualStrategyNumber, F_INT8EQ,
                        Int64GetDatum(*job_id));
        SysScanDesc scan = systable_beginscan(table, index_oid, true, GetActiveSnapshot(),
                                              job_id != nullptr ? 1 : 0, &key);
        std::optional<core::Fate> found;
        HeapTuple tuple;
        while (found != core::Fate::kCancelled &&
               HeapTupleIsValid(tuple = systable_getnext(scan))) {
            bool is_null = false;
            const Datum cancelled = heap_getattr(tuple, own_table.attribute(kCancelled),
                                                 RelationGetDescr(table), &is_null);
            found = DatumGetBool(cancelled) ? core::Fate::kCancelled : core::Fate::kSuperseded;
            if (job_id == nullptr)
                break;
        }
        systable_endscan(scan);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
        return found;
    });
}

bool is_no_retry_empty()
{
    /* What another session has committed while the job ran counts. */
    pg::call([] { AcceptInvalidationMessages(); });
    if (outdated.is_set()) {
        outdated.clear(); /* first: a change that arrives meanwhile sets it again */
        no_retry_empty = false;
        no_retry_empty = !find_no_retry(nullptr);
    }
    return no_retry_empty && !outdated.is_set();
}

} // namespace

void forbid_retry(int64 id, core::Fate why)
{
    const pg::Param params[] = {pg::int8_param(id), pg::bool_param(why == core::Fate::kCancelled)};
    (void) pg::execute_as_owner("INSERT INTO backfill.no_retry (job_id, cancelled) VALUES ($1, $2)"
                                " ON CONFLICT DO NOTHING",
                                params);
}

void allow_retry(int64 id)
{
    if (!why_no_retry(id))
        return;
    const pg::Param param = pg::int8_param(id);
    (void) pg::execute_as_owner("DELETE FROM backfill.no_retry n WHERE n.job_id = $1",
                                std::span(&param, 1));
}

void take_back_cancel(int64 id)
{
    const pg::Param param = pg::int8_param(id);
    (void) pg::execute_as_owner(
        "DELETE FROM backfill.no_retry n WHERE n.job_id = $1 AND n.cancelled",
        std::span(&param, 1));
}

bool has_newer_keyed_job(JobTable &table, std::string_view job_key, int64 id)
{
    const std::vector<FoundJob> jobs = table.find_by_key(job_key);
    return std::any_of(jobs.begin(), jobs.end(), [&](const FoundJob &job) {
        return job.row.id() > id && !why_no_retry(job.row.id());
    });
}

std::optional<core::Fate> why_no_retry(int64 id)
{
    return is_no_retry_empty() ? std::nullopt : find_no_retry(&id);
}

void init_no_retry()
{
    outdated.register_for_relations();
}

} // namespace backfill::queue
