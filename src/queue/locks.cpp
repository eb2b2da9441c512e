/* locks.cpp - see locks.hpp. */
#include "backfill/queue/locks.hpp"

#include "backfill/pg/table.hpp"
#include "backfill/queue/wake.hpp"

namespace backfill::queue
{

namespace
{

constexpr uint16 kJobKeyClass = 0xBF02;
constexpr uint16 kQueueDepthClass = 0xBF03;
constexpr uint16 kManyKeysClass = 0xBF04;

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

/* --- Keys of jobs --- */

/* So many keys of a transaction are locked until its end. Of further ones each is locked until the
 * next: they are in the table by then, and the locks below say whose rows those are. */
constexpr int kMostKeptKeys = 64;

/* What this transaction has locked; forgotten at its end. Plain data. */
struct KeyLocks {
    int kept;         /* keys that are locked until the end, or more */
    bool many;        /* further keys are locked until the next one only */
    bool has_passing; /* one is, */
    uint64 passing;   /* the key with this hash */
};
KeyLocks key_locks;

void on_transaction_end(XactEvent event, void *) noexcept
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        key_locks = KeyLocks{};
}

LOCKTAG tag_of(uint16 lock_class, uint32 high, uint32 low)
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, lock_class);
    return tag;
}

LOCKTAG key_tag(uint64 hash)
{
    return tag_of(kJobKeyClass, static_cast<uint32>(hash >> 32), static_cast<uint32>(hash));
}

/* That a transaction with many keys is there. */
LOCKTAG many_keys_tag()
{
    return tag_of(kManyKeysClass, 0, 0);
}
/* That this one is; held by it alone. */
LOCKTAG many_keys_tag(TransactionId xid)
{
    return tag_of(kManyKeysClass, 1, xid);
}
/* Held by one call with a long list of keys. */
LOCKTAG long_list_tag()
{
    return tag_of(kManyKeysClass, 2, 0);
}

uint64 key_hash(std::string_view job_key)
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(job_key.data()),
                               static_cast<int>(job_key.size()), 0);
}

void lock(const LOCKTAG &tag, LOCKMODE mode)
{
    pg::call([&] { (void) LockAcquire(&tag, mode, false, false); });
}

void unlock(const LOCKTAG &tag, LOCKMODE mode)
{
    pg::call([&] { (void) LockRelease(&tag, mode, false); });
}

/* Runs body so that the locks it takes belong to the whole transaction, at whatever nesting level
 * it is, and can be given back at any other. */
template <class Body> void in_whole_transaction(Body &&body)
{
    const ResourceOwner present = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    body(); /* an error ends the level, and with it this */
    CurrentResourceOwner = present;
}

bool is_locked_by_others(const LOCKTAG &tag, LOCKMODE conflicting)
{
    return pg::call([&] {
        int holders = 0;
        pfree(GetLockConflicts(&tag, conflicting, &holders));
        return holders > 0;
    });
}

void become_one_with_many_keys()
{
    if (key_locks.many)
        return;
    in_whole_transaction([] {
        const TransactionId own = pg::call([] { return GetTopTransactionId(); });
        lock(many_keys_tag(own), ExclusiveLock);
        lock(many_keys_tag(), ShareLock);
    });
    key_locks.many = true;
}

void release_passing()
{
    if (!key_locks.has_passing)
        return;
    key_locks.has_passing = false;
    in_whole_transaction([] { unlock(key_tag(key_locks.passing), ExclusiveLock); });
}

/* The transaction in progress of another session that has this xid, if it is one with many keys. */
bool is_one_with_many_keys(TransactionId xid, TransactionId &top)
{
    if (!TransactionIdIsValid(xid) || TransactionIdIsCurrentTransactionId(xid) ||
        !TransactionIdIsInProgress(xid))
        return false;
    top = SubTransGetTopmostTransaction(xid);
    const LOCKTAG tag = many_keys_tag(top);
    int holders = 0;
    pfree(GetLockConflicts(&tag, ShareLock, &holders));
    return holders > 0;
}

/* A transaction with many keys, not yet ended, that has inserted a job with this key, whose lock we
 * hold. One that only takes a job out may be running it, and nobody waits for that. */
std::optional<TransactionId> find_user_with_many_keys(std::string_view job_key)
{
    Relation table = pg::open_table("job", AccessShareLock);
    const Oid index_oid = pg::relation_oid("job_key_idx");
    const Datum name = pg::from_text(job_key);
    TransactionId user = InvalidTransactionId;
    const bool found = pg::call([&] {
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        PushActiveSnapshot(GetLatestSnapshot());
        Relation index = index_open(index_oid, AccessShareLock);
        TupleTableSlot *slot = table_slot_create(table, nullptr);
        IndexScanDesc scan = pg::begin_index_scan(table, index, &dirty, 1);
        ScanKeyData key;
        ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, name);
        index_rescan(scan, &key, 1, nullptr, 0);
        bool is_used = false;
        while (!is_used && index_getnext_slot(scan, ForwardScanDirection, slot))
            is_used = is_one_with_many_keys(dirty.xmin, user);
        index_endscan(scan);
        ExecDropSingleTupleTableSlot(slot);
        index_close(index, AccessShareLock);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
        return is_used;
    });
    return found ? std::optional(user) : std::nullopt;
}

/* The same for the first of several keys. Nearly always there is no such transaction at all. */
std::optional<TransactionId> find_user_with_many_keys(std::span<const std::string_view> job_keys)
{
    if (!is_locked_by_others(many_keys_tag(), ExclusiveLock))
        return std::nullopt;
    for (const std::string_view key : job_keys)
        if (const auto user = find_user_with_many_keys(key))
            return user;
    return std::nullopt;
}

void wait_for_user_with_many_keys(TransactionId xid)
{
    const LOCKTAG tag = many_keys_tag(xid);
    lock(tag, ShareLock);
    unlock(tag, ShareLock);
}

/* Locks the keys with these hashes, which are sorted, until the end of the transaction. Waits for a
 * transaction with many keys that uses one of them, but holds none of them while it does, for
 * that one may come to need them. */
void lock_keys(std::span<const std::string_view> job_keys, std::span<const uint64> hashes)
{
    for (;;) {
        for (const uint64 hash : hashes)
            lock(key_tag(hash), ExclusiveLock);
        const auto user = find_user_with_many_keys(job_keys);
        if (!user)
            break;
        for (const uint64 hash : hashes)
            unlock(key_tag(hash), ExclusiveLock);
        wait_for_user_with_many_keys(*user);
    }
    key_locks.kept += static_cast<int>(hashes.size());
}

/* The same for one key, until the next one. */
void lock_passing_key(std::string_view job_key, uint64 hash)
{
    for (;;) {
        release_passing();
        in_whole_transaction([&] { lock(key_tag(hash), ExclusiveLock); });
        key_locks.passing = hash;
        key_locks.has_passing = true;
        const auto user = find_user_with_many_keys(std::span(&job_key, 1));
        if (!user)
            return;
        release_passing();
        wait_for_user_with_many_keys(*user);
    }
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
    const uint64 hash = key_hash(job_key);
    if (key_locks.kept >= kMostKeptKeys)
        become_one_with_many_keys();
    if (key_locks.many)
        lock_passing_key(job_key, hash);
    else
        lock_keys(std::span(&job_key, 1), std::span(&hash, 1));
}

void lock_job_keys(const std::vector<std::string_view> &job_keys)
{
    if (job_keys.empty())
        return;
    if (job_keys.size() == 1)
        return lock_job_key(job_keys.front());
    if (key_locks.many)
        return;
    if (static_cast<std::size_t>(key_locks.kept) + job_keys.size() > kMostKeptKeys) {
        /* Of two such calls, each would come to wait for the other. What the transaction has
         * locked before, another call may need. */
        if (key_locks.kept == 0)
            in_whole_transaction([] { lock(long_list_tag(), ExclusiveLock); });
        become_one_with_many_keys();
        return;
    }
    /* By hash, since two keys may have one. */
    std::vector<uint64> hashes;
    for (const std::string_view key : job_keys)
        hashes.push_back(key_hash(key));
    std::sort(hashes.begin(), hashes.end());
    lock_keys(job_keys, hashes);
}

void init_locks()
{
    RegisterXactCallback(on_transaction_end, nullptr);
}

} // namespace backfill::queue
