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

Share share_among(std::span<const ReadAhead> others, std::size_t before, std::uint64_t group,
                  bool wants_division)
{
    Share share;
    bool is_divided = wants_division;
    for (std::size_t i = 0; i < others.size(); i++) {
        if (others[i].group != group)
            continue;
        share.executors++;
        share.place += i < before ? 1 : 0;
        is_divided = is_divided || others[i].wants_division;
    }
    return is_divided ? share : Share{};
}

} // namespace backfill::core
