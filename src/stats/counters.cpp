/* counters.cpp - see counters.hpp. */
#include "backfill/stats/counters.hpp"

#include "backfill/bgworker/shared_state.hpp"
#include "backfill/guc.hpp"

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
/* Each database may need one place more than there are, for its label set "other". */
constexpr int kMaxDatabases = bgworker::kMaxDatabases;

struct JobEntry {
    Oid database; /* InvalidOid: free */
    char task[kMaxName + 1];
    char queue[kMaxName + 1];
    char band[16];
    JobCounters counters;
};

struct DatabaseEntry {
    Oid database; /* InvalidOid: free */
    DatabaseCounters counters;
};

struct SharedCounters {
    LWLock *lock;
    int entry_count;     /* how many places there are */
    int label_set_count; /* how many of them are for label sets other than "other" */
    int used;            /* by such label sets */
    int end;             /* no entry from here on was ever used */
    DatabaseEntry databases[kMaxDatabases];
    JobEntry entries[FLEXIBLE_ARRAY_MEMBER];
};

SharedCounters *state = nullptr;
/* Of the labels of each entry, behind the entries in the same block of shared memory, close
 * together: whoever searches reads these only. */
uint64 *hashes = nullptr;
shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;
JobCounters *own_other = nullptr;
DatabaseCounters *own_database = nullptr;
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
        for (int i = 0; i < state->entry_count; i++)
            for (pg_atomic_uint64 &value : state->entries[i].counters.values)
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

uint64 hash_labels(const LabelSet &labels)
{
    return hash_text(labels.task, hash_text(labels.queue, hash_text(labels.band, MyDatabaseId)));
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

/* Caller holds the lock. */
JobEntry *find_entry(const LabelSet &labels, uint64 hash)
{
    for (int i = 0; i < state->end; i++) {
        JobEntry &entry = state->entries[i];
        if (hashes[i] == hash && entry.database == MyDatabaseId && labels.task == entry.task &&
            labels.queue == entry.queue && labels.band == entry.band)
            return &entry;
    }
    return nullptr;
}

bool has_room_for(const LabelSet &labels)
{
    return is_other(labels) || state->used < state->label_set_count;
}

/* A free place, or null. Caller holds the lock alone. */
JobEntry *make_entry(const LabelSet &labels, uint64 hash)
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
    entry.database = MyDatabaseId;
    hashes[place] = hash;
    state->end = Max(state->end, place + 1);
    state->used += is_other(labels) ? 0 : 1;
    return &entry;
}

JobEntry *find_or_make_entry(const LabelSet &labels)
{
    const uint64 hash = hash_labels(labels);
    {
        CountersLock lock(LW_SHARED);
        if (JobEntry *entry = find_entry(labels, hash))
            return entry;
        if (!has_room_for(labels))
            return nullptr;
    }
    CountersLock lock(LW_EXCLUSIVE);
    if (JobEntry *entry = find_entry(labels, hash))
        return entry;
    return make_entry(labels, hash);
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

JobCounters *find_job_counters(const LabelSet &labels)
{
    JobEntry *entry = nullptr;
    if (labels.task.size() <= kMaxName && labels.queue.size() <= kMaxName)
        entry = find_or_make_entry(labels);
    if (entry != nullptr)
        return &entry->counters;
    if (own_other == nullptr) {
        entry = find_or_make_entry({kOther, kOther, kOther});
        own_other = entry == nullptr ? nullptr : &entry->counters;
    }
    return own_other;
}

DatabaseCounters *my_database_counters()
{
    if (own_database_known)
        return own_database;
    CountersLock lock(LW_EXCLUSIVE);
    DatabaseEntry *free_entry = nullptr;
    for (DatabaseEntry &entry : state->databases) {
        if (entry.database == MyDatabaseId)
            own_database = &entry.counters;
        else if (!OidIsValid(entry.database) && free_entry == nullptr)
            free_entry = &entry;
    }
    if (own_database == nullptr && free_entry != nullptr) {
        free_entry->database = MyDatabaseId;
        own_database = &free_entry->counters;
    }
    own_database_known = true;
    return own_database;
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

void forget_database(Oid database)
{
    CountersLock lock(LW_EXCLUSIVE);
    for (DatabaseEntry &entry : state->databases) {
        if (entry.database != database)
            continue;
        entry.database = InvalidOid;
        clear_all(entry.counters.values);
    }
    for (int i = 0; i < state->end; i++) {
        JobEntry &entry = state->entries[i];
        if (entry.database != database)
            continue;
        state->used -= is_other(entry) ? 0 : 1;
        entry.database = InvalidOid;
        hashes[i] = 0;
        clear_all(entry.counters.values);
    }
}

} // namespace backfill::stats
