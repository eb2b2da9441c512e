/* events.cpp - see events.hpp. */
#include "backfill/stats/events.hpp"

#include "backfill/core/priority.hpp"
#include "backfill/stats/pending.hpp"

namespace backfill::stats
{

namespace
{

bool settling = false;

uint64 *counts_for(const queue::JobRow &row)
{
    if (!available())
        return nullptr;
    return pending_counts({row.task_identifier(), row.text_or_empty(queue::Column::kQueueName),
                           core::priority_band(row.priority())});
}

void count(const queue::JobRow &row, JobCounter counter)
{
    if (uint64 *counts = counts_for(row))
        counts[counter]++;
}

/* A clock that was set back must not make a sum run backwards. */
void observe(uint64 *places, core::HistogramBounds bounds, int64 value_us)
{
    const int64 value = Max(value_us, 0);
    places[core::bucket_of(bounds, value)]++;
    places[bounds.size() + 1] += static_cast<uint64>(value);
}

void note_start(uint64 *counts, const queue::JobRow &row, TimestampTz started)
{
    const TimestampTz due = Max(DatumGetTimestampTz(row.get(queue::Column::kRunAt)),
                                DatumGetTimestampTz(row.get(queue::Column::kCreatedAt)));
    counts[kStarted]++;
    observe(counts + kWaitTime, core::kWaitBoundsUs, started - due);
}

/* What a failure counts as depends on its error: see note_failed(). */
void note_end(uint64 *counts, RunEnd end)
{
    counts[kCompleted] += end == RunEnd::kCompleted ? 1 : 0;
    counts[kSnoozed] += end == RunEnd::kSnoozed ? 1 : 0;
}

} // namespace

void note_enqueued(const queue::JobRow &row)
{
    count(row, kEnqueued);
}

void note_run(const queue::JobRow &row, TimestampTz started, int64 duration_us, RunEnd end)
{
    uint64 *counts = counts_for(row);
    if (counts == nullptr)
        return;
    note_start(counts, row, started);
    note_end(counts, end);
    observe(counts + (end == RunEnd::kFailed ? kDurationFailed : kDurationSuccess),
            core::kDurationBoundsUs, duration_us);
}

void note_claim(const queue::JobRow &row, TimestampTz claimed)
{
    if (uint64 *counts = counts_for(row))
        note_start(counts, row, claimed);
}

void note_claim_end(const queue::JobRow &row, RunEnd end)
{
    if (uint64 *counts = counts_for(row))
        note_end(counts, end);
}

void note_lost_run(const queue::JobRow &row)
{
    count(row, kStarted);
}

void note_failed(const queue::JobRow &row, core::RetryDecision decision)
{
    count(row, decision == core::RetryDecision::kPermanent ? kFailedPermanent : kFailedRetryable);
}

void note_retry(const queue::JobRow &row)
{
    count(row, kRetriesAttempted);
}

void note_dead_letter(const queue::JobRow &row, core::RetryDecision decision)
{
    if (decision == core::RetryDecision::kPermanent) {
        count(row, kDlqAddedPermanent);
    } else {
        count(row, kDlqAddedMaxAttempts);
        count(row, kRetriesExhausted);
    }
}

void note_buried(const queue::JobRow &row)
{
    if (row.attempts() < row.max_attempts())
        count(row, kDlqAddedManual);
    else
        note_dead_letter(row, core::RetryDecision::kExhausted);
}

void note_dropped(const queue::JobRow &row, DropReason reason)
{
    count(row, reason == DropReason::kCancelled ? kDroppedCancelled : kDroppedSuperseded);
}

void note_requeued(const queue::JobRow &row)
{
    count(row, kDlqRequeued);
}

void note_letter_deleted(const LabelSet &labels)
{
    if (!available())
        return;
    if (uint64 *counts = pending_counts(labels))
        counts[settling ? kDlqSettled : kDlqDeleted]++;
}

SettlingLetters::SettlingLetters()
{
    settling = true;
}

SettlingLetters::~SettlingLetters()
{
    settling = false;
}

void note_poll(bgworker::WorkerKind kind, bool found)
{
    DatabaseCounters *counters = available() ? my_database_counters() : nullptr;
    if (counters == nullptr)
        return;
    const int first =
        kind == bgworker::WorkerKind::kDispatcher ? kDispatcherPollsEmpty : kExecutorPollsEmpty;
    pg_atomic_fetch_add_u64(&counters->values[first + (found ? 1 : 0)], 1);
}

OperationTimer::OperationTimer(Operation operation)
    : operation_(operation), exceptions_(std::uncaught_exceptions()),
      counters_(available() ? my_database_counters() : nullptr),
      started_(counters_ != nullptr ? std::chrono::steady_clock::now()
                                    : std::chrono::steady_clock::time_point())
{
}

OperationTimer::~OperationTimer()
{
    if (counters_ == nullptr)
        return;
    const int64 duration_us = std::chrono::duration_cast<std::chrono::microseconds>(
                                  std::chrono::steady_clock::now() - started_)
                                  .count();
    const bool failed = std::uncaught_exceptions() > exceptions_;
    pg_atomic_uint64 *places = counters_->values + operation_counter(operation_);
    pg_atomic_uint64 *histogram = places + 2;
    pg_atomic_fetch_add_u64(&places[failed ? 1 : 0], 1);
    pg_atomic_fetch_add_u64(&histogram[core::bucket_of(core::kOperationBoundsUs, duration_us)], 1);
    pg_atomic_fetch_add_u64(&histogram[core::kOperationBoundsUs.size() + 1], duration_us);
}

} // namespace backfill::stats
