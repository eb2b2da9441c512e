/* shared_state.cpp - see shared_state.hpp. */
#include "backfill/shmem/shared_state.hpp"

#include "backfill/shmem/run_ledger.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr char kName[] = "backfill";

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

} // namespace backfill::bgworker
