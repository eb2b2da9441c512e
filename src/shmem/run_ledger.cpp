/* run_ledger.cpp - see run_ledger.hpp. */
#include "backfill/shmem/run_ledger.hpp"

#include "backfill/pg/guard.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/fd.h"
#include "storage/pmsignal.h"
}

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace backfill::bgworker::ledger
{

namespace
{

constexpr char kPath[] = PG_STAT_TMP_DIR "/backfill_running.dat";
constexpr char kNewPath[] = PG_STAT_TMP_DIR "/backfill_running.dat.new";
constexpr uint64 kMagic = 0x6261636b66696c04; /* "backfil", version 4 */
constexpr Size kHeaderSize = PG_CACHE_LINE_SIZE * 2;
static_assert(sizeof(Header) <= kHeaderSize);
/* Charges that are not settled yet take entries, too. */
constexpr int kEntriesPerWorker = 4;
constexpr uint32 kMaxEntries = 1000000;
/* How long a charge waits that has ended the dispatcher, which may have been a crash of the server:
 * kFirstChargePauseUs after the second time, and a multiple of that after each further one. */
constexpr int64 kFirstChargePauseUs = 10 * USECS_PER_SEC;
constexpr int64 kLongestChargePauseUs = USECS_PER_HOUR;
constexpr int kChargePauseFactor = 6;

/* What is used where there is no ledger. */
Entry no_entry;
Header no_header;

/* This process's view of the file; null: no ledger. */
Entry *entries = nullptr;

emit_log_hook_type previous_log_hook = nullptr;

uint32 entry_count()
{
    return header->entry_count;
}

Size file_size(uint32 count)
{
    return kHeaderSize + count * sizeof(Entry);
}

bool is_charge_of(const Entry &entry, const Run &run)
{
    return entry.state == EntryState::kCharge && entry.run.job_id == run.job_id &&
           entry.run.database == run.database && entry.run.created_at == run.created_at &&
           entry.run.attempts == run.attempts && entry.run.free_retries == run.free_retries;
}

/* Whatever the attempt. */
bool is_same_job(const Run &a, const Run &b)
{
    return a.job_id == b.job_id && a.database == b.database && a.created_at == b.created_at;
}

/* --- The file, in the postmaster ----------------------------------------------------------- */

/* The boot of the machine, or nothing where it cannot be told: after a crash of the machine the
 * file is whatever was written of it. */
void read_boot_id(char *buffer, int size)
{
    memset(buffer, 0, static_cast<Size>(size));
    const int file = OpenTransientFile("/proc/sys/kernel/random/boot_id", O_RDONLY);
    if (file < 0)
        return;
    const ssize_t length = read(file, buffer, static_cast<Size>(size - 1));
    (void) CloseTransientFile(file);
    if (length < 0)
        memset(buffer, 0, static_cast<Size>(size));
}

/* The header that a file with this status has if it is ours. */
Header header_for(const struct stat &status, uint32 count)
{
    Header expected;
    memset(static_cast<void *>(&expected), 0, sizeof(expected));
    expected.magic = kMagic;
    expected.system_identifier = GetSystemIdentifier();
    expected.device = static_cast<uint64>(status.st_dev);
    expected.inode = static_cast<uint64>(status.st_ino);
    read_boot_id(expected.boot_id, sizeof(expected.boot_id));
    expected.entry_size = sizeof(Entry);
    expected.entry_count = count;
    return expected;
}

/* Copies the entries of the file into `copy`, as many as fit; returns how many. None if there
 * is no file, or it is not this server's. Says whether the last postmaster was killed. */
uint32 read_file(Entry *copy, uint32 limit, bool &was_killed)
{
    uint32 found = 0;
    struct stat status;
    Header stored;
    Entry entry;
    const int file = OpenTransientFile(kPath, O_RDONLY | PG_BINARY);
    if (file < 0)
        return 0;
    if (fstat(file, &status) == 0 &&
        read(file, &stored, sizeof(stored)) == static_cast<ssize_t>(sizeof(stored)) &&
        stored.entry_count <= kMaxEntries) {
        Header expected = header_for(status, stored.entry_count);
        if (memcmp(&stored, &expected, offsetof(Header, charges)) == 0 &&
            lseek(file, kHeaderSize, SEEK_SET) == static_cast<off_t>(kHeaderSize)) {
            was_killed = !stored.ended_in_order;
            while (found < limit &&
                   read(file, &entry, sizeof(entry)) == static_cast<ssize_t>(sizeof(entry)))
                if (entry.state != EntryState::kFree)
                    copy[found++] = entry;
        }
    }
    (void) CloseTransientFile(file);
    return found;
}

/* Makes the file anew with these entries and maps it; false if that cannot be done. The blocks
 * are written, so that no store into them can find the disk full. */
bool make_file(const Entry *initial, uint32 count)
{
    struct stat status;
    void *memory = MAP_FAILED;
    (void) unlink(kNewPath);
    const int file = OpenTransientFile(kNewPath, O_RDWR | O_CREAT | O_EXCL | PG_BINARY);
    if (file < 0)
        return false;
    if (fstat(file, &status) == 0) {
        char start[kHeaderSize];
        memset(start, 0, sizeof(start));
        const Header made = header_for(status, count);
        memcpy(start, &made, sizeof(made));
        const ssize_t body = static_cast<ssize_t>(count * sizeof(Entry));
        if (write(file, start, sizeof(start)) == static_cast<ssize_t>(sizeof(start)) &&
            write(file, initial, static_cast<Size>(body)) == body && rename(kNewPath, kPath) == 0)
            memory = mmap(nullptr, file_size(count), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    const int saved_errno = errno;
    (void) CloseTransientFile(file);
    errno = saved_errno;
    if (memory == MAP_FAILED)
        return false;
    header = static_cast<Header *>(memory);
    entries = reinterpret_cast<Entry *>(static_cast<char *>(memory) + kHeaderSize);
    return true;
}

bool was_suspect(const Entry *all, uint32 count, const Run &run)
{
    for (uint32 i = 0; i < count; i++)
        if (all[i].state == EntryState::kSuspect && is_same_job(all[i].run, run))
            return true;
    return false;
}

/* The postmaster was killed, and what executors have not cleared ran then. What was suspect before
 * and has not run this time is not any more. */
void judge(Entry *all, uint32 count)
{
    for (uint32 i = 0; i < count; i++) {
        Entry &entry = all[i];
        if (entry.state != EntryState::kOwned || entry.run.job_id == 0 || entry.signal != 0 ||
            !was_suspect(all, count, entry.run))
            continue;
        entry.end = End::kWithAll;
        entry.state = EntryState::kCharge;
    }
    for (uint32 i = 0; i < count; i++) {
        Entry &entry = all[i];
        if (entry.state == EntryState::kSuspect)
            entry.state = EntryState::kFree;
        else if (entry.state == EntryState::kOwned && entry.signal == 0)
            entry.state = entry.run.job_id != 0 ? EntryState::kSuspect : EntryState::kFree;
    }
}

void on_postmaster_exit(int, Datum) noexcept
{
    if (MyProcPid == PostmasterPid)
        header->ended_in_order = true;
}

void open_file()
{
    const auto count =
        Max(static_cast<uint32>(max_worker_processes) * kEntriesPerWorker, uint32{64});
    auto *const initial = static_cast<Entry *>(palloc0(count * sizeof(Entry)));
    bool was_killed = false;
    const uint32 found = read_file(initial, count, was_killed);
    if (was_killed)
        judge(initial, found);
    if (make_file(initial, count))
        on_proc_exit(on_postmaster_exit, static_cast<Datum>(0));
    else
        ereport(LOG, (errcode_for_file_access(), errmsg("could not create file \"%s\": %m", kPath),
                      errdetail("A job that crashes the server is not charged for it.")));
    pfree(initial);
}

/* What its executor has not cleared is a charge. */
void convert_entries()
{
    uint32 charge_count = 0;
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (entry.state == EntryState::kOwned) {
            entry.end = End::kCrash;
            entry.state = entry.run.job_id != 0 ? EntryState::kCharge : EntryState::kFree;
        }
        charge_count += entry.state == EntryState::kCharge ? 1 : 0;
    }
    pg_atomic_init_u32(&header->charges, charge_count);
}

/* --- An executor's entry ------------------------------------------------------------------- */

/* A free one; else one that is only suspect; else the oldest charge, whose database may be gone. */
Entry *find_place(const SharedLock &)
{
    Entry *oldest = nullptr;
    Entry *suspect = nullptr;
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (entry.state == EntryState::kFree)
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
    if (entry.state == EntryState::kCharge)
        (void) pg_atomic_fetch_sub_u32(&header->charges, 1);
    entry.state = state;
    if (state == EntryState::kCharge)
        (void) pg_atomic_fetch_add_u32(&header->charges, 1);
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
bool take_place() noexcept
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
    place->state = EntryState::kOwned;
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

/* Whether the process ends although its job has nothing to do with it. */
bool is_innocent() noexcept
{
    return terminator() == Terminator::kOther || !PostmasterIsAlive();
}

/* Runs before the transaction is aborted: no session gets the job before the charge is there. */
void on_exit(int, Datum) noexcept
{
    Entry &entry = *mine;
    mine = &no_entry;
    const SharedLock lock;
    if (entry.run.job_id == 0 || is_innocent()) {
        set_state(lock, entry, EntryState::kFree);
        return;
    }
    if (entry.end != End::kOverrun)
        entry.end = terminator() == Terminator::kItself ? End::kItself : End::kExit;
    set_state(lock, entry, EntryState::kCharge);
}

} // namespace

Entry *mine = &no_entry;
Header *header = &no_header;

void init()
{
    /* In single-user mode there are no executors. */
    if (IsUnderPostmaster || !IsPostmasterEnvironment)
        return;
    if (entries == nullptr)
        open_file();
    if (entries != nullptr)
        convert_entries();
}

void open_entry()
{
    if (!take_place())
        return;
    before_shmem_exit(on_exit, static_cast<Datum>(0));
    previous_log_hook = emit_log_hook;
    emit_log_hook = on_log;
    install_signal_handlers();
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

namespace
{

int64 charge_pause(int begun) noexcept
{
    if (begun < kMaxChargesBegun)
        return 0;
    int64 pause = kFirstChargePauseUs;
    for (int i = kMaxChargesBegun; i < begun && pause < kLongestChargePauseUs; i++)
        pause *= kChargePauseFactor;
    return Min(pause, kLongestChargePauseUs);
}

} // namespace

void begin_charging(const Entry &charge) noexcept
{
    const TimestampTz now = GetCurrentTimestamp();
    const SharedLock lock;
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (!is_charge_of(entry, charge.run))
            continue;
        entry.charge_begun++;
        entry.charge_not_before = now + charge_pause(entry.charge_begun);
    }
}

void end_charging(const Entry &charge) noexcept
{
    const SharedLock lock;
    for (uint32 i = 0; i < entry_count(); i++) {
        Entry &entry = entries[i];
        if (!is_charge_of(entry, charge.run))
            continue;
        entry.charge_begun = 0;
        entry.charge_not_before = 0;
    }
}

} // namespace backfill::bgworker::ledger
