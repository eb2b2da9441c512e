/* producer_locks.cpp - see producer_locks.hpp. */
#include "backfill/enqueue/producer_locks.hpp"

#include "backfill/dequeue/queue_permits.hpp"
#include "backfill/pg/advisory_lock.hpp"
#include "backfill/pg/table.hpp"

#include <tuple>

namespace backfill::queue
{

using pg::count_holders;
using pg::in_whole_transaction;
using pg::lock;
using pg::unlock;

namespace
{

constexpr uint16 kJobKeyClass = 0xBF02;
constexpr uint16 kManyLocksClass = 0xBF04;

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
    }
}

LOCKTAG key_tag(std::string_view job_key)
{
    return pg::hash_lock_tag(kJobKeyClass, pg::hash_text(job_key));
}

/* That a transaction with many locks is there. */
LOCKTAG many_locks_tag()
{
    return pg::lock_tag(kManyLocksClass, 0, 0);
}
/* That this one is; held by it alone. */
LOCKTAG many_locks_tag(TransactionId xid)
{
    return pg::lock_tag(kManyLocksClass, 1, xid);
}
/* Held by one call with a long list of keys or queues. */
LOCKTAG long_list_tag()
{
    return pg::lock_tag(kManyLocksClass, 2, 0);
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

QueueLimit lock_queue_depth(std::string_view queue_name, JobTable &table)
{
    const auto find_user = [&](std::string_view queue) {
        return table.find_inserter(queue, with_many_locks);
    };
    QueueLimit limit = queue_limit(queue_name);
    while (limit.max_depth > 0) {
        lock_one(depth_locks, queue_name, queue_depth_tag(limit.queue_id), find_user);
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
        tags.push_back(queue_depth_tag(limit.queue_id));
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

void init_producer_locks()
{
    RegisterXactCallback(on_transaction_end, nullptr);
}

} // namespace backfill::queue
