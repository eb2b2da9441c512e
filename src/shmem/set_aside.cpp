/* set_aside.cpp - see set_aside.hpp. */
#include "backfill/shmem/set_aside.hpp"

#include "backfill/core/sqlstates.hpp"
#include "backfill/pg/datum.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker::set_aside
{

namespace
{

/* The process that has to try a thing again may be busy for a while; after this time none will. */
constexpr int64 kForgottenUs = 300 * USECS_PER_SEC;

pg_atomic_uint32 *count() noexcept
{
    return &lock_free_state().set_aside_count;
}

void free_entry(Entry &entry) noexcept
{
    entry.kind = Kind::kNone;
    (void) pg_atomic_fetch_sub_u32(count(), 1);
}

/* What had to make room for another entry. */
struct LostEntry {
    Kind kind;
    int64 id;
};

/* Either lock does. */
template <class Lock> auto find_entry(const Lock &lock, Kind kind, int64 id) noexcept
{
    for (auto &entry : lock->set_aside)
        if (entry.kind == kind && entry.id == id && entry.database == MyDatabaseId)
            return &entry;
    return static_cast<decltype(&lock->set_aside[0])>(nullptr);
}

void give_back_forgotten(const SharedLock &lock, TimestampTz now) noexcept
{
    for (Entry &entry : lock->set_aside)
        if (entry.kind != Kind::kNone && now - entry.retry_at > kForgottenUs)
            free_entry(entry);
}

/* A free entry, or, if there is none, the one that will be tried again soonest: that one loses
 * least when it is forgotten. */
Entry &take_entry(const SharedLock &lock, bool &evicted) noexcept
{
    Entry *soonest = nullptr;
    for (Entry &entry : lock->set_aside) {
        if (entry.kind == Kind::kNone) {
            (void) pg_atomic_fetch_add_u32(count(), 1);
            return entry;
        }
        if (soonest == nullptr || entry.retry_at < soonest->retry_at)
            soonest = &entry;
    }
    evicted = true;
    return *soonest;
}

int64 delay_after(int failures) noexcept
{
    int64 delay = kFirstDelayUs;
    for (int i = 1; i < failures && delay < kLongestDelayUs; i++)
        delay *= 2;
    return Min(delay, kLongestDelayUs);
}

void copy_text(char *to, std::size_t size, std::string_view from) noexcept
{
    memcpy(to, from.data(), Min(from.size(), size - 1));
    to[Min(from.size(), size - 1)] = '\0';
}

/* Takes the lock. Returns when to try again, and in `lost` what had to make room. */
TimestampTz note(Kind kind, int64 id, std::string_view name, std::string_view sqlstate,
                 std::string_view message, TimestampTz not_before,
                 std::optional<LostEntry> &lost) noexcept
{
    const TimestampTz now = GetCurrentTimestamp();
    const SharedLock lock;
    Entry *entry = find_entry(lock, kind, id);
    if (entry == nullptr) {
        bool evicted = false;
        give_back_forgotten(lock, now);
        entry = &take_entry(lock, evicted);
        if (evicted)
            lost = LostEntry{entry->kind, entry->id};
        *entry = Entry{};
        entry->kind = kind;
        entry->database = MyDatabaseId;
        entry->id = id;
        entry->since = now;
    }
    entry->failures++;
    entry->retry_at = Max(now + delay_after(entry->failures), not_before);
    copy_text(entry->name, sizeof(entry->name), name);
    copy_text(entry->sqlstate, sizeof(entry->sqlstate), sqlstate);
    copy_text(entry->message, sizeof(entry->message), message);
    return entry->retry_at;
}

} // namespace

const char *kind_name(Kind kind)
{
    switch (kind) {
    case Kind::kJob:
        return "job";
    case Kind::kLease:
        return "lease";
    case Kind::kClaim:
        return "claim";
    case Kind::kCharge:
        return "charge";
    case Kind::kSchedule:
        return "schedule";
    case Kind::kLetter:
        return "letter";
    case Kind::kOldLetter:
        return "old letter";
    case Kind::kQueue:
        return "queue";
    default:
        return "step";
    }
}

TimestampTz note_failure(Kind kind, int64 id, std::string_view name, const core::ErrorInfo &error,
                         TimestampTz not_before)
{
    if (!available())
        return Max(GetCurrentTimestamp() + kFirstDelayUs, not_before);
    std::optional<LostEntry> lost;
    const TimestampTz retry_at =
        note(kind, id, pg::clipped(name, kMaxName - 1), error.sqlstate,
             pg::clipped(error.message, kMaxMessage - 1), not_before, lost);
    if (lost)
        pg::call([&] {
            ereport(LOG,
                    (errmsg("backfill has set aside more than %d things that failed", kMaxEntries),
                     errdetail("%s %lld is tried again at once.", kind_name(lost->kind),
                               static_cast<long long>(lost->id)),
                     errhint("The function backfill.health() shows what is set aside.")));
        });
    return retry_at;
}

void note_termination(int64 job_id, const char *task, const char *message) noexcept
{
    std::optional<LostEntry> lost;
    if (available())
        (void) note(Kind::kJob, job_id, task, core::sqlstate::kAdminShutdown, message, 0, lost);
}

void retry_all() noexcept
{
    if (is_empty())
        return;
    const TimestampTz now = GetCurrentTimestamp();
    const SharedLock lock;
    for (Entry &entry : lock->set_aside)
        if (entry.kind != Kind::kNone && entry.database == MyDatabaseId)
            entry.retry_at = Min(entry.retry_at, now);
}

void forget_database(Oid database) noexcept
{
    if (is_empty())
        return;
    const SharedLock lock;
    for (Entry &entry : lock->set_aside)
        if (entry.kind != Kind::kNone && entry.database == database)
            free_entry(entry);
}

bool is_empty() noexcept
{
    return !available() || pg_atomic_read_u32(count()) == 0;
}

bool is_set_aside(Kind kind, int64 id) noexcept
{
    if (is_empty())
        return false;
    const TimestampTz now = GetCurrentTimestamp();
    const SharedReadLock lock;
    const Entry *entry = find_entry(lock, kind, id);
    return entry != nullptr && entry->retry_at > now;
}

void clear(Kind kind, int64 id) noexcept
{
    if (is_empty())
        return;
    const SharedLock lock;
    if (Entry *entry = find_entry(lock, kind, id))
        free_entry(*entry);
}

TimestampTz next_retry(Kind kind) noexcept
{
    if (is_empty())
        return 0;
    TimestampTz next = 0;
    const TimestampTz now = GetCurrentTimestamp();
    const SharedReadLock lock;
    for (const Entry &entry : lock->set_aside)
        if (entry.kind == kind && entry.database == MyDatabaseId && entry.retry_at > now &&
            (next == 0 || entry.retry_at < next))
            next = entry.retry_at;
    return next;
}

std::optional<Entry> find(Kind kind, int64 id)
{
    if (is_empty())
        return std::nullopt;
    const SharedReadLock lock;
    const Entry *entry = find_entry(lock, kind, id);
    return entry == nullptr ? std::nullopt : std::optional(*entry);
}

std::vector<Entry> copy_entries()
{
    std::vector<Entry> entries;
    if (is_empty())
        return entries;
    entries.reserve(kMaxEntries); /* so that nothing is allocated under the lock */
    const SharedReadLock lock;
    for (const Entry &entry : lock->set_aside)
        if (entry.kind != Kind::kNone && entry.database == MyDatabaseId)
            entries.push_back(entry);
    return entries;
}

} // namespace backfill::bgworker::set_aside
