/* queue_permits.cpp - see queue_permits.hpp. */
#include "backfill/dequeue/queue_permits.hpp"

#include "backfill/commit/wake.hpp"
#include "backfill/pg/table.hpp"

#include <tuple>

namespace backfill::queue
{

namespace
{

constexpr uint16 kJobKeyClass = 0xBF02;
constexpr uint16 kQueueDepthClass = 0xBF03;
constexpr uint16 kManyLocksClass = 0xBF04;
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

/* False if this transaction holds it already. */
bool lock(const LOCKTAG &tag, LOCKMODE mode)
{
    return pg::call([&] { return LockAcquire(&tag, mode, false, false); }) == LOCKACQUIRE_OK;
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

/* Held by producers of a queue that has a max_depth. */
LOCKTAG depth_tag(int32 queue_id)
{
    return tag_of(kQueueDepthClass, static_cast<uint32>(queue_id), 0);
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

/* --- Producers: keys of jobs, depths of queues --- */

/* This many keys, and this many depths, a transaction locks until its end. Of further ones each is
 * locked until the next: the jobs are in the table by then, and the locks below say whose they
 * are. */
constexpr int kMostKept = 64;

/* What this transaction has locked of one kind; forgotten at its end. Plain data. */
struct ProducerLocks {
    int kept;         /* are locked until the end, or more */
    bool many;        /* further ones are locked until the next one only */
    bool has_passing; /* one is, */
    LOCKTAG passing;  /* this */
};
ProducerLocks key_locks;
ProducerLocks depth_locks;
bool is_announced = false; /* that this transaction has many locks */

void on_transaction_end(XactEvent event, void *) noexcept
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) {
        key_locks = ProducerLocks{};
        depth_locks = ProducerLocks{};
        is_announced = false;
        slots_taken = 0;
    }
}

LOCKTAG key_tag(std::string_view job_key)
{
    return hash_tag(kJobKeyClass, hash_of(job_key));
}

/* That a transaction with many locks is there. */
LOCKTAG many_locks_tag()
{
    return tag_of(kManyLocksClass, 0, 0);
}
/* That this one is; held by it alone. */
LOCKTAG many_locks_tag(TransactionId xid)
{
    return tag_of(kManyLocksClass, 1, xid);
}
/* Held by one call with a long list of keys or queues. */
LOCKTAG long_list_tag()
{
    return tag_of(kManyLocksClass, 2, 0);
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

/* From now on what it locks of this kind is locked until the next. */
void become_one_with_many(ProducerLocks &locks)
{
    locks.many = true;
    if (is_announced)
        return;
    in_whole_transaction([] {
        const TransactionId own = pg::call([] { return GetTopTransactionId(); });
        lock(many_locks_tag(own), ExclusiveLock);
        lock(many_locks_tag(), ShareLock);
    });
    is_announced = true;
}

/* Of two calls with long lists, each would come to wait for the other. What the transaction has
 * locked before, another call may need. */
void lock_long_list()
{
    if (key_locks.kept == 0 && depth_locks.kept == 0)
        in_whole_transaction([] { lock(long_list_tag(), ExclusiveLock); });
}

void release_passing(ProducerLocks &locks)
{
    if (!locks.has_passing)
        return;
    locks.has_passing = false;
    in_whole_transaction([&] { unlock(locks.passing, ExclusiveLock); });
}

/* The transaction in progress of another session that has this xid, if it has many locks. */
TransactionId with_many_locks(TransactionId xid)
{
    if (!TransactionIdIsValid(xid) || TransactionIdIsCurrentTransactionId(xid) ||
        !TransactionIdIsInProgress(xid))
        return InvalidTransactionId;
    const TransactionId top = SubTransGetTopmostTransaction(xid);
    const LOCKTAG tag = many_locks_tag(top);
    int holders = 0;
    pfree(GetLockConflicts(&tag, ShareLock, &holders));
    return holders > 0 ? top : InvalidTransactionId;
}

/* A transaction with many locks, not yet ended, that has inserted a job with this key, whose lock
 * we hold. One that only takes a job out may be running it, and no producer waits for that. */
TransactionId find_user_of_key(std::string_view job_key)
{
    Relation table = pg::open_table("job", AccessShareLock);
    const Oid index_oid = pg::relation_oid("job_key_idx");
    const Datum name = pg::from_text(job_key);
    return pg::call([&] {
        SnapshotData dirty;
        InitDirtySnapshot(dirty);
        PushActiveSnapshot(GetLatestSnapshot());
        Relation index = index_open(index_oid, AccessShareLock);
        TupleTableSlot *slot = table_slot_create(table, nullptr);
        IndexScanDesc scan = pg::begin_index_scan(table, index, &dirty, 1);
        ScanKeyData key;
        ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, name);
        index_rescan(scan, &key, 1, nullptr, 0);
        TransactionId user = InvalidTransactionId;
        while (!TransactionIdIsValid(user) && index_getnext_slot(scan, ForwardScanDirection, slot))
            user = with_many_locks(dirty.xmin);
        index_endscan(scan);
        ExecDropSingleTupleTableSlot(slot);
        index_close(index, AccessShareLock);
        PopActiveSnapshot();
        table_close(table, AccessShareLock);
        return user;
    });
}

/* The transaction with many locks that uses one of several things, of which find_user() looks at
 * one. Nearly always there is no such transaction at all. */
template <class FindUser>
TransactionId find_user_with_many_locks(std::span<const std::string_view> names, FindUser find_user)
{
    TransactionId user = InvalidTransactionId;
    if (count_holders(many_locks_tag(), ExclusiveLock) > 0)
        for (std::size_t i = 0; i < names.size() && !TransactionIdIsValid(user); i++)
            user = find_user(names[i]);
    return user;
}

void wait_for_user_with_many_locks(TransactionId xid)
{
    const LOCKTAG tag = many_locks_tag(xid);
    lock(tag, ShareLock);
    unlock(tag, ShareLock);
}

/* Locks these, which are sorted, until the end of the transaction. Waits for a transaction with
 * many locks that uses what one of the names says, but holds none of them while it does, because
 * that one may come to need them. */
template <class FindUser>
void lock_until_end(ProducerLocks &locks, std::span<const std::string_view> names,
                    std::span<const LOCKTAG> tags, FindUser find_user)
{
    for (;;) {
        const auto added = std::count_if(
            tags.begin(), tags.end(), [](const LOCKTAG &tag) { return lock(tag, ExclusiveLock); });
        const TransactionId user = find_user_with_many_locks(names, find_user);
        if (!TransactionIdIsValid(user)) {
            locks.kept += static_cast<int>(added);
            return;
        }
        for (const LOCKTAG &tag : tags)
            unlock(tag, ExclusiveLock);
        wait_for_user_with_many_locks(user);
    }
}

/* The same for one, until the next one. */
template <class FindUser>
void lock_until_next(ProducerLocks &locks, std::string_view name, const LOCKTAG &tag,
                     FindUser find_user)
{
    for (;;) {
        release_passing(locks);
        in_whole_transaction([&] { lock(tag, ExclusiveLock); });
        locks.passing = tag;
        locks.has_passing = true;
        const TransactionId user = find_user_with_many_locks(std::span(&name, 1), find_user);
        if (!TransactionIdIsValid(user))
            return;
        release_passing(locks);
        wait_for_user_with_many_locks(user);
    }
}

template <class FindUser>
void lock_one(ProducerLocks &locks, std::string_view name, const LOCKTAG &tag, FindUser find_user)
{
    if (locks.kept >= kMostKept)
        become_one_with_many(locks);
    if (locks.many)
        lock_until_next(locks, name, tag, find_user);
    else
        lock_until_end(locks, std::span(&name, 1), std::span(&tag, 1), find_user);
}

/* Several at once, unless they are too many: then each must be locked when its turn comes. */
template <class FindUser>
void lock_several(ProducerLocks &locks, std::span<const std::string_view> names,
                  std::vector<LOCKTAG> tags, FindUser find_user)
{
    if (locks.many)
        return;
    if (static_cast<std::size_t>(locks.kept) + names.size() > kMostKept) {
        lock_long_list();
        become_one_with_many(locks);
        return;
    }
    std::sort(tags.begin(), tags.end(), [](const LOCKTAG &a, const LOCKTAG &b) {
        return std::tie(a.locktag_field2, a.locktag_field3) <
               std::tie(b.locktag_field2, b.locktag_field3);
    });
    lock_until_end(locks, names, tags, find_user);
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
        if (entry == Entry::kFull)
            break;
        /* Slots have the name of the queue's row. */
        if (limit.concurrency > 0 && deleter_of(queue_name)) {
            leave(limit, queue_name, queue);
            break;
        }
        if (!have_limits_changed())
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
    if (deleter_of(queue_name))
        return false;
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

bool is_id_used(int32 queue_id)
{
    return !find_locked_slots(queue_id, 0).empty() ||
           count_holders(depth_tag(queue_id), ExclusiveLock) > 0;
}

QueueLimit lock_queue_depth(std::string_view queue_name, JobTable &table)
{
    const auto find_user = [&](std::string_view queue) {
        return table.find_inserter(queue, with_many_locks);
    };
    QueueLimit limit = queue_limit(queue_name);
    while (limit.max_depth > 0) {
        lock_one(depth_locks, queue_name, depth_tag(limit.queue_id), find_user);
        wait_for_deletion(queue_name);
        const int32 locked = limit.queue_id;
        limit = queue_limit(queue_name);
        if (limit.queue_id == locked)
            break;
    }
    return limit;
}

void lock_queue_depths(const std::set<std::string_view> &queue_names, JobTable &table)
{
    std::vector<std::string_view> names;
    std::vector<LOCKTAG> tags;
    for (const std::string_view name : queue_names) {
        const QueueLimit limit = queue_limit(name);
        if (limit.max_depth == 0)
            continue;
        names.push_back(name);
        tags.push_back(depth_tag(limit.queue_id));
    }
    if (names.size() > 1)
        lock_several(depth_locks, names, std::move(tags), [&](std::string_view queue) {
            return table.find_inserter(queue, with_many_locks);
        });
}

void lock_job_key(std::string_view job_key)
{
    lock_one(key_locks, job_key, key_tag(job_key), find_user_of_key);
}

void lock_job_keys(const std::vector<std::string_view> &job_keys)
{
    if (job_keys.size() == 1)
        return lock_job_key(job_keys.front());
    std::vector<LOCKTAG> tags;
    for (const std::string_view key : job_keys)
        tags.push_back(key_tag(key));
    if (!tags.empty())
        lock_several(key_locks, job_keys, std::move(tags), find_user_of_key);
}

void init_locks()
{
    RegisterXactCallback(on_transaction_end, nullptr);
}

} // namespace backfill::queue
