/* backlog_reader.hpp - how a reader that leaves queues out finds their backlog in a range, begins
 * behind it, and makes it known (core/low_water.hpp). Plain. */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::queue
{

class BacklogReader
{
  public:
    /* `announcements`: see low_water.hpp. */
    BacklogReader(core::RangeId range, std::uint64_t announcements);

    /* The reader leaves all its queues out, and so it begins behind the known backlog. */
    template <class LeavesOut> bool can_skip(const LeavesOut &leaves_out) const
    {
        for (std::size_t i = 0; i < known_.count; i++)
            if (!leaves_out(known_.queues[i]))
                return false;
        return known_.count > 0;
    }
    core::ReadyKey end() const { return known_.end; }

    /* Reads on from here; a reader that is on its way behind others' stretches does not begin. */
    void begin(core::ReadyKey from, bool behind_known) noexcept;
    /* The next entry is of a queue that is left out. */
    void pass(core::QueueHash queue, core::ReadyKey key) noexcept;
    /* The next job is of another one, or there is none below this key. */
    void stop(core::ReadyKey key) noexcept;
    /* The dispatcher's sweep has found this job. */
    void sweep(core::QueueHash queue, core::ReadyKey key) const noexcept;

  private:
    void tell(core::ReadyKey end) noexcept;

    core::Backlog known_;
    core::Backlog found_{};
    core::ReadyKey from_;
    std::uint64_t announcements_;
    int passed_ = 0; /* since it was told last */
    bool reads_ = false;
};

} // namespace backfill::queue
