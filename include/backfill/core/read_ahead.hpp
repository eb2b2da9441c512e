/* read_ahead.hpp - the stretches of the ready index that an executor is working through.
 *
 * Executors that run fast jobs read many ahead. If they all read the same ones, each meets
 * what another has just claimed, job by job. So each makes its stretches known, and the others
 * begin behind them. That is a courtesy among executors and nothing to rely on: a stretch
 * soon runs out, and an executor that finds nothing else looks into it all the same. */
#pragma once

#include "backfill/core/low_water.hpp"

#include <array>
#include <cstddef>

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

} // namespace backfill::core
