/* ready_bands.cpp - see ready_bands.hpp. */
#include "backfill/shmem/ready_bands.hpp"

#include "backfill/shmem/shared_state.hpp"

#include <algorithm>

namespace backfill::bgworker::ready_bands
{

namespace
{

auto &place() noexcept
{
    return lock_free_state().ready_bands.commits[MyDatabaseId % State::kPlaces];
}

} // namespace

Counts last() noexcept
{
    Counts counts{};
    if (!available())
        return counts;
    std::transform(std::begin(place()), std::end(place()), counts.begin(),
                   [](pg_atomic_uint32 &band) { return pg_atomic_read_u32(&band); });
    pg_memory_barrier();
    return counts;
}

bool has_better_since(const Counts &counts, int band) noexcept
{
    if (!available())
        return false;
    for (std::size_t better = 0; better < static_cast<std::size_t>(band); better++)
        if (pg_atomic_read_u32(&place()[better]) != counts[better])
            return true;
    return false;
}

void note(int band) noexcept
{
    if (available())
        pg_atomic_fetch_add_u32(&place()[band], 1);
}

} // namespace backfill::bgworker::ready_bands
