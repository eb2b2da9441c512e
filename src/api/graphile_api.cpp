/* graphile_api.cpp - Graphile Worker's functions, with its defaults and its errors. */
#include "backfill/config/public_job.hpp"
#include "backfill/config/serial_queues.hpp"
#include "backfill/dequeue/queue_permits.hpp"
#include "backfill/enqueue/enqueue.hpp"

using namespace backfill;
using queue::Enqueuer;
using queue::JobSpec;

namespace
{

constexpr int kDefaultMaxAttempts = 25;

void check_length(std::optional<std::string_view> value, int limit, const char *what, int sqlstate)
{
    if (!value)
        return;
    const int length = pg::call(
        [&] { return pg_mbstrlen_with_len(value->data(), static_cast<int>(value->size())); });
    if (length > limit)
        fail(sqlstate,
             std::string(what) + " is too long (max length: " + std::to_string(limit) + ")");
}

/* Its json as it is here, jsonb. */
Datum to_jsonb(Datum json)
{
    return pg::call(
        [&] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json))); });
}

queue::JobKeyMode check_job_key_mode(std::string_view mode)
{
    if (mode != "replace" && mode != "preserve_run_at" && mode != "unsafe_dedupe")
        fail(MAKE_SQLSTATE('G', 'W', 'B', 'K', 'M'),
             "Invalid job_key_mode value, expected 'replace', 'preserve_run_at' or "
             "'unsafe_dedupe'.");
    return queue::parse_job_key_mode(mode);
}

JobSpec read_spec(const pg::Arguments &arguments)
{
    JobSpec spec;
    spec.task_identifier = queue::require_text("identifier", arguments.text(0));
    spec.payload = arguments.is_null(1) ? 0 : to_jsonb(arguments.datum(1));
    spec.queue_name = arguments.text(2);
    spec.no_queue = !spec.queue_name;
    spec.run_at = arguments.timestamptz(3);
    spec.max_attempts = arguments.int4(4).value_or(kDefaultMaxAttempts);
    spec.job_key = arguments.text(5);
    spec.priority = arguments.int4(6).value_or(0);
    spec.flags = arguments.is_null(7) ? 0 : arguments.datum(7);
    spec.retry_policy = "graphile";
    return spec;
}

void check_spec(const JobSpec &spec)
{
    check_length(spec.task_identifier, 128, "Task identifier",
                 MAKE_SQLSTATE('G', 'W', 'B', 'I', 'D'));
    check_length(spec.queue_name, 128, "Job queue name", MAKE_SQLSTATE('G', 'W', 'B', 'Q', 'N'));
    if (*spec.max_attempts < 1)
        fail(MAKE_SQLSTATE('G', 'W', 'B', 'M', 'A'), "Job maximum attempts must be at least 1.");
    check_length(spec.job_key, 512, "Job key", MAKE_SQLSTATE('G', 'W', 'B', 'J', 'K'));
}

/* With unsafe_dedupe it may be another job, which a function runs perhaps: no column says that. */
queue::JobState state_of(const queue::JobRow &row, const JobSpec &spec)
{
    const queue::JobState state = queue::state_of(row);
    return state == queue::JobState::kReady && spec.job_key_mode == queue::JobKeyMode::kUnsafeDedupe
               ? queue::JobState::kGone
               : state;
}

} // namespace

/* Its named queues are serial. */
BACKFILL_FUNCTION(backfill_add_job)
{
    const pg::Arguments arguments(fcinfo);
    JobSpec spec = read_spec(arguments);
    check_spec(spec);
    spec.job_key_mode = check_job_key_mode(arguments.text(8).value_or("replace"));

    Enqueuer enqueuer("add_job()");
    const auto row = enqueuer.add(spec);
    if (row && spec.queue_name)
        queue::make_new_queue_serial(*spec.queue_name);
    enqueuer.finish();
    fcinfo->isnull = !row;
    if (!row)
        return static_cast<Datum>(0);
    const queue::PublicJob job = queue::public_job(*row, state_of(*row, spec));
    return pg::make_row(fcinfo, job.values, job.nulls);
}
