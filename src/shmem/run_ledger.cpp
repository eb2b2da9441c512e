/* run_ledger.cpp - see run_ledger.hpp. */
#include "backfill/shmem/run_ledger.hpp"

#include "backfill/core/sqlstates.hpp"
#include "backfill/pg/guard.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/worker_slots.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/pmsignal.h"
}

namespace backfill::bgworker::ledger
{

namespace
{

/* How long something waits that has ended the dispatcher, which may have been a crash of the
 * server: kFirstPauseUs after the second time, and a multiple of that after each further one. */
constexpr int64 kFirstPauseUs = 10 * USECS_PER_SEC;
constexpr int64 kLongestPauseUs = USECS_PER_HOUR;
constexpr int kPauseFactor = 6;
/* After its pause it is tried soon; what has not been tried for this time is not there any more. */
constexpr int64 kForgottenUs = 2 * USECS_PER_HOUR;

/* What is used where there is no ledger. */
Entry no_entry;
Header no_header;

/* This process's view of the file; null: no ledger. */
Entry *entries = nullptr;

emit_log_hook_type previous_log_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

uint32 entry_count()
{
    return header->entry_count;
}

bool is_charge_of(const Entry &entry, const Run &run)
{
    return entry.state == EntryState::kCharge && entry.run.job_id == run.job_id &&
           entry.run.database == run.database && entry.run.created_at == run.created_at &&
           entry.run.attempts == run.attempts && entry.run.free_retries == run.free_retries;
}

/* Keeps the count of those of a state. Caller holds the lock, or is alone. */
void change_state(Entry &entry, EntryState state) noexcept
{
    if (entry.state == EntryState::kCharge)
        (void) pg_atomic_fetch_sub_u32(&header->charges, 1);
    if (entry.state == EntryState::kDeadly)
        (void) pg_atomic_fetch_sub_u32(&header->deadly, 1);
    entry.state = state;
    if (state == EntryState::kCharge)
        (void) pg_atomic_fetch_add_u32(&header->charges, 1);
    if (state == EntryState::kDeadly)
        (void) pg_atomic_fetch_add_u32(&header->deadly, 1);
}

Entry *find_deadly(Oid database, set_aside::Kind kind, int64 id) noexcept
{
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (entry.state == EntryState::kDeadly && entry.run.database == database &&
            entry.deed.kind == kind && entry.deed.id == id)
            return &entry;
    }
    return nullptr;
}

int64 pause_after(int deaths) noexcept
{
    if (deaths < 2)
        return 0;
    int64 pause = kFirstPauseUs;
    for (int i = 2; i < deaths && pause < kLongestPauseUs; i++)
        pause *= kPauseFactor;
    return Min(pause, kLongestPauseUs);
}

/* A dispatcher has ended in the middle of what its entry says. Caller holds the lock, or is alone.
 */
void note_death(Entry &entry) noexcept
{
    Entry *known = find_deadly(entry.run.database, entry.deed.kind, entry.deed.id);
    if (known == nullptr) {
        change_state(entry, EntryState::kDeadly);
        known = &entry;
    } else {
        known->signal = entry.signal;
        memcpy(known->message, entry.message, sizeof(known->message));
        change_state(entry, EntryState::kFree);
    }
    known->deed.deaths++;
    known->deed.not_before = GetCurrentTimestamp() + pause_after(known->deed.deaths);
}

/* What its executor has not cleared is a charge, what its dispatcher has not, is deadly. */
void convert_entries()
{
    uint32 charge_count = 0;
    uint32 deadly_count = 0;
    for (uint32 i = 0; i < entry_count(); i++) {
        charge_count += entries[i].state == EntryState::kCharge ? 1 : 0;
        deadly_count += entries[i].state == EntryState::kDeadly ? 1 : 0;
    }
    pg_atomic_init_u32(&header->charges, charge_count);
    pg_atomic_init_u32(&header->deadly, deadly_count);
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (entry.state == EntryState::kOwned) {
            entry.end = End::kCrash;
            change_state(entry, entry.run.job_id != 0 ? EntryState::kCharge : EntryState::kFree);
        } else if (entry.state == EntryState::kTrying) {
            if (entry.deed.kind != set_aside::Kind::kNone)
                note_death(entry);
            else
                change_state(entry, EntryState::kFree);
        }
    }
}

/* --- A process's entry ------------------------------------------------------------------- */

/* A free one; else one that is only suspect; else the oldest charge, whose database may be gone. */
Entry *find_place(const SharedLock &)
{
    Entry *oldest = nullptr;
    Entry *suspect = nullptr;
    const TimestampTz now = GetCurrentTimestamp();
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (entry.state == EntryState::kFree ||
            (entry.state == EntryState::kDeadly && now - entry.deed.not_before > kForgottenUs))
            return &entry;
        if (entry.state == EntryState::kSuspect)
            suspect = &entry;
        if (entry.state == EntryState::kCharge &&
            (oldest == nullptr || entry.run.started_at < oldest->run.started_at))
            oldest = &entry;
    }
    return suspect != nullptr ? suspect : oldest;
}

void set_state(const SharedLock &, Entry &entry, EntryState state) noexcept
{
    change_state(entry, state);
}

/* The entry of an executor, or the one that is never read. */
Entry *find_owned(int pid) noexcept
{
    const SharedReadLock lock;
    for (uint32 i = 0; i < entry_count(); i++)
        if (entries[i].state == EntryState::kOwned && entries[i].pid == pid)
            return &entries[i];
    return &no_entry;
}

/* Returns whether there was one. */
bool take_place(EntryState state) noexcept
{
    if (entries == nullptr)
        return false;
    const SharedLock lock;
    Entry *const place = find_place(lock);
    if (place == nullptr)
        return false;
    set_state(lock, *place, EntryState::kFree);
    memset(static_cast<void *>(place), 0, sizeof(*place));
    place->pid = MyProcPid;
    place->timeline = GetWALInsertionTimeLine();
    place->run.database = MyDatabaseId;
    place->state = state;
    mine = place;
    return true;
}

/* Keeps the message of a FATAL error: it becomes the reason. */
void on_log(ErrorData *error)
{
    if (error->elevel == FATAL && error->message != nullptr) {
        const int length = pg_mbcliplen(error->message, static_cast<int>(strlen(error->message)),
                                        sizeof(mine->message) - 1);
        memcpy(mine->message, error->message, static_cast<Size>(length));
        mine->message[length] = '\0';
    }
    if (previous_log_hook != nullptr)
        previous_log_hook(error);
}

/* Whether the process ends although what it does has nothing to do with it. */
bool is_innocent() noexcept
{
    return terminator() == Terminator::kOther || terminator() == Terminator::kPostmaster ||
           !PostmasterIsAlive();
}

/* Another session has ended the executor in the middle of a job. Once that is nothing; but there
 * are jobs that bring it about themselves, and sessions that do not stop. */
void set_job_aside(int64 job_id) noexcept
{
    char message[64];
    char task[kMaxTaskName];
    snprintf(message, sizeof(message), "process %d has terminated its executor",
             static_cast<int>(terminator_pid));
    strlcpy(task, lock_my_report()->task, sizeof(task));
    set_aside::note_termination(job_id, task, message);
}

/* Runs before the transaction is aborted: no session gets the job before the charge is there. */
void on_exit(int, Datum) noexcept
{
    Entry &entry = *mine;
    mine = &no_entry;
    if (entry.run.job_id != 0 && terminator() == Terminator::kOther && PostmasterIsAlive())
        set_job_aside(entry.run.job_id);
    const SharedLock lock;
    if (entry.run.job_id == 0 || is_innocent()) {
        set_state(lock, entry, EntryState::kFree);
        return;
    }
    if (entry.end != End::kOverrun)
        entry.end = terminator() == Terminator::kItself ? End::kItself : End::kExit;
    set_state(lock, entry, EntryState::kCharge);
}

void on_dispatcher_exit(int, Datum) noexcept
{
    Entry &entry = *mine;
    mine = &no_entry;
    const SharedLock lock;
    if (entry.deed.kind == set_aside::Kind::kNone || is_innocent())
        set_state(lock, entry, EntryState::kFree);
    else
        note_death(entry);
}

void install_watch(void (*on_its_exit)(int, Datum))
{
    before_shmem_exit(on_its_exit, static_cast<Datum>(0));
    previous_log_hook = emit_log_hook;
    emit_log_hook = on_log;
    install_signal_handlers();
}

/* When shared memory is made, also after a crash; no child of the postmaster is alive then. */
void start_ledger()
{
    if (previous_startup_hook != nullptr)
        previous_startup_hook();
    /* In single-user mode there are no executors. */
    if (IsUnderPostmaster || !IsPostmasterEnvironment)
        return;
    if (entries == nullptr) {
        const MappedFile file = open_file();
        if (file.entries == nullptr)
            return;
        header = file.header;
        entries = file.entries;
    }
    convert_entries();
}

} // namespace

Entry *mine = &no_entry;
Header *header = &no_header;

void init()
{
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = start_ledger;
}

void open_entry()
{
    if (take_place(EntryState::kOwned))
        install_watch(on_exit);
}

void open_dispatcher_entry()
{
    if (take_place(EntryState::kTrying))
        install_watch(on_dispatcher_exit);
}

void join_leader() noexcept
{
    if (entries == nullptr || mine != &no_entry || MyProc->lockGroupLeader == nullptr)
        return;
    mine = find_owned(MyProc->lockGroupLeader->pid);
    if (mine != &no_entry)
        install_crash_handlers();
}

bool find_charge(const Run &run) noexcept
{
    const SharedReadLock lock;
    for (uint32 i = 0; i < entry_count(); i++)
        if (is_charge_of(entries[i], run))
            return true;
    return false;
}

std::vector<Entry> charges()
{
    std::vector<Entry> found;
    if (pg_atomic_read_u32(&header->charges) == 0)
        return found;
    found.reserve(entry_count());
    const TimeLineID timeline = GetWALInsertionTimeLine();
    const SharedLock lock;
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (entry.state != EntryState::kCharge || entry.run.database != MyDatabaseId)
            continue;
        if (entry.timeline == timeline)
            found.push_back(entry);
        else
            set_state(lock, entry, EntryState::kFree);
    }
    return found;
}

void settle(const Entry &charge) noexcept
{
    const SharedLock lock;
    for (uint32 i = 0; i < entry_count(); i++)
        if (is_charge_of(entries[i], charge.run))
            set_state(lock, entries[i],
                      charge.end == End::kWithAll ? EntryState::kSuspect : EntryState::kFree);
}

std::vector<Entry> deadly()
{
    std::vector<Entry> found;
    if (pg_atomic_read_u32(&header->deadly) == 0)
        return found;
    found.reserve(entry_count());
    const SharedReadLock lock;
    for (uint32 i = 0; i < entry_count(); i++)
        if (entries[i].state == EntryState::kDeadly && entries[i].run.database == MyDatabaseId)
            found.push_back(entries[i]);
    return found;
}

core::ErrorInfo describe_deaths(const Entry &entry)
{
    const int deaths = entry.deed.deaths;
    std::string message = "this has ended the dispatcher" +
                          (deaths > 1 ? " " + std::to_string(deaths) + " times" : std::string());
    if (entry.deed.not_before > GetCurrentTimestamp())
        message += std::string(", and waits until ") +
                   pg::call([&] { return timestamptz_to_str(entry.deed.not_before); });
    return {core::sqlstate::kSystemError, message, entry.message, {}, {}};
}

void forget_deadly(set_aside::Kind kind, int64 id) noexcept
{
    const SharedLock lock;
    if (Entry *entry = find_deadly(MyDatabaseId, kind, id))
        set_state(lock, *entry, EntryState::kFree);
}

void end_pauses() noexcept
{
    const TimestampTz now = GetCurrentTimestamp();
    const SharedLock lock;
    for (uint32 i = 0; i < entry_count(); i++)
        if (entries[i].state == EntryState::kDeadly && entries[i].run.database == MyDatabaseId)
            entries[i].deed.not_before = Min(entries[i].deed.not_before, now);
}

} // namespace backfill::bgworker::ledger
