/* pg_cron.hpp - the clock: see to it that something calls backfill.cron_tick().
 *
 * One job of pg_cron, named backfill.cron_tick(), serves all schedules of a database. With
 * backfill.cron_clock = 'external' the operator's own clock calls, and nothing here does anything.
 * pg_cron lives in one database of a server; in any other one its clock has to be set up by
 * hand. */
#pragma once

namespace backfill::queue
{

/* Call it when a schedule is added. Leaves a job that exists already as it is.
 * Errors: Failure 55000, with a hint that says what to do, if pg_cron is out of reach. */
void start_clock();
/* Call it when the last schedule goes. Does nothing if pg_cron is gone. */
void stop_clock();
/* Call it before the extension is dropped: removes our job even if the clock is external by now.
 * What goes wrong is a WARNING. */
void stop_clock_for_drop();

} // namespace backfill::queue
