/* events.hpp - what the engine tells the metrics. Each is one call at the place where it
 * happens.
 *
 * The note_ functions about jobs and dead letters count when the transaction commits, if
 * what they tell of was not rolled back (pending.hpp); the others count at once. Without
 * shared_preload_libraries they do nothing. */
#pragma once

#include "backfill/core/retry_decision.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/stats/counters.hpp"
#include "backfill/table/job_row.hpp"

#include <chrono>

namespace backfill::stats
{

void note_enqueued(const queue::JobRow &row);

/* How a run ended: each is one of these. */
enum class RunEnd {
    kCompleted, /* the job is done */
    kSnoozed,   /* the handler, or a hook, wants the job to run again */
    kFailed,    /* an error, or the handler discarded the job; note_failed() tells more */
};
/* A job's handler has ended. It started at this time of the queue's clock, and took duration_us. */
void note_run(const queue::JobRow &row, TimestampTz started, int64 duration_us, RunEnd end);
/* A consumer has claimed a job: its run has started. How it ends is told later, by another
 * transaction, and how long it took is unknown. */
void note_claim(const queue::JobRow &row, TimestampTz claimed);
void note_claim_end(const queue::JobRow &row, RunEnd end);
/* A job is failed whose run left no trace, because its transaction could not commit, or that
 * cannot be run. Each failure counts as a run. */
void note_lost_run(const queue::JobRow &row);
/* A run failed, whatever becomes of the job now. */
void note_failed(const queue::JobRow &row, core::RetryDecision decision);
/* ... it is put back. */
void note_retry(const queue::JobRow &row);
/* ... it goes to the dead letter queue. */
void note_dead_letter(const queue::JobRow &row, core::RetryDecision decision);

/* A waiting job is moved to the dead letter queue without a run. */
void note_buried(const queue::JobRow &row);
/* A job ends, and neither success nor a dead letter tells of it. */
enum class DropReason {
    kCancelled,  /* deleted by a caller of an SQL function */
    kSuperseded, /* a newer job took its key, or it was removed while it ran */
};
void note_dropped(const queue::JobRow &row, DropReason reason);

void note_requeued(const queue::JobRow &row);
void note_letter_deleted(const LabelSet &labels);

/* While one exists, deleted letters count as settled: their jobs have succeeded. */
class SettlingLetters
{
  public:
    SettlingLetters();
    ~SettlingLetters();
    SettlingLetters(const SettlingLetters &) = delete;
    SettlingLetters &operator=(const SettlingLetters &) = delete;
};

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
