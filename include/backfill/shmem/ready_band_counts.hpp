/* ready_band_counts.hpp - what ready_bands.hpp has in shared memory. Plain data. */
#pragma once

#include "backfill/core/priority.hpp"
#include "backfill/pg/pg.hpp"

#include <array>

namespace backfill::bgworker::ready_bands
{

/* What the commits in a database had counted, by band. */
using Counts = std::array<uint32, core::kPriorityBands>;

/* Lives in LockFreeState. */
struct State {
    static constexpr std::size_t kPlaces = 64;

    pg_atomic_uint32 commits[kPlaces][core::kPriorityBands];

    void init() noexcept
    {
        for (auto &place : commits)
            for (pg_atomic_uint32 &band : place)
                pg_atomic_init_u32(&band, 0);
    }
};

} // namespace backfill::bgworker::ready_bands
