/* job_api.cpp - SQL functions that act on one job: from inside its handler, or on a
 * waiting one from outside. */
#include "backfill/audit/audit.hpp"
#include "backfill/call/run_job.hpp"
#include "backfill/control/control.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/enqueue/producer_locks.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/cancel.hpp"

using namespace backfill;

namespace
{

const queue::JobRow &require_running_job(const char *function)
{
    const queue::JobRow *row = queue::running_job();
    if (row == nullptr)
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
             std::string(function) + " must be called by the handler of a job", {},
             "No job is running in this session.");
    return *row;
}

/* A message in its place would be classified as an error that no rule knows. */
void check_sqlstate(std::optional<std::string_view> sqlstate)
{
    if (!sqlstate)
        return;
    const bool known = std::all_of(sqlstate->begin(), sqlstate->end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
    });
    if (!known || (sqlstate->size() != 5 && sqlstate->size() != 2))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "sqlstate must be a SQLSTATE or its class: \"" + pg::shortened(*sqlstate) + "\"", {},
             "Give an error's text as message => '...'.");
}

} // namespace

BACKFILL_FUNCTION(backfill_current_job)
{
    const queue::JobRow &row = require_running_job("current_job()");
    using queue::Column;
    const std::string_view queue_name = row.text_or_empty(Column::kQueueName);
    const Datum values[] = {
        row.get(Column::kId),
        row.get(Column::kTaskIdentifier),
        row.get(Column::kPayload),
        row.get(Column::kQueueName),
        row.get(Column::kPriority),
        row.get(Column::kRunAt),
        Int32GetDatum(row.attempts() + 1),
        Int32GetDatum(row.max_attempts()),
        row.get(Column::kJobKey),
        row.get(Column::kLastError),
        row.get(Column::kCreatedAt),
        row.get(Column::kHeaders),
    };
    bool nulls[std::size(values)] = {};
    nulls[3] = queue_name.empty();
    nulls[8] = row.is_null(Column::kJobKey);
    nulls[9] = row.is_null(Column::kLastError);
    nulls[11] = row.is_null(Column::kHeaders);
    return pg::make_row(fcinfo, values, nulls);
}

BACKFILL_FUNCTION(backfill_snooze)
{
    (void) require_running_job("snooze()");
    const pg::Arguments arguments(fcinfo);
    const Interval *delay = arguments.interval(0);
    if (delay == nullptr)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "delay must not be null");
    const double days = pg::approximate_days(*delay);
    if (days < 0 || days > static_cast<double>(core::kLongestDelayUs / USECS_PER_DAY))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "delay is out of range: " + pg::to_text(*delay),
             "It must be between 0 and 36500 days.");
    queue::said::set_verdict({core::Fate::kSnoozed, pg::to_microseconds(*delay), {}});
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_discard)
{
    (void) require_running_job("discard()");
    const pg::Arguments arguments(fcinfo);
    const auto reason = queue::require_text("reason", arguments.text(0));
    queue::said::set_verdict({core::Fate::kDiscarded, 0, pg::kept_error_text(reason)});
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_cancel_job)
{
    pg::prevent_if_read_only("cancel_job()");
    const auto job = queue::cancel_job(*pg::Arguments(fcinfo).int8(0));
    if (job) {
        audit::Entry entry{audit::kind::kJob};
        entry.add(job->id());
        entry.before = audit::about(*job);
        audit::note(fcinfo, entry);
    }
    return BoolGetDatum(job.has_value());
}

/* Moves a waiting job to the dead letter queue; NULL if it does not wait. */
BACKFILL_FUNCTION(backfill_bury)
{
    pg::prevent_if_read_only("permanently_fail_jobs()");
    const pg::Arguments arguments(fcinfo);
    const auto reason = queue::require_text("reason", arguments.text(1));
    const auto letter = queue::control::bury(arguments.int8(0).value_or(0), reason,
                                             arguments.is_null(2) ? 0 : arguments.datum(2));
    fcinfo->isnull = !letter;
    return Int64GetDatum(letter.value_or(0));
}

BACKFILL_FUNCTION(backfill_lock_job_keys)
{
    const auto elements = pg::Arguments(fcinfo).array(0, TEXTOID);
    std::vector<std::string_view> keys;
    for (int i = 0; elements && i < elements->count; i++)
        if (!elements->nulls[i])
            keys.push_back(pg::to_view(elements->values[i]));
    queue::lock_job_keys(keys);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_builtin_error_rules)
{
    pg::ResultSet result(fcinfo);
    for (const core::BuiltinRule &rule : core::builtin_error_rules()) {
        const Datum values[] = {Int32GetDatum(rule.id), pg::from_text(rule.sqlstate),
                                pg::from_text(rule.message_contains),
                                pg::from_text(core::error_class_name(rule.error_class))};
        const bool nulls[] = {false, rule.sqlstate.empty(), rule.message_contains.empty(), false};
        result.add(values, nulls);
    }
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_classify_error)
{
    const pg::Arguments arguments(fcinfo);
    const auto sqlstate = arguments.text(0);
    const auto message = arguments.text(1);
    const auto task = arguments.text(2).value_or(std::string_view());
    check_sqlstate(sqlstate);
    const auto config = queue::config();
    const core::ErrorRules &rules = config->error_rules();
    return pg::from_text(core::error_class_name(
        sqlstate ? rules.classify(task, *sqlstate)
                 : rules.classify_text(task, message.value_or(std::string_view()))));
}
