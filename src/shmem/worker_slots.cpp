/* worker_slots.cpp - see worker_slots.hpp. */
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr int kStopPollMs = 10;
constexpr int kStartTimeoutMs = 60000;

int slot_number = -1;

/* A slot whose process never came (its parent died before it could register it) is
 * free again after a while; should the process come after all, it sees another generation. */
bool is_free(const WorkerSlot &slot)
{
    if (slot.kind != WorkerKind::kNone)
        return slot.pid == 0 &&
               TimestampDifferenceExceeds(slot.started_at, GetCurrentTimestamp(), kStartTimeoutMs);
    return slot.parent == 0 || BackendPidGetProc(slot.parent) == nullptr;
}

void free_slot(WorkerSlot &slot)
{
    slot.kind = WorkerKind::kNone;
    slot.latch = nullptr;
    slot.pid = 0;
}

void block_database(Oid database)
{
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(database))
        slot->blocked_by = MyProcPid;
}

/* Returns how many workers the database still has. */
int terminate_workers(Oid database)
{
    const SharedReadLock lock;
    int alive = 0;
    for (const WorkerSlot &slot : lock->workers()) {
        if (slot.kind == WorkerKind::kNone || slot.database != database)
            continue;
        alive++;
        if (slot.pid != 0)
            (void) kill(slot.pid, SIGTERM);
    }
    return alive;
}

void give_slot(WorkerSlot &slot, WorkerKind kind, Oid database, Oid role)
{
    Worker &worker = slot;
    const uint64 generation = slot.generation + 1;
    worker = Worker{};
    worker.kind = kind;
    worker.state = WorkerState::kStarting;
    worker.generation = generation;
    worker.database = database;
    worker.role = role;
    worker.parent = MyProcPid;
    worker.started_at = GetCurrentTimestamp();
    const SlotLock report(slot);
    *report = WorkerReport{};
    report->state_since = worker.started_at;
    report->progress = -1;
}

/* Returns whether the worker had a claim. */
bool clear_report(const WorkerSlot &slot)
{
    const SlotLock report(slot);
    report->accepts_stop_of = 0;
    if (std::exchange(report->unsettled_job, 0) != 0)
        pg_atomic_fetch_sub_u32(&lock_free_state().unsettled_jobs, 1);
    return std::exchange(report->claim_token, 0) != 0;
}

} // namespace

void set_my_slot(int number) noexcept
{
    slot_number = number;
}

int my_slot_number()
{
    return slot_number;
}

WorkerSlot &my_slot(const SharedLock &lock)
{
    return lock->worker(slot_number);
}

const WorkerSlot &my_slot(const SharedReadLock &lock)
{
    return lock->worker(slot_number);
}

/* The slot is ours until we end, so that nothing but its spinlock is needed. */
SlotLock lock_my_report() noexcept
{
    return SlotLock(shared_block->state.worker(slot_number));
}

void publish_progress(double fraction, const char *message) noexcept
{
    if (slot_number < 0)
        return;
    const SlotLock report = lock_my_report();
    report->progress = fraction;
    strlcpy(report->progress_message, message, sizeof(report->progress_message));
}

/* The number is given out under the lock, so that an executor that gets a later number and then
 * copies the others' sees this. */
uint64 publish_read_ahead(const core::ReadAhead &read_ahead, TimestampTz until) noexcept
{
    if (slot_number < 0)
        return 0;
    const SlotLock report = lock_my_report();
    const uint64 number = pg_atomic_add_fetch_u64(&lock_free_state().read_aheads, 1);
    report->read_ahead = read_ahead;
    report->read_ahead.number = number;
    report->read_ahead_until = until;
    return number;
}

int executor_xids(TransactionId *xids, int limit) noexcept
{
    const SharedReadLock lock;
    int count = 0;
    lock->for_each_executor(MyDatabaseId, [&](const WorkerSlot &slot) {
        const TransactionId xid = SlotLock(slot)->xid;
        if (TransactionIdIsValid(xid) && count < limit)
            xids[count++] = xid;
    });
    return count;
}

OtherReadAheads copy_read_aheads()
{
    OtherReadAheads copies;
    if (!available())
        return copies;
    copies.all.reserve(static_cast<std::size_t>(max_worker_processes));
    copies.last_number = pg_atomic_read_u64(&lock_free_state().read_aheads);
    const TimestampTz now = GetCurrentTimestamp();
    const SharedReadLock lock;
    lock->for_each_executor(MyDatabaseId, [&](const WorkerSlot &slot) {
        if (slot.pid == MyProcPid) {
            copies.before = copies.all.size();
            return;
        }
        const SlotLock report(slot);
        if (report->read_ahead_until > now)
            copies.all.push_back(report->read_ahead); /* reserved: does not allocate */
    });
    return copies;
}

std::vector<WorkerCopy> copy_workers()
{
    std::vector<WorkerCopy> workers;
    if (!available())
        return workers;
    workers.reserve(static_cast<std::size_t>(max_worker_processes));
    const SharedReadLock lock;
    for (const WorkerSlot &slot : lock->workers()) {
        if (slot.kind == WorkerKind::kNone || slot.database != MyDatabaseId)
            continue;
        const SlotLock report(slot);
        workers.push_back({slot, *report}); /* reserved: does not allocate */
    }
    return workers;
}

Reservation reserve_worker(WorkerKind kind, Oid database, Oid role)
{
    const SharedLock lock;
    const DatabaseSlot *database_slot = lock->find_database(database);
    if (database_slot == nullptr || database_slot->blocked_by != 0)
        return {-1, 0};
    for (int i = 0; i < lock->worker_count; i++) {
        WorkerSlot &slot = lock->worker(i);
        if (!is_free(slot))
            continue;
        give_slot(slot, kind, database, role);
        return {i, slot.generation};
    }
    return {-1, 0};
}

void release_worker(int slot, uint64 generation)
{
    const SharedLock lock;
    WorkerSlot &worker = lock->worker(slot);
    if (worker.kind == WorkerKind::kNone || worker.generation != generation)
        return;
    const WorkerKind kind = worker.kind;
    free_slot(worker);
    const bool had_claim = clear_report(worker);
    if (DatabaseSlot *database = had_claim ? lock->find_or_add_database(worker.database) : nullptr)
        database->lost_claims = true;
    /* Its parent may have been replaced and then gets no notice from the postmaster. */
    if (kind == WorkerKind::kDispatcher)
        lock->wake_launcher();
    else if (WorkerSlot *dispatcher = lock->find_dispatcher(worker.database))
        dispatcher->wake();
}

bool forget_worker(int slot, uint64 generation)
{
    const SharedLock lock;
    WorkerSlot &worker = lock->worker(slot);
    if (worker.generation != generation)
        return true;
    free_slot(worker);
    worker.parent = 0;
    return worker.logged_in;
}

bool has_logged_in(int slot, uint64 generation)
{
    const SharedReadLock lock;
    const WorkerSlot &worker = lock->worker(slot);
    return worker.generation == generation && worker.logged_in;
}

bool has_busy_executor()
{
    const SharedReadLock lock;
    return lock->find_executor(MyDatabaseId, [](const WorkerSlot &slot) {
        return slot.state != WorkerState::kIdle;
    }) != nullptr;
}

bool is_claim_alive(int64 claim_token)
{
    const SharedReadLock lock;
    return lock->find_executor(MyDatabaseId, [&](const WorkerSlot &slot) {
        return SlotLock(slot)->claim_token == claim_token;
    }) != nullptr;
}

bool take_lost_claims(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_database(database);
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
    const SharedLock lock;
    DatabaseSlot *slot = lock->find_database(database);
    if (slot != nullptr && slot->blocked_by == MyProcPid)
        slot->blocked_by = 0;
}

} // namespace backfill::bgworker
