/* cancel.hpp - end a job, wherever it is.
 *
 * A waiting job, or one that a consumer has leased, is deleted in the caller's transaction. A
 * running one is its executor's: it is noted in backfill.no_retry, so that it ends with this run
 * should the executor die, and the executor is told to stop it. Telling is not transactional: the
 * job ends also if the caller's transaction is rolled back. */
#pragma once

#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

/* The job that was deleted, or told to stop; nothing if there is none. Waits for a moment where an
 * executor has just taken the job, and for a transaction that is changing a leased job's row. Needs
 * a transaction. */
std::optional<JobRow> cancel_job(int64 id);

} // namespace backfill::queue
