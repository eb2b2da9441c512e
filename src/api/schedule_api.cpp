/* schedule_api.cpp - the SQL functions about schedules. */
#include "backfill/audit/audit.hpp"
#include "backfill/clock.hpp"
#include "backfill/config/serial_queues.hpp"
#include "backfill/core/crontab.hpp"
#include "backfill/core/syntax_error.hpp"
#include "backfill/cron/pg_cron.hpp"
#include "backfill/cron/schedule.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/time_zone.hpp"

using namespace backfill;
using queue::Enqueuer;
using queue::ScheduleSpec;

namespace
{

audit::Change schedule_change(std::string_view name)
{
    const pg::Param param = pg::text_param(name);
    return {audit::kind::kSchedule, name,
            "SELECT pg_catalog.to_jsonb(s)"
            "     - '{name,known_since,checked_until,last_run_at,last_error}'::text[]"
            "  FROM backfill.cron_schedule s WHERE s.name = $1",
            std::span(&param, 1)};
}

/* --- crontabs ----------------------------------------------------------------------- */

std::vector<core::CrontabItem> parse_crontab(std::string_view text)
{
    try {
        return core::parse_crontab(text);
    } catch (const core::SyntaxError &error) {
        fail(ERRCODE_INVALID_PARAMETER_VALUE, error.message, error.detail, error.hint);
    }
}

/* A URL can spell bytes that are no characters. */
void check_encoding(std::string_view value)
{
    const bool valid = pg::call(
        [&] { return pg_verifymbstr(value.data(), static_cast<int>(value.size()), true); });
    if (!valid) {
        const std::string encoding = pg::call([] { return GetDatabaseEncodingName(); });
        fail(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
             "value of option jobKey is not valid in encoding \"" + encoding + "\"");
    }
}

/* What JSON5 allows and jsonb does not is an error. */
Datum parse_json(const std::string &json)
{
    Datum result = 0;
    const auto error = pg::in_subtransaction([&] {
        result =
            pg::call([&] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.c_str())); });
    });
    if (error) {
        const std::string &state = error->sqlstate;
        fail(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]), error->message,
             error->detail, error->hint);
    }
    return result;
}

/* With Graphile Worker's defaults, as add_job() has them. */
void save_item(const Enqueuer &enqueuer, const core::CrontabItem &item)
{
    Interval fill{};
    fill.day = static_cast<int32>(item.fill_seconds / SECS_PER_DAY);
    fill.time = item.fill_seconds % SECS_PER_DAY * USECS_PER_SEC;
    ScheduleSpec spec;
    spec.name = item.id;
    spec.cron = item.cron;
    spec.fill = &fill;
    spec.job_key_mode = item.job_key_mode;
    spec.job.task_identifier = item.task;
    spec.job.payload = parse_json(item.payload);
    spec.job.queue_name = item.queue_name;
    spec.job.no_queue = !item.queue_name;
    spec.job.priority = item.priority.value_or(0);
    spec.job.max_attempts = item.max_attempts.value_or(25);
    spec.job.retry_policy = "graphile";
    spec.job.job_key = item.job_key;
    if (item.job_key)
        check_encoding(*item.job_key);
    (void) queue::save_schedule(enqueuer, spec);
    if (item.queue_name)
        queue::configure_new_queue_serial(*item.queue_name);
}

void save_items(const char *function, const std::vector<core::CrontabItem> &items)
{
    queue::prepare_scheduling(function);
    Enqueuer enqueuer(function);
    for (const core::CrontabItem &item : items) {
        try {
            save_item(enqueuer, item);
        } catch (Failure &failure) {
            failure.detail = "In line " + std::to_string(item.line) + " of the crontab." +
                             (failure.detail.empty() ? "" : " " + failure.detail);
            throw;
        }
    }
    enqueuer.finish();
}

} // namespace

BACKFILL_FUNCTION(backfill_schedule)
{
    const pg::Arguments arguments(fcinfo);
    const auto require = [&](const char *name, int n) {
        return queue::require_text(name, arguments.text(n));
    };
    ScheduleSpec spec;
    spec.name = require("name", 0);
    spec.cron = require("cron", 1);
    spec.job.task_identifier = require("task_identifier", 2);
    spec.job.payload = arguments.is_null(3) ? 0 : arguments.datum(3);
    spec.job.queue_name = arguments.text(4);
    spec.job.priority = arguments.int4(5);
    spec.job.max_attempts = arguments.int4(6);
    spec.job.job_key = arguments.text(7);
    spec.job_key_mode = require("job_key_mode", 8);
    spec.job.job_key_mode = queue::parse_job_key_mode(spec.job_key_mode);
    spec.job.retry_policy = arguments.text(9);
    spec.timeout = arguments.interval(10);
    spec.time_zone = require("time_zone", 11);
    spec.fill = arguments.interval(12);
    spec.max_catchup = arguments.int4(13).value_or(queue::kDefaultMaxCatchup);
    spec.catchup = require("catchup", 14);

    Enqueuer enqueuer("schedule()");
    queue::prepare_scheduling("schedule()");
    const audit::Change change = schedule_change(spec.name);
    const TimestampTz next = queue::save_schedule(enqueuer, spec);
    enqueuer.finish();
    change.note(fcinfo);
    return TimestampTzGetDatum(next);
}

BACKFILL_FUNCTION(backfill_unschedule)
{
    const auto name = *pg::Arguments(fcinfo).text(0);
    pg::prevent_if_read_only("unschedule()");
    queue::lock_schedules(); /* from here on it stays as it is noted */
    const audit::Change change = schedule_change(name);
    const bool removed = queue::remove_schedule(name);
    if (removed)
        change.note(fcinfo);
    return BoolGetDatum(removed);
}

BACKFILL_FUNCTION(backfill_add_cron_schedule)
{
    const auto line = queue::require_text("line", pg::Arguments(fcinfo).text(0));
    const std::vector<core::CrontabItem> items = parse_crontab(line);
    if (items.size() != 1)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "line must be one line of a crontab",
             "It has " + std::to_string(items.size()) + " that are not comments.",
             "Use backfill.schedule_crontab() for a whole crontab.");
    queue::prepare_scheduling("add_cron_schedule()"); /* from here on it stays as it is noted */
    const audit::Change change = schedule_change(items.front().id);
    save_items("add_cron_schedule()", items);
    change.note(fcinfo);
    return pg::from_text(items.front().id);
}

BACKFILL_FUNCTION(backfill_schedule_crontab)
{
    const auto crontab = queue::require_text("crontab", pg::Arguments(fcinfo).text(0));
    const std::vector<core::CrontabItem> items = parse_crontab(crontab);
    audit::Entry entry{audit::kind::kSchedule};
    for (const core::CrontabItem &item : items)
        entry.add(item.id);
    if (!items.empty())
        save_items("schedule_crontab()", items);
    audit::note(fcinfo, entry);
    pg::ResultSet result(fcinfo);
    for (const core::CrontabItem &item : items) {
        const Datum value = pg::from_text(item.id);
        const bool is_null = false;
        result.add(&value, &is_null);
    }
    return static_cast<Datum>(0);
}

namespace
{

std::optional<TimestampTz> next_run_at(std::string_view cron, std::string_view time_zone,
                                       TimestampTz after)
{
    const core::CronExpression expression = queue::parse_cron(cron);
    const pg::TimeZone zone(time_zone);
    if (TIMESTAMP_NOT_FINITE(after))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "after must be finite");
    const auto next = core::next_due(expression, zone, pg::to_unix_seconds(after));
    return next ? std::optional(pg::from_unix_seconds(*next)) : std::nullopt;
}

} // namespace

BACKFILL_FUNCTION(backfill_cron_next)
{
    const pg::Arguments arguments(fcinfo);
    const auto cron = queue::require_text("cron", arguments.text(0));
    const auto time_zone = queue::require_text("time_zone", arguments.text(1));
    const auto next =
        next_run_at(cron, time_zone, arguments.timestamptz(2).value_or(clock::transaction_start()));
    fcinfo->isnull = !next;
    return TimestampTzGetDatum(next.value_or(0));
}

BACKFILL_FUNCTION(backfill_next_run_at)
{
    const pg::Arguments arguments(fcinfo);
    std::optional<TimestampTz> next;
    try {
        next = next_run_at(*arguments.text(0), *arguments.text(1), *arguments.timestamptz(2));
    } catch (const Failure &) { /* the last tick has said why, in last_error */
    }
    fcinfo->isnull = !next;
    return TimestampTzGetDatum(next.value_or(0));
}

BACKFILL_FUNCTION(backfill_cron_tick)
{
    return Int64GetDatum(queue::run_due_schedules(clock::now()));
}

BACKFILL_FUNCTION(backfill_cron_tick_at)
{
    const TimestampTz now = *pg::Arguments(fcinfo).timestamptz(0);
    if (TIMESTAMP_NOT_FINITE(now))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "now must be finite");
    return Int64GetDatum(queue::run_due_schedules(now));
}
