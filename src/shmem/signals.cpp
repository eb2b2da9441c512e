/* signals.cpp - see signals.hpp. */
#include "backfill/shmem/signals.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/guard.hpp"

namespace backfill::bgworker
{

namespace
{

/* The dispatcher, or who starts one. Caller holds the lock. */
void wake_dispatcher(Oid database)
{
    WorkerSlot *dispatcher = dispatcher_of(database);
    if (dispatcher != nullptr)
        wake(dispatcher);
    else if (DatabaseSlot *slot = find_database(database, true)) {
        slot->status = DatabaseStatus::kUnknown;
        wake_launcher();
    }
}

/* Whose jobs this process runs, if it is an executor. Caller holds the lock. */
Oid executor_role()
{
    for (int i = 0; i < shared().worker_count; i++) {
        const WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.pid == MyProcPid)
            return worker.role;
    }
    return PG_UINT32_MAX;
}

/* Caller holds the lock. */
void note_consumers(Oid database)
{
    if (DatabaseSlot *slot = find_database(database, true))
        slot->consumers = true;
}

} // namespace

WorkerSlot *dispatcher_of(Oid database)
{
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kDispatcher && worker.database == database)
            return &worker;
    }
    return nullptr;
}

void wake(WorkerSlot *worker)
{
    if (worker == nullptr)
        return;
    worker->woken = true;
    if (worker->latch != nullptr)
        SetLatch(worker->latch);
}

void wake_launcher()
{
    if (shared().launcher != nullptr)
        SetLatch(shared().launcher);
}

void signal_ready(Oid database, Oid role, int jobs)
{
    if (guc::max_executors == 0)
        return; /* nobody may run them */
    SharedLock lock;
    int executors = 0;
    int of_role = 0;
    for (int i = 0; i < shared().worker_count && jobs > 0; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != database)
            continue;
        executors++;
        if (worker.role != role || worker.retire)
            continue;
        of_role++;
        if (worker.state == WorkerState::kIdle && !worker.woken) {
            wake(&worker);
            jobs--;
        }
    }
    if (jobs == 0)
        return;
    /* All are busy. They will look again before they rest, so the dispatcher is needed
     * only if another executor can be started, or must be, for this role. */
    const DatabaseSlot *slot = find_database(database, false);
    const bool room = executors < guc::max_executors;
    if (of_role > 0 && (!room || (slot != nullptr && slot->retry_at > GetCurrentTimestamp())))
        return;
    wake_dispatcher(database);
}

void signal_due(Oid database, TimestampTz run_at)
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    if (slot == nullptr || (slot->next_due != 0 && slot->next_due <= run_at))
        return;
    slot->next_due = run_at;
    wake_dispatcher(database);
}

void signal_consumers(Oid database)
{
    {
        /* The rule under load: the dispatcher has not looked yet, and will see our rows. */
        const SharedLock lock(LW_SHARED);
        const DatabaseSlot *slot = find_database(database, false);
        if (slot != nullptr && slot->consumers)
            return;
    }
    const SharedLock lock;
    note_consumers(database);
    wake_dispatcher(database);
}

void signal_lease(Oid database, TimestampTz expires_at)
{
    lower_lease_low(database, expires_at);
    signal_due(database, expires_at);
}

bool consumers_announced(Oid database)
{
    const SharedLock lock(LW_SHARED);
    const DatabaseSlot *slot = find_database(database, false);
    return slot != nullptr && slot->consumers;
}

void wake_consumers()
{
    pg::call([] { ConditionVariableBroadcast(&shared().consumers); });
}

bool take_consumers(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, false);
    if (slot == nullptr || !slot->consumers)
        return false;
    slot->consumers = false;
    return true;
}

TimestampTz take_lease_low(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    return slot == nullptr ? 0 : std::exchange(slot->lease_low, PG_INT64_MAX);
}

void lower_lease_low(Oid database, TimestampTz lowest)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    if (slot != nullptr && lowest < slot->lease_low)
        slot->lease_low = lowest;
}

bool has_dispatcher(Oid database)
{
    const SharedLock lock(LW_SHARED);
    const WorkerSlot *dispatcher = dispatcher_of(database);
    return dispatcher != nullptr && dispatcher->latch != nullptr;
}

void signal_dispatcher(Oid database)
{
    SharedLock lock;
    note_consumers(database);
    wake_dispatcher(database);
}

void note_queue_full(Oid database)
{
    SharedLock lock;
    if (DatabaseSlot *slot = find_database(database, true))
        slot->queue_was_full = true;
}

void note_role_waits(Oid database, Oid role)
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    if (slot == nullptr)
        return;
    slot->waiting_role = slot->role_waits && slot->waiting_role != role ? InvalidOid : role;
    slot->role_waits = true;
}

void signal_slots_released(Oid database)
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, false);
    if (slot == nullptr)
        return;
    if (slot->role_waits && slot->waiting_role != executor_role()) {
        slot->role_waits = false;
        wake_dispatcher(database);
    }
    if (!slot->queue_was_full)
        return;
    slot->queue_was_full = false;
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.database == database &&
            worker.state == WorkerState::kIdle && !worker.woken)
            wake(&worker);
    }
    slot->consumers = true;
    wake_dispatcher(database);
}

void signal_launcher(Oid database)
{
    SharedLock lock;
    if (OidIsValid(database)) {
        DatabaseSlot *slot = find_database(database, true);
        if (slot != nullptr && slot->status == DatabaseStatus::kAbsent)
            slot->status = DatabaseStatus::kUnknown;
    }
    wake_launcher();
}

} // namespace backfill::bgworker
