/* claim.hpp - external consumers choose and claim jobs.
 *
 * A claim is a lease that is in the job's row: its consumer, its end, and its token.
 * The row leaves job_ready_idx, so that no other session can choose the job, and has its queue's
 * permit in a column. What becomes of a lease is in lease.hpp. Only jobs of tasks that have no
 * handler can be claimed: the others are the server's. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/dequeue/next_job.hpp"

namespace backfill::queue
{

/* What a consumer is ready to do; an absent member means everything. */
struct ClaimFilter {
    std::optional<std::vector<std::string>> queues;
    /* Absent: every task that is registered without a handler. */
    std::optional<std::vector<std::string>> tasks;
};

struct ClaimRequest {
    std::string_view worker;
    ClaimFilter filter;
    int limit;
    int64 lease_us;
};

/* Claims up to `limit` jobs under one new token; the rows come in the order in which they are
 * to be run. Needs a transaction; the claim counts from its commit on.
 * Errors: Failure 55000 if a task of the filter has a handler. */
std::vector<JobRow> claim_jobs(const ClaimRequest &request);

/* Whether a consumer could claim a job now. If only a queue's rate forbids it, `later` becomes
 * the time when it allows one, unless it is earlier. */
bool is_any_claimable(const ClaimFilter &filter);
bool is_any_claimable(JobTable &table, NextJobs &next, const LatestSnapshot &snapshot,
                      std::optional<TimestampTz> &later);

} // namespace backfill::queue
