/* signals.cpp - see signals.hpp. */
#include "backfill/shmem/signals.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/guard.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::bgworker
{

namespace
{

/* The dispatcher, or the launcher, which starts one. */
void wake_dispatcher(const SharedLock &lock, Oid database)
{
    if (WorkerSlot *dispatcher = lock->find_dispatcher(database))
        dispatcher->wake();
    else if (DatabaseSlot *slot = lock->find_or_add_database(database)) {
        slot->status = DatabaseStatus::kUnknown;
        lock->wake_launcher();
    }
}

/* Whose jobs this process runs, if it is an executor. */
Oid executor_role(const SharedLock &lock)
{
    if (my_slot_number() < 0)
        return PG_UINT32_MAX;
    const WorkerSlot &slot = my_slot(lock);
    return slot.kind == WorkerKind::kExecutor && slot.pid == MyProcPid ? slot.role : PG_UINT32_MAX;
}

void note_consumers(const SharedLock &lock, Oid database)
{
    if (DatabaseSlot *slot = lock->find_or_add_database(database))
        slot->consumers = true;
}

} // namespace

void signal_ready(Oid database, Oid role, int jobs)
{
    if (guc::max_executors == 0 || jobs == 0)
        return; /* none may run them */
    const SharedLock lock;
    int executors = 0;
    int of_role = 0;
    (void) lock->find_executor(database, [&](WorkerSlot &slot) {
        executors++;
        if (slot.role != role || slot.retire)
            return false;
        of_role++;
        if (slot.state == WorkerState::kIdle && !slot.woken) {
            slot.wake();
            jobs--;
        }
        return jobs == 0;
    });
    if (jobs == 0)
        return;
    /* All are busy. They will look again before they rest, so the dispatcher is needed
     * only if another executor of this role can be started, or must be. */
    const DatabaseSlot *slot = lock->find_database(database);
    const bool room = executors < guc::max_executors;
    if (of_role > 0 && (!room || (slot != nullptr && slot->retry_at > GetCurrentTimestamp())))
        return;
    wake_dispatcher(lock, database);
}

void signal_due(Oid database, TimestampTz run_at)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_or_add_database(database);
    if (slot == nullptr || (slot->next_due != 0 && slot->next_due <= run_at))
        return;
    slot->next_due = run_at;
    wake_dispatcher(lock, database);
}

void signal_consumers(Oid database)
{
    {
        /* The rule under load: the dispatcher has not looked yet, and will see our rows. */
        const SharedReadLock lock;
        const DatabaseSlot *slot = lock->find_database(database);
        if (slot != nullptr && slot->consumers)
            return;
    }
    const SharedLock lock;
    note_consumers(lock, database);
    wake_dispatcher(lock, database);
}

void signal_lease(Oid database, TimestampTz expires_at)
{
    lower_lease_low(database, expires_at);
    signal_due(database, expires_at);
}

bool consumers_announced(Oid database)
{
    const SharedReadLock lock;
    const DatabaseSlot *slot = lock->find_database(database);
    return slot != nullptr && slot->consumers;
}

void wake_consumers()
{
    pg::call([] { ConditionVariableBroadcast(&lock_free_state().consumers); });
}

bool take_consumers(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_database(database);
    if (slot == nullptr || !slot->consumers)
        return false;
    slot->consumers = false;
    return true;
}

TimestampTz take_lease_low(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_or_add_database(database);
    return slot == nullptr ? 0 : std::exchange(slot->lease_low, PG_INT64_MAX);
}

void lower_lease_low(Oid database, TimestampTz lowest)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_or_add_database(database);
    if (slot != nullptr && lowest < slot->lease_low)
        slot->lease_low = lowest;
}

void signal_schedules(Oid database)
{
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(database))
        slot->schedules = true;
    wake_dispatcher(lock, database);
}

bool take_schedules(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_database(database);
    return slot != nullptr && std::exchange(slot->schedules, false);
}

bool has_dispatcher(Oid database)
{
    const SharedReadLock lock;
    const WorkerSlot *dispatcher = lock->find_dispatcher(database);
    return dispatcher != nullptr && dispatcher->latch != nullptr;
}

void signal_dispatcher(Oid database)
{
    const SharedLock lock;
    note_consumers(lock, database);
    wake_dispatcher(lock, database);
}

void note_queue_full(Oid database)
{
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(database))
        slot->queue_was_full = true;
}

void note_role_waits(Oid database, Oid role)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_or_add_database(database);
    if (slot == nullptr)
        return;
    slot->waiting_role = slot->role_waits && slot->waiting_role != role ? InvalidOid : role;
    slot->role_waits = true;
}

void signal_permits_released(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_database(database);
    if (slot == nullptr)
        return;
    if (slot->role_waits && slot->waiting_role != executor_role(lock)) {
        slot->role_waits = false;
        wake_dispatcher(lock, database);
    }
    if (!slot->queue_was_full)
        return;
    slot->queue_was_full = false;
    lock->for_each_executor(database, [](WorkerSlot &executor) {
        if (executor.state == WorkerState::kIdle && !executor.woken)
            executor.wake();
    });
    slot->consumers = true;
    wake_dispatcher(lock, database);
}

void signal_launcher(Oid database)
{
    const SharedLock lock;
    if (OidIsValid(database)) {
        DatabaseSlot *slot = lock->find_or_add_database(database);
        if (slot != nullptr && slot->status == DatabaseStatus::kAbsent)
            slot->status = DatabaseStatus::kUnknown;
    }
    lock->wake_launcher();
}

} // namespace backfill::bgworker
