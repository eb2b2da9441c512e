/* latest_snapshot.cpp - see latest_snapshot.hpp. */
#include "backfill/dequeue/latest_snapshot.hpp"

#include "backfill/commit/low_water.hpp"
#include "backfill/pg/guard.hpp"
#include "backfill/shmem/queue_changes.hpp"

namespace backfill::queue
{

void LatestSnapshot::renew()
{
    pop();
    announcements_ = low_water::announcements();
    queue_changes_ = bgworker::queue_changes::last();
    ready_bands_ = bgworker::ready_bands::last();
    pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
    pushed_ = true;
}

void LatestSnapshot::see_own_changes()
{
    pg::call([] { UpdateActiveSnapshotCommandId(); });
}

void LatestSnapshot::pop()
{
    if (pushed_)
        pg::call([] { PopActiveSnapshot(); });
    pushed_ = false;
}

} // namespace backfill::queue
