/* queue_permits.cpp - see queue_permits.hpp. */
#include "backfill/dequeue/queue_permits.hpp"

#include "backfill/commit/wake.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

constexpr uint16 kJobKeyClass = 0xBF02;
constexpr uint16 kQueueDepthClass = 0xBF03;
constexpr uint16 kManyKeysClass = 0xBF04;
constexpr uint16 kQueueCountingClass = 0xBF06;

LOCKTAG tag_of(uint16 lock_class, uint32 high, uint32 low)
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, lock_class);
    return tag;
}

LOCKTAG hash_tag(uint16 lock_class, uint64 hash)
{
    return tag_of(lock_class, static_cast<uint32>(hash >> 32), static_cast<uint32>(hash));
}

uint64 hash_of(std::string_view text)
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text.data()),
                               static_cast<int>(text.size()), 0);
}

void lock(const LOCKTAG &tag, LOCKMODE mode)
{
    pg::call([&] { (void) LockAcquire(&tag, mode, false, false); });
}

void unlock(const LOCKTAG &tag, LOCKMODE mode)
{
    pg::call([&] { (void) LockRelease(&tag, mode, false); });
}

/* How many other transactions hold the lock in a mode that conflicts with this one. */
int count_holders(const LOCKTAG &tag, LOCKMODE conflicting)
{
    return pg::call([&] {
        int holders = 0;
        pfree(GetLockConflicts(&tag, conflicting, &holders));
        return holders;
    });
}

/* --- Slots --- */

/* How many locks on slots a transaction may get. */
constexpr int kMostSlots = 200;
/* This many slots are asked for one by one; to look for more, all locks are read. */
constexpr int kFewSlots = 64;

/* How many this one has got, or more; forgotten at its end. */
int slots_taken = 0;

LOCKTAG slot_tag(int32 queue_id, int slot)
{
    return tag_of(kQueueSlotClass, static_cast<uint32>(queue_id), static_cast<uint32>(slot));
}

LOCKTAG unlimited_tag(std::string_view queue_name)
{
    return hash_tag(kUnlimitedQueueClass, unlimited_queue_hash(queue_name));
}

/* Held while its holder counts the jobs of a queue and takes a slot. */
LOCKTAG counting_tag(const QueueLimit &limit)
{
    return tag_of(kQueueCountingClass, static_cast<uint32>(limit.queue_id), 0);
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

/* The slots from this one on whose locks others hold, sorted, out of all the server's locks. */
std::vector<int> find_locked_slots(int32 queue_id, int from)
{
    int *found = nullptr;
    int count = 0;
    pg::call([&] {
        const LockData *locks = GetLockStatusData();
        found = static_cast<int *>(palloc(sizeof(int) * (locks->nelements + 1)));
        for (int i = 0; i < locks->nelements; i++) {
            const LockInstanceData &held = locks->locks[i];
            const LOCKTAG &tag = held.locktag;
            if (held.holdMask != 0 && held.pid != MyProcPid &&
                tag.locktag_type == LOCKTAG_ADVISORY && tag.locktag_field1 == MyDatabaseId &&
                tag.locktag_field2 == static_cast<uint32>(queue_id) &&
                tag.locktag_field4 == kQueueSlotClass &&
                static_cast<int>(tag.locktag_field3) >= from)
                found[count++] = static_cast<int>(tag.locktag_field3);
        }
    });
    std::vector<int> slots(found, found + count);
    std::sort(slots.begin(), slots.end());
    return slots;
}

/* How many jobs others run in slots beyond the limit, or in none. */
int count_beyond(const QueueLimit &limit, std::string_view queue_name,
                 const std::vector<int> &leased)
{
    int count = 0;
    if (limit.places - limit.concurrency > kFewSlots)
        count = static_cast<int>(find_locked_slots(limit.queue_id, limit.concurrency).size());
    else
        for (int slot = limit.concurrency; slot < limit.places; slot++)
            count += count_holders(slot_tag(limit.queue_id, slot), ExclusiveLock);
    if (limit.was_unlimited) {
        const LOCKTAG tag = unlimited_tag(queue_name);
        count += count_holders(tag, AccessExclusiveLock);
        /* How many jobs one is just leasing cannot be seen before its commit. */
        if (count_holders(tag, ShareLock) > 0)
            count += limit.concurrency;
    }
    return count + static_cast<int>(std::count_if(leased.begin(), leased.end(), [&](int slot) {
               return slot < 0 || slot >= limit.concurrency;
           }));
}

/* Those in slots within it. */
int count_within(const QueueLimit &limit, const std::vector<int> &leased)
{
    std::vector<int> slots = find_locked_slots(limit.queue_id, 0);
    slots.insert(slots.end(), leased.begin(), leased.end());
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
    return static_cast<int>(std::count_if(slots.begin(), slots.end(), [&](int slot) {
        return slot >= 0 && slot < limit.concurrency;
    }));
}

/* Whether nothing is left beyond the limit. What others may not know of yet is asked first: a
 * session that has not heard of a change may still take a slot beyond it. */
bool is_settled(const QueueLimit &limit, std::string_view queue_name, JobTable &table)
{
    if (limit.settled)
        return true;
    const bool changing = are_limits_changing();
    if (count_beyond(limit, queue_name, table.leased_slots(queue_name)) > 0)
        return false;
    if (!changing)
        note_settled(queue_name, limit);
    return true;
}

/* Whether the holder of this slot may start one more job in it. */
bool is_within(const QueueLimit &limit, int slot)
{
    return limit.concurrency == 0 || (slot >= 0 && slot < limit.concurrency);
}

/* --- Keys of jobs --- */

/* This many keys of a transaction are locked until its end. Of further ones each is locked until
 * the next: they are in the table by then, and the locks below say whose rows those are. */
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
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        key_locks = KeyLocks{};
        slots_taken = 0;
    }
}

LOCKTAG key_tag(uint64 hash)
{
    return hash_tag(kJobKeyClass, hash);
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

/* Runs body so that the locks it takes belong to the whole transaction, at whatever nesting level
 * it is, and can be given back at any other. */
template <class Body> void in_whole_transaction(Body &&body)
{
    const ResourceOwner present = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    body(); /* an error ends the level, and with it this */
    CurrentResourceOwner = present;
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
 * hold. One that only takes a job out may be running it, and no producer waits for that. */
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
    if (count_holders(many_keys_tag(), ExclusiveLock) == 0)
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
 * transaction with many keys that uses one of them, but holds none of them while it does, because
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

uint64 unlimited_queue_hash(std::string_view queue_name)
{
    return hash_of(queue_name);
}

LOCKMODE QueueSlots::unlimited_mode() const
{
    return user_ == SlotUser::kRunner ? AccessShareLock : RowExclusiveLock;
}

bool QueueSlots::is_exhausted()
{
    return slots_taken >= kMostSlots;
}

QueueSlots::Entry QueueSlots::enter(QueueLimit limit, std::string_view queue_name, JobTable &table)
{
    auto found = queues_.find(queue_name);
    if (found == queues_.end())
        found = queues_.emplace(std::string(queue_name), Queue{}).first;
    Queue &queue = found->second;
    if (queue.held)
        return is_within(limit, *queue.held) ? Entry::kHeld : Entry::kFull;
    for (;;) {
        const Entry entry = take(limit, queue_name, queue, table);
        if (entry == Entry::kFull || !have_limits_changed())
            break;
        /* What was set before we had the slot must hold for us. */
        const QueueLimit before = limit;
        limit = queue_limit(queue_name);
        if (limit.concurrency == before.concurrency)
            break;
        leave(before, queue_name, queue);
    }
    if (!queue.held)
        return Entry::kFull;
    slots_taken++;
    wake::announce_slots();
    return Entry::kEntered;
}

QueueSlots::Entry QueueSlots::take(const QueueLimit &limit, std::string_view queue_name,
                                   Queue &queue, JobTable &table)
{
    if (limit.concurrency == 0) {
        lock(unlimited_tag(queue_name), unlimited_mode());
        queue.held = kNoSlot;
    } else if (is_settled(limit, queue_name, table)) {
        queue.held = take_slot(limit, queue_name, queue, table);
    } else {
        queue.held = take_slot_beside_others(limit, queue_name, queue, table);
    }
    return queue.held ? Entry::kEntered : Entry::kFull;
}

void QueueSlots::leave(const QueueLimit &limit, std::string_view queue_name, Queue &queue) const
{
    const int slot = *queue.held;
    queue = Queue{};
    if (slot == kNoSlot)
        unlock(unlimited_tag(queue_name), unlimited_mode());
    else
        pg::call([&] { release_slot(limit.queue_id, slot); });
}

/* Each slot is tried once in a round, also over several calls, because all that are tried are
 * taken, or were when that was found out. */
std::optional<int> QueueSlots::take_slot(const QueueLimit &limit, std::string_view queue_name,
                                         Queue &queue, JobTable &table)
{
    /* Start somewhere else in each process, to meet fewer taken slots. */
    const int start = MyProcPid % limit.concurrency;
    while (queue.tried < limit.concurrency) {
        const int slot = (start + queue.tried++) % limit.concurrency;
        if (queue.leased && std::binary_search(queue.leased->begin(), queue.leased->end(), slot))
            continue;
        if (!pg::call([&] { return try_slot(limit.queue_id, slot); }))
            continue;
        /* Looked up only now: while we have the lock no consumer can lease it. */
        if (!table.is_slot_leased(queue_name, slot))
            return slot;
        pg::call([&] { release_slot(limit.queue_id, slot); });
        if (!queue.leased)
            queue.leased = table.leased_slots(queue_name);
    }
    queue = Queue{};
    return std::nullopt;
}

/* The same while there may be jobs beyond the limit. */
std::optional<int> QueueSlots::take_slot_beside_others(const QueueLimit &limit,
                                                       std::string_view queue_name, Queue &queue,
                                                       JobTable &table)
{
    const LOCKTAG tag = counting_tag(limit);
    lock(tag, ExclusiveLock);
    const bool has_room = count_taken(limit, queue_name, table) < limit.concurrency;
    const std::optional<int> slot =
        has_room ? take_slot(limit, queue_name, queue, table) : std::nullopt;
    unlock(tag, ExclusiveLock);
    return slot;
}

std::optional<int> QueueSlots::lease(std::string_view queue_name)
{
    const auto found = queues_.find(queue_name);
    if (found == queues_.end() || !found->second.held)
        return std::nullopt;
    const int slot = *found->second.held;
    if (slot != kNoSlot)
        found->second.held.reset();
    return slot;
}

int QueueSlots::count_taken(const QueueLimit &limit, std::string_view queue_name, JobTable &table)
{
    const std::vector<int> leased = table.leased_slots(queue_name);
    return count_beyond(limit, queue_name, leased) + count_within(limit, leased);
}

bool QueueSlots::has_free_slot(const QueueLimit &limit, std::string_view queue_name,
                               JobTable &table)
{
    if (limit.concurrency == 0)
        return true;
    if (!is_settled(limit, queue_name, table) &&
        count_taken(limit, queue_name, table) >= limit.concurrency)
        return false;
    const std::vector<int> leased = table.leased_slots(queue_name);
    for (int slot = 0; slot < limit.concurrency; slot++) {
        if (std::binary_search(leased.begin(), leased.end(), slot))
            continue;
        /* To take one, even for a moment, would make a runner believe that the queue is full. */
        if (count_holders(slot_tag(limit.queue_id, slot), ExclusiveLock) == 0)
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
    const uint64 hash = hash_of(job_key);
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
        hashes.push_back(hash_of(key));
    std::sort(hashes.begin(), hashes.end());
    lock_keys(job_keys, hashes);
}

void init_locks()
{
    RegisterXactCallback(on_transaction_end, nullptr);
}

} // namespace backfill::queue
