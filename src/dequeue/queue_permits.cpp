/* queue_permits.cpp - see queue_permits.hpp. */
#include "backfill/dequeue/queue_permits.hpp"

#include "backfill/commit/low_water.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/advisory_lock.hpp"
#include "backfill/shmem/queue_changes.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::queue
{

namespace queue_changes = bgworker::queue_changes;
using pg::count_holders;
using pg::lock;
using pg::unlock;

namespace
{

constexpr uint16 kQueueCountingClass = 0xBF06;

/* How many locks on permits a transaction may get: a session's, and an executor's at most. */
constexpr int kMostPermitsOfSession = 200;
constexpr int kMostPermits = 1000;
/* This many permits are asked for one by one; to look for more, all locks are read. */
constexpr int kFewPermits = 64;

/* What this transaction has got; forgotten at its end. Plain data: the callbacks must not fail. */
struct TakenPermits {
    struct Permit {
        core::QueueHash queue;
        int level; /* how deep in savepoints it was taken */
    };
    int count;
    bool more; /* than fit */
    int level; /* the deepest */
    Permit permits[kMostPermits];

    void add(std::string_view queue_name) noexcept
    {
        level = Max(level, GetCurrentTransactionNestLevel());
        if (count < kMostPermits)
            permits[count++] = {low_water::hash_of(queue_name), GetCurrentTransactionNestLevel()};
        else
            more = true;
    }
    /* Others are about to get them. */
    void note_changes() const noexcept
    {
        if (more)
            queue_changes::note_all();
        for (int i = 0; i < count; i++)
            queue_changes::note(permits[i].queue);
    }
    void note_prepared() const noexcept
    {
        if (more)
            queue_changes::note_always_all();
        for (int i = 0; i < count; i++)
            queue_changes::note_always(permits[i].queue);
    }
    void forget() noexcept
    {
        count = level = 0;
        more = false;
    }
    void on_savepoint_released(int released) noexcept
    {
        level = released - 1;
        for (int i = 0; i < count; i++)
            permits[i].level = Min(permits[i].level, level);
    }
    /* The locks of what was taken within it are gone. */
    void on_rollback_to_savepoint(int aborted) noexcept
    {
        note_changes();
        level = aborted - 1;
        count = static_cast<int>(
            std::remove_if(permits, permits + count,
                           [&](const Permit &permit) { return permit.level >= aborted; }) -
            permits);
    }
};
TakenPermits taken;

LOCKTAG permit_tag(int32 queue_id, int permit)
{
    return pg::lock_tag(kQueuePermitClass, static_cast<uint32>(queue_id),
                        static_cast<uint32>(permit));
}

LOCKTAG unlimited_tag(std::string_view queue_name)
{
    return pg::hash_lock_tag(kUnlimitedQueueClass, unlimited_queue_hash(queue_name));
}

/* Held while its holder counts the jobs of a queue and takes a permit. */
LOCKTAG counting_tag(const QueueLimit &limit)
{
    return pg::lock_tag(kQueueCountingClass, static_cast<uint32>(limit.queue_id), 0);
}

LockAcquireResult try_permit(int32 queue_id, int permit)
{
    const LOCKTAG tag = permit_tag(queue_id, permit);
    return LockAcquire(&tag, ExclusiveLock, false, true);
}

/* Once for every time that this transaction has got it. */
void release_permit(int32 queue_id, int permit)
{
    const LOCKTAG tag = permit_tag(queue_id, permit);
    (void) LockRelease(&tag, ExclusiveLock, false);
}

/* The permits from this one on whose locks others hold, sorted, out of all the server's locks. */
std::vector<int> find_held_permits(int32 queue_id, int from)
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
                tag.locktag_field4 == kQueuePermitClass &&
                static_cast<int>(tag.locktag_field3) >= from)
                found[count++] = static_cast<int>(tag.locktag_field3);
        }
    });
    std::vector<int> permits(found, found + count);
    std::sort(permits.begin(), permits.end());
    return permits;
}

/* How many jobs others run in permits beyond the limit, or in none. */
int count_beyond(const QueueLimit &limit, std::string_view queue_name,
                 const std::vector<int> &leased)
{
    int count = 0;
    if (limit.places - limit.concurrency > kFewPermits)
        count = static_cast<int>(find_held_permits(limit.queue_id, limit.concurrency).size());
    else
        for (int permit = limit.concurrency; permit < limit.places; permit++)
            count += count_holders(permit_tag(limit.queue_id, permit), ExclusiveLock);
    if (limit.was_unlimited) {
        const LOCKTAG tag = unlimited_tag(queue_name);
        count += count_holders(tag, AccessExclusiveLock);
        /* How many jobs one is just leasing cannot be seen before its commit. */
        if (count_holders(tag, ShareLock) > 0)
            count += limit.concurrency;
    }
    return count + static_cast<int>(std::count_if(leased.begin(), leased.end(), [&](int permit) {
               return permit < 0 || permit >= limit.concurrency;
           }));
}

/* Those in permits within it. */
int count_within(const QueueLimit &limit, const std::vector<int> &leased)
{
    std::vector<int> permits = find_held_permits(limit.queue_id, 0);
    permits.insert(permits.end(), leased.begin(), leased.end());
    std::sort(permits.begin(), permits.end());
    permits.erase(std::unique(permits.begin(), permits.end()), permits.end());
    return static_cast<int>(std::count_if(permits.begin(), permits.end(), [&](int permit) {
        return permit >= 0 && permit < limit.concurrency;
    }));
}

/* Whether nothing is left beyond the limit. To remember that takes an answer to whether others may
 * not know of a change yet, asked first: a session that has not heard of it may still take a permit
 * beyond the limit. That costs a look at all sessions' locks, so it is not done for a queue that
 * may never be seen again. */
bool is_settled(const QueueLimit &limit, std::string_view queue_name, JobTable &table)
{
    if (limit.settled)
        return true;
    const bool remembers = limit.was_counted && !are_limits_changing();
    if (count_beyond(limit, queue_name, table.leased_permits(queue_name)) > 0)
        return false;
    if (remembers)
        note_settled(queue_name, limit);
    else if (!limit.was_counted)
        note_counted(queue_name);
    return true;
}

/* Whether the holder of this permit may start one more job in it. */
bool is_within(const QueueLimit &limit, int permit)
{
    return limit.concurrency == 0 || (permit >= 0 && permit < limit.concurrency);
}

void on_transaction_end(XactEvent event, void *) noexcept
{
    switch (event) {
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
        taken.note_changes();
        break;
    case XACT_EVENT_PREPARE:
        taken.note_prepared();
        break;
    default:
        return;
    }
    taken.forget();
}

void on_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void *) noexcept
{
    const int level = GetCurrentTransactionNestLevel();
    if (taken.level < level)
        return;
    if (event == SUBXACT_EVENT_ABORT_SUB)
        taken.on_rollback_to_savepoint(level);
    else if (event == SUBXACT_EVENT_COMMIT_SUB)
        taken.on_savepoint_released(level);
}

} // namespace

uint64 unlimited_queue_hash(std::string_view queue_name)
{
    return pg::hash_text(queue_name);
}

LOCKMODE QueuePermits::unlimited_mode() const
{
    return user_ == PermitUser::kRunner ? AccessShareLock : RowExclusiveLock;
}

int QueuePermits::count_held()
{
    return taken.count;
}

bool QueuePermits::is_exhausted()
{
    if (bgworker::my_slot_number() < 0)
        return taken.count >= kMostPermitsOfSession;
    /* All executors together should leave most of the server's table of locks to others. */
    const int64 share =
        static_cast<int64>(max_locks_per_xact) * MaxBackends / 4 / Max(guc::max_executors, 1);
    return taken.count >= Min(Max(share, kMostPermitsOfSession), kMostPermits);
}

QueuePermits::Entry QueuePermits::enter(QueueLimit limit, std::string_view queue_name,
                                        JobTable &table)
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
        /* Permits have the name of the queue's row. */
        if (limit.concurrency > 0 && deleter_of(queue_name)) {
            leave(limit, queue_name, queue);
            break;
        }
        if (!have_limits_changed())
            break;
        /* What was set before we had the permit must hold for us. */
        const QueueLimit before = limit;
        limit = queue_limit(queue_name);
        if (limit.concurrency == before.concurrency)
            break;
        leave(before, queue_name, queue);
    }
    if (!queue.held)
        return Entry::kFull;
    if (queue.is_new)
        taken.add(queue_name);
    wake::announce_permits();
    return Entry::kEntered;
}

QueuePermits::Entry QueuePermits::take(const QueueLimit &limit, std::string_view queue_name,
                                       Queue &queue, JobTable &table)
{
    if (limit.concurrency == 0) {
        queue.is_new = lock(unlimited_tag(queue_name), unlimited_mode());
        queue.held = kNoPermit;
    } else if (is_settled(limit, queue_name, table)) {
        queue.held = take_permit(limit, queue_name, queue, table);
    } else {
        queue.held = take_permit_beside_others(limit, queue_name, queue, table);
    }
    return queue.held ? Entry::kEntered : Entry::kFull;
}

void QueuePermits::leave(const QueueLimit &limit, std::string_view queue_name, Queue &queue) const
{
    const int permit = *queue.held;
    queue = Queue{};
    if (permit == kNoPermit)
        unlock(unlimited_tag(queue_name), unlimited_mode());
    else
        pg::call([&] { release_permit(limit.queue_id, permit); });
}

/* Each permit is tried once in a round, also over several calls, because all that are tried are
 * taken, or were when that was found out. */
std::optional<int> QueuePermits::take_permit(const QueueLimit &limit, std::string_view queue_name,
                                             Queue &queue, JobTable &table)
{
    /* Start somewhere else in each process, to meet fewer taken permits. */
    const int start = MyProcPid % limit.concurrency;
    while (queue.tried < limit.concurrency) {
        const int permit = (start + queue.tried++) % limit.concurrency;
        if (queue.leased && std::binary_search(queue.leased->begin(), queue.leased->end(), permit))
            continue;
        const LockAcquireResult result =
            pg::call([&] { return try_permit(limit.queue_id, permit); });
        if (result == LOCKACQUIRE_NOT_AVAIL)
            continue;
        queue.is_new = result == LOCKACQUIRE_OK;
        /* Looked up only now: while we have the lock no consumer can lease it. */
        if (!table.is_permit_leased(queue_name, permit))
            return permit;
        pg::call([&] { release_permit(limit.queue_id, permit); });
        if (!queue.leased)
            queue.leased = table.leased_permits(queue_name);
    }
    queue = Queue{};
    return std::nullopt;
}

/* The same while there may be jobs beyond the limit. */
std::optional<int> QueuePermits::take_permit_beside_others(const QueueLimit &limit,
                                                           std::string_view queue_name,
                                                           Queue &queue, JobTable &table)
{
    const LOCKTAG tag = counting_tag(limit);
    lock(tag, ExclusiveLock);
    const bool has_room = count_taken(limit, queue_name, table) < limit.concurrency;
    const std::optional<int> permit =
        has_room ? take_permit(limit, queue_name, queue, table) : std::nullopt;
    unlock(tag, ExclusiveLock);
    return permit;
}

std::optional<int> QueuePermits::lease(std::string_view queue_name)
{
    const auto found = queues_.find(queue_name);
    if (found == queues_.end() || !found->second.held)
        return std::nullopt;
    const int permit = *found->second.held;
    if (permit != kNoPermit)
        found->second.held.reset();
    return permit;
}

int QueuePermits::count_taken(const QueueLimit &limit, std::string_view queue_name, JobTable &table)
{
    const std::vector<int> leased = table.leased_permits(queue_name);
    return count_beyond(limit, queue_name, leased) + count_within(limit, leased);
}

bool QueuePermits::has_free_permit(const QueueLimit &limit, std::string_view queue_name,
                                   JobTable &table)
{
    if (limit.concurrency == 0)
        return true;
    if (deleter_of(queue_name))
        return false;
    if (!is_settled(limit, queue_name, table) &&
        count_taken(limit, queue_name, table) >= limit.concurrency)
        return false;
    const std::vector<int> leased = table.leased_permits(queue_name);
    for (int permit = 0; permit < limit.concurrency; permit++) {
        if (std::binary_search(leased.begin(), leased.end(), permit))
            continue;
        /* To take one, even for a moment, would make a runner believe that the queue is full. */
        if (count_holders(permit_tag(limit.queue_id, permit), ExclusiveLock) == 0)
            return true;
    }
    return false;
}

bool is_id_used(int32 queue_id, int places)
{
    if (count_holders(queue_depth_tag(queue_id), ExclusiveLock) > 0)
        return true;
    if (places > kFewPermits)
        return !find_held_permits(queue_id, 0).empty();
    for (int permit = 0; permit < places; permit++)
        if (count_holders(permit_tag(queue_id, permit), ExclusiveLock) > 0)
            return true;
    return false;
}

LOCKTAG queue_depth_tag(int32 queue_id)
{
    return pg::lock_tag(kQueueDepthClass, static_cast<uint32>(queue_id), 0);
}

void init_queue_permits()
{
    RegisterXactCallback(on_transaction_end, nullptr);
    RegisterSubXactCallback(on_subtransaction_end, nullptr);
}

} // namespace backfill::queue
