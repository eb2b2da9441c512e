/* enqueue_api.cpp - the SQL functions that enqueue. Arguments in, one Enqueuer, ids out. */
#include "backfill/config/job_rights.hpp"
#include "backfill/core/priority.hpp"
#include "backfill/dequeue/queue_permits.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/pg/jsonb.hpp"

#include <climits>

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

/* --- enqueue_jobs: one specification from a JSON object ------------------------- */

std::string_view key_name(const JsonbValue &key)
{
    return {key.val.string.val, static_cast<std::size_t>(key.val.string.len)};
}

[[noreturn]] void wrong_type(std::string_view key, const char *expected, const JsonbValue &value)
{
    const std::string text = pg::to_json_text(pg::call([&] {
        JsonbValue copy = value;
        return JsonbPGetDatum(JsonbValueToJsonb(&copy));
    }));
    fail(ERRCODE_INVALID_PARAMETER_VALUE,
         std::string(key) + " must be " + expected + ": " + pg::shortened(text));
}

std::string_view json_text(std::string_view key, const JsonbValue &value)
{
    if (value.type != jbvString)
        wrong_type(key, "a string", value);
    return {value.val.string.val, static_cast<std::size_t>(value.val.string.len)};
}

int32 json_integer(std::string_view key, const JsonbValue &value)
{
    if (value.type != jbvNumeric)
        wrong_type(key, "an integer", value);
    const double number = pg::call([&] {
        return DatumGetFloat8(
            DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value.val.numeric)));
    });
    if (number < INT_MIN || number > INT_MAX || number != static_cast<int32>(number))
        wrong_type(key, "an integer", value);
    return static_cast<int32>(number);
}

/* The element that is being read, for the context of PostgreSQL's own errors. */
struct Element {
    const char *list;
    std::size_t number;
    const char *key;
};

void describe_element(void *element)
{
    const auto *read = static_cast<const Element *>(element);
    errcontext("element %zu of %s, %s", read->number, read->list, read->key);
}

/* Reads a string by a type's input function. */
Datum json_input(std::string_view key, const JsonbValue &value, Element element, PGFunction read)
{
    const std::string input(json_text(key, value));
    return pg::call([&] {
        ErrorContextCallback context;
        context.previous = error_context_stack;
        context.callback = describe_element;
        context.arg = &element;
        error_context_stack = &context; /* call() puts the old one back */
        return DirectFunctionCall3(read, CStringGetDatum(input.c_str()),
                                   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
    });
}

TimestampTz json_timestamp(std::string_view key, const JsonbValue &value, Element element)
{
    element.key = "run_at";
    return DatumGetTimestampTz(json_input(key, value, element, timestamptz_in));
}

std::optional<int32> json_timeout(std::string_view key, const JsonbValue &value, Element element)
{
    element.key = "timeout";
    return queue::check_timeout(DatumGetIntervalP(json_input(key, value, element, interval_in)));
}

void set_member(JobSpec &spec, std::string_view key, JsonbValue &value, Element element)
{
    if (key == "payload")
        spec.payload = pg::call([&] { return JsonbPGetDatum(JsonbValueToJsonb(&value)); });
    else if (value.type == jbvNull)
        return;
    else if (key == "task_identifier")
        spec.task_identifier = json_text(key, value);
    else if (key == "queue_name")
        spec.queue_name = json_text(key, value);
    else if (key == "priority")
        spec.priority = json_integer(key, value);
    else if (key == "run_at")
        spec.run_at = json_timestamp(key, value, element);
    else if (key == "max_attempts")
        spec.max_attempts = json_integer(key, value);
    else if (key == "job_key")
        spec.job_key = json_text(key, value);
    else if (key == "job_key_mode")
        spec.job_key_mode = queue::parse_job_key_mode(json_text(key, value));
    else if (key == "retry_policy")
        spec.retry_policy = json_text(key, value);
    else if (key == "timeout")
        spec.timeout_ms = json_timeout(key, value, element);
    else
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "key \"" + std::string(key) + "\" of a job specification is unknown", {},
             "Known keys: task_identifier, payload, queue_name, priority, run_at, max_attempts, "
             "job_key, job_key_mode, retry_policy, timeout.");
}

JobSpec read_spec(JsonbValue &object, Element element)
{
    if (object.type != jbvBinary || !JsonContainerIsObject(object.val.binary.data))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "a job specification must be a JSON object");
    JobSpec spec;
    JsonbIterator *iterator = pg::call([&] { return JsonbIteratorInit(object.val.binary.data); });
    JsonbValue key;
    JsonbValue value;
    const auto next = [&](JsonbValue *into) {
        return pg::call([&] { return JsonbIteratorNext(&iterator, into, true); });
    };
    while (next(&key) != WJB_DONE) {
        if (key.type != jbvString)
            continue; /* the object's begin and end */
        if (next(&value) != WJB_VALUE)
            break;
        set_member(spec, key_name(key), value, element);
        key.type = jbvNull;
    }
    if (spec.task_identifier.empty())
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "task_identifier is missing");
    return spec;
}

std::vector<JsonbValue> array_elements(Jsonb *jobs)
{
    if (!JB_ROOT_IS_ARRAY(jobs) || JB_ROOT_IS_SCALAR(jobs))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "jobs must be a JSON array of job specifications");
    std::vector<JsonbValue> elements(JB_ROOT_COUNT(jobs));
    for (uint32 i = 0; i < elements.size(); i++) {
        const JsonbValue *element =
            pg::call([&] { return getIthJsonbValueFromContainer(&jobs->root, i); });
        elements[i] = *element;
    }
    return elements;
}

/* Runs body for an element and says, should it fail, which one it was. */
template <class Body> auto for_element(Element element, Body &&body)
{
    try {
        return body();
    } catch (Failure &failure) {
        failure.detail = "In element " + std::to_string(element.number) + " of " + element.list +
                         "." + (failure.detail.empty() ? "" : " " + failure.detail);
        throw;
    }
}

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

    std::vector<JobSpec> specs;
    std::vector<std::string_view> keys;
    for (JsonbValue &element : array_elements(jobs)) {
        const Element position{"jobs", specs.size() + 1, ""};
        specs.push_back(for_element(position, [&] { return read_spec(element, position); }));
        if (specs.back().job_key)
            keys.push_back(*specs.back().job_key);
    }
    queue::lock_job_keys(keys);

    std::vector<std::optional<int64>> ids;
    RowMemory memory;
    Enqueuer enqueuer("enqueue_jobs()");
    enqueuer.expect_many();
    enqueuer.lock_queues(specs);
    for (const JobSpec &spec : specs)
        ids.push_back(for_element({"jobs", ids.size() + 1, ""}, [&] {
            return memory.run([&] { return enqueuer.enqueue(spec); });
        }));
    enqueuer.finish();
    return_ids(fcinfo, ids);
    return static_cast<Datum>(0);
}

/* Graphile Worker's add_job(): its defaults, its errors, the job's row. Its named queues are
 * serial. */
BACKFILL_FUNCTION(backfill_add_job)
{
    const pg::Arguments arguments(fcinfo);
    const auto check_length = [](std::optional<std::string_view> value, std::size_t limit,
                                 const char *what, int sqlstate) {
        const auto length = [&] {
            return pg::call([&] {
                return pg_mbstrlen_with_len(value->data(), static_cast<int>(value->size()));
            });
        };
        if (value && value->size() > limit && static_cast<std::size_t>(length()) > limit)
            fail(sqlstate,
                 std::string(what) + " is too long (max length: " + std::to_string(limit) + ")");
    };
    JobSpec spec;
    spec.task_identifier = queue::require_text("identifier", arguments.text(0));
    check_length(spec.task_identifier, 128, "Task identifier",
                 MAKE_SQLSTATE('G', 'W', 'B', 'I', 'D'));
    if (!arguments.is_null(1))
        spec.payload = pg::call([&] {
            return DirectFunctionCall1(jsonb_in,
                                       CStringGetDatum(TextDatumGetCString(arguments.datum(1))));
        });
    spec.queue_name = arguments.text(2);
    check_length(spec.queue_name, 128, "Job queue name", MAKE_SQLSTATE('G', 'W', 'B', 'Q', 'N'));
    spec.no_queue = !spec.queue_name;
    spec.run_at = arguments.timestamptz(3);
    spec.max_attempts = arguments.int4(4).value_or(25);
    if (*spec.max_attempts < 1)
        fail(MAKE_SQLSTATE('G', 'W', 'B', 'M', 'A'), "Job maximum attempts must be at least 1.");
    spec.job_key = arguments.text(5);
    check_length(spec.job_key, 512, "Job key", MAKE_SQLSTATE('G', 'W', 'B', 'J', 'K'));
    spec.priority = arguments.int4(6).value_or(0);
    spec.flags = arguments.is_null(7) ? 0 : arguments.datum(7);
    const auto mode = arguments.text(8).value_or("replace");
    if (mode != "replace" && mode != "preserve_run_at" && mode != "unsafe_dedupe")
        fail(MAKE_SQLSTATE('G', 'W', 'B', 'K', 'M'),
             "Invalid job_key_mode value, expected 'replace', 'preserve_run_at' or "
             "'unsafe_dedupe'.");
    spec.job_key_mode = queue::parse_job_key_mode(mode);
    spec.retry_policy = "graphile";

    Enqueuer enqueuer("add_job()");
    auto row = enqueuer.add(spec);
    if (row && spec.queue_name)
        queue::make_new_queue_serial(*spec.queue_name);
    enqueuer.finish();
    fcinfo->isnull = !row;
    if (!row)
        return static_cast<Datum>(0);
    const queue::JobRow shown = queue::job_rights::visible(*row);
    return pg::call([&] {
        TupleDesc columns = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &columns) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "return type must be the row type of backfill.job");
        const auto width = static_cast<Size>(columns->natts);
        auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * width));
        auto *nulls = static_cast<bool *>(palloc(sizeof(bool) * width));
        queue::JobTable::own().spread(shown.values, shown.nulls, columns->natts, values, nulls);
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(columns), values, nulls));
    });
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

    Enqueuer enqueuer("requeue_dlq_job()");
    enqueuer.requeue(spec);
    enqueuer.finish();
    return static_cast<Datum>(0);
}
