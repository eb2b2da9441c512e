/* due_minutes.hpp - a schedule as it is in the table, and which of its minutes are due. */
#pragma once

#include "backfill/cron/schedule.hpp"
#include "backfill/pg/role.hpp"
#include "backfill/pg/table.hpp"

#include <deque>

namespace backfill::queue
{

struct DueMinute {
    int64 at; /* seconds since 1970 */
    bool backfilled;
};

/* A schedule, and what comes of it in a tick. The strings and datums point into the row that was
 * read. */
struct Schedule {
    std::string_view name;
    std::string_view cron;
    std::string_view time_zone;
    int64 fill_us = 0;
    int32 max_catchup = 0;
    bool latest_only = false;
    TimestampTz decided_until = 0;
    JobSpec job;
    std::string_view job_key_mode;
    const pg::StoredRole *scheduled_by = nullptr;
    const Interval *timeout = nullptr;
    std::string_view last_error;

    std::deque<DueMinute> due;
    int enqueued = 0;
    std::string error;
};

/* Reads all schedules that are not decided up to $1, a time. Goes on with conditions, or a lock. */
extern const char *const kReadSchedules;
Schedule read_schedule(const pg::TableRow &row);

/* Fills in the due minutes, in order: the newest max_catchup ones of those that are not
 * too old to be filled. Errors: Failure if the row is none that schedule() writes, or its time zone
 * is not known any more. */
void find_due_minutes(Schedule &schedule, TimestampTz now);

/* The first due minute after a time; nothing if there is none. What cannot be read is due at once,
 * DT_NOBEGIN: find_due_minutes() says what is wrong. */
std::optional<TimestampTz> due_after(const Schedule &schedule, TimestampTz time);

} // namespace backfill::queue
