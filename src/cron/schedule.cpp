/* schedule.cpp - see schedule.hpp. Adding and removing; the tick is in cron_tick.cpp. */
#include "backfill/cron/schedule.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/core/syntax_error.hpp"
#include "backfill/cron/pg_cron.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/pg/time_zone.hpp"

namespace backfill::queue
{

namespace
{

constexpr int kMaxNameLength = 128;
constexpr int kLongestCatchup = 100000;
constexpr double kLongestFillDays = 100 * 366;

void check_name(std::string_view name)
{
    const int length =
        pg::call([&] { return pg_mbstrlen_with_len(name.data(), static_cast<int>(name.size())); });
    if (length < 1 || length > kMaxNameLength)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "name must have between 1 and 128 characters",
             "It has " + std::to_string(length) + ".");
}

void check_fill(const Interval &fill)
{
    const double days = pg::approximate_days(fill);
    if (days < 0 || days > kLongestFillDays)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "fill is out of range: " + pg::to_text(fill),
             "It must be between 0 and 100 years.");
}

void check_catchup(const ScheduleSpec &spec)
{
    if (spec.max_catchup < 1 || spec.max_catchup > kLongestCatchup)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "max_catchup is out of range: " + std::to_string(spec.max_catchup),
             "It must be between 1 and 100000.");
    if (spec.catchup != "all" && spec.catchup != "latest")
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "catchup is unknown: \"" + std::string(spec.catchup) + "\"", {}, "Use all or latest.");
}

void check_payload(Datum payload)
{
    const bool is_object = payload == 0 || pg::call([&] {
                               return static_cast<bool>(JB_ROOT_IS_OBJECT(DatumGetJsonbP(payload)));
                           });
    if (!is_object)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "payload of a schedule must be a JSON object",
             "Each job gets it with a key _cron that tells which minute it is for.");
}

} // namespace

core::CronExpression parse_cron(std::string_view cron)
{
    try {
        return core::CronExpression::parse(cron, core::CronSyntax::kExtended);
    } catch (const core::SyntaxError &error) {
        fail(ERRCODE_INVALID_PARAMETER_VALUE, error.message, error.detail, error.hint);
    }
}

void check_may_schedule(Oid role)
{
    const bool allowed = pg::call([&] {
        char schema[] = "backfill";
        char function[] = "enqueue";
        const Oid unused = InvalidOid; /* of any arguments; PostgreSQL asserts that this is given */
        List *const name = list_make2(makeString(schema), makeString(function));
        return pg::may_use_schema(get_namespace_oid(schema, false), role) &&
               pg::may_execute_function(LookupFuncName(name, -1, &unused, false), role);
    });
    if (!allowed)
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "role \"" + pg::role_name(role) + "\" may not enqueue jobs",
             "The jobs of a schedule are enqueued with the rights of the role that made it.",
             "Grant it EXECUTE on backfill.enqueue(), for example by backfill.grant_producer(), or "
             "make the schedule as another role.");
}

void prepare_scheduling(const char *function)
{
    pg::prevent_if_read_only(function);
    check_may_schedule(GetUserId());
    lock_schedules();
    start_clock();
    wake::announce_schedules();
}

namespace
{

/* "+02:00" is two hours west of Greenwich in POSIX and so in PostgreSQL; nearly all users mean
 * the east. Zones that have a name are unambiguous, Etc/GMT+2 too. */
void check_zone_name(std::string_view zone)
{
    constexpr std::string_view kEtc = "Etc/";
    for (std::size_t i = 0; i + 1 < zone.size(); i++)
        if ((zone[i] == '+' || zone[i] == '-') && zone[i + 1] >= '0' && zone[i + 1] <= '9' &&
            zone.substr(0, kEtc.size()) != kEtc)
            fail(ERRCODE_INVALID_PARAMETER_VALUE,
                 "time_zone must be the name of a zone: \"" + pg::shortened(zone) + "\"",
                 "An offset that is written like this counts to the west of Greenwich.",
                 "Use a name of pg_timezone_names, such as Europe/Berlin, or Etc/GMT-2 for two "
                 "hours "
                 "to the east.");
}

} // namespace

TimestampTz save_schedule(const Enqueuer &enqueuer, const ScheduleSpec &spec)
{
    check_name(spec.name);
    check_catchup(spec);
    check_payload(spec.job.payload);
    const Interval none{};
    const Interval &fill = spec.fill == nullptr ? none : *spec.fill;
    check_fill(fill);
    (void) check_timeout(spec.timeout);
    enqueuer.check(spec.job);
    const core::CronExpression expression = parse_cron(spec.cron);
    check_zone_name(spec.time_zone);
    const pg::TimeZone zone(spec.time_zone);
    const TimestampTz now = clock::now();
    const auto next = core::next_due(expression, zone, pg::to_unix_seconds(now));
    if (!next)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "cron expression \"" + std::string(spec.cron) + "\" is never due",
             "None of its months has such a day.");

    const pg::Param params[] = {
        pg::text_param(spec.name),
        pg::text_param(spec.cron),
        pg::text_param(zone.name()),
        pg::interval_param(&fill),
        pg::int4_param(spec.max_catchup),
        pg::text_param(spec.catchup),
        pg::text_param(spec.job.task_identifier),
        pg::text_param(spec.job.no_queue ? std::string_view() : spec.job.queue_name),
        pg::int2_param(spec.job.priority),
        pg::int2_param(spec.job.max_attempts),
        pg::text_param(spec.job.job_key),
        pg::text_param(spec.job_key_mode),
        pg::text_param(spec.job.retry_policy),
        pg::jsonb_param(spec.job.payload),
        pg::time_param(now),
        pg::role_param(GetUserId()),
        pg::interval_param(spec.timeout),
    };
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.cron_schedule AS s (name, cron, time_zone, fill, max_catchup,"
        "   catchup, task_identifier, queue_name, priority, max_attempts, job_key, job_key_mode,"
        "   retry_policy, payload, known_since, checked_until, scheduled_by, timeout)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,"
        "   coalesce($14, '{}'::jsonb), $15, $15, backfill._role_of($16), $17)"
        " ON CONFLICT (name) DO UPDATE SET"
        "   cron = excluded.cron, time_zone = excluded.time_zone, fill = excluded.fill,"
        "   max_catchup = excluded.max_catchup, catchup = excluded.catchup,"
        "   task_identifier = excluded.task_identifier, queue_name = excluded.queue_name,"
        "   priority = excluded.priority, max_attempts = excluded.max_attempts,"
        "   job_key = excluded.job_key, job_key_mode = excluded.job_key_mode,"
        "   retry_policy = excluded.retry_policy, timeout = excluded.timeout,"
        "   payload = excluded.payload,"
        "   known_since = CASE WHEN s.cron = excluded.cron AND s.time_zone = excluded.time_zone"
        "     THEN s.known_since ELSE excluded.known_since END,"
        "   scheduled_by = excluded.scheduled_by, last_error = NULL",
        params);
    return pg::from_unix_seconds(*next);
}

bool remove_schedule(std::string_view name)
{
    lock_schedules();
    const pg::Param param = pg::text_param(name);
    const bool removed = pg::execute_as_owner("DELETE FROM backfill.cron_schedule s"
                                              " WHERE s.name = $1",
                                              std::span(&param, 1))
                             .rows > 0;
    wake::announce_schedules();
    /* What others have committed since this transaction began counts as well. */
    if (removed && pg::execute_as_owner("SELECT 1 FROM backfill.cron_schedule s LIMIT 1", {},
                                        pg::Sees::kLatest)
                           .rows == 0)
        stop_clock();
    return removed;
}

} // namespace backfill::queue
