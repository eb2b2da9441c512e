/* counters.cpp - see counters.hpp. */
#include "backfill/stats/counters.hpp"

#include "backfill/guc.hpp"
#include "backfill/shmem/shared_state.hpp"

#include <algorithm>
#include <map>

extern "C" {
#include "common/hashfn.h"
}

namespace backfill::stats
{

namespace
{

constexpr char kName[] = "backfill counters";
constexpr std::string_view kOther = "other";
constexpr std::size_t kMaxName = bgworker::kMaxTaskName - 1;
/* Each database may need one place more than there are: that of its label set "other". */
constexpr int kMaxDatabases = bgworker::kMaxDatabases;
/* The low bits of JobCounters::occupancy: how many processes add to the counters now. */
constexpr int kUserBits = 20;
/* When no place could be taken, how long the next label sets of the database do without. */
constexpr int64 kLongestPauseUs = 1000000;

struct JobEntry {
    Oid database; /* InvalidOid: free */
    char task[kMaxName + 1];
    char queue[kMaxName + 1];
    char band[16];
    JobCounters counters;
};

struct DatabaseEntry {
    Oid database;           /* InvalidOid: free */
    TimestampTz full_until; /* until then it is of no use to look for a place to take */
    DatabaseCounters counters;
};

struct SharedCounters {
    LWLock *lock;
    int entry_count;     /* how many places there are */
    int label_set_count; /* how many of them are for label sets other than "other" */
    int used;            /* by such label sets */
    int end;             /* no entry from here on was ever used */
    uint64 last_serial;  /* of a label set */
    pg_atomic_uint64 version;
    DatabaseEntry databases[kMaxDatabases];
    JobEntry entries[FLEXIBLE_ARRAY_MEMBER];
};

SharedCounters *state = nullptr;
/* Of the labels of each entry, behind the entries in the same block of shared memory, close
 * together: a search reads these only. */
uint64 *hashes = nullptr;
shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;
JobEntry *own_other = nullptr;
DatabaseEntry *own_database = nullptr;
bool own_database_known = false;

int entry_count()
{
    return guc::metrics_max_label_sets + kMaxDatabases;
}

Size state_size()
{
    return add_size(offsetof(SharedCounters, entries),
                    mul_size(entry_count(), sizeof(JobEntry) + sizeof(uint64)));
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
    hashes = reinterpret_cast<uint64 *>(state->entries + entry_count());
    if (!found) {
        memset(static_cast<void *>(state), 0, state_size());
        state->lock = &GetNamedLWLockTranche(kName)->lock;
        state->entry_count = entry_count();
        state->label_set_count = guc::metrics_max_label_sets;
        for (DatabaseEntry &entry : state->databases)
            for (pg_atomic_uint64 &value : entry.counters.values)
                pg_atomic_init_u64(&value, 0);
        pg_atomic_init_u64(&state->version, 0);
        for (int i = 0; i < state->entry_count; i++) {
            JobCounters &counters = state->entries[i].counters;
            pg_atomic_init_u64(&counters.occupancy, 0);
            pg_atomic_init_u64(&counters.last_used, 0);
            for (pg_atomic_uint64 &value : counters.values)
                pg_atomic_init_u64(&value, 0);
        }
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

uint64 hash_text(std::string_view text, uint64 seed)
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text.data()),
                               static_cast<int>(text.size()), seed);
}

uint64 hash_labels(Oid database, const LabelSet &labels)
{
    return hash_text(labels.task, hash_text(labels.queue, hash_text(labels.band, database)));
}

void copy_name(char *target, std::size_t size, std::string_view source)
{
    memcpy(target, source.data(), Min(source.size(), size - 1));
    target[Min(source.size(), size - 1)] = '\0';
}

bool is_other(const LabelSet &labels)
{
    return labels.task == kOther && labels.queue == kOther && labels.band == kOther;
}

bool is_other(const JobEntry &entry)
{
    return is_other(LabelSet{entry.task, entry.queue, entry.band});
}

/* --- The functions of this part are called with the lock held; those that change places, alone.
 * --- */

JobEntry *find_entry(Oid database, const LabelSet &labels, uint64 hash)
{
    for (int i = 0; i < state->end; i++) {
        JobEntry &entry = state->entries[i];
        if (hashes[i] == hash && entry.database == database && labels.task == entry.task &&
            labels.queue == entry.queue && labels.band == entry.band)
            return &entry;
    }
    return nullptr;
}

bool has_room_for(const LabelSet &labels)
{
    return is_other(labels) || state->used < state->label_set_count;
}

/* A free place, or null. */
JobEntry *make_entry(Oid database, const LabelSet &labels, uint64 hash)
{
    if (!has_room_for(labels))
        return nullptr;
    int place = 0;
    while (place < state->end && OidIsValid(state->entries[place].database))
        place++;
    if (place == state->entry_count)
        return nullptr;
    JobEntry &entry = state->entries[place];
    copy_name(entry.task, sizeof(entry.task), labels.task);
    copy_name(entry.queue, sizeof(entry.queue), labels.queue);
    copy_name(entry.band, sizeof(entry.band), labels.band);
    entry.database = database;
    hashes[place] = hash;
    /* Processes that still know the place as another's come meanwhile, and see that it is not. */
    pg_atomic_uint64 &occupancy = entry.counters.occupancy;
    const uint64 old_serial = pg_atomic_read_u64(&occupancy) >> kUserBits;
    pg_atomic_fetch_add_u64(&occupancy,
                            static_cast<int64>((++state->last_serial - old_serial) << kUserBits));
    pg_atomic_write_u64(&entry.counters.last_used, static_cast<uint64>(GetCurrentTimestamp()));
    state->end = Max(state->end, place + 1);
    state->used += is_other(labels) ? 0 : 1;
    return &entry;
}

JobEntry *find_or_make_other(Oid database)
{
    const LabelSet other{kOther, kOther, kOther};
    const uint64 hash = hash_labels(database, other);
    JobEntry *entry = find_entry(database, other, hash);
    return entry != nullptr ? entry : make_entry(database, other, hash);
}

/* From here on no process adds to it for its label set. False: one does so right now. */
bool end_occupancy(JobEntry &entry)
{
    uint64 idle = pg_atomic_read_u64(&entry.counters.occupancy) >> kUserBits << kUserBits;
    if (!pg_atomic_compare_exchange_u64(&entry.counters.occupancy, &idle,
                                        (state->last_serial + 1) << kUserBits))
        return false;
    state->last_serial++;
    return true;
}

void free_place(JobEntry &entry)
{
    state->used -= is_other(entry) ? 0 : 1;
    entry.database = InvalidOid;
    hashes[&entry - state->entries] = 0;
    clear_all(entry.counters.values);
    pg_atomic_fetch_add_u64(&state->version, 1);
}

/* Moves what it has counted to "other", and frees its place. */
bool evict(JobEntry &entry)
{
    JobEntry *other = find_or_make_other(entry.database);
    if (other == nullptr || !end_occupancy(entry))
        return false;
    for (int i = 0; i < kJobCounterCount; i++)
        pg_atomic_fetch_add_u64(&other->counters.values[i],
                                static_cast<int64>(pg_atomic_read_u64(&entry.counters.values[i])));
    free_place(entry);
    return true;
}

JobEntry *least_recently_used(Oid database)
{
    JobEntry *oldest = nullptr;
    for (int i = 0; i < state->end; i++) {
        JobEntry &entry = state->entries[i];
        if (entry.database == database && !is_other(entry) &&
            (oldest == nullptr || pg_atomic_read_u64(&entry.counters.last_used) <
                                      pg_atomic_read_u64(&oldest->counters.last_used)))
            oldest = &entry;
    }
    return oldest;
}

/* Makes room for a label set of this database. */
bool make_room(TimestampTz now)
{
    std::map<Oid, int> places{{MyDatabaseId, 0}};
    for (int i = 0; i < state->end; i++)
        if (OidIsValid(state->entries[i].database) && !is_other(state->entries[i]))
            places[state->entries[i].database]++;
    const auto most =
        std::max_element(places.begin(), places.end(), [](const auto &left, const auto &right) {
            return left.second < right.second;
        });
    /* The others have more than their share then, one of them at least. */
    const bool has_less =
        places[MyDatabaseId] < state->label_set_count / static_cast<int>(places.size());
    JobEntry *entry = least_recently_used(has_less ? most->first : MyDatabaseId);
    if (entry == nullptr)
        return false;
    const int64 idle_us = guc::metrics_idle_time * INT64CONST(1000);
    const auto last_used = static_cast<TimestampTz>(pg_atomic_read_u64(&entry->counters.last_used));
    return (has_less || now - last_used >= idle_us) && evict(*entry);
}

JobCountersRef ref_to(JobEntry *entry)
{
    if (entry == nullptr)
        return {};
    return {&entry->counters, pg_atomic_read_u64(&entry->counters.occupancy) >> kUserBits,
            is_other(*entry)};
}

/* --- Until here. --- */

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
    const uint64 hash = hash_labels(MyDatabaseId, labels);
    DatabaseEntry *own = find_own_database();
    const TimestampTz now = GetCurrentTimestamp();
    {
        CountersLock lock(LW_SHARED);
        if (JobEntry *entry = find_entry(MyDatabaseId, labels, hash))
            return ref_to(entry);
        if (!has_room_for(labels) && (own == nullptr || now < own->full_until))
            return {};
    }
    CountersLock lock(LW_EXCLUSIVE);
    if (JobEntry *entry = find_entry(MyDatabaseId, labels, hash))
        return ref_to(entry);
    if (!has_room_for(labels) && own != nullptr && now >= own->full_until && !make_room(now))
        own->full_until = now + Min(kLongestPauseUs, guc::metrics_idle_time * INT64CONST(1000));
    return ref_to(make_entry(MyDatabaseId, labels, hash));
}

/* That of this database. It keeps its place as long as the database exists. */
JobEntry *find_other()
{
    if (own_other == nullptr) {
        CountersLock lock(LW_EXCLUSIVE);
        own_other = find_or_make_other(MyDatabaseId);
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
    for (int i = 0; i < state->end; i++) {
        JobEntry &entry = state->entries[i];
        if (entry.database == MyDatabaseId && !is_other(entry) && condition(entry))
            (void) evict(entry);
    }
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
    if (labels.task.size() <= kMaxName && labels.queue.size() <= kMaxName)
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
        if (JobEntry *other = find_other())
            add_all(other->counters, counts);
}

uint64 places_version()
{
    return pg_atomic_read_u64(&state->version);
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
    for (int i = 0; i < state->end; i++) {
        JobEntry &entry = state->entries[i];
        if (entry.database != MyDatabaseId)
            continue;
        JobCountersCopy &copy = copies.emplace_back();
        copy.task = entry.task;
        copy.queue = entry.queue;
        copy.band = entry.band;
        read_all(entry.counters.values, copy.values);
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
    const LabelSet other{kOther, kOther, kOther};
    return !has_room_for({}) &&
           find_entry(MyDatabaseId, other, hash_labels(MyDatabaseId, other)) != nullptr;
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
    for (int i = 0; i < state->end; i++)
        if (state->entries[i].database == database)
            free_place(state->entries[i]);
}

void forget_task(std::string_view task)
{
    forget_if([&](const JobEntry &entry) { return task == entry.task; });
}

void forget_queue(std::string_view queue)
{
    forget_if([&](const JobEntry &entry) { return queue == entry.queue; });
}

} // namespace backfill::stats
