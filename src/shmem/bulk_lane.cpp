/* bulk_lane.cpp - see bulk_lane.hpp. */
#include "backfill/shmem/bulk_lane.hpp"

#include "backfill/guc.hpp"
#include "backfill/shmem/signals.hpp"

namespace backfill::bgworker
{

bool enter_bulk_lane(Oid database, int slot)
{
    if (guc::reserved_urgent_executors == 0)
        return true;
    const SharedLock lock;
    WorkerSlot &own = lock->worker(slot);
    int others = 0;
    lock->for_each_executor(database, [&](const WorkerSlot &executor) {
        others += &executor != &own && executor.bulk ? 1 : 0;
    });
    if (others >= guc::max_executors - guc::reserved_urgent_executors) {
        if (DatabaseSlot *entry = lock->find_database(database))
            entry->queue_was_full = true;
        return false;
    }
    own.bulk = true;
    return true;
}

void leave_bulk_lane(Oid database, int slot)
{
    {
        const SharedLock lock;
        if (!std::exchange(lock->worker(slot).bulk, false))
            return;
    }
    signal_permits_released(database);
}

} // namespace backfill::bgworker
