/* control_api.cpp - SQL functions that act on jobs which wait or are dead, by id or key. They run
 * as their caller, who gets to see of the rows what he may read in the table. */
#include "backfill/config/job_rights.hpp"
#include "backfill/control/control.hpp"
#include "backfill/enqueue/enqueue.hpp"

using namespace backfill;
namespace control = backfill::queue::control;

namespace
{

/* NULL: none. */
std::vector<int64> job_ids(const pg::Arguments &arguments, int n)
{
    const auto elements = arguments.array(n, INT8OID);
    std::vector<int64> ids;
    for (int i = 0; elements && i < elements->count; i++)
        if (!elements->nulls[i])
            ids.push_back(DatumGetInt64(elements->values[i]));
    return ids;
}

Datum return_rows(FunctionCallInfo fcinfo, const std::vector<queue::JobRow> &rows)
{
    pg::ResultSet result(fcinfo);
    const int width = pg::call([&] {
        TupleDesc columns = nullptr; /* an administrator's own included */
        (void) get_call_result_type(fcinfo, nullptr, &columns);
        return columns->natts;
    });
    Datum values[MaxHeapAttributeNumber];
    bool nulls[MaxHeapAttributeNumber];
    for (const queue::JobRow &row : rows) {
        const queue::JobRow shown = queue::job_rights::visible(row);
        queue::JobTable::own().spread(shown.values, shown.nulls, width, values, nulls);
        result.add(values, nulls);
    }
    return result.finish();
}

void prevent_if_read_only(const char *function)
{
    pg::call([&] { PreventCommandIfReadOnly(function); });
}

} // namespace

BACKFILL_FUNCTION(backfill_complete_jobs)
{
    prevent_if_read_only("complete_jobs()");
    return return_rows(fcinfo, control::complete(job_ids(pg::Arguments(fcinfo), 0)));
}

BACKFILL_FUNCTION(backfill_permanently_fail_jobs)
{
    prevent_if_read_only("permanently_fail_jobs()");
    const pg::Arguments arguments(fcinfo);
    return return_rows(
        fcinfo, control::fail_for_good(job_ids(arguments, 0),
                                       arguments.text(1).value_or("Manually marked as failed")));
}

BACKFILL_FUNCTION(backfill_reschedule_jobs)
{
    prevent_if_read_only("reschedule_jobs()");
    const pg::Arguments arguments(fcinfo);
    const control::Changes changes{arguments.timestamptz(1), arguments.int4(2), arguments.int4(3),
                                   arguments.int4(4)};
    if (changes.run_at)
        queue::check_run_at(*changes.run_at);
    if (changes.priority)
        queue::check_priority(*changes.priority);
    if (changes.attempts && (*changes.attempts < 0 || *changes.attempts > PG_INT16_MAX))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "attempts is out of range: " + std::to_string(*changes.attempts),
             "It must be between 0 and 32767.");
    if (changes.max_attempts)
        queue::check_max_attempts(*changes.max_attempts);
    return return_rows(fcinfo, control::reschedule(job_ids(arguments, 0), changes));
}

BACKFILL_FUNCTION(backfill_remove_job)
{
    prevent_if_read_only("remove_job()");
    return return_rows(fcinfo, control::remove(*pg::Arguments(fcinfo).text(0)));
}
