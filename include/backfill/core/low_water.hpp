/* low_water.hpp - below which key a range of an index of waiting jobs holds no ready job.
 *
 * A range is what one (task, priority), or one (queue, task, priority), of a database has in the
 * index, in order of (run_at, id). Jobs leave a range at its head, and while an old snapshot is
 * open their dead entries stay there; a reader that begins at the range's mark walks over none of
 * them.
 *
 * What begins at the mark may be the backlog of a paused or full queue, or of a few such queues,
 * and be very long. A reader that leaves those queues out begins behind it. The end of a backlog is
 * like a mark, only that jobs of its own queues do not lower it.
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
    bool of_queue;
    std::uint64_t hash; /* of task and priority, and queue */

    bool operator==(const RangeId &) const = default;
};

/* A queue, by the hash of its name. Zero: of no queue, or of several. */
using QueueHash = std::uint64_t;

/* Below `end` only these queues have ready jobs in the range. Without queues there is none. */
struct Backlog {
    static constexpr std::size_t kMaxQueues = 32;

    RangeId range;
    ReadyKey end;
    std::size_t count;
    std::array<QueueHash, kMaxQueues> queues;

    bool has(QueueHash queue) const;
    /* False if there is no room for another. */
    bool add(QueueHash queue);
};

/* Plain data in shared memory; the caller locks. All zero is a valid start. */
class LowWaterMarks
{
  public:
    /* The number of the last announcement. */
    std::uint64_t announcements() const { return announced_; }
    /* Where to begin to read the range. */
    ReadyKey mark(RangeId range);
    /* The range's backlog, as far as it is known. */
    Backlog backlog(RangeId range) const;
    /* A job of the queue at key is ready now, visible to every snapshot taken from now on. */
    void announce(RangeId range, ReadyKey key, QueueHash queue);
    /* A reader whose snapshot was taken after it had seen `announcements` found nothing
     * ready from `from` (which was the mark) up to, but without, `to`. */
    void raise_mark(RangeId range, ReadyKey from, ReadyKey to, std::uint64_t announcements);
    /* The same of a reader that found nothing ready but jobs of these queues. It began at the mark
     * or, if it left all queues of the known backlog out and so has these among its own, at the end
     * of that. */
    void extend_backlog(const Backlog &found, ReadyKey from, std::uint64_t announcements);
    /* Anything may have become ready anywhere in the database, or in its queues' ranges. */
    void forget(std::uint32_t database);
    void forget_queues(std::uint32_t database);

  private:
    static constexpr std::size_t kBacklogs = 64;
    static constexpr std::size_t kSets = 512;
    static constexpr std::size_t kWays = 4;
    static constexpr std::size_t kRecent = 8;
    static constexpr std::uint32_t kGeneration = 512;

    struct Announcement {
        std::uint64_t number;
        ReadyKey key;
    };
    /* Announcements that are no longer among the recent ones: of new jobs, mostly, whose keys are
     * far above what a reader raises. */
    struct Generation {
        std::uint64_t last; /* number; 0: there are none */
        std::uint32_t count;
        ReadyKey lowest;
    };
    struct Range {
        RangeId id;
        bool used;
        ReadyKey mark;
        std::uint64_t last_use;
        std::uint64_t dropped; /* the last announcement that is in none of these */
        std::array<Generation, 2> generations; /* the older one, and the one that grows */
        std::uint32_t next;                    /* in recent */
        std::array<Announcement, kRecent> recent;
    };
    struct Set {
        std::uint64_t dropped; /* the last announcement that no range here has kept */
        std::array<Range, kWays> ranges;
    };

    Set &set_of(RangeId range) { return sets_[range.hash % kSets]; }
    static Range *find(Set &set, RangeId range);
    static void drop(Range &range, const Announcement &announcement);
    Range &make(Set &set, RangeId range);
    /* Where a reader that began at `from` may raise something to, at most `to`; null: nowhere. */
    Range *find_raisable(RangeId range, ReadyKey from, ReadyKey &to, std::uint64_t announcements);
    Backlog &backlog_place(RangeId range) { return backlogs_[range.hash % kBacklogs]; }
    template <class Matches> void forget_ranges(const Matches &matches);

    std::uint64_t announced_;
    std::uint64_t uses_;
    std::array<Set, kSets> sets_;
    std::array<Backlog, kBacklogs> backlogs_;
};

} // namespace backfill::core
