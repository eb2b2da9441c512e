/* take.cpp - see take.hpp. */
#include "backfill/settle/take.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/call/run_job.hpp"
#include "backfill/clock.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/shmem/queue_changes.hpp"
#include "backfill/shmem/worker_slots.hpp"

#include <exception>

namespace backfill::queue
{

namespace
{

int64 dropped_job = 0; /* by this transaction; 0: none */

/* Before a commit it raises, since the job would be lost: by longjmp, as PostgreSQL allows there.
 * It throws nothing. */
void refuse_dropped_job(XactEvent event, void *) noexcept
{
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        if (dropped_job != 0)
            ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                            errmsg_internal("job " INT64_FORMAT " was taken out of backfill.job, "
                                            "and did not get its fate",
                                            dropped_job)));
        break;
    default:
        dropped_job = 0;
        break;
    }
}

/* After an abort a worker of ours looks again by itself for what it has taken, but not for what a
 * handler or hook has taken that it runs. */
bool looks_again()
{
    return bgworker::my_slot_number() >= 0 && !is_running_job() && !hooks::is_calling();
}

/* What others have to know of the removal when the transaction ends. */
void note_removal(const JobRow &row)
{
    if (row.is_null(Column::kLeaseExpiresAt))
        low_water::note_claimed(row);
    if (!row.is_null(Column::kLeasePermit)) {
        wake::announce_permits();
        bgworker::queue_changes::note_always(
            low_water::hash_of(row.text_or_empty(Column::kQueueName)));
    }
    if (!looks_again())
        wake::announce_taken();
    pg::call([] { CommandCounterIncrement(); });
}

} // namespace

void TakenJob::note_dropped(int64 id) noexcept
{
    if (std::uncaught_exceptions() > 0)
        return; /* the (sub)transaction ends, and the row is there again */
    Assert(false);
    dropped_job = id;
}

Take take(JobTable &table, const FoundJob &found, Wait wait)
{
    const RemoveResult removed =
        wait == Wait::kYes ? table.remove_waiting(found.tid) : table.remove(found.tid);
    if (removed != RemoveResult::kRemoved)
        return {std::nullopt, removed == RemoveResult::kBusy};
    TakenJob job(found);
    note_removal(found.row);
    return {std::move(job), false};
}

void put_back(JobTable &table, const Config &config, TakenJob &job, const JobRow &row)
{
    job.close();
    table.insert(row);
    if (row.is_null(Column::kLeaseExpiresAt))
        wake::announce_job(row, config.find_task(row.task_identifier()), clock::now());
    else if (!row.is_in_executor())
        wake::announce_lease(DatumGetTimestampTz(row.get(Column::kLeaseExpiresAt)));
    pg::call([] { CommandCounterIncrement(); });
}

void init_take()
{
    RegisterXactCallback(refuse_dropped_job, nullptr);
}

} // namespace backfill::queue
