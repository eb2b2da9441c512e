/* read_ahead.cpp - see read_ahead.hpp. */
#include "backfill/core/read_ahead.hpp"

#include <algorithm>

namespace backfill::core
{

void ReadAhead::add(RangeId range, ReadyKey key)
{
    for (std::size_t i = 0; i < count_; i++) {
        Stretch &stretch = stretches_[i];
        if (stretch.range == range) {
            stretch.first = std::min(stretch.first, key);
            stretch.last = std::max(stretch.last, key);
            stretch.jobs++;
            return;
        }
    }
    if (count_ < kMaxStretches)
        stretches_[count_++] = {range, key, key, 1};
}

const ReadyKey *ReadAhead::end_of(RangeId range, ReadyKey key, int min_jobs) const
{
    for (std::size_t i = 0; i < count_; i++) {
        const Stretch &stretch = stretches_[i];
        if (stretch.range == range)
            return stretch.jobs >= min_jobs && stretch.first <= key && key <= stretch.last
                       ? &stretch.last
                       : nullptr;
    }
    return nullptr;
}

} // namespace backfill::core
