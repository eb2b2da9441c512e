/* low_water.cpp - see low_water.hpp. */
#include "backfill/core/low_water.hpp"

#include <algorithm>

namespace backfill::core
{

LowWaterMarks::Range *LowWaterMarks::find(Set &set, RangeId range)
{
    for (Range &candidate : set.ranges)
        if (candidate.used && candidate.id == range)
            return &candidate;
    return nullptr;
}

/* Takes a free place, or that of the least recently used range. */
LowWaterMarks::Range &LowWaterMarks::make(Set &set, RangeId range)
{
    Range *place = &set.ranges.front();
    for (Range &candidate : set.ranges) {
        if (!candidate.used) {
            place = &candidate;
            break;
        }
        if (candidate.last_use < place->last_use)
            place = &candidate;
    }
    if (place->used)
        set.dropped = announced_; /* those of the range that has to go are among them */
    *place = Range{};
    place->id = range;
    place->used = true;
    return *place;
}

ReadyKey LowWaterMarks::mark(RangeId range)
{
    Range *const found = find(set_of(range), range);
    if (found == nullptr)
        return {};
    found->last_use = ++uses_;
    return found->mark;
}

void LowWaterMarks::announce(RangeId range, ReadyKey key)
{
    announced_++;
    Set &set = set_of(range);
    Range *const found = find(set, range);
    if (found == nullptr) {
        set.dropped = announced_;
        return;
    }
    Announcement &place = found->recent[found->next];
    found->dropped = place.number;
    found->next = (found->next + 1) % kRecent;
    place = {announced_, key};
    found->mark = std::min(found->mark, key);
}

void LowWaterMarks::raise_mark(RangeId range, ReadyKey from, ReadyKey to,
                               std::uint64_t announcements)
{
    Set &set = set_of(range);
    Range *found = find(set, range);
    if (found == nullptr) {
        if (from != ReadyKey{} || set.dropped > announcements)
            return;
        found = &make(set, range);
    }
    /* Lowered meanwhile, perhaps to a job that the reader, which began higher up, passed by. */
    if (found->mark < from || found->dropped > announcements)
        return;
    for (const Announcement &recent : found->recent)
        if (recent.number > announcements)
            to = std::min(to, recent.key);
    found->mark = std::max(found->mark, to);
    found->last_use = ++uses_;
}

void LowWaterMarks::forget(std::uint32_t database)
{
    announced_++;
    for (Set &set : sets_) {
        set.dropped = announced_;
        for (Range &range : set.ranges)
            if (range.id.database == database)
                range = Range{};
    }
}

} // namespace backfill::core
