/* job_waiters.cpp - see job_waiters.hpp. */
#include "backfill/shmem/job_waiters.hpp"

#include "backfill/pg/guard.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

namespace
{

JobWaiter *my_place = nullptr;

/* FATAL ends a session without unwinding the stack. */
void on_session_exit(int, Datum) noexcept
{
    leave_waiter_place();
}

} // namespace

void tell_job_waiters(const EndedJob *jobs, int count, bool more) noexcept
{
    JobWaiters &all = shared().job_waiters;
    if (pg_atomic_read_u32(&all.count) == 0)
        return;
    bool found = more;
    {
        SharedLock lock;
        for (JobWaiter &waiter : all.waiters) {
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
        ConditionVariableBroadcast(&all.ended);
}

void take_waiter_place(int64 job_id)
{
    static bool exit_registered = false;
    if (!available() || my_place != nullptr)
        return;
    if (!exit_registered)
        pg::call([] { before_shmem_exit(on_session_exit, static_cast<Datum>(0)); });
    exit_registered = true;
    JobWaiters &all = shared().job_waiters;
    SharedLock lock;
    for (JobWaiter &waiter : all.waiters) {
        if (waiter.pid != 0)
            continue;
        waiter = JobWaiter{MyProcPid, MyDatabaseId, job_id, std::nullopt, false};
        my_place = &waiter;
        (void) pg_atomic_fetch_add_u32(&all.count, 1);
        return;
    }
}

void leave_waiter_place() noexcept
{
    if (my_place == nullptr)
        return;
    SharedLock lock;
    JobWaiters &all = shared().job_waiters;
    if (my_place->watches_rollbacks)
        (void) pg_atomic_fetch_sub_u32(&all.uncommitted, 1);
    my_place->pid = 0;
    my_place = nullptr;
    (void) pg_atomic_fetch_sub_u32(&all.count, 1);
}

void watch_rollbacks()
{
    if (my_place == nullptr || my_place->watches_rollbacks)
        return;
    SharedLock lock;
    my_place->watches_rollbacks = true;
    (void) pg_atomic_fetch_add_u32(&shared().job_waiters.uncommitted, 1);
}

void tell_rollback() noexcept
{
    JobWaiters &all = shared().job_waiters;
    if (pg_atomic_read_u32(&all.uncommitted) > 0)
        ConditionVariableBroadcast(&all.ended);
}

std::optional<core::Fate> told_job_end()
{
    if (my_place == nullptr)
        return std::nullopt;
    SharedLock lock(LW_SHARED);
    return my_place->end;
}

} // namespace backfill::bgworker
