/* queue_change_numbers.hpp - what queue_changes.hpp has in shared memory. Plain data. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker::queue_changes
{

/* Lives in LockFreeState. */
struct State {
    static constexpr std::size_t kPlaces = 4096;

    pg_atomic_uint64 last; /* the number of the last change */
    pg_atomic_uint64 all;  /* and of the last one that was of very many queues */
    pg_atomic_uint64 queues[kPlaces];

    void init() noexcept
    {
        pg_atomic_init_u64(&last, 0);
        pg_atomic_init_u64(&all, 0);
        for (pg_atomic_uint64 &queue : queues)
            pg_atomic_init_u64(&queue, 0);
    }
};

} // namespace backfill::bgworker::queue_changes
