/* worker.hpp - what launcher, dispatcher and executor have in common. */
#pragma once

#include "backfill/pg/guard.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::bgworker
{

/* What a dynamic worker is started with, in bgw_extra. */
struct WorkerArguments {
    int slot;
    uint64 generation;
    Oid database;
    Oid role; /* InvalidOid: the bootstrap superuser */
};

/* Fills in what all workers share. `function` is an exported symbol of the library. */
BackgroundWorker describe_worker(const char *type, const char *name, const char *function);

enum class StartResult { kStarted, kNoWorkerSlot, kNotAllowed };

/* Reserves a slot and asks the postmaster for the process; the caller's latch is set when
 * it has started and when it has ended. kNotAllowed: the database is blocked. */
StartResult start_worker(const BackgroundWorker &description, WorkerKind kind, Oid database,
                         Oid role, BackgroundWorkerHandle **handle, Reservation *reservation);

/* How long to wait until a worker that could not be started is tried again: longer after
 * each failure in a row, from one second to a minute. */
class StartBackoff
{
  public:
    static constexpr TimestampTz kFirstPauseUs = 1000000;

    /* Returns whether this is the first failure in a row. */
    bool note_failure(TimestampTz now)
    {
        const bool first = pause_ == 0;
        pause_ = Min(Max(pause_ * 2, kFirstPauseUs), kLongestPauseUs);
        not_before_ = now + pause_;
        return first;
    }
    bool holds(TimestampTz now) const { return not_before_ > now; }
    TimestampTz not_before() const { return not_before_; }

  private:
    static constexpr TimestampTz kLongestPauseUs = 60000000;
    TimestampTz pause_ = 0;
    TimestampTz not_before_ = 0;
};

/* Says once that the server has no worker slot left: a shortage goes on as long as a start
 * fails now and then, also if others succeed in between. It is over after a minute
 * without a failure. */
class SlotShortage
{
  public:
    /* Returns whether this failed start is the first one of a shortage. */
    bool note_failure(TimestampTz now)
    {
        const bool first = last_ == 0 || now - last_ > kOverAfterUs;
        last_ = now;
        return first;
    }

  private:
    static constexpr TimestampTz kOverAfterUs = 60000000;
    TimestampTz last_ = 0;
};

/* First thing in a dynamic worker's main function: signals, its slot, the login. Ends the
 * process quietly if the slot has been given away. */
void attach_worker(Datum main_argument);
/* Whether a process has woken the calling worker since its slot's `woken` was cleared, or
 * wants it to end. The latch alone does not tell: a wait for a lock resets it. */
bool was_called();

/* Starts a transaction in which the extension cannot be dropped; false, and no
 * transaction, if the database does not have it. */
bool begin_extension_transaction();
/* The same without waiting for a transaction that drops the extension, and perhaps makes another.
 */
enum class Extension { kAbsent, kBeingDropped, kPresent };
Extension try_begin_extension_transaction();
void commit_transaction();
void abort_transaction();

/* How often this process has read the configuration again. */
int config_reloads();

/* The worker's endless loop around `iteration`, which returns how long to wait for the
 * latch (milliseconds, at most), or ends the process. It may throw: the error is logged,
 * the transaction aborted, and the next try waits longer after each failure in a row. */
[[noreturn]] void worker_loop(long (*iteration)());

/* Ends this process in good order; the postmaster does not start it again. */
[[noreturn]] void end_worker();

} // namespace backfill::bgworker
