/* control_api.cpp - SQL functions that act on jobs which wait or are dead, by id or key. They run
 * as their caller, and show of a job what the caller may see. */
#include "backfill/audit/audit.hpp"
#include "backfill/config/public_job.hpp"
#include "backfill/control/control.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/pg/jsonb.hpp"

using namespace backfill;
namespace control = backfill::queue::control;

namespace
{

/* NULL: none. */
std::vector<int64> given_ids(const pg::Arguments &arguments)
{
    return arguments.int8_array(0).value_or(std::vector<int64>());
}

/* Each in the state that state_after(row) gives. */
template <class StateAfter>
Datum return_jobs(FunctionCallInfo fcinfo, const std::vector<queue::JobRow> &rows,
                  StateAfter &&state_after)
{
    pg::ResultSet result(fcinfo);
    for (const queue::JobRow &row : rows) {
        const queue::PublicJob job = queue::public_job(row, state_after(row));
        result.add(job.values, job.nulls);
    }
    return result.finish();
}

queue::JobState gone(const queue::JobRow &)
{
    return queue::JobState::kGone;
}

queue::JobState dead(const queue::JobRow &)
{
    return queue::JobState::kDead;
}

queue::JobState rescheduled(const queue::JobRow &row)
{
    return row.attempts() < row.max_attempts() ? queue::state_of(row) : queue::JobState::kDead;
}

/* What was changed of one job is noted as it was and as it is, if anything was; of several, what
 * was asked for. */
void note_changes(FunctionCallInfo fcinfo, const std::vector<control::Changed> &jobs,
                  Datum asked_for)
{
    audit::Entry entry{audit::kind::kJob};
    for (const control::Changed &job : jobs)
        entry.add(job.after.id());
    if (jobs.size() == 1)
        entry.set_difference(jobs.front().before, jobs.front().after);
    else
        entry.after = asked_for;
    if (entry.after == 0)
        return;
    audit::note(fcinfo, entry);
}

/* Jobs that are gone, or dead: what the only one was. */
void note_ended(FunctionCallInfo fcinfo, const std::vector<queue::JobRow> &jobs, Datum after)
{
    audit::Entry entry{audit::kind::kJob};
    entry.add(jobs);
    if (jobs.size() == 1)
        entry.before = audit::about(jobs.front());
    entry.after = after;
    audit::note(fcinfo, entry);
}

std::vector<queue::JobRow> rows_after(const std::vector<control::Changed> &jobs)
{
    std::vector<queue::JobRow> rows;
    for (const control::Changed &job : jobs)
        rows.push_back(job.after);
    return rows;
}

Datum to_jsonb(const control::Changes &changes)
{
    pg::JsonbObject object;
    if (changes.run_at)
        object.add_timestamp("run_at", *changes.run_at);
    if (changes.priority)
        object.add_integer("priority", *changes.priority);
    if (changes.attempts)
        object.add_integer("attempts", *changes.attempts);
    if (changes.max_attempts)
        object.add_integer("max_attempts", *changes.max_attempts);
    return object.finish();
}

void check_changes(const control::Changes &changes)
{
    if (changes.run_at)
        queue::check_run_at(*changes.run_at);
    if (changes.priority)
        queue::check_priority(*changes.priority);
    if (changes.attempts)
        queue::check_attempts(*changes.attempts);
    if (changes.max_attempts)
        queue::check_max_attempts(*changes.max_attempts);
}

/* The arguments of update_job(). */
control::Update read_update(const pg::Arguments &arguments)
{
    control::Update update;
    if (!arguments.is_null(1))
        update.payload = arguments.datum(1);
    update.queue_name = arguments.text(2);
    update.changes.priority = arguments.int4(3);
    update.changes.run_at = arguments.timestamptz(4);
    update.changes.max_attempts = arguments.int4(5);
    update.retry_policy = arguments.text(6);
    update.timeout_ms = queue::check_timeout(arguments.interval(7));
    if (!arguments.is_null(8))
        update.headers = arguments.datum(8);
    check_changes(update.changes);
    if (update.queue_name)
        queue::check_queue_name(*update.queue_name);
    if (update.retry_policy)
        queue::check_retry_policy(*queue::config(), *update.retry_policy);
    if (update.headers != 0)
        queue::check_headers(update.headers);
    return update;
}

} // namespace

BACKFILL_FUNCTION(backfill_complete_jobs)
{
    pg::prevent_if_read_only("complete_jobs()");
    const auto jobs = control::complete(given_ids(pg::Arguments(fcinfo)));
    note_ended(fcinfo, jobs, 0);
    return return_jobs(fcinfo, jobs, gone);
}

BACKFILL_FUNCTION(backfill_permanently_fail_jobs)
{
    pg::prevent_if_read_only("permanently_fail_jobs()");
    const pg::Arguments arguments(fcinfo);
    const auto reason = arguments.text(1).value_or("Manually marked as failed");
    const auto jobs = control::fail_for_good(given_ids(arguments), reason);
    pg::JsonbObject after;
    after.add_text("reason", reason);
    note_ended(fcinfo, jobs, after.finish());
    return return_jobs(fcinfo, jobs, dead);
}

BACKFILL_FUNCTION(backfill_reschedule_jobs)
{
    pg::prevent_if_read_only("reschedule_jobs()");
    const pg::Arguments arguments(fcinfo);
    const control::Changes changes{arguments.timestamptz(1), arguments.int4(2), arguments.int4(3),
                                   arguments.int4(4)};
    check_changes(changes);
    const auto jobs = control::reschedule(given_ids(arguments), changes);
    note_changes(fcinfo, jobs, to_jsonb(changes));
    return return_jobs(fcinfo, rows_after(jobs), rescheduled);
}

BACKFILL_FUNCTION(backfill_update_job)
{
    pg::prevent_if_read_only("update_job()");
    const pg::Arguments arguments(fcinfo);
    const auto id = arguments.int8(0);
    const control::Update update = read_update(arguments);
    std::vector<control::Changed> jobs;
    if (id)
        if (const auto job = control::update(*id, update))
            jobs.push_back(*job);
    note_changes(fcinfo, jobs, 0);
    return return_jobs(fcinfo, rows_after(jobs), queue::state_of);
}

BACKFILL_FUNCTION(backfill_remove_job)
{
    pg::prevent_if_read_only("remove_job()");
    return return_jobs(fcinfo, control::remove(*pg::Arguments(fcinfo).text(0)), gone);
}
