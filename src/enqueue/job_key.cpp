/* job_key.cpp - see job_key.hpp. */
#include "backfill/enqueue/job_key.hpp"

#include "backfill/commit/wake.hpp"
#include "backfill/config/job_rights.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue
{

KeyedJobs find_keyed_jobs(JobTable &table, const Config &config, std::string_view job_key,
                          bool remove)
{
    KeyedJobs result;
    for (const FoundJob &found : table.find_by_key(job_key)) {
        /* What remove_job() has marked no longer has the key, also if its run has failed since. */
        const bool removed = why_no_retry(found.row.id()) != NoRetry::kNone;
        if (!removed)
            job_rights::check_key(config, found.row.task_identifier(), job_key);
        if (!removed && !result.any) {
            result.existing_id = found.row.id();
            result.any = true;
        }
        if (!remove)
            continue;
        const bool leased = !found.row.is_null(Column::kLeaseExpiresAt);
        const RemoveResult removal =
            leased ? RemoveResult::kBusy : table.remove(found.tid, InvalidSnapshot);
        if (removal == RemoveResult::kRemoved) {
            wake::announce_taken();
            stats::note_dropped(found.row, stats::DropReason::kSuperseded);
            if (!removed && !result.waiting)
                result.waiting = found.row; /* lives on with its id */
            else
                job_end::note_end(config.find_task(found.row.task_identifier()), found.row,
                                  job_end::JobEnd::kSuperseded);
        } else if (removal == RemoveResult::kBusy && !removed) {
            forbid_retry(found.row.id(), NoRetry::kSuperseded);
        }
    }
    return result;
}

bool is_key_taken(JobTable &table, std::string_view job_key)
{
    return has_newer_keyed_job(table, job_key, PG_INT64_MIN);
}

} // namespace backfill::queue
