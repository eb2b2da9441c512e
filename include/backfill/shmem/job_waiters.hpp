/* job_waiters.hpp - sessions that wait for the end of a job (await_job()).
 *
 * A session that waits has a place in shared memory with the job's id; a commit that ends
 * jobs looks whether anybody waits (one atomic read if nobody does) and wakes all who do if one
 * of its jobs is waited for. What it leaves there, how the job ended, is a hint: the one who waits
 * looks into the tables first. Whoever finds no place looks now and then instead. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

enum class JobEnd : int { kUnknown, kCompleted, kDead, kDiscarded, kCancelled, kSuperseded };

/* As history shows it. */
const char *job_end_name(JobEnd end);

inline constexpr int kMaxJobWaiters = 256;

struct JobWaiter {
    int pid; /* 0: free */
    Oid database;
    int64 job_id;
    JobEnd end;
};

/* Part of the shared state; the waiters are guarded by its LWLock. */
struct JobWaiters {
    pg_atomic_uint32 count;
    ConditionVariable ended;
    JobWaiter waiters[kMaxJobWaiters];
};

struct EndedJob {
    int64 job_id;
    JobEnd end;
};

/* The jobs have ended, in this database; `more`: and others, too. Raises nothing. */
void tell_job_waiters(const EndedJob *jobs, int count, bool more) noexcept;

/* This session's place; it has one at most. Without shared memory there is none. */
void take_waiter_place(int64 job_id);
void leave_waiter_place() noexcept;
/* What somebody has left there. */
JobEnd told_job_end();

} // namespace backfill::bgworker
