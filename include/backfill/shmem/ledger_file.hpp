/* ledger_file.hpp - the file that the ledger of runs (run_ledger.hpp) is mapped from, and its
 * format.
 *
 * The file belongs to this server and this boot of the machine: it is in pg_stat_tmp, which
 * base backups and pg_rewind leave out, and names the system, the boot, and its own inode, so
 * that a copy is not believed. An entry names the timeline, so that nothing of before a promotion
 * or a recovery is charged, and the job as it was (when created, how many attempts): so the same
 * run is never charged twice, nor another job that got its id. */
#pragma once

#include "backfill/shmem/set_aside_entry.hpp"

namespace backfill::bgworker::ledger
{

/* One run of a job. */
struct Run {
    Oid database;
    int16 attempts; /* those before this run */
    int16 free_retries;
    int64 job_id; /* 0: none */
    TimestampTz created_at;
    TimestampTz started_at;
};

enum class EntryState : uint32 {
    kFree,
    kOwned,   /* an executor's */
    kCharge,  /* its executor ended while it ran the job */
    kSuspect, /* it ran when the postmaster was killed with all its processes */
    kTrying,  /* a dispatcher's */
    kDeadly,  /* what a dispatcher was trying when it ended */
};

/* How an executor ended, as far as it could say so itself. */
enum class End : uint32 {
    kCrash,   /* without a word, or by `signal` */
    kExit,    /* a FATAL error or a call of exit() */
    kItself,  /* it sent the signal to itself: pg_terminate_backend(pg_backend_pid()) */
    kOverrun, /* its job went on after its time limit, whatever was tried */
    kWithAll, /* the postmaster was killed with it, and not for the first time */
};

/* What a dispatcher tries, as set_aside.hpp names it. */
struct Deed {
    set_aside::Kind kind; /* kNone: nothing */
    int deaths;           /* how often it has ended a dispatcher */
    int64 id;
    TimestampTz not_before; /* when to try it again at the earliest */
};

/* Whole cache lines, because each executor writes its own all the time. */
struct Entry {
    EntryState state;
    End end;
    int signal; /* that ended it; 0: unknown */
    int pid;
    TimeLineID timeline;
    int crashed_pid; /* the process that `signal` ended: the executor or a parallel worker of it */
    Run run;
    Deed deed;         /* a dispatcher's; of `run` it has the database only */
    char message[176]; /* of the FATAL error */
};
static_assert(sizeof(Entry) % PG_CACHE_LINE_SIZE == 0);

struct Header {
    uint64 magic;
    uint64 system_identifier;
    uint64 device;
    uint64 inode;
    char boot_id[40];
    uint32 entry_size;
    uint32 entry_count;
    /* How many entries are charges, or deadly. */
    pg_atomic_uint32 charges;
    pg_atomic_uint32 deadly;
    /* The postmaster was not killed. */
    bool ended_in_order;
};

/* The file as it is mapped; null: there is none. */
struct MappedFile {
    Header *header;
    Entry *entries;
};

/* Makes the file anew, with the entries that the old one had if it is this server's, and maps it.
 * If the last postmaster was killed, that which ran then is suspect, and what was suspect before
 * becomes a charge. In the postmaster, by ledger::init(). Raises nothing but a lack of memory. */
MappedFile open_file();

} // namespace backfill::bgworker::ledger
