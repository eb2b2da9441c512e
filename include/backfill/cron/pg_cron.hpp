/* pg_cron.hpp - what ticks, and pg_cron's part in that.
 *
 * backfill.cron_clock says what: with dispatcher the database's own, with external whatever the
 * operator has set up. With pg_cron one job of it, named backfill.cron_tick(), serves all
 * schedules of a database; it can only be in the database that pg_cron lives in. With auto it is
 * pg_cron where that is so, and the dispatcher anywhere else. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::queue
{

/* Call it when a schedule is added. Leaves a job of pg_cron that exists already as it is.
 * Errors: Failure 55000, with a hint that says what to do, if pg_cron has to tick and is out of
 * reach. */
void start_clock();
/* Call it when the last schedule goes. Does nothing if pg_cron is gone. */
void stop_clock();
/* Call it before the extension is dropped: removes our job even if the clock is another by now.
 * What goes wrong is a WARNING. */
void stop_clock_for_drop();

/* For the dispatcher, while there are schedules: for how long (microseconds) it leaves a due minute
 * to another clock before it sees to it itself; nothing: for ever. Where pg_cron is to tick and has
 * no job of ours, it gets one. */
std::optional<int64> patience();

/* Locks out others that change schedules, until the end of the transaction. */
void lock_schedules();

} // namespace backfill::queue
