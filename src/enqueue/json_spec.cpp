/* json_spec.cpp - see json_spec.hpp. */
#include "backfill/enqueue/json_spec.hpp"

#include "backfill/pg/jsonb.hpp"

#include <climits>

namespace backfill::queue
{

namespace
{

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

/* The element that is being read: context of errors that PostgreSQL raises. */
struct Element {
    std::size_t number;
    const char *key;
};

void describe_element(void *element)
{
    const auto *read = static_cast<const Element *>(element);
    errcontext("element %zu of jobs, %s", read->number, read->key);
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
    return check_timeout(DatumGetIntervalP(json_input(key, value, element, interval_in)));
}

void set_member(JobSpec &spec, std::string_view key, JsonbValue &value, Element element)
{
    if (key == "payload")
        spec.payload = pg::call([&] { return JsonbPGetDatum(JsonbValueToJsonb(&value)); });
    else if (value.type == jbvNull)
        return;
    else if (key == "headers")
        spec.headers = pg::call([&] { return JsonbPGetDatum(JsonbValueToJsonb(&value)); });
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
        spec.job_key_mode = parse_job_key_mode(json_text(key, value));
    else if (key == "retry_policy")
        spec.retry_policy = json_text(key, value);
    else if (key == "timeout")
        spec.timeout_ms = json_timeout(key, value, element);
    else
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "key \"" + std::string(key) + "\" of a job specification is unknown", {},
             "Known keys: task_identifier, payload, queue_name, priority, run_at, max_attempts, "
             "job_key, job_key_mode, retry_policy, timeout, headers.");
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

} // namespace

std::vector<JobSpec> read_job_specs(Jsonb *jobs)
{
    std::vector<JobSpec> specs;
    for (JsonbValue &element : array_elements(jobs)) {
        const std::size_t number = specs.size() + 1;
        specs.push_back(for_element(number, [&] { return read_spec(element, {number, ""}); }));
    }
    return specs;
}

} // namespace backfill::queue
