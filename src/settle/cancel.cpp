/* cancel.cpp - see cancel.hpp. */
#include "backfill/settle/cancel.hpp"

#include "backfill/pg/waiting.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/settle/settle.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/stop_request.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::queue
{

namespace
{

/* An executor that has just taken the job says so within microseconds; one that has done it
 * commits, as a rule, within backfill.batch_time. */
constexpr int kLongestWaitMs = 100;

enum class Try { kDone, kChanged, kRunning };

Try delete_row(JobTable &table, const FoundJob &job)
{
    const bool leased = !job.row.is_null(Column::kLeaseExpiresAt);
    if (job.row.is_in_executor())
        return Try::kRunning;
    Take taken = take(table, job, leased ? Wait::kYes : Wait::kNo);
    if (!taken.job)
        return taken.is_busy ? Try::kRunning : Try::kChanged;
    (void) settle(table, *config(), *taken.job, ending::cancelled(job.row));
    return Try::kDone;
}

bool stop_run(int64 id)
{
    if (!bgworker::available() || !bgworker::accepts_stop(id))
        return false;
    /* First: the executor may die as soon as it is told. */
    forbid_retry(id, core::Fate::kCancelled);
    if (bgworker::request_stop(id))
        return true;
    take_back_cancel(id);
    return false;
}

} // namespace

std::optional<JobRow> cancel_job(int64 id)
{
    JobTable table;
    std::optional<JobRow> job;
    bool cancelled = false;
    for (int waited = 0; !cancelled;) {
        const std::vector<FoundJob> rows = table.find_by_id(id);
        if (rows.empty())
            break;
        job = rows.front().row;
        const Try result = delete_row(table, rows.front());
        cancelled = result == Try::kDone || (result == Try::kRunning && stop_run(id));
        if (result != Try::kRunning || cancelled)
            continue;
        if (!bgworker::available() || !bgworker::has_busy_executor() || waited++ == kLongestWaitMs)
            break;
        pg::nap(nullptr, 1);
    }
    table.close();
    return cancelled ? job : std::nullopt;
}

} // namespace backfill::queue
