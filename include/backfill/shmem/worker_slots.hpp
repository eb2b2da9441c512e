/* worker_slots.hpp - the slots of workers: which process gets one, what a worker says about itself
 * in its own, and what others read in it. The functions take the locks themselves unless they are
 * given one, and raise nothing but where they say so. */
#pragma once

#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

/* --- The calling worker's own slot ------------------------------------------------- */

/* This process is the worker of that slot. */
void set_my_slot(int number) noexcept;
int my_slot_number();
WorkerSlot &my_slot(const SharedLock &lock);
const WorkerSlot &my_slot(const SharedReadLock &lock);
/* To read or change what the worker publishes. */
SlotLock lock_my_report() noexcept;
/* The current job of the calling worker says how far it is; fraction below 0: unknown. Visible to
 * all at once. Does nothing in other processes. */
void publish_progress(double fraction, const char *message) noexcept;
/* The calling executor is working through these ranges: others pass over them until then. Returns
 * the number that this gets. Does nothing in other processes. */
uint64 publish_read_ahead(const core::ReadAhead &read_ahead, TimestampTz until) noexcept;

/* --- Its parent's view --------------------------------------------------------------- */

/* Give a worker slot to a process that is about to be started; -1 if all are taken or the
 * database is blocked. */
struct Reservation {
    int slot;
    uint64 generation;
};
Reservation reserve_worker(WorkerKind kind, Oid database, Oid role);
/* Frees a slot at the end of its worker. It is not given away again before its parent,
 * if that lives, has called forget_worker(). */
void release_worker(int slot, uint64 generation);
/* The parent takes note that the worker has ended. Returns whether it ever logged in. */
bool forget_worker(int slot, uint64 generation);
/* Whether the worker of a reservation has logged in. */
bool has_logged_in(int slot, uint64 generation);

/* --- What others read ------------------------------------------------------------------ */

/* The xids of the executors of this database that are in the middle of a batch; at most
 * `limit` of them. What these have claimed comes back only with an announcement. */
int executor_xids(TransactionId *xids, int limit) noexcept;

/* What other executors of this database are working through, and how they divide it, in the order
 * of their slots. */
struct OtherReadAheads {
    std::vector<core::ReadAhead> all;
    std::size_t before = 0; /* how many of them have a slot before ours */
    uint64 last_number = 0; /* none that was published later has this number, or one before */
};
OtherReadAheads copy_read_aheads();

/* The workers of this database, as they are at one moment. For functions that show them. */
struct WorkerCopy : Worker, WorkerReport {
};
std::vector<WorkerCopy> copy_workers();
bool has_busy_executor();

/* Whether an executor of this database has published this claim. */
bool is_claim_alive(int64 claim_token);
/* For the dispatcher: whether an executor with a claim has ended since it last asked. */
bool take_lost_claims(Oid database);

/* --- Databases without workers ----------------------------------------------------------- */

/* Ends the workers of a database and keeps new ones from starting until
 * allow_workers(), after which the launcher is to be told, at the transaction's end. Waits at most
 * timeout_ms; raises only on interrupts. */
void stop_workers(Oid database, int timeout_ms);
void allow_workers(Oid database) noexcept;

} // namespace backfill::bgworker
