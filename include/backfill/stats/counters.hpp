/* counters.hpp - the counters behind the metrics, in shared memory.
 *
 * Two fixed arrays: the counters of each label set (database, task, queue, priority band),
 * of which there are backfill.metrics_max_label_sets, and those of each database. What
 * finds no room is counted in the database's label set "other". Counters are atomics; the
 * LWLock guards only which label set has which place. They start at zero with the server,
 * also after a crash, and there are none without shared_preload_libraries.
 * Which label set has a place, and which loses it, is label_set_places.hpp's. */
#pragma once

#include "backfill/stats/job_counters.hpp"

namespace backfill::stats
{

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

struct DatabaseCounters {
    pg_atomic_uint64 values[kDatabaseCounterCount];
};

/* Reserve and create them; from _PG_init, when preloaded. */
void init_counters();
bool available();

/* The counters of a label set of this database, made if there is room, else those of its
 * label set "other". `counters` is null only if the server has more databases than the label set
 * "other" has places for. */
JobCountersRef find_job_counters(const LabelSet &labels);
/* Adds to them; to "other" if the label set has lost its place. Raises and allocates nothing. */
void add_job_counts(const JobCountersRef &ref, const uint64 (&counts)[kJobCounterCount]) noexcept;
/* Another number when a label set has lost its place since: what was found must be found anew. */
uint64 places_version();
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

/* Whether all places are in use, and something of this database is counted as "other". */
bool lacks_places();

/* They give places back: of a database that was dropped; of this database's label sets with a
 * task or queue that exists no more. */
void forget_database(Oid database);
void forget_task(std::string_view task);
void forget_queue(std::string_view queue);

} // namespace backfill::stats
