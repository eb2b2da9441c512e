/* job_waiter.hpp - the place of a session that waits for the end of a job, as job_waiters.hpp fills
 * it in the shared state. */
#pragma once

#include "backfill/core/fate.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

inline constexpr int kMaxJobWaiters = 256;

struct JobWaiter {
    int pid; /* 0: free */
    Oid database;
    int64 job_id;
    std::optional<core::Fate> end; /* absent: not told yet */
};

/* Beside the waiters, which the LWLock of the shared state guards. */
struct JobWaiterCounts {
    pg_atomic_uint32 all;
    pg_atomic_uint32 uncommitted; /* how many wait for a job that is not committed yet */
    ConditionVariable ended;
};

} // namespace backfill::bgworker
