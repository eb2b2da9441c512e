/* stop_request.cpp - see stop_request.hpp. */
#include "backfill/shmem/stop_request.hpp"

#include <unistd.h>

namespace backfill::bgworker
{

namespace
{

/* A worker that was told to stop has so long before it may be ended. */
constexpr int kObeyMs = 1000;

/* The executor that runs the job's handler; null if none does. Caller holds the lock. */
WorkerSlot *runner_of(int64 job_id)
{
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != MyDatabaseId)
            continue;
        SpinLockAcquire(&worker.mutex);
        const bool found = worker.stoppable_job == job_id;
        SpinLockRelease(&worker.mutex);
        if (found)
            return &worker;
    }
    return nullptr;
}

} // namespace

void open_to_stop(WorkerSlot &slot, int64 job_id)
{
    SpinLockAcquire(&slot.mutex);
    slot.stoppable_job = job_id;
    slot.stop_asked_at = 0;
    SpinLockRelease(&slot.mutex);
}

bool close_to_stop(WorkerSlot &slot)
{
    SpinLockAcquire(&slot.mutex);
    const bool told = slot.stop_asked_at != 0;
    slot.stoppable_job = 0;
    slot.stop_asked_at = 0;
    SpinLockRelease(&slot.mutex);
    /* The signal has been sent while the lock was held; the return of any system call has it. */
    if (told)
        (void) getppid();
    return told;
}

bool is_told_to_stop(WorkerSlot &slot)
{
    SpinLockAcquire(&slot.mutex);
    const bool told = slot.stop_asked_at != 0;
    SpinLockRelease(&slot.mutex);
    return told;
}

bool is_stoppable(int64 job_id)
{
    SharedLock lock(LW_SHARED);
    return runner_of(job_id) != nullptr;
}

bool tell_to_stop(int64 job_id)
{
    const TimestampTz now = GetCurrentTimestamp();
    SharedLock lock(LW_SHARED); /* so that its process cannot leave the slot */
    WorkerSlot *worker = runner_of(job_id);
    if (worker == nullptr)
        return false;
    SpinLockAcquire(&worker->mutex);
    const bool found = worker->stoppable_job == job_id;
    if (found && worker->stop_asked_at == 0) {
        worker->stop_asked_at = now;
        /* Under the lock: else the signal could hit the next job. It is a short system call. */
        (void) kill(worker->pid, SIGINT);
    } else if (found && now - worker->stop_asked_at >= kObeyMs * 1000) {
        (void) kill(worker->pid, SIGTERM);
    }
    SpinLockRelease(&worker->mutex);
    return found;
}

} // namespace backfill::bgworker
