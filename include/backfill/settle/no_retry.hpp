/* no_retry.hpp - jobs that must not run again, though they run or are leased just now
 * (backfill.no_retry). */
#pragma once

#include "backfill/core/fate.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

/* Whether this job was cancelled (kCancelled), or its key removed or enqueued again (kSuperseded),
 * while it ran: it must not run again. */
std::optional<core::Fate> why_no_retry(int64 id);
void forbid_retry(int64 id, core::Fate why);
/* The job was to be cancelled, and has just ended otherwise. */
void take_back_cancel(int64 id);
/* For a dead letter that is requeued under its old id. */
void allow_retry(int64 id);

/* Whether a job that is newer than `id` and has not lost the key again carries it. */
bool has_newer_keyed_job(JobTable &table, std::string_view job_key, int64 id);

/* Registers an invalidation callback; once per process, from _PG_init. */
void init_no_retry();

} // namespace backfill::queue
