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
 * A dispatcher has an entry, too. It notes what it is trying, a lease to end, say, because code of
 * users may run there (a trigger on a table of ours). What has ended the dispatcher, or the server,
 * is deadly: the next dispatcher tries it by itself, and from the second time on only after a
 * pause, which is longer after each further one.
 *
 * Without shared_preload_libraries, or if the file cannot be made, there is no ledger: the
 * functions do nothing. All but the hot ones take the LWLock of the shared state. */
#pragma once

#include "backfill/core/error_info.hpp"
#include "backfill/shmem/ledger_file.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker::ledger
{

/* The calling process's entry, and the header; never null. For the inline functions below. */
extern Entry *mine;
extern Header *header;

/* From _PG_init, when preloaded, after init_shared_state(): whenever shared memory is made, makes
 * or finds the file, and turns what ran at the time of a crash into charges. */
void init();

/* Gives the calling executor an entry, and its process the signal handlers that keep the
 * ledger; once, after it has logged in. */
void open_entry();

/* Gives the calling dispatcher an entry, and its process these signal handlers. */
void open_dispatcher_entry();

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
enum class Terminator : int { kNobody, kOther, kPostmaster, kItself };
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

/* --- What dispatchers try --------------------------------------------------------------------- */

/* What is deadly in the calling process's database. */
std::vector<Entry> deadly();
/* What it has done, as an error to be shown. */
core::ErrorInfo describe_deaths(const Entry &entry);
/* It is not, or not any more. */
void forget_deadly(set_aside::Kind kind, int64 id) noexcept;
/* What is deadly in this database may be tried again at once. */
void end_pauses() noexcept;

/* For the time of its life the calling dispatcher tries this; id 0: several things of the kind
 * together. The innermost counts. A thing whose attempt ends without ending the process is not
 * deadly. In other processes it does nothing. */
class Trying
{
  public:
    Trying(set_aside::Kind kind, int64 id) noexcept : outer_(mine->deed)
    {
        if (mine->state == EntryState::kTrying)
            note({kind, 0, id, 0});
    }
    ~Trying()
    {
        if (mine->state != EntryState::kTrying)
            return;
        const Deed survived = mine->deed;
        note(outer_);
        const bool goes_on = outer_.kind == survived.kind && outer_.id == survived.id;
        if (!goes_on && pg_atomic_read_u32(&header->deadly) > 0)
            forget_deadly(survived.kind, survived.id);
    }
    Trying(const Trying &) = delete;
    Trying &operator=(const Trying &) = delete;

  private:
    static void note(const Deed &deed) noexcept
    {
        mine->deed.kind = set_aside::Kind::kNone;
        pg_compiler_barrier();
        mine->deed.id = deed.id;
        pg_compiler_barrier();
        mine->deed.kind = deed.kind;
        pg_compiler_barrier();
    }

    const Deed outer_;
};

/* --- For crash_signals.cpp ---------------------------------------------------------------- */

/* The process that has sent that SIGTERM. */
extern volatile sig_atomic_t terminator_pid;

/* Sets the signal handlers of an executor or a dispatcher; those of a parallel worker of its. */
void install_signal_handlers() noexcept;
void install_crash_handlers() noexcept;

} // namespace backfill::bgworker::ledger
