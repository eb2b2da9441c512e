/* counters.cpp - see counters.hpp. */
#include "backfill/stats/counters.hpp"

#include "backfill/guc.hpp"
#include "backfill/stats/label_set_places.hpp"

#include <algorithm>

namespace backfill::stats
{

namespace
{

constexpr char kName[] = "backfill counters";
/* Each database may need one place more than there are: that of its label set "other". */
constexpr int kMaxDatabases = bgworker::kMaxDatabases;
/* When no place could be taken, how long the next label sets of the database do without. */
constexpr int64 kLongestPauseUs = 1000000;

struct DatabaseEntry {
    Oid database;           /* InvalidOid: free */
    TimestampTz full_until; /* until then it is of no use to look for a place to take */
    DatabaseCounters counters;
};

struct SharedCounters {
    LWLock *lock;
    DatabaseEntry databases[kMaxDatabases];
    LabelSetPlaces job_counters; /* its places are behind the whole */
};

SharedCounters *state = nullptr;
shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;
LabelSetPlace *own_other = nullptr;
DatabaseEntry *own_database = nullptr;
bool own_database_known = false;

Size state_size()
{
    return add_size(sizeof(SharedCounters),
                    mul_size(LabelSetPlaces::count(), LabelSetPlaces::kPlaceSize));
}

void request_shared_memory()
{
    if (previous_request_hook != nullptr)
        previous_request_hook();
    RequestAddinShmemSpace(state_size());
    RequestNamedLWLockTranche(kName, 1);
}

void create_shared_memory()
{
    if (previous_startup_hook != nullptr)
        previous_startup_hook();

    bool found;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    state = static_cast<SharedCounters *>(ShmemInitStruct(kName, state_size(), &found));
    if (!found) {
        memset(static_cast<void *>(state), 0, state_size());
        state->lock = &GetNamedLWLockTranche(kName)->lock;
        state->job_counters.init(state + 1);
        for (DatabaseEntry &entry : state->databases)
            for (pg_atomic_uint64 &value : entry.counters.values)
                pg_atomic_init_u64(&value, 0);
    }
    LWLockRelease(AddinShmemInitLock);
}

class CountersLock
{
  public:
    explicit CountersLock(LWLockMode mode) { LWLockAcquire(state->lock, mode); }
    ~CountersLock() { LWLockRelease(state->lock); }
    CountersLock(const CountersLock &) = delete;
    CountersLock &operator=(const CountersLock &) = delete;
    LabelSetPlaces *operator->() const { return &state->job_counters; }
};

template <std::size_t N> void read_all(pg_atomic_uint64 (&counters)[N], uint64 (&values)[N])
{
    for (std::size_t i = 0; i < N; i++)
        values[i] = pg_atomic_read_u64(&counters[i]);
}

template <std::size_t N> void clear_all(pg_atomic_uint64 (&counters)[N])
{
    for (pg_atomic_uint64 &counter : counters)
        pg_atomic_write_u64(&counter, 0);
}

DatabaseEntry *find_own_database()
{
    if (own_database_known)
        return own_database;
    CountersLock lock(LW_EXCLUSIVE);
    DatabaseEntry *free_entry = nullptr;
    for (DatabaseEntry &entry : state->databases) {
        if (entry.database == MyDatabaseId)
            own_database = &entry;
        else if (!OidIsValid(entry.database) && free_entry == nullptr)
            free_entry = &entry;
    }
    if (own_database == nullptr && free_entry != nullptr) {
        free_entry->database = MyDatabaseId;
        own_database = free_entry;
    }
    own_database_known = true;
    return own_database;
}

JobCountersRef find_or_make_ref(const LabelSet &labels)
{
    const LabelSetKey key(MyDatabaseId, labels);
    DatabaseEntry *own = find_own_database();
    const TimestampTz now = GetCurrentTimestamp();
    {
        CountersLock lock(LW_SHARED);
        if (LabelSetPlace *place = lock->find(key))
            return ref_to(place);
        if (!lock->has_room_for(key) && (own == nullptr || now < own->full_until))
            return {};
    }
    CountersLock lock(LW_EXCLUSIVE);
    if (LabelSetPlace *place = lock->find(key))
        return ref_to(place);
    if (!lock->has_room_for(key) && own != nullptr && now >= own->full_until &&
        !lock->make_room(now))
        own->full_until = now + Min(kLongestPauseUs, guc::metrics_idle_time * INT64CONST(1000));
    return ref_to(lock->make(key));
}

/* That of this database. It keeps its place as long as the database exists. */
LabelSetPlace *find_other()
{
    if (own_other == nullptr) {
        CountersLock lock(LW_EXCLUSIVE);
        own_other = lock->find_or_make_other(MyDatabaseId);
    }
    return own_other;
}

void add_all(JobCounters &counters, const uint64 (&counts)[kJobCounterCount])
{
    for (int i = 0; i < kJobCounterCount; i++)
        if (counts[i] != 0)
            pg_atomic_fetch_add_u64(&counters.values[i], static_cast<int64>(counts[i]));
}

/* Of this database. */
template <class Condition> void forget_if(Condition &&condition)
{
    if (!available())
        return;
    CountersLock lock(LW_EXCLUSIVE);
    for (LabelSetPlace &place : lock->all())
        if (place.database == MyDatabaseId && !place.is_other() && condition(place))
            (void) lock->evict(place);
}

} // namespace

void init_counters()
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

JobCountersRef find_job_counters(const LabelSet &labels)
{
    if (labels.task.size() <= kMaxLabel && labels.queue.size() <= kMaxLabel)
        if (const JobCountersRef ref = find_or_make_ref(labels); ref.counters != nullptr)
            return ref;
    return ref_to(find_other());
}

void add_job_counts(const JobCountersRef &ref, const uint64 (&counts)[kJobCounterCount]) noexcept
{
    /* As a user of the place, it keeps others from taking it, if it has not lost it before. */
    pg_atomic_uint64 &occupancy = ref.counters->occupancy;
    const uint64 serial = pg_atomic_fetch_add_u64(&occupancy, 1) >> kUserBits;
    if (serial == ref.serial) {
        add_all(*ref.counters, counts);
        const auto now = static_cast<uint64>(GetCurrentTransactionStartTimestamp());
        if (pg_atomic_read_u64(&ref.counters->last_used) < now)
            pg_atomic_write_u64(&ref.counters->last_used, now);
    }
    pg_atomic_fetch_sub_u64(&occupancy, 1);
    if (serial != ref.serial)
        if (LabelSetPlace *other = find_other())
            add_all(other->counters, counts);
}

uint64 places_version()
{
    return state->job_counters.version();
}

DatabaseCounters *my_database_counters()
{
    DatabaseEntry *entry = find_own_database();
    return entry == nullptr ? nullptr : &entry->counters;
}

std::vector<JobCountersCopy> copy_job_counters()
{
    std::vector<JobCountersCopy> copies;
    CountersLock lock(LW_SHARED);
    for (LabelSetPlace &place : lock->all()) {
        if (place.database != MyDatabaseId)
            continue;
        JobCountersCopy &copy = copies.emplace_back();
        copy.task = place.task;
        copy.queue = place.queue;
        copy.band = place.band;
        read_all(place.counters.values, copy.values);
    }
    return copies;
}

void copy_database_counters(uint64 (&values)[kDatabaseCounterCount])
{
    if (DatabaseCounters *counters = my_database_counters())
        read_all(counters->values, values);
    else
        std::fill(std::begin(values), std::end(values), 0);
}

bool lacks_places()
{
    CountersLock lock(LW_SHARED);
    return !lock->has_room_for({MyDatabaseId, {}}) &&
           lock->find(LabelSetKey::other(MyDatabaseId)) != nullptr;
}

void forget_database(Oid database)
{
    CountersLock lock(LW_EXCLUSIVE);
    for (DatabaseEntry &entry : state->databases) {
        if (entry.database != database)
            continue;
        entry.database = InvalidOid;
        entry.full_until = 0;
        clear_all(entry.counters.values);
    }
    for (LabelSetPlace &place : lock->all())
        if (place.database == database)
            lock->free(place);
}

void forget_task(std::string_view task)
{
    forget_if([&](const LabelSetPlace &place) { return task == place.task; });
}

void forget_queue(std::string_view queue)
{
    forget_if([&](const LabelSetPlace &place) { return queue == place.queue; });
}

} // namespace backfill::stats
