/* job_counter.hpp - what is counted per label set (task, queue, priority band). A histogram takes
 * consecutive places: its buckets, +Inf, and the sum in microseconds. */
#pragma once

#include "backfill/core/histogram.hpp"

namespace backfill::core
{

constexpr int histogram_places(std::size_t bounds)
{
    return static_cast<int>(bounds) + 2;
}

namespace counted
{

enum JobCounter : int {
    kEnqueued,
    kStarted,
    kCompleted,
    kSnoozed,
    kFailedRetryable,
    kFailedPermanent,
    kDroppedCancelled,
    kDroppedSuperseded,
    kRetriesAttempted,
    kRetriesExhausted,
    kDlqAddedMaxAttempts,
    kDlqAddedPermanent,
    kDlqAddedManual,
    kDlqRequeued,
    kDlqDeleted,
    kDlqSettled,
    kDurationSuccess,
    kDurationFailed = kDurationSuccess + histogram_places(kDurationBoundsUs.size()),
    kWaitTime = kDurationFailed + histogram_places(kDurationBoundsUs.size()),
    kJobCounterCount = kWaitTime + histogram_places(kWaitBoundsUs.size()),
};

} // namespace counted

} // namespace backfill::core
