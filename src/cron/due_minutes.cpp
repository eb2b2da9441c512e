/* due_minutes.cpp - see due_minutes.hpp. */
#include "backfill/cron/due_minutes.hpp"

#include "backfill/pg/time_zone.hpp"

namespace backfill::queue
{

namespace
{

/* A tick that comes later than this after the one that it missed found the clock standing still:
 * what it missed is filled only as far as the schedule says. An ordinary late tick, or a
 * quick restart of the server, loses nothing. */
constexpr int64 kLateLimit = 5 * USECS_PER_MINUTE;

enum ScheduleColumn {
    kName,
    kCron,
    kTimeZone,
    kFill,
    kMaxCatchup,
    kLatestOnly,
    kDecidedUntil,
    kTask,
    kQueue,
    kPriority,
    kMaxAttempts,
    kJobKey,
    kJobKeyMode,
    kRetryPolicy,
    kPayload,
    kScheduledBy,
    kTimeout,
    kLastError,
};

/* When the last tick was, or when a clock that skips minutes in which nothing is due would have
 * ticked before the first that is. */
TimestampTz last_wanted_tick(TimestampTz decided_until, int64 first_due)
{
    return std::max(decided_until, pg::from_unix_seconds(first_due) - USECS_PER_MINUTE);
}

} // namespace

const char *const kReadSchedules =
    "SELECT s.name, s.cron, s.time_zone, s.fill, s.max_catchup, s.catchup = 'latest',"
    "   greatest(s.known_since, s.checked_until), s.task_identifier, s.queue_name, s.priority,"
    "   s.max_attempts, s.job_key, s.job_key_mode, s.retry_policy, s.payload,"
    "   s.scheduled_by, s.timeout, coalesce(s.last_error, '')"
    "  FROM backfill.cron_schedule s"
    " WHERE greatest(s.known_since, s.checked_until) < $1";

Schedule read_schedule(const pg::TableRow &row)
{
    const auto text = [&](ScheduleColumn column) { return pg::to_view(row.values[column]); };
    const auto optional_text = [&](ScheduleColumn column) {
        return row.nulls[column] ? std::nullopt : std::optional(text(column));
    };
    const auto optional_int = [&](ScheduleColumn column) {
        return row.nulls[column] ? std::nullopt
                                 : std::optional<int32>(DatumGetInt16(row.values[column]));
    };
    Schedule schedule;
    schedule.name = text(kName);
    schedule.cron = text(kCron);
    schedule.time_zone = text(kTimeZone);
    schedule.fill_us = pg::to_microseconds(*DatumGetIntervalP(row.values[kFill]));
    schedule.max_catchup = DatumGetInt32(row.values[kMaxCatchup]);
    schedule.latest_only = DatumGetBool(row.values[kLatestOnly]);
    schedule.decided_until = DatumGetTimestampTz(row.values[kDecidedUntil]);
    schedule.job.task_identifier = text(kTask);
    schedule.job.queue_name = optional_text(kQueue);
    if (schedule.job.queue_name && schedule.job.queue_name->empty()) {
        schedule.job.queue_name.reset();
        schedule.job.no_queue = true;
    }
    schedule.job.priority = optional_int(kPriority);
    schedule.job.max_attempts = optional_int(kMaxAttempts);
    schedule.job.job_key = optional_text(kJobKey);
    schedule.job_key_mode = text(kJobKeyMode);
    schedule.job.retry_policy = optional_text(kRetryPolicy);
    schedule.job.payload = row.values[kPayload];
    schedule.scheduled_by = &pg::stored_role(row.values[kScheduledBy]);
    schedule.timeout = row.nulls[kTimeout] ? nullptr : DatumGetIntervalP(row.values[kTimeout]);
    schedule.last_error = text(kLastError);
    return schedule;
}

void find_due_minutes(Schedule &schedule, TimestampTz now)
{
    schedule.job.job_key_mode = parse_job_key_mode(schedule.job_key_mode);
    schedule.job.timeout_ms = check_timeout(schedule.timeout);
    if (TIMESTAMP_NOT_FINITE(schedule.decided_until))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "known_since and checked_until must be finite");
    const core::CronExpression expression = parse_cron(schedule.cron);
    const pg::TimeZone zone(schedule.time_zone);
    const int64 end = pg::to_unix_seconds(now);
    const int64 current_minute = end - end % SECS_PER_MINUTE;
    int64 after = pg::to_unix_seconds(schedule.decided_until);
    const auto first = core::next_due(expression, zone, after);
    /* The dispatcher sleeps while nothing is due: what counts is the tick of the minute before. */
    const bool stood_still = first && *first <= end &&
                             now - last_wanted_tick(schedule.decided_until, *first) > kLateLimit;
    if (stood_still)
        after = std::max(after, current_minute - schedule.fill_us / USECS_PER_SEC - 1);

    const auto limit = static_cast<std::size_t>(schedule.latest_only ? 1 : schedule.max_catchup);
    int left_out = 0;
    for (auto at = core::next_due(expression, zone, after); at && *at <= end;
         at = core::next_due(expression, zone, *at)) {
        pg::call([] { CHECK_FOR_INTERRUPTS(); });
        schedule.due.push_back({*at, stood_still && *at < current_minute});
        if (schedule.due.size() > limit) {
            schedule.due.pop_front();
            left_out++;
        }
    }
    if (left_out > 0 && !schedule.latest_only) {
        const std::string name(schedule.name);
        pg::call([&] {
            ereport(WARNING,
                    (errmsg_plural("schedule \"%s\" left out %d missed run",
                                   "schedule \"%s\" left out %d missed runs",
                                   static_cast<unsigned long>(left_out), name.c_str(), left_out),
                     errdetail("It catches up with at most %d at once, the newest ones.",
                               schedule.max_catchup),
                     errhint("Raise max_catchup of the schedule, or shorten its fill.")));
        });
    }
}

std::optional<TimestampTz> due_after(const Schedule &schedule, TimestampTz time)
{
    try {
        if (TIMESTAMP_NOT_FINITE(time))
            return DT_NOBEGIN;
        const auto at = core::next_due(parse_cron(schedule.cron), pg::TimeZone(schedule.time_zone),
                                       pg::to_unix_seconds(time));
        return at ? std::optional(pg::from_unix_seconds(*at)) : std::nullopt;
    } catch (const Failure &) {
        return DT_NOBEGIN;
    }
}

} // namespace backfill::queue
