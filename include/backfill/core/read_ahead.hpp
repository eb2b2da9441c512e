/* read_ahead.hpp - how executors that run fast jobs keep out of each other's way.
 *
 * They read many ahead. If they all read the same ones, each meets what another has just claimed,
 * job by job. So each makes known which stretches of the ready index it is working through, and
 * the others begin behind them. Where the jobs are of many queues that take turns, the jobs behind
 * a stretch are mostly of queues whose first jobs are in it; then executors that take the same
 * jobs divide the queues among themselves instead. Both are a courtesy among executors and nothing
 * to rely on: what one has made known soon runs out, and an executor that finds nothing else takes
 * what it has left to others. */
#pragma once

#include "backfill/core/low_water.hpp"

#include <array>
#include <cstddef>
#include <span>

namespace backfill::core
{

/* Plain data in shared memory; all zero is empty. */
class ReadAhead
{
  public:
    /* Lets the range's stretch reach to this job. What does not fit is left out. */
    void add(RangeId range, ReadyKey key);
    /* The last job of the stretch that `key` lies in; nothing if it lies in none, or in one of
     * fewer than `min_jobs`. */
    const ReadyKey *end_of(RangeId range, ReadyKey key, int min_jobs = 1) const;

    /* Of those that executors have made known, each has a greater number than the ones before. */
    std::uint64_t number;
    /* Executors with the same number, which is never 0, take the same jobs. */
    std::uint64_t group;
    /* This one finds jobs of many queues, and wants to divide them with the others of its group. */
    bool wants_division;

  private:
    static constexpr std::size_t kMaxStretches = 8;

    struct Stretch {
        RangeId range;
        ReadyKey first;
        ReadyKey last;
        int jobs;
    };

    std::size_t count_;
    std::array<Stretch, kMaxStretches> stretches_;
};

/* The jobs that one of several executors takes: those whose queue falls to it, or whose id where
 * they are in none. */
struct Share {
    std::uint32_t executors = 1;
    std::uint32_t place = 0;

    bool is_all() const { return executors == 1; }
    bool has(QueueHash queue, std::int64_t id) const
    {
        const std::uint64_t number = queue != 0 ? queue : static_cast<std::uint64_t>(id);
        return number % executors == place;
    }
};

/* The share of an executor of this group: all, unless one of the group wants to divide. Of the
 * other executors, `before` come before this one in the order that all see. */
Share share_among(std::span<const ReadAhead> others, std::size_t before, std::uint64_t group,
                  bool wants_division);

} // namespace backfill::core
