/* lease.cpp - see lease.hpp. */
#include "backfill/consumers/lease.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/clock.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/settle/dead_letter.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/stats/events.hpp"

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

/* Takes a job out of the table for which is_wanted(row) holds, and its slot out of use. */
template <class Wanted> std::optional<JobRow> take(JobTable &table, int64 id, Wanted &&is_wanted)
{
    for (;;) {
        const std::vector<FoundJob> rows = table.find_by_id(id);
        const auto found = std::find_if(rows.begin(), rows.end(),
                                        [&](const FoundJob &job) { return is_wanted(job.row); });
        if (found == rows.end())
            return std::nullopt;
        if (table.remove_waiting(found->tid) != RemoveResult::kRemoved)
            continue; /* somebody has changed the row: look again */
        pg::call([] { CommandCounterIncrement(); });
        wake::announce_slots();
        return found->row;
    }
}

std::optional<JobRow> take_held(JobTable &table, int64 id, int64 token)
{
    return take(table, id, [&](const JobRow &row) { return is_held(row, token); });
}

/* In one order everywhere, so that two calls never wait for each other. */
std::vector<int64> sorted(std::vector<int64> ids)
{
    std::sort(ids.begin(), ids.end());
    return ids;
}

void note_inserted()
{
    pg::call([] { CommandCounterIncrement(); });
}

} // namespace

std::vector<int64> renew(int64 token, int64 lease_us)
{
    JobTable table;
    std::vector<int64> ids;
    std::vector<int64> renewed;
    for (const FoundJob &job : table.find_by_claim(token))
        ids.push_back(job.row.id());
    for (const int64 id : sorted(std::move(ids))) {
        auto row = take_held(table, id, token);
        if (!row)
            continue;
        const TimestampTz expires_at = clock::now() + lease_us;
        row->set(Column::kLeaseExpiresAt, TimestampTzGetDatum(expires_at));
        table.insert(*row);
        note_inserted();
        wake::announce_lease(expires_at);
        renewed.push_back(id);
    }
    table.close();
    return renewed;
}

std::vector<int64> complete(std::vector<int64> ids, int64 token)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    std::vector<int64> completed;
    for (const int64 id : sorted(std::move(ids))) {
        const auto row = take_held(table, id, token);
        if (!row)
            continue;
        stats::note_claim_end(*row, stats::RunEnd::kCompleted);
        dead_letter::forget(*row);
        job_end::note_end(current->find_task(row->task_identifier()), *row,
                          job_end::JobEnd::kCompleted, {row->attempts() + 1, {}, false, {}});
        hooks::notify(*current, core::HookEvent::kJobComplete, &*row);
        completed.push_back(id);
    }
    table.close();
    return completed;
}

std::vector<int64> release(std::vector<int64> ids, int64 token)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    std::vector<int64> released;
    for (const int64 id : sorted(std::move(ids))) {
        const auto row = take_held(table, id, token);
        if (!row)
            continue;
        stats::note_claim_end(*row, stats::RunEnd::kSnoozed);
        (void) finish_unrun(table, current->find_task(row->task_identifier()), *row, std::nullopt);
        note_inserted();
        released.push_back(id);
    }
    table.close();
    return released;
}

bool snooze(int64 id, int64 token, int64 delay_us)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    const auto row = take_held(table, id, token);
    if (row) {
        stats::note_claim_end(*row, stats::RunEnd::kSnoozed);
        (void) finish_unrun(table, current->find_task(row->task_identifier()), *row, delay_us);
        note_inserted();
    }
    table.close();
    return row.has_value();
}

std::optional<Outcome> fail(int64 id, int64 token, std::string_view error,
                            std::optional<bool> permanent)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    std::optional<Outcome> outcome;
    if (auto row = take_held(table, id, token)) {
        const core::ErrorInfo info{{}, pg::kept_error_text(error), {}, {}, {}};
        const core::ErrorClass by_text =
            current->error_rules().classify_text(row->task_identifier(), error);
        const core::ErrorClass given =
            permanent.value_or(false) ? core::ErrorClass::kPermanent : core::ErrorClass::kRetry;
        const job_end::Runner consumer{0, std::string(row->text_or_empty(Column::kWorker))};
        row->clear_lease();
        outcome = finish_failure(table, *current, current->find_task(row->task_identifier()), *row,
                                 info, permanent ? given : by_text, consumer);
        note_inserted();
        hooks::notify(*current, core::HookEvent::kJobFail, &*row, &info);
        if (*outcome == Outcome::kDeadLettered)
            hooks::notify(*current, core::HookEvent::kJobPermanentlyFail, &*row, &info);
    }
    table.close();
    return outcome;
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
        const RemoveResult removed = open.remove(job.tid, InvalidSnapshot);
        result.busy = result.busy || removed == RemoveResult::kBusy;
        if (removed != RemoveResult::kRemoved)
            return false;
        pg::call([] { CommandCounterIncrement(); });
        wake::announce_slots();
        (void) finish_lost(open, current->find_task(job.row.task_identifier()), job.row);
        note_inserted();
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
    const Done done =
        each_apart({set_aside::Kind::kClaim, "release job", transaction}, orphaned, thing_of_job,
                   [&](JobTable &open, const FoundJob &job) {
                       const RemoveResult removed = open.remove(job.tid, InvalidSnapshot);
                       busy = busy || removed == RemoveResult::kBusy;
                       if (removed != RemoveResult::kRemoved)
                           return false;
                       pg::call([] { CommandCounterIncrement(); });
                       wake::announce_slots();
                       (void) finish_unrun(open, current->find_task(job.row.task_identifier()),
                                           job.row, std::nullopt);
                       note_inserted();
                       return true;
                   });
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
        if (const auto row = take(table, id, is_theirs)) {
            (void) finish_lost(table, current->find_task(row->task_identifier()), *row);
            note_inserted();
            taken++;
        }
    }
    table.close();
    return taken;
}

} // namespace backfill::queue::leases
