/* shared_state.cpp - see shared_state.hpp. */
#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr char kName[] = "backfill";

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

/* Every worker is a background worker, so there can be no more than these. */
int max_workers()
{
    return max_worker_processes;
}

Size state_size()
{
    return add_size(sizeof(SharedBlock), mul_size(max_workers(), sizeof(WorkerSlot)));
}

void request_shared_memory()
{
    if (previous_request_hook != nullptr)
        previous_request_hook();
    RequestAddinShmemSpace(state_size());
    RequestNamedLWLockTranche(kName, 2);
}

void init_lock_free(LockFreeState &state)
{
    if (!pg_strong_random(&state.hash_seed, sizeof(state.hash_seed)))
        state.hash_seed = static_cast<uint64>(GetCurrentTimestamp());
    ConditionVariableInit(&state.consumers);
    pg_atomic_init_u32(&state.job_waiters.all, 0);
    pg_atomic_init_u32(&state.job_waiters.uncommitted, 0);
    ConditionVariableInit(&state.job_waiters.ended);
    state.queue_changes.init();
    state.ready_bands.init();
    pg_atomic_init_u64(&state.read_aheads, 0);
    pg_atomic_init_u32(&state.set_aside_count, 0);
    pg_atomic_init_u32(&state.unsettled_jobs, 0);
    for (pg_atomic_uint32 &places : state.setting_places)
        pg_atomic_init_u32(&places, 0);
}

void init_block(SharedBlock &block)
{
    memset(static_cast<void *>(&block), 0, state_size());
    block.lock = &GetNamedLWLockTranche(kName)[0].lock;
    block.marks_lock = &GetNamedLWLockTranche(kName)[1].lock;
    init_lock_free(block.lock_free);
    block.state.worker_count = max_workers();
    block.state.worker_slots = reinterpret_cast<WorkerSlot *>(&block + 1);
    for (WorkerSlot &slot : block.state.workers())
        slot.init();
}

void create_shared_memory()
{
    if (previous_startup_hook != nullptr)
        previous_startup_hook();

    bool found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared_block = static_cast<SharedBlock *>(ShmemInitStruct(kName, state_size(), &found));
    if (!found)
        init_block(*shared_block);
    LWLockRelease(AddinShmemInitLock);
}

/* Either kind of state. */
template <class State> auto find_database_in(State &state, Oid database)
{
    for (auto &slot : state.databases)
        if (slot.database == database)
            return &slot;
    return static_cast<decltype(&state.databases[0])>(nullptr);
}

template <class State> auto find_dispatcher_in(State &state, Oid database)
{
    for (auto &slot : state.workers())
        if (slot.kind == WorkerKind::kDispatcher && slot.database == database)
            return &slot;
    return static_cast<decltype(&state.workers()[0])>(nullptr);
}

} // namespace

SharedBlock *shared_block = nullptr;

void init_shared_state()
{
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_shared_memory;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = create_shared_memory;
}

void SharedState::wake_launcher()
{
    if (launcher != nullptr)
        SetLatch(launcher);
}

WorkerSlot *SharedState::find_dispatcher(Oid database)
{
    return find_dispatcher_in(*this, database);
}

const WorkerSlot *SharedState::find_dispatcher(Oid database) const
{
    return find_dispatcher_in(*this, database);
}

DatabaseSlot *SharedState::find_database(Oid database)
{
    return find_database_in(*this, database);
}

const DatabaseSlot *SharedState::find_database(Oid database) const
{
    return find_database_in(*this, database);
}

DatabaseSlot *SharedState::find_or_add_database(Oid database)
{
    if (DatabaseSlot *slot = find_database(database))
        return slot;
    DatabaseSlot *free_slot = find_database(InvalidOid);
    if (free_slot == nullptr)
        return nullptr;
    *free_slot = DatabaseSlot{};
    free_slot->database = database;
    return free_slot;
}

core::RateWindow *SharedState::find_rate_window(Oid database, int32 queue_id)
{
    RateSlot *free_slot = nullptr;
    for (RateSlot &slot : rates) {
        if (slot.database == database && slot.queue_id == queue_id)
            return &slot.window;
        if (free_slot == nullptr && slot.queue_id == 0)
            free_slot = &slot;
    }
    /* One whose starts count no longer is worth as much as a new one. */
    const TimestampTz now = GetCurrentTimestamp();
    for (int i = 0; free_slot == nullptr && i < kMaxRateWindows; i++)
        if (rates[i].queue_id < 0 || rates[i].window.is_over(now))
            free_slot = &rates[i];
    if (free_slot == nullptr) {
        no_rate_window_at = now;
        return nullptr;
    }
    *free_slot = RateSlot{};
    free_slot->database = database;
    free_slot->queue_id = queue_id;
    return &free_slot->window;
}

int raise_setting_places(bool fast, int value) noexcept
{
    pg_atomic_uint32 &places = lock_free_state().setting_places[fast ? 0 : 1];
    uint32 known = pg_atomic_read_u32(&places);
    while (known < static_cast<uint32>(value) &&
           !pg_atomic_compare_exchange_u32(&places, &known, static_cast<uint32>(value)))
        ;
    return Max(static_cast<int>(known), value);
}

std::optional<DatabaseSlot> copy_database()
{
    if (!available())
        return std::nullopt;
    const SharedReadLock lock;
    const DatabaseSlot *slot = lock->find_database(MyDatabaseId);
    return slot == nullptr ? std::nullopt : std::optional(*slot);
}

int count_databases() noexcept
{
    const SharedReadLock lock;
    return static_cast<int>(
        std::count_if(std::begin(lock->databases), std::end(lock->databases),
                      [](const DatabaseSlot &slot) { return OidIsValid(slot.database); }));
}

bool has_launcher()
{
    const SharedReadLock lock;
    return lock->launcher != nullptr;
}

TimestampTz no_rate_window_at()
{
    const SharedReadLock lock;
    return lock->no_rate_window_at;
}

} // namespace backfill::bgworker
