/* locks.cpp - see locks.hpp. */
#include "backfill/queue/locks.hpp"

#include "backfill/queue/wake.hpp"

namespace backfill::queue
{

namespace
{

constexpr uint16 kJobKeyClass = 0xBF02;
constexpr uint16 kQueueDepthClass = 0xBF03;

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

/* Once for every time that this transaction has got it. */
void release_slot(int32 queue_id, int slot)
{
    const LOCKTAG tag = slot_tag(queue_id, slot);
    (void) LockRelease(&tag, ExclusiveLock, false);
}

uint64 key_hash(std::string_view job_key)
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(job_key.data()),
                               static_cast<int>(job_key.size()), 0);
}

void lock_key_hash(uint64 hash)
{
    pg::call([&] {
        LOCKTAG tag;
        SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(hash >> 32),
                             static_cast<uint32>(hash), kJobKeyClass);
        (void) LockAcquire(&tag, ExclusiveLock, false, false);
    });
}

} // namespace

QueueSlots::Entry QueueSlots::enter(const QueueLimit &limit, std::string_view queue_name,
                                    JobTable &table)
{
    if (limit.concurrency == 0 || held_.count(limit.queue_id) > 0)
        return Entry::kHeld;
    /* Start somewhere else in each process, to meet fewer taken slots. */
    const int start = MyProcPid % limit.concurrency;
    std::optional<std::vector<int>> leased;
    for (int i = 0; i < limit.concurrency; i++) {
        const int slot = (start + i) % limit.concurrency;
        if (leased && std::find(leased->begin(), leased->end(), slot) != leased->end())
            continue;
        if (!pg::call([&] { return try_slot(limit.queue_id, slot); }))
            continue;
        /* Looked up only now: while we have the lock nobody can lease it. */
        if (!table.is_slot_leased(queue_name, slot)) {
            held_.emplace(limit.queue_id, slot);
            taken_++;
            wake::announce_slots();
            return Entry::kEntered;
        }
        pg::call([&] { release_slot(limit.queue_id, slot); });
        if (!leased)
            leased = table.leased_slots(queue_name);
    }
    return Entry::kFull;
}

std::optional<int> QueueSlots::lease(const QueueLimit &limit)
{
    const auto held = held_.find(limit.queue_id);
    if (limit.concurrency == 0 || held == held_.end())
        return std::nullopt;
    const int slot = held->second;
    held_.erase(held);
    return slot;
}

bool QueueSlots::has_free_slot(const QueueLimit &limit, std::string_view queue_name,
                               JobTable &table)
{
    if (limit.concurrency == 0)
        return true;
    const std::vector<int> leased = table.leased_slots(queue_name);
    for (int slot = 0; slot < limit.concurrency; slot++) {
        if (std::find(leased.begin(), leased.end(), slot) != leased.end())
            continue;
        /* To take one, even for a moment, would make a runner believe that the queue is full. */
        const bool is_free = pg::call([&] {
            const LOCKTAG tag = slot_tag(limit.queue_id, slot);
            int holders = 0;
            pfree(GetLockConflicts(&tag, ExclusiveLock, &holders));
            return holders == 0;
        });
        if (is_free)
            return true;
    }
    return false;
}

void lock_queue_depth(const QueueLimit &limit)
{
    pg::call([&] {
        LOCKTAG tag;
        SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, static_cast<uint32>(limit.queue_id), 0,
                             kQueueDepthClass);
        (void) LockAcquire(&tag, ExclusiveLock, false, false);
    });
}

void lock_job_key(std::string_view job_key)
{
    lock_key_hash(key_hash(job_key));
}

void lock_job_keys(std::vector<std::string_view> job_keys)
{
    /* By hash, since two keys may have one. */
    std::vector<uint64> hashes;
    for (const std::string_view key : job_keys)
        hashes.push_back(key_hash(key));
    std::sort(hashes.begin(), hashes.end());
    for (const uint64 hash : hashes)
        lock_key_hash(hash);
}

} // namespace backfill::queue
