/* ticker.hpp - the dispatcher as the clock of schedules: enqueues what is due, and knows when the
 * next is.
 *
 * It looks into the table of schedules when one is due, when a commit has changed them, and, on a
 * pass that is taken anyway, now and then: for changes that no commit announced, and for a pg_cron
 * that came or went. So a database without schedules is not woken for any. */
#pragma once

#include "backfill/bgworker/pass.hpp"

namespace backfill::bgworker
{

class Ticker
{
  public:
    void tick(Pass &pass);
    /* The transaction has failed, or the settings may be others. */
    void look_again() { must_look_ = true; }

  private:
    bool is_time_to_look(TimestampTz now) const;

    bool must_look_ = true;
    TimestampTz looked_at_ = 0; /* by the machine's clock */
    std::optional<TimestampTz> next_;
};

} // namespace backfill::bgworker
