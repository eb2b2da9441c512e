/* unsettled_job.cpp - see unsettled_job.hpp. */
#include "backfill/shmem/unsettled_job.hpp"

#include "backfill/shmem/worker_slots.hpp"

namespace backfill::bgworker
{

namespace
{

bool holds = false;

} // namespace

void hold_unsettled(int64 job_id) noexcept
{
    lock_my_report()->unsettled_job = job_id;
    pg_atomic_fetch_add_u32(&lock_free_state().unsettled_jobs, 1);
    holds = true;
}

void release_unsettled() noexcept
{
    if (!std::exchange(holds, false))
        return;
    lock_my_report()->unsettled_job = 0;
    pg_atomic_fetch_sub_u32(&lock_free_state().unsettled_jobs, 1);
}

bool is_unsettled(int64 job_id) noexcept
{
    if (!available() || pg_atomic_read_u32(&lock_free_state().unsettled_jobs) == 0)
        return false;
    const SharedReadLock lock;
    return lock->find_executor(MyDatabaseId, [&](const WorkerSlot &slot) {
        return SlotLock(slot)->unsettled_job == job_id;
    }) != nullptr;
}

} // namespace backfill::bgworker
