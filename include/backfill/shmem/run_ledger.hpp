/* run_ledger.hpp - which job each executor runs right now, kept where a crash of the server does
 * not reach it.
 *
 * A handler that ends the server, or its own process, aborts the transaction, and with it
 * the count of the attempt: the job would do it again for ever. So an executor writes down what it
 * runs in a file of the data directory that is mapped into memory (plain stores: the page
 * cache outlives the processes), and clears that when the job is over. What is still there
 * when the process is gone is a charge: the dispatcher counts it as a failed attempt
 * (settle/crash_charge.hpp).
 *
 * A crash in a parallel worker of a job's query is noted in the entry of its leader.
 *
 * Only the culprit is charged. An executor that is told to go clears its entry on the way
 * out: by SIGQUIT of the postmaster (another process has crashed, or the server stops at once), by
 * SIGTERM of any process but itself, or because the postmaster is gone.
 *
 * When the postmaster was killed together with the executors, as by an OOM killer that takes a
 * whole cgroup, all that ran is suspect, and only what ran the last time, too, is charged: a job
 * that takes everything down does it again, and the others are mostly done by then.
 *
 * The file belongs to this server and this boot of the machine: it is in pg_stat_tmp, which
 * base backups and pg_rewind leave out, and names the system, the boot, and its own inode, so
 * that a copy is not believed. An entry names the timeline, so that nothing of before a promotion
 * or a recovery is charged, and the job as it was (when created, how many attempts): so the same
 * run is never charged twice, nor another job that got its id.
 *
 * Without shared_preload_libraries, or if the file cannot be made, there is no ledger: the
 * functions do nothing. All but the hot ones take the LWLock of the shared state. */
#pragma once

#include "backfill/shmem/shared_state.hpp"

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
};

/* How an executor ended, as far as it could say so itself. */
enum class End : uint32 {
    kCrash,   /* without a word, or by `signal` */
    kExit,    /* a FATAL error or a call of exit() */
    kItself,  /* it sent the signal to itself: pg_terminate_backend(pg_backend_pid()) */
    kOverrun, /* its job went on after its time limit, whatever was tried */
    kWithAll, /* the postmaster was killed with it, and not for the first time */
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
    TimestampTz charge_not_before; /* when to charge it at the earliest */
    int charge_begun;              /* how often that was begun, and has ended the dispatcher */
    char message[188];             /* of the FATAL error */
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
    /* How many entries are charges. */
    pg_atomic_uint32 charges;
    /* The postmaster was not killed. */
    bool ended_in_order;
};

/* The calling process's entry, and the header; never null. For the inline functions below. */
extern Entry *mine;
extern Header *header;

/* Makes or finds the file, and turns what ran at the time of a crash into charges. In the
 * postmaster, when shared memory is made, also after a crash; no child is alive then. Raises
 * nothing but a lack of memory. */
void init();

/* Gives the calling executor an entry, and its process the signal handlers that keep the
 * ledger; once, after it has logged in. */
void open_entry();

/* In a parallel worker: if its leader is an executor, a crash here is the fault of the job there.
 */
void join_leader() noexcept;

/* The executor runs this job from now on; end_run() says that it is over. */
inline void begin_run(const Run &run) noexcept
{
    Entry &entry = *mine;
    entry.run.job_id = 0;
    pg_compiler_barrier();
    entry.run.database = run.database;
    entry.run.attempts = run.attempts;
    entry.run.free_retries = run.free_retries;
    entry.run.created_at = run.created_at;
    entry.run.started_at = run.started_at;
    pg_compiler_barrier();
    entry.run.job_id = run.job_id;
    pg_compiler_barrier();
}

inline void end_run() noexcept
{
    pg_compiler_barrier();
    mine->run.job_id = 0;
    pg_compiler_barrier();
}

inline bool is_in_run() noexcept
{
    return mine->run.job_id != 0;
}

/* In a signal handler: the job's time is over long since, and the process is going to end. */
inline void note_overrun() noexcept
{
    mine->end = End::kOverrun;
}

/* The sender of the SIGTERM that ends this process. */
enum class Terminator : int { kNobody, kOther, kItself };
Terminator terminator() noexcept;

/* Whether a run has to be charged before the job may run again. */
bool find_charge(const Run &run) noexcept;
inline bool awaits_charge(const Run &run) noexcept
{
    return pg_atomic_read_u32(&header->charges) > 0 && find_charge(run);
}

/* The charges of the calling process's database; what cannot be charged any more, because
 * there was a promotion or a recovery in between, is dropped. */
std::vector<Entry> charges();
/* The charge is made, or must not be made. */
void settle(const Entry &charge) noexcept;
/* To charge it may end the calling process, or the server: it is going to be tried, and that may
 * take until the commit; or it has failed in good order. After the second time it has to wait,
 * longer each time. */
inline constexpr int kMaxChargesBegun = 2;
void begin_charging(const Entry &charge) noexcept;
void end_charging(const Entry &charge) noexcept;

/* --- For crash_signals.cpp ---------------------------------------------------------------- */

/* Sets the signal handlers of an executor; those of a parallel worker of its. */
void install_signal_handlers() noexcept;
void install_crash_handlers() noexcept;

} // namespace backfill::bgworker::ledger
