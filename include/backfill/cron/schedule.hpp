/* schedule.hpp - schedules: rows of backfill.cron_schedule, and the jobs they turn into.
 *
 * checked_until of a schedule says up to where its due minutes have been decided finally:
 * enqueued, or left out. A tick locks the rows it deals with, skips those that another
 * session has locked (the next tick catches up), and moves checked_until in the
 * transaction that enqueues. So a minute is enqueued once, however many ticks there are, and
 * wherever they come from. cron_tick() moves it on to the present for every schedule, so that it
 * tells of the last tick; the dispatcher to the last due minute, and only if there is one. A
 * transaction that adds or removes schedules holds the table's SHARE UPDATE EXCLUSIVE lock, so that
 * the clock is started and stopped by one at a time; ticks are not held up by it. */
#pragma once

#include "backfill/core/cron_expression.hpp"
#include "backfill/enqueue/enqueue.hpp"

namespace backfill::queue
{

inline constexpr int kDefaultMaxCatchup = 1000;

/* The strings point into the caller's memory. */
struct ScheduleSpec {
    std::string_view name;
    std::string_view cron;
    std::string_view time_zone = "UTC";
    const Interval *timeout = nullptr; /* of each job; null: the task's */
    const Interval *fill = nullptr;    /* null: zero */
    int32 max_catchup = kDefaultMaxCatchup;
    std::string_view catchup = "all";
    std::string_view job_key_mode = "replace"; /* job.job_key_mode as it was given */
    JobSpec job;
};

/* Parses what schedule() takes. Errors: Failure 22023. */
core::CronExpression parse_cron(std::string_view cron);

/* Jobs of a schedule are enqueued for the role that made it: it needs EXECUTE on enqueue(), then
 * and whenever they are due. Errors: Failure 42501. */
void check_may_schedule(Oid role);

/* Locks out others that change schedules, until the end of the transaction, and starts
 * the clock. Errors: Failure 25006, 42501, 55000. */
void prepare_scheduling(const char *function);

/* Inserts or replaces a schedule and returns when it is next due. A schedule whose times
 * stay the same keeps its past. Errors: Failure 22023 for a bad argument, 42501 if the
 * caller may not enqueue the task. */
TimestampTz save_schedule(const Enqueuer &enqueuer, const ScheduleSpec &spec);

/* Removes a schedule, and stops the clock if it was the last; false if there is none. */
bool remove_schedule(std::string_view name);

/* Enqueues what is due at `now` and has not been decided yet. Returns how many jobs. What
 * fails for one schedule is a WARNING and stands in its last_error; the others go on. */
int64 run_due_schedules(TimestampTz now);

/* What the dispatcher has to know after its tick. */
struct OwnTick {
    std::optional<TimestampTz> next; /* when it has to tick again; nothing: when schedules change */
    bool more = false;               /* there was no time for all of them */
    bool busy = false;               /* another session had locked some */
    bool aside = false;              /* some are set aside */
};

/* The dispatcher's tick, in its transaction. It leaves alone what is not due, and what another
 * clock is to see to. What fails for one schedule is set aside, and stands in its last_error. */
OwnTick run_due_schedules_apart(TimestampTz now);

} // namespace backfill::queue
