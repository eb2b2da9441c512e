/* ledger_file.cpp - see ledger_file.hpp. */
#include "backfill/shmem/ledger_file.hpp"

extern "C" {
#include "access/xlog.h"
#include "storage/fd.h"
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
constexpr uint64 kMagic = 0x6261636b66696c05; /* "backfil", version 5 */
constexpr Size kHeaderSize = PG_CACHE_LINE_SIZE * 2;
static_assert(sizeof(Header) <= kHeaderSize);
/* Charges that are not settled yet take entries, too. */
constexpr int kEntriesPerWorker = 4;
constexpr uint32 kMaxEntries = 1000000;

Size file_size(uint32 count)
{
    return kHeaderSize + count * sizeof(Entry);
}

/* Whatever the attempt. */
bool is_same_job(const Run &a, const Run &b)
{
    return a.job_id == b.job_id && a.database == b.database && a.created_at == b.created_at;
}

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

/* Makes the file anew with these entries and maps it; null if that cannot be done. The blocks
 * are written, so that no store into them can find the disk full. */
MappedFile make_file(const Entry *initial, uint32 count)
{
    struct stat status;
    void *memory = MAP_FAILED;
    (void) unlink(kNewPath);
    const int file = OpenTransientFile(kNewPath, O_RDWR | O_CREAT | O_EXCL | PG_BINARY);
    if (file < 0)
        return {nullptr, nullptr};
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
        return {nullptr, nullptr};
    return {static_cast<Header *>(memory),
            reinterpret_cast<Entry *>(static_cast<char *>(memory) + kHeaderSize)};
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
        else if (entry.state == EntryState::kTrying && entry.signal == 0)
            entry.state = EntryState::kFree;
        else if (entry.state == EntryState::kOwned && entry.signal == 0)
            entry.state = entry.run.job_id != 0 ? EntryState::kSuspect : EntryState::kFree;
    }
}

void on_postmaster_exit(int, Datum header) noexcept
{
    if (MyProcPid == PostmasterPid)
        reinterpret_cast<Header *>(DatumGetPointer(header))->ended_in_order = true;
}

} // namespace

MappedFile open_file()
{
    const auto count =
        Max(static_cast<uint32>(max_worker_processes) * kEntriesPerWorker, uint32{64});
    auto *const initial = static_cast<Entry *>(palloc0(count * sizeof(Entry)));
    bool was_killed = false;
    const uint32 found = read_file(initial, count, was_killed);
    if (was_killed)
        judge(initial, found);
    const MappedFile made = make_file(initial, count);
    if (made.header != nullptr)
        on_proc_exit(on_postmaster_exit, PointerGetDatum(made.header));
    else
        ereport(LOG, (errcode_for_file_access(), errmsg("could not create file \"%s\": %m", kPath),
                      errdetail("A job that crashes the server is not charged for it.")));
    pfree(initial);
    return made;
}

} // namespace backfill::bgworker::ledger
