/* counters.hpp - the counters behind the metrics, in shared memory.
 *
 * Two fixed arrays: the counters of each label set (database, task, queue, priority band),
 * of which there are backfill.metrics_max_label_sets, and those of each database. What
 * finds no room is counted in the database's label set "other". Counters are atomics; the
 * LWLock guards only which label set has which place. They start at zero with the server,
 * also after a crash, and there are none without shared_preload_libraries. */
#pragma once

#include "backfill/core/histogram.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::stats
{

/* --- What is counted per label set. A histogram takes consecutive places: its buckets,
 * +Inf, and the sum in microseconds. --- */

constexpr int histogram_places(std::size_t bounds)
{
    return static_cast<int>(bounds) + 2;
}

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
    kDurationFailed = kDurationSuccess + histogram_places(core::kDurationBoundsUs.size()),
    kWaitTime = kDurationFailed + histogram_places(core::kDurationBoundsUs.size()),
    kJobCounterCount = kWaitTime + histogram_places(core::kWaitBoundsUs.size()),
};

/* --- What is counted per database. --- */

enum class Operation : int { kEnqueue, kRequeue, kFetch, kDlqAdd, kCommit, kCount };

inline constexpr int kOperationPlaces = 2 + histogram_places(core::kOperationBoundsUs.size());

enum DatabaseCounter : int {
    kDispatcherPollsEmpty,
    kDispatcherPollsFound,
    kExecutorPollsEmpty,
    kExecutorPollsFound,
    /* For each operation: successes, errors, and a histogram. */
    kFirstOperation,
    kDatabaseCounterCount =
        kFirstOperation + static_cast<int>(Operation::kCount) * kOperationPlaces,
};

constexpr int operation_counter(Operation operation)
{
    return kFirstOperation + static_cast<int>(operation) * kOperationPlaces;
}

/* --- The counters themselves. --- */

struct LabelSet {
    std::string_view task;
    std::string_view queue; /* empty: none */
    std::string_view band;
};

struct JobCounters {
    pg_atomic_uint64 values[kJobCounterCount];
};
struct DatabaseCounters {
    pg_atomic_uint64 values[kDatabaseCounterCount];
};

/* Reserve and create them; from _PG_init, when preloaded. */
void init_counters();
bool available();

/* The counters of a label set of this database, made if there is room, else those of its
 * label set "other". They stay where they are as long as the database exists. Null only if
 * the server has more databases than the label set "other" has places for. */
JobCounters *find_job_counters(const LabelSet &labels);
/* Those of this database; null if there are too many databases. */
DatabaseCounters *my_database_counters();

/* A copy of all the counters of this database. */
struct JobCountersCopy {
    std::string task;
    std::string queue;
    std::string band;
    uint64 values[kJobCounterCount];
};
std::vector<JobCountersCopy> copy_job_counters();
void copy_database_counters(uint64 (&values)[kDatabaseCounterCount]);

/* Gives the places of a database that was dropped to others. */
void forget_database(Oid database);

} // namespace backfill::stats
