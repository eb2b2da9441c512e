/* shared_state.cpp - see shared_state.hpp. */
#include "backfill/shmem/shared_state.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/guard.hpp"
#include "backfill/shmem/run_ledger.hpp"

#include <unistd.h>

namespace backfill::bgworker
{

namespace
{

constexpr char kName[] = "backfill";
constexpr int kStopPollMs = 10;
constexpr int kStartTimeoutMs = 60000;
/* A worker that was told to stop has so long before it may be ended. */
constexpr int kObeyMs = 1000;

SharedState *state = nullptr;
shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

/* Every worker is a background worker, so there can be no more than these. */
int max_workers()
{
    return max_worker_processes;
}

Size state_size()
{
    return add_size(offsetof(SharedState, workers), mul_size(max_workers(), sizeof(WorkerSlot)));
}

void request_shared_memory()
{
    if (previous_request_hook != nullptr)
        previous_request_hook();
    RequestAddinShmemSpace(state_size());
    RequestNamedLWLockTranche(kName, 2);
}

void create_shared_memory()
{
    if (previous_startup_hook != nullptr)
        previous_startup_hook();

    bool found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    state = static_cast<SharedState *>(ShmemInitStruct(kName, state_size(), &found));
    if (!found) {
        memset(static_cast<void *>(state), 0, state_size());
        state->lock = &GetNamedLWLockTranche(kName)[0].lock;
        state->marks_lock = &GetNamedLWLockTranche(kName)[1].lock;
        if (!pg_strong_random(&state->hash_seed, sizeof(state->hash_seed)))
            state->hash_seed = static_cast<uint64>(GetCurrentTimestamp());
        state->worker_count = max_workers();
        for (pg_atomic_uint32 &places : state->setting_places)
            pg_atomic_init_u32(&places, 0);
        ConditionVariableInit(&state->consumers);
        pg_atomic_init_u32(&state->job_waiters.count, 0);
        pg_atomic_init_u32(&state->job_waiters.uncommitted, 0);
        ConditionVariableInit(&state->job_waiters.ended);
        pg_atomic_init_u32(&state->set_aside.count, 0);
        for (int i = 0; i < state->worker_count; i++)
            SpinLockInit(&state->workers[i].mutex);
    }
    LWLockRelease(AddinShmemInitLock);
    ledger::init();
}

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

WorkerSlot *dispatcher_of(Oid database)
{
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
        if (worker.kind == WorkerKind::kDispatcher && worker.database == database)
            return &worker;
    }
    return nullptr;
}

void wake(WorkerSlot *worker)
{
    if (worker == nullptr)
        return;
    worker->woken = true;
    if (worker->latch != nullptr)
        SetLatch(worker->latch);
}

void wake_launcher()
{
    if (state->launcher != nullptr)
        SetLatch(state->launcher);
}

/* The dispatcher, or who starts one. Caller holds the lock. */
void wake_dispatcher(Oid database)
{
    WorkerSlot *dispatcher = dispatcher_of(database);
    if (dispatcher != nullptr)
        wake(dispatcher);
    else if (DatabaseSlot *slot = find_database(database, true)) {
        slot->status = DatabaseStatus::kUnknown;
        wake_launcher();
    }
}

/* Whose jobs this process runs, if it is an executor. Caller holds the lock. */
Oid executor_role()
{
    for (int i = 0; i < state->worker_count; i++) {
        const WorkerSlot &worker = state->workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.pid == MyProcPid)
            return worker.role;
    }
    return PG_UINT32_MAX;
}

void block_database(Oid database)
{
    SharedLock lock;
    if (DatabaseSlot *slot = find_database(database, true))
        slot->blocked_by = MyProcPid;
}

/* Caller holds the lock. */
void note_consumers(Oid database)
{
    if (DatabaseSlot *slot = find_database(database, true))
        slot->consumers = true;
}

/* Returns how many workers the database still has. */
int terminate_workers(Oid database)
{
    SharedLock lock;
    int alive = 0;
    for (int i = 0; i < state->worker_count; i++) {
        const WorkerSlot &worker = state->workers[i];
        if (worker.kind == WorkerKind::kNone || worker.database != database)
            continue;
        alive++;
        if (worker.pid != 0)
            (void) kill(worker.pid, SIGTERM);
    }
    return alive;
}

} // namespace

void init_shared_state()
{
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_shared_memory;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = create_shared_memory;
}

bool available()
{
    return state != nullptr;
}

SharedState &shared()
{
    return *state;
}

DatabaseSlot *find_database(Oid database, bool create)
{
    DatabaseSlot *free_slot = nullptr;
    for (DatabaseSlot &slot : state->databases) {
        if (slot.database == database)
            return &slot;
        if (free_slot == nullptr && slot.database == InvalidOid)
            free_slot = &slot;
    }
    if (!create || free_slot == nullptr)
        return nullptr;
    *free_slot = DatabaseSlot{};
    free_slot->database = database;
    return free_slot;
}

core::RateWindow *find_rate_window(Oid database, int32 queue_id)
{
    RateSlot *free_slot = nullptr;
    for (RateSlot &slot : state->rates) {
        if (slot.database == database && slot.queue_id == queue_id)
            return &slot.window;
        if (free_slot == nullptr && slot.queue_id == 0)
            free_slot = &slot;
    }
    /* One whose starts count no longer is worth as much as a new one. */
    const TimestampTz now = GetCurrentTimestamp();
    for (int i = 0; free_slot == nullptr && i < kMaxRateWindows; i++)
        if (state->rates[i].queue_id < 0 || state->rates[i].window.is_over(now))
            free_slot = &state->rates[i];
    if (free_slot == nullptr) {
        state->no_rate_window_at = now;
        return nullptr;
    }
    *free_slot = RateSlot{};
    free_slot->database = database;
    free_slot->queue_id = queue_id;
    return &free_slot->window;
}

int raise_setting_places(bool fast, int value) noexcept
{
    pg_atomic_uint32 &places = state->setting_places[fast ? 0 : 1];
    uint32 known = pg_atomic_read_u32(&places);
    while (known < static_cast<uint32>(value) &&
           !pg_atomic_compare_exchange_u32(&places, &known, static_cast<uint32>(value)))
        ;
    return Max(static_cast<int>(known), value);
}

int executor_xids(TransactionId *xids, int limit) noexcept
{
    SharedLock lock(LW_SHARED);
    int count = 0;
    for (int i = 0; i < state->worker_count && count < limit; i++) {
        WorkerSlot &worker = state->workers[i];
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
    copies.reserve(static_cast<std::size_t>(state->worker_count));
    const TimestampTz now = GetCurrentTimestamp();
    const SharedLock lock(LW_SHARED);
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
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
    workers.reserve(static_cast<std::size_t>(state->worker_count));
    const SharedLock lock(LW_SHARED);
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
        if (worker.kind == WorkerKind::kNone || worker.database != MyDatabaseId)
            continue;
        SpinLockAcquire(&worker.mutex);
        workers.push_back(worker); /* reserved: does not allocate */
        SpinLockRelease(&worker.mutex);
    }
    return workers;
}

std::optional<DatabaseSlot> copy_database()
{
    if (!available())
        return std::nullopt;
    const SharedLock lock(LW_SHARED);
    const DatabaseSlot *slot = find_database(MyDatabaseId, false);
    return slot == nullptr ? std::nullopt : std::optional(*slot);
}

int count_databases() noexcept
{
    const SharedLock lock(LW_SHARED);
    int count = 0;
    for (const DatabaseSlot &slot : state->databases)
        count += OidIsValid(slot.database) ? 1 : 0;
    return count;
}

bool enter_bulk_lane(Oid database, int slot)
{
    if (guc::reserved_urgent_executors == 0)
        return true;
    SharedLock lock;
    int others = 0;
    for (int i = 0; i < state->worker_count; i++) {
        const WorkerSlot &worker = state->workers[i];
        if (i != slot && worker.kind == WorkerKind::kExecutor && worker.database == database &&
            worker.bulk)
            others++;
    }
    if (others >= guc::max_executors - guc::reserved_urgent_executors) {
        if (DatabaseSlot *entry = find_database(database, false))
            entry->queue_was_full = true;
        return false;
    }
    state->workers[slot].bulk = true;
    return true;
}

void leave_bulk_lane(Oid database, int slot)
{
    {
        SharedLock lock;
        if (!state->workers[slot].bulk)
            return;
        state->workers[slot].bulk = false;
    }
    signal_slots_released(database);
}

Reservation reserve_worker(WorkerKind kind, Oid database, Oid role)
{
    SharedLock lock;
    const DatabaseSlot *database_slot = find_database(database, false);
    if (database_slot == nullptr || database_slot->blocked_by != 0)
        return {-1, 0};
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
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
    WorkerSlot &worker = state->workers[slot];
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
    WorkerSlot &worker = state->workers[slot];
    if (worker.generation != generation)
        return true;
    free_slot(worker);
    worker.parent = 0;
    return worker.logged_in;
}

bool has_logged_in(int slot, uint64 generation)
{
    SharedLock lock(LW_SHARED);
    const WorkerSlot &worker = state->workers[slot];
    return worker.generation == generation && worker.logged_in;
}

void open_to_stop(WorkerSlot &slot, int64 job_id)
{
    SpinLockAcquire(&slot.mutex);
    slot.stoppable_job = job_id;
    slot.stop_asked_at = 0;
    SpinLockRelease(&slot.mutex);
}

bool close_to_stop(WorkerSlot &slot)
{
    SpinLockAcquire(&slot.mutex);
    const bool told = slot.stop_asked_at != 0;
    slot.stoppable_job = 0;
    slot.stop_asked_at = 0;
    SpinLockRelease(&slot.mutex);
    /* The signal has been sent while the lock was held; the return of any system call has it. */
    if (told)
        (void) getppid();
    return told;
}

bool is_told_to_stop(WorkerSlot &slot)
{
    SpinLockAcquire(&slot.mutex);
    const bool told = slot.stop_asked_at != 0;
    SpinLockRelease(&slot.mutex);
    return told;
}

namespace
{

/* The executor that runs the job's handler; null if none does. Caller holds the lock. */
WorkerSlot *runner_of(int64 job_id)
{
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != MyDatabaseId)
            continue;
        SpinLockAcquire(&worker.mutex);
        const bool found = worker.stoppable_job == job_id;
        SpinLockRelease(&worker.mutex);
        if (found)
            return &worker;
    }
    return nullptr;
}

} // namespace

bool is_stoppable(int64 job_id)
{
    SharedLock lock(LW_SHARED);
    return runner_of(job_id) != nullptr;
}

bool tell_to_stop(int64 job_id)
{
    const TimestampTz now = GetCurrentTimestamp();
    SharedLock lock(LW_SHARED); /* so that its process cannot leave the slot */
    WorkerSlot *worker = runner_of(job_id);
    if (worker == nullptr)
        return false;
    SpinLockAcquire(&worker->mutex);
    const bool found = worker->stoppable_job == job_id;
    if (found && worker->stop_asked_at == 0) {
        worker->stop_asked_at = now;
        /* Under the lock: else the signal could hit the next job. It is a short system call. */
        (void) kill(worker->pid, SIGINT);
    } else if (found && now - worker->stop_asked_at >= kObeyMs * 1000) {
        (void) kill(worker->pid, SIGTERM);
    }
    SpinLockRelease(&worker->mutex);
    return found;
}

bool has_busy_executor()
{
    SharedLock lock(LW_SHARED);
    for (int i = 0; i < state->worker_count; i++) {
        const WorkerSlot &worker = state->workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.database == MyDatabaseId &&
            worker.state != WorkerState::kIdle)
            return true;
    }
    return false;
}

bool is_claim_alive(int64 claim_token)
{
    SharedLock lock(LW_SHARED);
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
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

void signal_ready(Oid database, Oid role, int jobs)
{
    if (guc::max_executors == 0)
        return; /* nobody may run them */
    SharedLock lock;
    int executors = 0;
    int of_role = 0;
    for (int i = 0; i < state->worker_count && jobs > 0; i++) {
        WorkerSlot &worker = state->workers[i];
        if (worker.kind != WorkerKind::kExecutor || worker.database != database)
            continue;
        executors++;
        if (worker.role != role || worker.retire)
            continue;
        of_role++;
        if (worker.state == WorkerState::kIdle && !worker.woken) {
            wake(&worker);
            jobs--;
        }
    }
    if (jobs == 0)
        return;
    /* All are busy. They will look again before they rest, so the dispatcher is needed
     * only if another executor can be started, or must be, for this role. */
    const DatabaseSlot *slot = find_database(database, false);
    const bool room = executors < guc::max_executors;
    if (of_role > 0 && (!room || (slot != nullptr && slot->retry_at > GetCurrentTimestamp())))
        return;
    wake_dispatcher(database);
}

void signal_due(Oid database, TimestampTz run_at)
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    if (slot == nullptr || (slot->next_due != 0 && slot->next_due <= run_at))
        return;
    slot->next_due = run_at;
    wake_dispatcher(database);
}

void signal_consumers(Oid database)
{
    {
        /* The rule under load: the dispatcher has not looked yet, and will see our rows. */
        const SharedLock lock(LW_SHARED);
        const DatabaseSlot *slot = find_database(database, false);
        if (slot != nullptr && slot->consumers)
            return;
    }
    const SharedLock lock;
    note_consumers(database);
    wake_dispatcher(database);
}

void signal_lease(Oid database, TimestampTz expires_at)
{
    lower_lease_low(database, expires_at);
    signal_due(database, expires_at);
}

bool consumers_announced(Oid database)
{
    const SharedLock lock(LW_SHARED);
    const DatabaseSlot *slot = find_database(database, false);
    return slot != nullptr && slot->consumers;
}

void wake_consumers()
{
    pg::call([] { ConditionVariableBroadcast(&state->consumers); });
}

bool take_consumers(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, false);
    if (slot == nullptr || !slot->consumers)
        return false;
    slot->consumers = false;
    return true;
}

TimestampTz take_lease_low(Oid database)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    return slot == nullptr ? 0 : std::exchange(slot->lease_low, PG_INT64_MAX);
}

void lower_lease_low(Oid database, TimestampTz lowest)
{
    const SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    if (slot != nullptr && lowest < slot->lease_low)
        slot->lease_low = lowest;
}

bool has_dispatcher(Oid database)
{
    const SharedLock lock(LW_SHARED);
    const WorkerSlot *dispatcher = dispatcher_of(database);
    return dispatcher != nullptr && dispatcher->latch != nullptr;
}

void signal_dispatcher(Oid database)
{
    SharedLock lock;
    note_consumers(database);
    wake_dispatcher(database);
}

void note_queue_full(Oid database)
{
    SharedLock lock;
    if (DatabaseSlot *slot = find_database(database, true))
        slot->queue_was_full = true;
}

void note_role_waits(Oid database, Oid role)
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, true);
    if (slot == nullptr)
        return;
    slot->waiting_role = slot->role_waits && slot->waiting_role != role ? InvalidOid : role;
    slot->role_waits = true;
}

void signal_slots_released(Oid database)
{
    SharedLock lock;
    DatabaseSlot *slot = find_database(database, false);
    if (slot == nullptr)
        return;
    if (slot->role_waits && slot->waiting_role != executor_role()) {
        slot->role_waits = false;
        wake_dispatcher(database);
    }
    if (!slot->queue_was_full)
        return;
    slot->queue_was_full = false;
    for (int i = 0; i < state->worker_count; i++) {
        WorkerSlot &worker = state->workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.database == database &&
            worker.state == WorkerState::kIdle && !worker.woken)
            wake(&worker);
    }
    slot->consumers = true;
    wake_dispatcher(database);
}

void signal_launcher(Oid database)
{
    SharedLock lock;
    if (OidIsValid(database)) {
        DatabaseSlot *slot = find_database(database, true);
        if (slot != nullptr && slot->status == DatabaseStatus::kAbsent)
            slot->status = DatabaseStatus::kUnknown;
    }
    wake_launcher();
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
