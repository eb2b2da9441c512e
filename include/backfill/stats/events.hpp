/* events.hpp - what the engine tells the metrics. Each is one call at the place where it
 * happens.
 *
 * The note_ functions about jobs and dead letters count when the transaction commits, if
 * what they tell of was not rolled back (pending.hpp); the others count at once. Without
 * shared_preload_libraries they do nothing. */
#pragma once

#include "backfill/core/fate.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/stats/counters.hpp"
#include "backfill/table/job_row.hpp"

#include <chrono>

namespace backfill::stats
{

void note_enqueued(const queue::JobRow &row);

/* A job's handler has run in this process. It started at this time of the queue's clock, took this
 * long, and its run leads to this fate, whatever becomes of the job in the end. */
void note_run(const queue::JobRow &row, TimestampTz started, int64 duration_us, core::Fate fate);
/* A consumer has claimed a job: its run has started. How it ends is told later, by another
 * transaction, and how long it took is not known. */
void note_claim(const queue::JobRow &row, TimestampTz claimed);
void note_claim_end(const queue::JobRow &row, core::Fate fate);
/* A job is failed whose run left no trace, because its transaction could not commit, or that
 * cannot be run. Each failure counts as a run. */
void note_lost_run(const queue::JobRow &row, core::Fate fate);
/* What becomes of the job. */
void note_fate(const queue::JobRow &row, core::Fate fate);

void note_requeued(const queue::JobRow &row);
/* A dead letter is deleted, whatever for; called by a trigger. */
void note_letter_deleted(const LabelSet &labels);
/* It has just been deleted because its job has succeeded: it counts as settled instead. */
void note_letter_settled(const LabelSet &labels);

/* A worker has looked for ready jobs. */
void note_poll(bgworker::WorkerKind kind, bool found);

/* Counts and times an operation from its construction to the end of its scope; if that is
 * left by an exception, as an error. */
class OperationTimer
{
  public:
    explicit OperationTimer(Operation operation);
    ~OperationTimer();
    /* It has turned out to be another one. */
    void set(Operation operation) { operation_ = operation; }
    OperationTimer(const OperationTimer &) = delete;
    OperationTimer &operator=(const OperationTimer &) = delete;

  private:
    Operation operation_;
    int exceptions_;
    DatabaseCounters *counters_; /* found at once: the end may be in the middle of an error */
    std::chrono::steady_clock::time_point started_;
};

} // namespace backfill::stats
