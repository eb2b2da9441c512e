/* job_key.hpp - what becomes of the jobs that already carry a key. */
#pragma once

#include "backfill/queue/enqueue.hpp"

namespace backfill::queue
{

/* The outcome of looking for a key under the key's lock. */
struct KeyedJobs {
    std::optional<JobRow> waiting; /* the waiting job, taken out of the table */
    bool any = false;              /* a job with the key exists, waiting or running */
    int64 existing_id = 0;         /* the newest of them */
};

/* With remove set, takes the waiting jobs of a key out of the table (the newest is
 * returned); a running job stays and is not waited for. The caller holds the key's lock. */
KeyedJobs find_keyed_jobs(JobTable &table, std::string_view job_key, bool remove);

/* Whether a job other than `id` that is newer carries the key. */
bool has_newer_keyed_job(JobTable &table, std::string_view job_key, int64 id);

/* Whether remove_job() was called for this job while it ran: it must not run again. */
bool is_retry_forbidden(int64 id);

} // namespace backfill::queue
