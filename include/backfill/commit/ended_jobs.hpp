/* ended_jobs.hpp - the jobs that a transaction has ended, to tell sessions that wait for them
 * (shmem/job_waiters.hpp) when it is committed. */
#pragma once

#include "backfill/shmem/job_waiters.hpp"

namespace backfill::queue::ended_jobs
{

/* The current transaction ends the job. */
void note(int64 job_id, core::Fate end) noexcept;

/* The end of the current transaction, or of the subtransaction of a nesting level; called by
 * wake.cpp. */
void on_transaction_end(bool committed) noexcept;
void on_subtransaction_end(bool committed, int level) noexcept;

} // namespace backfill::queue::ended_jobs
