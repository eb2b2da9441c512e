/* low_water.hpp - below which key a range of the ready index holds no ready job.
 *
 * A range is what one (task, queue, priority) of a database has in the index, in order of
 * (run_at, id). Jobs leave a range at its head, and while an old snapshot is open their
 * dead entries stay there; a reader that begins at the range's mark walks over none of
 * them.
 *
 * A mark is raised by readers and lowered by a transaction that makes a job ready below it. No
 * reader may raise a mark over a job that it could not see yet, so announcements are numbered:
 * a reader notes the number before it takes its snapshot, and a job announced later
 * than that holds the mark down. What does not fit is forgotten in the safe direction: a
 * range without a mark is read from its beginning. */
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <limits>

namespace backfill::core
{

/* The position of a job in its range. */
struct ReadyKey {
    std::int64_t run_at = std::numeric_limits<std::int64_t>::min();
    std::int64_t id = std::numeric_limits<std::int64_t>::min();

    auto operator<=>(const ReadyKey &) const = default;
};

struct RangeId {
    std::uint32_t database;
    std::uint64_t hash; /* of task, queue and priority */

    bool operator==(const RangeId &) const = default;
};

/* Plain data in shared memory; the caller locks. All zero is a valid start. */
class LowWaterMarks
{
  public:
    /* The number of the last announcement. */
    std::uint64_t announcements() const { return announced_; }
    /* Where to begin to read the range. */
    ReadyKey mark(RangeId range);
    /* A job at key is ready now, visible to every snapshot taken from now on. */
    void announce(RangeId range, ReadyKey key);
    /* A reader whose snapshot was taken after it had seen `announcements` found nothing
     * ready from `from` (which was the mark) up to, but without, `to`. */
    void raise_mark(RangeId range, ReadyKey from, ReadyKey to, std::uint64_t announcements);
    /* Anything may have become ready anywhere in the database. */
    void forget(std::uint32_t database);

  private:
    static constexpr std::size_t kSets = 512;
    static constexpr std::size_t kWays = 4;
    static constexpr std::size_t kRecent = 8;

    struct Announcement {
        std::uint64_t number;
        ReadyKey key;
    };
    struct Range {
        RangeId id;
        bool used;
        ReadyKey mark;
        std::uint64_t last_use;
        std::uint64_t dropped; /* the last announcement that is no longer in recent */
        std::uint32_t next;    /* in recent */
        std::array<Announcement, kRecent> recent;
    };
    struct Set {
        std::uint64_t dropped; /* the last announcement that no range here has kept */
        std::array<Range, kWays> ranges;
    };

    Set &set_of(RangeId range) { return sets_[range.hash % kSets]; }
    static Range *find(Set &set, RangeId range);
    Range &make(Set &set, RangeId range);

    std::uint64_t announced_;
    std::uint64_t uses_;
    std::array<Set, kSets> sets_;
};

} // namespace backfill::core
