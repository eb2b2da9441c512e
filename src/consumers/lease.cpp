/* lease.cpp - see lease.hpp. */
#include "backfill/consumers/lease.hpp"

#include "backfill/clock.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/settle/settle.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::queue::leases
{

namespace set_aside = bgworker::set_aside;

namespace
{

bool is_held(const JobRow &row, int64 token)
{
    return !row.is_null(Column::kClaimToken) && !row.is_in_executor() &&
           DatumGetInt64(row.get(Column::kClaimToken)) == token &&
           !row.is_null(Column::kLeaseExpiresAt) &&
           DatumGetTimestampTz(row.get(Column::kLeaseExpiresAt)) > clock::now();
}

/* Takes a job out of the table for which is_wanted(row) holds. */
template <class Wanted>
std::optional<TakenJob> take_if(JobTable &table, int64 id, Wanted &&is_wanted)
{
    for (;;) {
        const std::vector<FoundJob> rows = table.find_by_id(id);
        const auto found = std::find_if(rows.begin(), rows.end(),
                                        [&](const FoundJob &job) { return is_wanted(job.row); });
        if (found == rows.end())
            return std::nullopt;
        if (Take taken = take(table, *found, Wait::kYes); taken.job)
            return std::move(taken.job);
        /* Another transaction has changed the row: look again. */
    }
}

std::optional<TakenJob> take_held(JobTable &table, int64 id, int64 token)
{
    return take_if(table, id, [&](const JobRow &row) { return is_held(row, token); });
}

/* In one order everywhere, so that two calls never wait for each other. */
std::vector<int64> sorted(std::vector<int64> ids)
{
    std::sort(ids.begin(), ids.end());
    return ids;
}

/* Takes each of these jobs that the claim still holds; end(config, job) ends the claim of one.
 * Returns their ids. */
template <class End>
std::vector<int64> for_each_held(JobTable &table, std::vector<int64> ids, int64 token, End &&end)
{
    const std::shared_ptr<const Config> current = config();
    std::vector<int64> held;
    for (const int64 id : sorted(std::move(ids))) {
        auto job = take_held(table, id, token);
        if (!job)
            continue;
        end(*current, *job);
        held.push_back(id);
    }
    table.close();
    return held;
}

} // namespace

std::vector<int64> renew(int64 token, int64 lease_us)
{
    JobTable table;
    std::vector<int64> ids;
    for (const FoundJob &job : table.find_by_claim(token))
        ids.push_back(job.row.id());
    return for_each_held(table, std::move(ids), token, [&](const Config &config, TakenJob &job) {
        job.row.set(Column::kLeaseExpiresAt, TimestampTzGetDatum(clock::now() + lease_us));
        put_back(table, config, job, job.row);
    });
}

std::vector<int64> complete(std::vector<int64> ids, int64 token)
{
    JobTable table;
    return for_each_held(table, std::move(ids), token, [&](const Config &config, TakenJob &job) {
        (void) settle(table, config, job, ending::completed_by_consumer(job.row));
    });
}

std::vector<int64> release(std::vector<int64> ids, int64 token)
{
    JobTable table;
    return for_each_held(table, std::move(ids), token, [&](const Config &config, TakenJob &job) {
        (void) settle(table, config, job, ending::released(Counted::kStart));
    });
}

bool snooze(int64 id, int64 token, int64 delay_us)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    auto job = take_held(table, id, token);
    if (job)
        (void) settle(table, *current, *job, ending::snoozed(delay_us));
    table.close();
    return job.has_value();
}

std::optional<core::Fate> fail(int64 id, int64 token, std::string_view error,
                               std::optional<bool> permanent)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    std::optional<core::Fate> fate;
    if (auto job = take_held(table, id, token))
        fate = settle(table, *current, *job,
                      ending::failed_for_consumer(*current, job->row, error, permanent))
                   .fate;
    table.close();
    return fate;
}

Expired expire(TimestampTz from, TimestampTz until, int limit, Transaction transaction)
{
    const std::shared_ptr<const Config> current = config();
    Expired result;
    result.lowest = from;
    JobTable table;
    LatestSnapshot snapshot; /* the dispatcher has none, and changes may need one */
    snapshot.renew();
    const auto end_lease = [&](JobTable &open, const FoundJob &job) {
        Take taken = take(open, job);
        result.busy = result.busy || taken.is_busy;
        if (!taken.job)
            return false;
        (void) settle(open, *current, *taken.job, ending::lost_lease(job.row));
        return true;
    };
    Done done;
    bool full;
    /* Behind many that cannot be ended now there may be others. */
    for (;; limit *= 4) {
        const std::vector<FoundJob> due = table.find_leases(from, until, limit);
        done = each_apart({set_aside::Kind::kLease, "end the lease of job", transaction}, due,
                          thing_of_job, end_lease);
        full = static_cast<int>(due.size()) == limit;
        if (!full || done.count > 0 || done.more || limit > PG_INT32_MAX / 4)
            break;
    }
    result.jobs = done.count;
    result.more = done.more || full;
    result.aside = done.aside;
    const std::vector<FoundJob> next = table.find_leases(Max(from, until + 1), PG_INT64_MAX - 1, 1);
    if (!next.empty())
        result.next = DatumGetTimestampTz(next.front().row.get(Column::kLeaseExpiresAt));
    if (!result.more && !result.busy && !result.aside)
        result.lowest = result.next.value_or(PG_INT64_MAX);
    snapshot.pop();
    table.close();
    return result;
}

bool release_orphaned(Transaction transaction)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    LatestSnapshot snapshot;
    bool busy = false;
    snapshot.renew();
    std::vector<FoundJob> orphaned;
    for (FoundJob &job : table.find_leases(DT_NOEND, DT_NOEND, PG_INT32_MAX)) {
        /* Published before the row could be seen, and until its end is visible. */
        if (bgworker::available() &&
            bgworker::is_claim_alive(DatumGetInt64(job.row.get(Column::kClaimToken))))
            continue;
        if (bgworker::ledger::awaits_charge(lost_run::run_of(job.row)))
            busy = true;
        else
            orphaned.push_back(std::move(job));
    }
    const auto release_job = [&](JobTable &open, const FoundJob &job) {
        Take taken = take(open, job);
        busy = busy || taken.is_busy;
        if (!taken.job)
            return false;
        (void) settle(open, *current, *taken.job, ending::released());
        return true;
    };
    const Done done = each_apart({set_aside::Kind::kClaim, "release job", transaction}, orphaned,
                                 thing_of_job, release_job);
    snapshot.pop();
    table.close();
    return busy || done.more || done.aside;
}

int take_away(const std::vector<std::string> &workers)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    const auto is_theirs = [&](const JobRow &row) {
        return !row.is_null(Column::kLeaseExpiresAt) && !row.is_in_executor() &&
               std::find(workers.begin(), workers.end(), row.text_or_empty(Column::kWorker)) !=
                   workers.end();
    };
    std::vector<int64> ids;
    for (const FoundJob &job : table.find_leases(PG_INT64_MIN, PG_INT64_MAX, PG_INT32_MAX))
        if (is_theirs(job.row))
            ids.push_back(job.row.id());
    int taken = 0;
    for (const int64 id : sorted(std::move(ids))) {
        if (auto job = take_if(table, id, is_theirs)) {
            (void) settle(table, *current, *job, ending::lost_lease(job->row));
            taken++;
        }
    }
    table.close();
    return taken;
}

} // namespace backfill::queue::leases
