/* low_water.cpp - see low_water.hpp. */
#include "backfill/core/low_water.hpp"

#include <algorithm>

namespace backfill::core
{

bool Backlog::has(QueueHash queue) const
{
    return queue != 0 &&
           std::find(queues.begin(), queues.begin() + count, queue) != queues.begin() + count;
}

bool Backlog::add(QueueHash queue)
{
    if (has(queue))
        return true;
    if (queue == 0 || count == kMaxQueues)
        return false;
    queues[count++] = queue;
    return true;
}

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
    /* Other readers may have seen less than the one that makes it. */
    const std::uint64_t dropped = set.dropped;
    if (place->used)
        set.dropped = announced_; /* those of the range that has to go are among them */
    *place = Range{};
    place->dropped = dropped;
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

void LowWaterMarks::drop(Range &range, const Announcement &announcement)
{
    if (announcement.number == 0)
        return; /* the place was free */
    auto &[older, growing] = range.generations;
    if (growing.count == kGeneration) {
        range.dropped = older.last;
        older = growing;
        growing = Generation{};
    }
    growing.lowest =
        growing.count == 0 ? announcement.key : std::min(growing.lowest, announcement.key);
    growing.count++;
    growing.last = announcement.number;
}

Backlog LowWaterMarks::backlog(RangeId range) const
{
    const Backlog &known = backlogs_[range.hash % kBacklogs];
    return known.range == range ? known : Backlog{};
}

void LowWaterMarks::announce(RangeId range, ReadyKey key, QueueHash queue)
{
    announced_++;
    Backlog &backlog = backlog_place(range);
    if (backlog.range == range && !backlog.has(queue))
        backlog.end = std::min(backlog.end, key);
    Set &set = set_of(range);
    Range *const found = find(set, range);
    if (found == nullptr) {
        set.dropped = announced_;
        return;
    }
    Announcement &place = found->recent[found->next];
    drop(*found, place);
    found->next = (found->next + 1) % kRecent;
    place = {announced_, key};
    found->mark = std::min(found->mark, key);
}

LowWaterMarks::Range *LowWaterMarks::find_raisable(RangeId range, ReadyKey from, ReadyKey &to,
                                                   std::uint64_t announcements)
{
    Set &set = set_of(range);
    Range *found = find(set, range);
    if (found == nullptr) {
        if (from != ReadyKey{} || set.dropped > announcements)
            return nullptr;
        found = &make(set, range);
    }
    if (found->dropped > announcements)
        return nullptr;
    for (const Announcement &recent : found->recent)
        if (recent.number > announcements)
            to = std::min(to, recent.key);
    for (const Generation &generation : found->generations)
        if (generation.last > announcements)
            to = std::min(to, generation.lowest);
    found->last_use = ++uses_;
    return found;
}

void LowWaterMarks::raise_mark(RangeId range, ReadyKey from, ReadyKey to,
                               std::uint64_t announcements)
{
    Range *const found = find_raisable(range, from, to, announcements);
    /* Lowered meanwhile, perhaps to a job that the reader, which began higher up, passed by. */
    if (found == nullptr || found->mark < from)
        return;
    found->mark = std::max(found->mark, to);
}

void LowWaterMarks::extend_backlog(const Backlog &found, ReadyKey from, std::uint64_t announcements)
{
    ReadyKey to = found.end;
    const Range *const range = find_raisable(found.range, from, to, announcements);
    if (range == nullptr || !(from < to))
        return;
    Backlog &known = backlog_place(found.range);
    const bool touches = known.range == found.range && known.count > 0 && !(known.end < from);
    Backlog merged = found;
    merged.end = to;
    if (!(range->mark < from)) {
        /* It began at the mark, perhaps because a queue of the known backlog has no job in it. */
        if (touches && std::all_of(known.queues.begin(), known.queues.begin() + known.count,
                                   [&](QueueHash queue) { return found.has(queue); }))
            merged.end = std::max(known.end, to);
    } else {
        if (!touches)
            return;
        merged.end = std::max(known.end, to);
        for (std::size_t i = 0; i < known.count; i++)
            if (!merged.add(known.queues[i]))
                return;
    }
    known = merged;
}

template <class Matches> void LowWaterMarks::forget_ranges(const Matches &matches)
{
    announced_++;
    for (Set &set : sets_) {
        set.dropped = announced_;
        for (Range &range : set.ranges)
            if (matches(range.id))
                range = Range{};
    }
    for (Backlog &backlog : backlogs_)
        if (matches(backlog.range))
            backlog = Backlog{};
}

void LowWaterMarks::forget(std::uint32_t database)
{
    forget_ranges([&](const RangeId &range) { return range.database == database; });
}

void LowWaterMarks::forget_queues(std::uint32_t database)
{
    forget_ranges(
        [&](const RangeId &range) { return range.database == database && range.of_queue; });
}

} // namespace backfill::core
