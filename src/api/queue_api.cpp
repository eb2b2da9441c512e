/* queue_api.cpp - SQL functions about queues. */
#include "backfill/audit/audit.hpp"
#include "backfill/config/serial_queues.hpp"
#include "backfill/dequeue/queue_removal.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/stats/counters.hpp"
#include "backfill/table/job_table.hpp"

using namespace backfill;

namespace
{

constexpr double kLongestPeriodDays = 366;

void check_positive(const char *argument, std::optional<int32> value)
{
    if (value && *value < 1)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " must be at least 1: " + std::to_string(*value),
             "NULL means no limit.");
}

void check_period(const Interval *period)
{
    if (period == nullptr)
        return;
    if (pg::approximate_days(*period) > kLongestPeriodDays || pg::to_microseconds(*period) < 1000)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "rate_period is out of range: " + pg::to_text(*period),
             "It must be between 1 millisecond and 366 days.");
}

/* A queue comes into being with its first use, so that a misspelt name is no error. */
bool is_known_queue(std::string_view name)
{
    const pg::Param param = pg::text_param(name);
    const pg::StatementResult known =
        pg::execute_as_owner("SELECT $1 IN ('fast', 'bulk')"
                             "    OR EXISTS (SELECT FROM backfill.queue q WHERE q.queue_name = $1)"
                             "    OR EXISTS (SELECT FROM backfill.task t WHERE t.queue_name = $1)",
                             std::span(&param, 1));
    if (DatumGetBool(known.first_value))
        return true;
    queue::JobTable table;
    const bool has_jobs = table.count_in_queue(name, 1) > 0;
    table.close();
    return has_jobs;
}

void notice_unknown_queue(std::string_view name)
{
    if (is_known_queue(name))
        return;
    const std::string shown = pg::shortened(name);
    pg::call([&] {
        ereport(NOTICE,
                (errmsg("queue \"%s\" has no settings, no task and no job so far", shown.c_str()),
                 errhint("See backfill.queues for the names.")));
    });
}

audit::Change queue_change(std::string_view name)
{
    const pg::Param param = pg::text_param(name);
    return {audit::kind::kQueue, name,
            "SELECT pg_catalog.jsonb_build_object('concurrency', q.concurrency,"
            "   'rate_limit', q.rate_limit, 'rate_period', q.rate_period,"
            "   'max_depth', q.max_depth, 'paused', q.paused)"
            "  FROM backfill.queue q WHERE q.queue_name = $1 FOR UPDATE",
            std::span(&param, 1)};
}

Datum set_paused(FunctionCallInfo fcinfo, bool paused)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = queue::require_text("queue_name", arguments.text(0));
    queue::check_queue_name(name);
    notice_unknown_queue(name);
    const pg::Param params[] = {pg::text_param(name), pg::bool_param(paused)};
    queue::write_serial_queues();
    const audit::Change change = queue_change(name);
    (void) pg::execute_as_owner("INSERT INTO backfill.queue (queue_name, paused, automatic)"
                                " VALUES ($1, $2, true)"
                                " ON CONFLICT (queue_name) DO UPDATE SET paused = excluded.paused",
                                params);
    change.note(fcinfo);
    return static_cast<Datum>(0);
}

} // namespace

BACKFILL_FUNCTION(backfill_new_queue_id)
{
    return Int32GetDatum(queue::new_queue_id());
}

BACKFILL_FUNCTION(backfill_set_queue)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = queue::require_text("queue_name", arguments.text(0));
    const auto concurrency = arguments.int4(1);
    const auto rate_limit = arguments.int4(2);
    const Interval *period = arguments.interval(3);
    const auto max_depth = arguments.int4(4);
    queue::check_queue_name(name);
    check_positive("concurrency", concurrency);
    check_positive("rate_limit", rate_limit);
    check_positive("max_depth", max_depth);
    check_period(period);
    if (rate_limit.has_value() && period == nullptr)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "rate_period must not be null with a rate_limit",
             "A rate is a number of jobs (rate_limit) in a period (rate_period).");

    const pg::Param params[] = {
        pg::text_param(name),       pg::int4_param(concurrency),
        pg::int4_param(rate_limit), pg::interval_param(rate_limit ? period : nullptr),
        pg::int4_param(max_depth),
    };
    queue::write_serial_queues();
    const audit::Change change = queue_change(name);
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.queue (queue_name, concurrency, rate_limit, rate_period, max_depth)"
        " VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (queue_name) DO UPDATE SET concurrency = excluded.concurrency,"
        "   rate_limit = excluded.rate_limit, rate_period = excluded.rate_period,"
        "   max_depth = excluded.max_depth, automatic = false",
        params);
    change.note(fcinfo);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_delete_queue)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = queue::require_text("queue_name", arguments.text(0));
    queue::check_queue_name(name);
    if (name == "fast" || name == "bulk")
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
             "queue \"" + std::string(name) + "\" cannot be deleted", "It is always there.",
             "backfill.set_queue('" + std::string(name) + "') gives it the limit of its setting.");
    queue::write_serial_queues();
    const audit::Change change = queue_change(name);
    const queue::Deletion deletion = queue::delete_queue_row(name);
    if (deletion.use != queue::QueueUse::kNone)
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
             "queue \"" + std::string(name) + "\" has jobs",
             deletion.use == queue::QueueUse::kJobs
                 ? ""
                 : "A transaction that has not ended yet has enqueued one, or runs one.",
             "Wait until they have ended, or cancel them with backfill.cancel_job().");
    /* Should this be rolled back, its counters begin anew. */
    stats::forget_queue(name);
    if (deletion.had_row)
        change.note(fcinfo);
    return BoolGetDatum(deletion.had_row);
}

BACKFILL_FUNCTION(backfill_pause_queue)
{
    return set_paused(fcinfo, true);
}

BACKFILL_FUNCTION(backfill_resume_queue)
{
    return set_paused(fcinfo, false);
}
