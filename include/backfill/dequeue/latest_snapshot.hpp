/* latest_snapshot.hpp - what a reader of ready jobs sees, and had been told before it looked. */
#pragma once

#include "backfill/shmem/ready_bands.hpp"

namespace backfill::queue
{

/* An active snapshot taken now, also in a REPEATABLE READ transaction of the caller. */
class LatestSnapshot
{
  public:
    void renew();
    /* Lets it see what this transaction has changed meanwhile, as a handler may have done: a
     * transaction that tries to delete a row that it has deleted itself gets an error. */
    void see_own_changes();
    void pop();
    Snapshot get() const { return GetActiveSnapshot(); }
    /* What had been announced for sure when the snapshot was taken (low_water.hpp). */
    std::uint64_t announcements() const { return announcements_; }
    /* And what had been told of changes in queues (queue_changes.hpp). */
    std::uint64_t queue_changes() const { return queue_changes_; }
    /* Whether, since then, a job has become ready whose band is better than this priority's. */
    bool misses_better_than(int64 priority) const
    {
        return bgworker::ready_bands::has_better_since(ready_bands_,
                                                       core::priority_band_number(priority));
    }

  private:
    bool pushed_ = false;
    std::uint64_t announcements_ = 0;
    std::uint64_t queue_changes_ = 0;
    bgworker::ready_bands::Counts ready_bands_{};
};

} // namespace backfill::queue
