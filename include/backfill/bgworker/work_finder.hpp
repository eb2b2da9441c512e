/* work_finder.hpp - looks which roles have ready jobs, and which channels of external consumers. */
#pragma once

#include "backfill/bgworker/pass.hpp"
#include "backfill/config/config.hpp"
#include "backfill/dequeue/next_job.hpp"

namespace backfill::bgworker
{

class WorkFinder
{
  public:
    /* Finds the roles' work, and notifies consumers of theirs, if it is time for that. The
     * notifications go out at the commit. */
    void look(Pass &pass);
    /* The transaction has failed, and with it the notifications. */
    void on_abort(const Pass &pass);
    /* When to look again because there may be jobs for consumers; by the machine's clock. */
    std::optional<TimestampTz> next_notification() const;

  private:
    TimestampTz may_notify_at() const;
    bool is_time_to_notify(bool sweep);
    void look_after_consumers(const queue::Config &config, queue::JobTable &table,
                              const queue::LatestSnapshot &snapshot, bool notify, Pass &pass);

    TimestampTz notified_at_ = 0;              /* when consumers were looked after last */
    bool must_notify_ = false;                 /* as soon as that may be done again */
    bool must_sweep_ = false;                  /* and look then from the very beginning */
    std::optional<TimestampTz> consumers_due_; /* when a job becomes due for them */
};

} // namespace backfill::bgworker
