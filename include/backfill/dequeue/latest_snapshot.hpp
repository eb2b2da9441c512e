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
    /* And what commits had counted (ready_bands.hpp). */
    const bgworker::ready_bands::Counts &ready_bands() const { return ready_bands_; }

  private:
    bool pushed_ = false;
    std::uint64_t announcements_ = 0;
    std::uint64_t queue_changes_ = 0;
    bgworker::ready_bands::Counts ready_bands_{};
};

} // namespace backfill::queue
