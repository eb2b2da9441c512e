/* worker_slots.cpp - see worker_slots.hpp. */
#include "backfill/shmem/worker_slots.hpp"

#include "backfill/guc.hpp"
#include "backfill/shmem/signals.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr int kStopPollMs = 10;
constexpr int kStartTimeoutMs = 60000;

int slot_number = -1;

/* A slot whose process never came (its parent died before it could register it) is
 * free again after a while; should the process come after all, it sees another generation. */
bool is_free(const WorkerSlot &worker)
{
    if (worker.kind != WorkerKind::kNone)
        return worker.pid == 0 && TimestampDifferenceExceeds(
                                      worker.started_at, GetCurrentTimestamp(), kStartTimeoutMs);
    return worker.parent == 0 || BackendPidGetProc(worker.parent) == nullptr;
}

void free_slot(WorkerSlot &worker)
{
    worker.kind = WorkerKind::kNone;
    worker.latch = nullptr;
    worker.pid = 0;
}

void block_database(Oid database)
{
    SharedLock lock;
    if (DatabaseSlot *slot = find_database(database, true))
        slot->blocked_by = MyProcPid;
}

/* Returns how many workers the database still has. */
int terminate_workers(Oid database)
{
    SharedLock lock;
    int alive = 0;
    for (int i = 0; i < shared().worker_count; i++) {
        const WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kNone || worker.database != database)
            continue;
        alive++;
        if (worker.pid != 0)
            (void) kill(worker.pid, SIGTERM);
    }
    return alive;
}

} // namespace

void set_my_slot(int number) noexcept
{
    slot_number = number;
}

WorkerSlot &my_slot()
{
    return shared().workers[slot_number];
}

int my_slot_number()
{
    return slot_number;
}

void publish_progress(double fraction, const char *message) noexcept
{
    if (slot_number < 0)
        return;
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.progress = fraction;
    strlcpy(slot.progress_message, message, sizeof(slot.progress_message));
    SpinLockRelease(&slot.mutex);
}

void publish_read_ahead(const core::ReadAhead &read_ahead, TimestampTz until) noexcept
{
    if (slot_number < 0)
        return;
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.read_ahead = read_ahead;
    slot.read_ahead_until = until;
    SpinLockRelease(&slot.mutex);
}

int executor_xids(TransactionId *xids, int limit) noexcept
{
    SharedLock lock(LW_SHARED);
    int count = 0;
    for (int i = 0; i < shared().worker_count && count < limit; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != MyDatabaseId)
            continue;
        SpinLockAcquire(&worker.mutex);
        const TransactionId xid = worker.xid;
        SpinLockRelease(&worker.mutex);
        if (TransactionIdIsValid(xid))
            xids[count++] = xid;
    }
    return count;
}

std::vector<core::ReadAhead> copy_read_aheads()
{
    std::vector<core::ReadAhead> copies;
    if (!available())
        return copies;
    copies.reserve(static_cast<std::size_t>(shared().worker_count));
    const TimestampTz now = GetCurrentTimestamp();
    const SharedLock lock(LW_SHARED);
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != MyDatabaseId ||
            worker.pid == MyProcPid)
            continue;
        SpinLockAcquire(&worker.mutex);
        if (worker.read_ahead_until > now)
            copies.push_back(worker.read_ahead);
        SpinLockRelease(&worker.mutex);
    }
    return copies;
}

std::vector<WorkerSlot> copy_workers()
{
    std::vector<WorkerSlot> workers;
    if (!available())
        return workers;
    workers.reserve(static_cast<std::size_t>(shared().worker_count));
    const SharedLock lock(LW_SHARED);
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kNone || worker.database != MyDatabaseId)
            continue;
        SpinLockAcquire(&worker.mutex);
        workers.push_back(worker); /* reserved: does not allocate */
        SpinLockRelease(&worker.mutex);
    }
    return workers;
}

bool enter_bulk_lane(Oid database, int slot)
{
    if (guc::reserved_urgent_executors == 0)
        return true;
    SharedLock lock;
    int others = 0;
    for (int i = 0; i < shared().worker_count; i++) {
        const WorkerSlot &worker = shared().workers[i];
        if (i != slot && worker.kind == WorkerKind::kExecutor && worker.database == database &&
            worker.bulk)
            others++;
    }
    if (others >= guc::max_executors - guc::reserved_urgent_executors) {
        if (DatabaseSlot *entry = find_database(database, false))
            entry->queue_was_full = true;
        return false;
    }
    shared().workers[slot].bulk = true;
    return true;
}

void leave_bulk_lane(Oid database, int slot)
{
    {
        SharedLock lock;
        if (!shared().workers[slot].bulk)
            return;
        shared().workers[slot].bulk = false;
    }
    signal_slots_released(database);
}

Reservation reserve_worker(WorkerKind kind, Oid database, Oid role)
{
    SharedLock lock;
    const DatabaseSlot *database_slot = find_database(database, false);
    if (database_slot == nullptr || database_slot->blocked_by != 0)
        return {-1, 0};
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (!is_free(worker))
            continue;
        worker.kind = kind;
        worker.state = WorkerState::kStarting;
        worker.generation++;
        worker.database = database;
        worker.role = role;
        worker.pid = 0;
        worker.latch = nullptr;
        worker.woken = false;
        worker.retire = false;
        worker.bulk = false;
        worker.parent = MyProcPid;
        worker.logged_in = false;
        worker.started_at = GetCurrentTimestamp();
        SpinLockAcquire(&worker.mutex);
        worker.xid = InvalidTransactionId;
        worker.job_id = 0;
        worker.claim_token = 0;
        worker.stoppable_job = 0;
        worker.stop_asked_at = 0;
        worker.attempt = 0;
        worker.task[0] = '\0';
        worker.state_since = worker.started_at;
        worker.jobs_done = 0;
        worker.jobs_failed = 0;
        worker.progress = -1;
        worker.progress_message[0] = '\0';
        worker.read_ahead_until = 0;
        SpinLockRelease(&worker.mutex);
        return {i, worker.generation};
    }
    return {-1, 0};
}

void release_worker(int slot, uint64 generation)
{
    SharedLock lock;
    WorkerSlot &worker = shared().workers[slot];
    if (worker.kind == WorkerKind::kNone || worker.generation != generation)
        return;
    const WorkerKind kind = worker.kind;
    free_slot(worker);
    SpinLockAcquire(&worker.mutex);
    const bool had_claim = worker.claim_token != 0;
    worker.claim_token = 0;
    worker.stoppable_job = 0;
    SpinLockRelease(&worker.mutex);
    if (DatabaseSlot *database = had_claim ? find_database(worker.database, true) : nullptr)
        database->lost_claims = true;
    /* Its parent may have been replaced and then gets no notice from the postmaster. */
    if (kind == WorkerKind::kDispatcher)
        wake_launcher();
    else
        wake(dispatcher_of(worker.database));
}

bool forget_worker(int slot, uint64 generation)
{
    SharedLock lock;
    WorkerSlot &worker = shared().workers[slot];
    if (worker.generation != generation)
        return true;
    free_slot(worker);
    worker.parent = 0;
    return worker.logged_in;
}

bool has_logged_in(int slot, uint64 generation)
{
    SharedLock lock(LW_SHARED);
    const WorkerSlot &worker = shared().workers[slot];
    return worker.generation == generation && worker.logged_in;
}

bool has_busy_executor()
{
    SharedLock lock(LW_SHARED);
    for (int i = 0; i < shared().worker_count; i++) {
        const WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.database == MyDatabaseId &&
            worker.state != WorkerState::kIdle)
            return true;
    }
    return false;
}

bool is_claim_alive(int64 claim_token)
{
    SharedLock lock(LW_SHARED);
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != MyDatabaseId)
            continue;
        SpinLockAcquire(&worker.mutex);
        const bool found = worker.claim_token == claim_token;
        SpinLockRelease(&worker.mutex);
        if (found)
            return true;
    }
    return false;
}

bool take_lost_claims(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, false);
    return slot != nullptr && std::exchange(slot->lost_claims, false);
}

void stop_workers(Oid database, int timeout_ms)
{
    block_database(database);
    for (int waited = 0; waited < timeout_ms; waited += kStopPollMs) {
        if (terminate_workers(database) == 0)
            return;
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kStopPollMs,
                         PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

void allow_workers(Oid database) noexcept
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, false);
    if (slot != nullptr && slot->blocked_by == MyProcPid)
        slot->blocked_by = 0;
}

} // namespace backfill::bgworker
