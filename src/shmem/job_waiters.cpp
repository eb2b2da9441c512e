/* job_waiters.cpp - see job_waiters.hpp. */
#include "backfill/shmem/job_waiters.hpp"

#include "backfill/pg/guard.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

namespace
{

/* Of this session. */
int my_place = -1;
bool watching_rollbacks = false;

/* FATAL ends a session without unwinding the stack. */
void on_session_exit(int, Datum) noexcept
{
    leave_waiter_place();
}

} // namespace

void tell_job_waiters(const EndedJob *jobs, int count, bool more) noexcept
{
    JobWaiterCounts &waiting = lock_free_state().job_waiters;
    if (pg_atomic_read_u32(&waiting.all) == 0)
        return;
    bool found = more;
    {
        const SharedLock lock;
        for (JobWaiter &waiter : lock->job_waiters) {
            if (waiter.pid == 0 || waiter.database != MyDatabaseId)
                continue;
            for (int i = 0; i < count; i++) {
                if (jobs[i].job_id != waiter.job_id)
                    continue;
                waiter.end = jobs[i].end; /* of several the last one counts */
                found = true;
            }
        }
    }
    if (found)
        ConditionVariableBroadcast(&waiting.ended);
}

void take_waiter_place(int64 job_id)
{
    static bool exit_registered = false;
    if (!available() || my_place >= 0)
        return;
    if (!exit_registered)
        pg::call([] { before_shmem_exit(on_session_exit, static_cast<Datum>(0)); });
    exit_registered = true;
    const SharedLock lock;
    for (int i = 0; i < kMaxJobWaiters; i++) {
        if (lock->job_waiters[i].pid != 0)
            continue;
        lock->job_waiters[i] = JobWaiter{MyProcPid, MyDatabaseId, job_id, std::nullopt};
        my_place = i;
        (void) pg_atomic_fetch_add_u32(&lock_free_state().job_waiters.all, 1);
        return;
    }
}

void leave_waiter_place() noexcept
{
    if (my_place < 0)
        return;
    JobWaiterCounts &waiting = lock_free_state().job_waiters;
    const SharedLock lock;
    if (std::exchange(watching_rollbacks, false))
        (void) pg_atomic_fetch_sub_u32(&waiting.uncommitted, 1);
    lock->job_waiters[std::exchange(my_place, -1)].pid = 0;
    (void) pg_atomic_fetch_sub_u32(&waiting.all, 1);
}

void watch_rollbacks()
{
    if (my_place < 0 || std::exchange(watching_rollbacks, true))
        return;
    (void) pg_atomic_fetch_add_u32(&lock_free_state().job_waiters.uncommitted, 1);
}

void tell_rollback() noexcept
{
    JobWaiterCounts &waiting = lock_free_state().job_waiters;
    if (pg_atomic_read_u32(&waiting.uncommitted) > 0)
        ConditionVariableBroadcast(&waiting.ended);
}

std::optional<core::Fate> told_job_end()
{
    if (my_place < 0)
        return std::nullopt;
    const SharedReadLock lock;
    return lock->job_waiters[my_place].end;
}

} // namespace backfill::bgworker
