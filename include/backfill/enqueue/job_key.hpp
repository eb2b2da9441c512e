/* job_key.hpp - what becomes of the jobs that already carry a key. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

/* The outcome of looking for a key under the key's lock. */
struct KeyedJobs {
    std::optional<JobRow> waiting; /* the waiting job, taken out of the table */
    bool any = false;              /* a job with the key exists, waiting or running */
    int64 existing_id = 0;         /* the newest of them */
};

/* With remove set, takes the waiting jobs of a key out of the table (the newest is
 * returned); a job that runs or is leased stays, is not waited for, and is not retried, even if the
 * newer one is done before it fails: its worker may have decided to do so just now, where we
 * cannot see it yet. The caller holds the key's lock.
 * Errors: Failure 42501 if one of them, waiting, running or leased, is of a task that the current
 * user may not enqueue. */
KeyedJobs find_keyed_jobs(JobTable &table, const Config &config, std::string_view job_key,
                          bool remove);

/* Whether a job that has not lost the key again carries it. */
bool is_key_taken(JobTable &table, std::string_view job_key);

} // namespace backfill::queue
