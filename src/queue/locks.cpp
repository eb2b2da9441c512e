/* locks.cpp - see locks.hpp. */
#include "backfill/queue/locks.hpp"

#include "backfill/queue/wake.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace backfill::queue
{

namespace
{

/* pg_advisory_lock(bigint) uses 1, (int, int) uses 2. */
constexpr uint16 kQueueSlotClass = 0xBF01;
constexpr uint16 kJobKeyClass = 0xBF02;

LOCKTAG slot_tag(int32 queue_id, int slot)
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(queue_id),
                         static_cast<uint32>(slot), kQueueSlotClass);
    return tag;
}

/* True also if this transaction holds the slot already. */
bool try_slot(int32 queue_id, int slot)
{
    const LOCKTAG tag = slot_tag(queue_id, slot);
    return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

} // namespace

QueueSlots::Entry QueueSlots::enter(const QueueLimit &limit)
{
    if (limit.concurrency == 0 || held_.count(limit.queue_id) > 0)
        return Entry::kHeld;
    const bool entered = pg::call([&] {
        /* Start somewhere else in each process, to meet fewer taken slots. */
        const int start = MyProcPid % limit.concurrency;
        for (int i = 0; i < limit.concurrency; i++)
            if (try_slot(limit.queue_id, (start + i) % limit.concurrency))
                return true;
        return false;
    });
    if (!entered)
        return Entry::kFull;
    held_.insert(limit.queue_id);
    wake::announce_slots();
    return Entry::kEntered;
}

bool QueueSlots::has_free_slot(const QueueLimit &limit)
{
    if (limit.concurrency == 0)
        return true;
    return pg::call([&] {
        for (int slot = 0; slot < limit.concurrency; slot++) {
            if (try_slot(limit.queue_id, slot)) {
                const LOCKTAG tag = slot_tag(limit.queue_id, slot);
                (void) LockRelease(&tag, ExclusiveLock, false);
                return true;
            }
        }
        return false;
    });
}

void lock_job_key(std::string_view job_key)
{
    pg::call([&] {
        const uint64 hash =
            hash_bytes_extended(reinterpret_cast<const unsigned char *>(job_key.data()),
                                static_cast<int>(job_key.size()), 0);
        LOCKTAG tag;
        SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(hash >> 32),
                             static_cast<uint32>(hash), kJobKeyClass);
        (void) LockAcquire(&tag, ExclusiveLock, false, false);
    });
}

} // namespace backfill::queue
