/* cron_tick.cpp - one tick of the clock: from schedules to jobs. See schedule.hpp. */
#include "backfill/call/hooks.hpp"
#include "backfill/core/sqlstates.hpp"
#include "backfill/cron/schedule.hpp"
#include "backfill/enqueue/producer_locks.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/owner_scope.hpp"
#include "backfill/pg/role.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/pg/time_zone.hpp"

#include <chrono>
#include <deque>

namespace backfill::queue
{

namespace
{

/* A tick that comes later than this after the one before found the clock standing still:
 * what it missed is filled only as far as the schedule says. An ordinary late tick, or a
 * quick restart of the server, loses nothing. */
constexpr int64 kLateLimit = 5 * USECS_PER_MINUTE;

/* A producer may hold a job_key for long; the other schedules must not wait for it. */
constexpr const char *kLockTimeout = "1s";

struct DueMinute {
    int64 at; /* seconds since 1970 */
    bool backfilled;
};

/* A schedule that this tick has locked, and what comes of it. The strings and datums
 * point into the rows that were read. */
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

    std::deque<DueMinute> due;
    int enqueued = 0;
    std::string error;
};

enum Column {
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
};

constexpr const char *kLockSql =
    "SELECT s.name, s.cron, s.time_zone, s.fill, s.max_catchup, s.catchup = 'latest',"
    "   greatest(s.known_since, s.checked_until), s.task_identifier, s.queue_name, s.priority,"
    "   s.max_attempts, s.job_key, s.job_key_mode, s.retry_policy, s.payload,"
    "   s.scheduled_by, s.timeout"
    "  FROM backfill.cron_schedule s"
    " WHERE greatest(s.known_since, s.checked_until) < $1"
    " ORDER BY s.name FOR UPDATE SKIP LOCKED";

Schedule read_schedule(const pg::TableRow &row)
{
    const auto text = [&](Column column) { return pg::to_view(row.values[column]); };
    const auto optional_text = [&](Column column) {
        return row.nulls[column] ? std::nullopt : std::optional(text(column));
    };
    const auto optional_int = [&](Column column) {
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
    return schedule;
}

/* Fills in the due minutes, in order: the newest max_catchup ones of those that are not
 * too old to be filled. Errors: Failure if the row is none that schedule() writes, or its time zone
 * is not known any more. */
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
    const bool stood_still = now - schedule.decided_until > kLateLimit;
    int64 after = pg::to_unix_seconds(schedule.decided_until);
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

/* 2026-03-29T01:00:00.000Z, as Graphile Worker writes it. */
std::string iso_time(int64 seconds)
{
    const std::chrono::sys_seconds time{std::chrono::seconds(seconds)};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date{day};
    const std::chrono::hh_mm_ss clock{time - day};
    char text[64];
    snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.000Z", static_cast<int>(date.year()),
             static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
             static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
             static_cast<int>(clock.seconds().count()));
    return text;
}

Datum payload_of_run(Datum payload, const DueMinute &minute)
{
    const std::string cron = "{\"_cron\": {\"ts\": \"" + iso_time(minute.at) +
                             "\", \"backfilled\": " + (minute.backfilled ? "true" : "false") + "}}";
    return pg::call([&] {
        return DirectFunctionCall2(jsonb_concat, payload,
                                   DirectFunctionCall1(jsonb_in, CStringGetDatum(cron.c_str())));
    });
}

Oid role_of(const Schedule &schedule)
{
    const Oid role = pg::existing_role(*schedule.scheduled_by);
    if (!OidIsValid(role))
        fail(ERRCODE_UNDEFINED_OBJECT,
             "role \"" + pg::name_of(*schedule.scheduled_by) + "\" does not exist",
             "It made the schedule, and its rights count.",
             "Call backfill.schedule() again as another role.");
    return role;
}

/* What a cron_tick hook is told. */
Datum describe(const Schedule &schedule, int enqueued)
{
    pg::JsonbObject object;
    object.add_text("name", schedule.name);
    object.add_text("cron", schedule.cron);
    object.add_text("time_zone", schedule.time_zone);
    object.add_text("task_identifier", schedule.job.task_identifier);
    object.add_text("first_run_at", iso_time(schedule.due.front().at));
    object.add_text("last_run_at", iso_time(schedule.due.back().at));
    object.add_integer("enqueued", enqueued);
    return object.finish();
}

/* Enqueues as the role that made the schedule: its rights count, and no more than these,
 * though a tick is mostly a superuser's. Hooks on the way run as their own roles. Returns how
 * many jobs it enqueued. */
int enqueue_one(Enqueuer &enqueuer, const Schedule &schedule)
{
    const Oid role = role_of(schedule);
    check_may_schedule(role);
    pg::RoleScope scope = pg::call([&] { return pg::RoleScope(role, "pg_catalog, pg_temp"); });
    int enqueued = 0;
    for (const DueMinute &minute : schedule.due) {
        JobSpec job = schedule.job;
        job.run_at = pg::from_unix_seconds(minute.at);
        job.payload = payload_of_run(schedule.job.payload, minute);
        if (enqueuer.enqueue(job))
            enqueued++;
    }
    if (hooks::any(enqueuer.config(), core::HookEvent::kCronTick))
        hooks::notify_tick(enqueuer.config(), schedule.job.task_identifier,
                           describe(schedule, enqueued));
    pg::call([&] { scope.leave(); });
    return enqueued;
}

void save_progress(const Schedule &schedule, TimestampTz now)
{
    const bool failed = !schedule.error.empty();
    const bool ran = !failed && !schedule.due.empty();
    const pg::Param params[] = {
        pg::text_param(schedule.name),
        {TIMESTAMPTZOID, TimestampTzGetDatum(now), failed},
        {TIMESTAMPTZOID,
         TimestampTzGetDatum(ran ? pg::from_unix_seconds(schedule.due.back().at) : 0), !ran},
        {TEXTOID, failed ? pg::from_text(schedule.error) : static_cast<Datum>(0), !failed},
    };
    (void) pg::execute_as_owner("UPDATE backfill.cron_schedule s"
                                "   SET checked_until = coalesce($2, s.checked_until),"
                                "       last_run_at = coalesce($3, s.last_run_at),"
                                "       last_error = $4"
                                " WHERE s.name = $1",
                                params);
}

/* Enqueues what is due, and notes that: both or none. */
void settle(const std::vector<Schedule *> &schedules, TimestampTz now)
{
    std::vector<std::string_view> keys;
    for (const Schedule *schedule : schedules)
        if (!schedule->due.empty() && schedule->job.job_key)
            keys.push_back(*schedule->job.job_key);
    lock_job_keys(keys);

    Enqueuer enqueuer("cron_tick()");
    for (Schedule *schedule : schedules)
        schedule->enqueued = schedule->due.empty() ? 0 : enqueue_one(enqueuer, *schedule);
    enqueuer.finish();
    for (const Schedule *schedule : schedules)
        save_progress(*schedule, now);
}

void set_error(Schedule &schedule, const core::ErrorInfo &error)
{
    schedule.error = error.message;
    const std::string name(schedule.name);
    pg::call([&] {
        ereport(WARNING, (errmsg("schedule \"%s\" could not enqueue: %s", name.c_str(),
                                 error.message.c_str()),
                          error.detail.empty() ? 0 : errdetail("%s", error.detail.c_str()),
                          errhint("It is tried again at the next tick.%s%s",
                                  error.hint.empty() ? "" : " ", error.hint.c_str())));
    });
}

/* In a subtransaction, whose error it returns. A cancel is for the whole tick. */
template <class Body> std::optional<core::ErrorInfo> try_apart(Body &&body)
{
    auto error = pg::in_subtransaction(body);
    if (error && error->sqlstate == core::sqlstate::kQueryCanceled)
        fail(ERRCODE_QUERY_CANCELED, error->message);
    return error;
}

/* All in one subtransaction; if that fails, each schedule in one of its own, so that the
 * bad one is found and the others are enqueued. */
void settle_each(const std::vector<Schedule *> &schedules, TimestampTz now)
{
    if (schedules.empty() || !try_apart([&] { settle(schedules, now); }))
        return;
    for (Schedule *schedule : schedules)
        if (const auto error = try_apart([&] { settle({schedule}, now); }))
            set_error(*schedule, *error);
}

int64 tick_as_owner(TimestampTz now)
{
    const pg::Param param = pg::time_param(now);
    const pg::TableRows rows = pg::query_as_owner(kLockSql, std::span(&param, 1));
    std::vector<Schedule> schedules;
    for (int i = 0; i < rows.count; i++)
        schedules.push_back(read_schedule(rows.rows[i]));

    std::vector<Schedule *> readable;
    for (Schedule &schedule : schedules) {
        try {
            find_due_minutes(schedule, now);
            readable.push_back(&schedule);
        } catch (const Failure &failure) { /* the table was edited by hand, or a zone is gone */
            set_error(schedule, pg::to_error_info(failure));
        }
    }
    settle_each(readable, now);

    int64 enqueued = 0;
    for (Schedule &schedule : schedules) {
        if (schedule.error.empty())
            enqueued += schedule.enqueued;
        else if (const auto error = try_apart([&] { save_progress(schedule, now); }))
            if (error->message != schedule.error)
                set_error(schedule, *error); /* not even that can be written: the log has it */
    }
    return enqueued;
}

} // namespace

/* As the owner, whatever role calls. */
int64 run_due_schedules(TimestampTz now)
{
    pg::call([] { PreventCommandIfReadOnly("cron_tick()"); });
    const Oid owner = pg::extension_owner();
    pg::OwnerScope scope = pg::call([&] {
        pg::OwnerScope entered(owner);
        (void) set_config_option("lock_timeout", kLockTimeout, PGC_USERSET, PGC_S_SESSION,
                                 GUC_ACTION_SAVE, true, 0, false);
        return entered;
    });
    const int64 enqueued = tick_as_owner(now);
    pg::call([&] { scope.leave(); });
    return enqueued;
}

} // namespace backfill::queue
