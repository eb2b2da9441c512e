/* job_counters.hpp - the counters of one label set, in shared memory. */
#pragma once

#include "backfill/core/job_counter.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::stats
{

/* What is counted per label set. */
using namespace core::counted;
using core::histogram_places;

struct LabelSet {
    std::string_view task;
    std::string_view queue; /* empty: none */
    std::string_view band;
};

struct JobCounters {
    pg_atomic_uint64 occupancy; /* serial number of the label set, and processes adding to it now */
    pg_atomic_uint64 last_used; /* when it was added to, a TimestampTz */
    pg_atomic_uint64 values[kJobCounterCount];
};

/* A label set in its place. */
struct JobCountersRef {
    JobCounters *counters;
    uint64 serial; /* no other label set had or will have it, nor this one in another place */
    bool is_other;
};

} // namespace backfill::stats
