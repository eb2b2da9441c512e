/* enqueue_api.cpp - the SQL functions that enqueue. Arguments in, one Enqueuer, ids out. */
#include "backfill/config/serial_queues.hpp"
#include "backfill/core/priority.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/enqueue/json_spec.hpp"
#include "backfill/enqueue/producer_locks.hpp"

using namespace backfill;
using queue::Enqueuer;
using queue::JobSpec;

namespace
{

/* The id of a job; NULL if a hook skipped it. */
Datum id_datum(FunctionCallInfo fcinfo, std::optional<int64> id)
{
    fcinfo->isnull = !id;
    return Int64GetDatum(id.value_or(0));
}

Datum enqueue_one(FunctionCallInfo fcinfo, const char *function, const JobSpec &spec)
{
    Enqueuer enqueuer(function);
    const auto id = enqueuer.enqueue(spec);
    enqueuer.finish();
    return id_datum(fcinfo, id);
}

/* enqueue_fast() and its siblings: (task_identifier, payload, job_key) and fixed rest. */
struct Preset {
    const char *function;
    const char *queue_name;
    int priority;
    const char *retry_policy; /* null: the task's own */
};

JobSpec preset_spec(const pg::Arguments &arguments)
{
    JobSpec spec;
    spec.task_identifier = queue::require_text("task_identifier", arguments.text(0));
    spec.payload = arguments.is_null(1) ? 0 : arguments.datum(1);
    return spec;
}

Datum enqueue_preset(FunctionCallInfo fcinfo, const Preset &preset)
{
    const pg::Arguments arguments(fcinfo);
    JobSpec spec = preset_spec(arguments);
    spec.job_key = arguments.text(2);
    spec.queue_name = preset.queue_name;
    spec.priority = preset.priority;
    if (preset.retry_policy != nullptr)
        spec.retry_policy = preset.retry_policy;
    return enqueue_one(fcinfo, preset.function, spec);
}

/* What one of many jobs needs for its row is not kept until the last is enqueued. */
class RowMemory
{
  public:
    RowMemory()
    {
        memory_ = pg::call([] {
            return AllocSetContextCreate(CurrentMemoryContext, "backfill enqueue",
                                         ALLOCSET_DEFAULT_SIZES);
        });
    }
    template <class Body> auto run(Body &&body)
    {
        const MemoryContext caller = MemoryContextSwitchTo(memory_);
        auto result = body();
        MemoryContextSwitchTo(caller);
        pg::call([&] { MemoryContextReset(memory_); });
        return result;
    }

  private:
    MemoryContext memory_;
};

void return_ids(FunctionCallInfo fcinfo, const std::vector<std::optional<int64>> &ids)
{
    pg::ResultSet result(fcinfo);
    for (const std::optional<int64> &id : ids) {
        const Datum value = Int64GetDatum(id.value_or(0));
        const bool is_null = !id;
        result.add(&value, &is_null);
    }
}

} // namespace

BACKFILL_FUNCTION(backfill_enqueue)
{
    const pg::Arguments arguments(fcinfo);
    JobSpec spec = preset_spec(arguments);
    spec.queue_name = arguments.text(2);
    spec.priority = arguments.int4(3);
    spec.run_at = arguments.timestamptz(4);
    spec.max_attempts = arguments.int4(5);
    spec.job_key = arguments.text(6);
    spec.job_key_mode =
        queue::parse_job_key_mode(queue::require_text("job_key_mode", arguments.text(7)));
    spec.retry_policy = arguments.text(8);
    spec.timeout_ms = queue::check_timeout(arguments.interval(9));
    spec.headers = arguments.is_null(10) ? 0 : arguments.datum(10);
    return enqueue_one(fcinfo, "enqueue()", spec);
}

BACKFILL_FUNCTION(backfill_enqueue_fast)
{
    return enqueue_preset(fcinfo, {"enqueue_fast()", "fast", core::kPriorityFastDefault, nullptr});
}

BACKFILL_FUNCTION(backfill_enqueue_bulk)
{
    return enqueue_preset(fcinfo, {"enqueue_bulk()", "bulk", core::kPriorityBulkDefault, nullptr});
}

BACKFILL_FUNCTION(backfill_enqueue_emergency)
{
    return enqueue_preset(fcinfo,
                          {"enqueue_emergency()", "fast", core::kPriorityEmergency, nullptr});
}

BACKFILL_FUNCTION(backfill_enqueue_critical)
{
    return enqueue_preset(fcinfo,
                          {"enqueue_critical()", "fast", core::kPriorityFastHigh, "aggressive"});
}

BACKFILL_FUNCTION(backfill_enqueue_fast_with_retries)
{
    return enqueue_preset(fcinfo,
                          {"enqueue_fast_with_retries()", "fast", core::kPriorityFastHigh, "fast"});
}

BACKFILL_FUNCTION(backfill_enqueue_bulk_with_retries)
{
    return enqueue_preset(fcinfo, {"enqueue_bulk_with_retries()", "bulk",
                                   core::kPriorityBulkDefault, "conservative"});
}

BACKFILL_FUNCTION(backfill_enqueue_serial)
{
    const pg::Arguments arguments(fcinfo);
    JobSpec spec = preset_spec(arguments);
    spec.queue_name = queue::require_text("queue_name", arguments.text(2));
    spec.job_key = arguments.text(3);

    Enqueuer enqueuer("enqueue_serial()");
    const auto id = enqueuer.enqueue(spec);
    queue::make_queue_serial(*spec.queue_name);
    enqueuer.finish();
    return id_datum(fcinfo, id);
}

BACKFILL_FUNCTION(backfill_enqueue_many)
{
    const pg::Arguments arguments(fcinfo);
    JobSpec spec;
    spec.task_identifier = queue::require_text("task_identifier", arguments.text(0));
    const auto payloads = arguments.array(1, JSONBOID);
    if (!payloads)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "payloads must not be null");
    spec.queue_name = arguments.text(2);
    spec.priority = arguments.int4(3);
    spec.run_at = arguments.timestamptz(4);
    spec.max_attempts = arguments.int4(5);
    spec.retry_policy = arguments.text(6);
    spec.timeout_ms = queue::check_timeout(arguments.interval(7));
    spec.headers = arguments.is_null(8) ? 0 : arguments.datum(8);

    std::vector<std::optional<int64>> ids;
    RowMemory memory;
    Enqueuer enqueuer("enqueue_many()");
    enqueuer.expect_many();
    enqueuer.check(spec); /* also if there are no payloads */
    for (int i = 0; i < payloads->count; i++) {
        if (payloads->nulls[i])
            fail(ERRCODE_NULL_VALUE_NOT_ALLOWED,
                 "element " + std::to_string(i + 1) + " of payloads must not be null");
        spec.payload = payloads->values[i];
        ids.push_back(memory.run([&] { return enqueuer.enqueue(spec); }));
    }
    enqueuer.finish();
    return_ids(fcinfo, ids);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_enqueue_jobs)
{
    const pg::Arguments arguments(fcinfo);
    if (arguments.is_null(0))
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "jobs must not be null");
    Jsonb *jobs = pg::call([&] { return DatumGetJsonbP(arguments.datum(0)); });

    const std::vector<JobSpec> specs = queue::read_job_specs(jobs);
    std::vector<std::string_view> keys;
    for (const JobSpec &spec : specs)
        if (spec.job_key)
            keys.push_back(*spec.job_key);
    queue::lock_job_keys(keys);

    std::vector<std::optional<int64>> ids;
    RowMemory memory;
    Enqueuer enqueuer("enqueue_jobs()");
    enqueuer.expect_many();
    enqueuer.lock_queues(specs);
    for (const JobSpec &spec : specs)
        ids.push_back(queue::for_element(
            ids.size() + 1, [&] { return memory.run([&] { return enqueuer.enqueue(spec); }); }));
    enqueuer.finish();
    return_ids(fcinfo, ids);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_priority)
{
    const auto name = *pg::Arguments(fcinfo).text(0);
    const auto priority = core::priority_from_name(name);
    if (!priority)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "priority \"" + std::string(name) + "\" is unknown",
             {}, "Use EMERGENCY, FAST_HIGH, FAST_DEFAULT, BULK_DEFAULT, BULK_LOW or BULK_LOWEST.");
    return Int16GetDatum(static_cast<int16>(*priority));
}

BACKFILL_FUNCTION(backfill_priority_band)
{
    return pg::from_text(core::priority_band(*pg::Arguments(fcinfo).int4(0)));
}

BACKFILL_FUNCTION(backfill_requeue)
{
    const pg::Arguments arguments(fcinfo);
    JobSpec spec;
    spec.id = arguments.int8(0);
    spec.dead_letter_id = arguments.int8(1);
    spec.task_identifier = queue::require_text("task_identifier", arguments.text(2));
    spec.payload = arguments.is_null(3) ? 0 : arguments.datum(3);
    spec.queue_name = arguments.text(4);
    spec.no_queue = !spec.queue_name;
    spec.priority = arguments.int4(5);
    spec.max_attempts = arguments.int4(6);
    spec.job_key = arguments.text(7);
    /* NULL in the letter means the policy "default", not the task's own. */
    spec.retry_policy = arguments.text(8).value_or(queue::kDefaultPolicy);
    spec.timeout_ms = arguments.int4(9);
    spec.flags = arguments.is_null(10) ? 0 : arguments.datum(10);
    spec.headers = arguments.is_null(11) ? 0 : arguments.datum(11);
    spec.no_headers_of_session = true;

    Enqueuer enqueuer("requeue_dlq_job()");
    enqueuer.requeue(spec);
    enqueuer.finish();
    return static_cast<Datum>(0);
}
