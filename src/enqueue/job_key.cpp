/* job_key.cpp - see job_key.hpp. */
#include "backfill/enqueue/job_key.hpp"

#include "backfill/config/job_rights.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/settle/settle.hpp"

namespace backfill::queue
{

KeyedJobs find_keyed_jobs(JobTable &table, const Config &config, std::string_view job_key,
                          bool remove)
{
    KeyedJobs result;
    for (const FoundJob &found : table.find_by_key(job_key)) {
        /* What remove_job() has marked no longer has the key, also if its run has failed since. */
        const bool removed = why_no_retry(found.row.id()).has_value();
        if (!removed)
            job_rights::check_key(config, found.row.task_identifier(), job_key);
        if (!removed && !result.any) {
            result.existing_id = found.row.id();
            result.any = true;
        }
        if (!remove)
            continue;
        const bool leased = !found.row.is_null(Column::kLeaseExpiresAt);
        Take taken = leased ? Take{std::nullopt, true} : take(table, found);
        if (taken.job) {
            const bool lives_on = !removed && !result.waiting; /* with its id */
            if (lives_on)
                result.waiting = found.row;
            (void) settle(table, config, *taken.job,
                          {lives_on ? core::Fate::kReplaced : core::Fate::kSuperseded});
        } else if (taken.is_busy && !removed) {
            forbid_retry(found.row.id(), core::Fate::kSuperseded);
        }
    }
    return result;
}

bool is_key_taken(JobTable &table, std::string_view job_key)
{
    return has_newer_keyed_job(table, job_key, PG_INT64_MIN);
}

} // namespace backfill::queue
