/* sweep_timer.hpp - when a dispatcher sweeps: looks for jobs that no commit has announced.
 *
 * Every backfill.poll_interval while sweeps find such jobs, and ever more rarely while they do not.
 * While nothing waits, and the server's statistics say that the table of jobs has not changed since
 * the last sweep, a sweep would find nothing, and is left out: an idle database sleeps. A session
 * reports its changes a second after their commit, sometimes later, so that there is a sweep once a
 * minute all the same. If the server does not count changes (track_counts), there is every one. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

class SweepTimer
{
  public:
    TimestampTz next() const;
    /* Needs a transaction. */
    void begin_sweep();
    /* It is over; when it had begun. */
    void note_sweep(TimestampTz start);
    /* Some job was not announced. */
    void hurry() { factor_ = 1; }
    /* The sweep has found nothing to do before a time, or it has. */
    void note_idle_until(TimestampTz due);
    void note_work() { rest_.reset(); }

    /* Whether the sweep that is due now would find nothing, nor is it time for anything else. Needs
     * no transaction. */
    bool may_rest() const;
    /* Leaves it out. Returns when there is something else to do. */
    TimestampTz rest();

  private:
    struct Rest {
        int64 changes;
        TimestampTz due;
    };

    TimestampTz last_ = 0;
    TimestampTz duration_ = 0; /* microseconds */
    int factor_ = 1;
    Oid table_ = InvalidOid;
    std::optional<int64> changes_; /* of the table, before the last sweep */
    std::optional<Rest> rest_;
};

} // namespace backfill::bgworker
