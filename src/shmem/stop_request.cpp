/* stop_request.cpp - see stop_request.hpp. */
#include "backfill/shmem/stop_request.hpp"

#include "backfill/shmem/worker_slots.hpp"

#include <unistd.h>

namespace backfill::bgworker
{

namespace
{

/* A worker that was asked to stop has this long before it may be ended. */
constexpr int kObeyMs = 1000;

/* The executor that runs the job's handler; null if none does. */
const WorkerSlot *runner_of(const SharedReadLock &lock, int64 job_id)
{
    return lock->find_executor(MyDatabaseId, [&](const WorkerSlot &slot) {
        return SlotLock(slot)->accepts_stop_of == job_id;
    });
}

} // namespace

void accept_stop(int64 job_id)
{
    const SlotLock report = lock_my_report();
    report->accepts_stop_of = job_id;
    report->stop_requested_at = 0;
}

bool refuse_stop()
{
    bool requested;
    {
        const SlotLock report = lock_my_report();
        requested = report->stop_requested_at != 0;
        report->accepts_stop_of = 0;
        report->stop_requested_at = 0;
    }
    /* The signal has been sent while the lock was held; the return of any system call has it. */
    if (requested)
        (void) getppid();
    return requested;
}

bool is_stop_requested()
{
    return lock_my_report()->stop_requested_at != 0;
}

bool accepts_stop(int64 job_id)
{
    const SharedReadLock lock;
    return runner_of(lock, job_id) != nullptr;
}

bool request_stop(int64 job_id)
{
    const TimestampTz now = GetCurrentTimestamp();
    const SharedReadLock lock; /* so that its process cannot leave the slot */
    const WorkerSlot *worker = runner_of(lock, job_id);
    if (worker == nullptr)
        return false;
    const SlotLock report(*worker);
    const bool found = report->accepts_stop_of == job_id;
    if (found && report->stop_requested_at == 0) {
        report->stop_requested_at = now;
        /* Under the lock: else the signal could hit the next job. It is a short system call. */
        (void) kill(worker->pid, SIGINT);
    } else if (found && now - report->stop_requested_at >= kObeyMs * 1000) {
        (void) kill(worker->pid, SIGTERM);
    }
    return found;
}

} // namespace backfill::bgworker
