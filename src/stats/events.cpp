/* events.cpp - see events.hpp. */
#include "backfill/stats/events.hpp"

#include "backfill/core/priority.hpp"
#include "backfill/stats/pending.hpp"

namespace backfill::stats
{

namespace
{

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

void add(uint64 *counts, std::optional<JobCounter> counter)
{
    if (counter)
        counts[*counter]++;
}

bool is_failure(core::Fate fate)
{
    const auto run = core::info(fate).run;
    return run == kFailedRetryable || run == kFailedPermanent;
}

} // namespace

void note_enqueued(const queue::JobRow &row)
{
    count(row, kEnqueued);
}

void note_run(const queue::JobRow &row, TimestampTz started, int64 duration_us, core::Fate fate)
{
    uint64 *counts = counts_for(row);
    if (counts == nullptr)
        return;
    note_start(counts, row, started);
    add(counts, core::info(fate).run);
    observe(counts + (is_failure(fate) ? kDurationFailed : kDurationSuccess),
            core::kDurationBoundsUs, duration_us);
}

void note_claim(const queue::JobRow &row, TimestampTz claimed)
{
    if (uint64 *counts = counts_for(row))
        note_start(counts, row, claimed);
}

void note_claim_end(const queue::JobRow &row, core::Fate fate)
{
    if (uint64 *counts = counts_for(row))
        add(counts, core::info(fate).run);
}

void note_lost_run(const queue::JobRow &row, core::Fate fate)
{
    count(row, kStarted);
    note_claim_end(row, fate);
}

void note_fate(const queue::JobRow &row, core::Fate fate)
{
    const auto &counters = core::info(fate).counters;
    if (!counters.front())
        return;
    if (uint64 *counts = counts_for(row))
        for (const auto counter : counters)
            add(counts, counter);
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
        counts[kDlqDeleted]++;
}

/* The trigger has counted it at this level of the transaction, unless it is disabled. */
void note_letter_settled(const LabelSet &labels)
{
    if (!available())
        return;
    if (uint64 *counts = pending_counts(labels)) {
        counts[kDlqSettled]++;
        counts[kDlqDeleted] -= counts[kDlqDeleted] > 0 ? 1 : 0;
    }
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
