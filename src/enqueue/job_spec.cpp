/* job_spec.cpp - see job_spec.hpp. */
#include "backfill/enqueue/job_spec.hpp"

#include "backfill/pg/jsonb.hpp"

namespace backfill::queue
{

namespace
{

constexpr std::string_view kReservedQueue = "dead_letter";
constexpr int kMaxTaskLength = 128;
constexpr int kMaxQueueLength = 128;
constexpr int kMaxKeyLength = 512;
constexpr double kLongestTimeoutDays = 24; /* the timer counts milliseconds in an int */

void check_length(const char *argument, std::string_view value, int limit)
{
    const int length = pg::call(
        [&] { return pg_mbstrlen_with_len(value.data(), static_cast<int>(value.size())); });
    if (value.empty())
        fail(ERRCODE_INVALID_PARAMETER_VALUE, std::string(argument) + " must not be empty");
    if (length > limit)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " is too long: " + pg::in_quotes(pg::shortened(value)),
             "It has " + std::to_string(length) + " characters; at most " + std::to_string(limit) +
                 " are allowed.");
}

} // namespace

std::string_view require_text(const char *argument, std::optional<std::string_view> value)
{
    if (!value)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, std::string(argument) + " must not be null");
    return *value;
}

void check_task_identifier(std::string_view value)
{
    check_length("task_identifier", value, kMaxTaskLength);
}

void check_queue_name(std::string_view value)
{
    check_length("queue_name", value, kMaxQueueLength);
    if (value == kReservedQueue)
        fail(ERRCODE_RESERVED_NAME, "queue name \"dead_letter\" is reserved", {},
             "Choose another queue; jobs that fail for good go to backfill.dlq by themselves.");
}

void check_priority(int32 value)
{
    if (value < PG_INT16_MIN || value > PG_INT16_MAX)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "priority is out of range: " + std::to_string(value),
             "It must be between -32768 and 32767; smaller runs first.",
             "Named priorities: backfill.priority('EMERGENCY') to "
             "backfill.priority('BULK_LOWEST').");
}

void check_run_at(TimestampTz value)
{
    if (TIMESTAMP_NOT_FINITE(value))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string("run_at must be finite: ") +
                 (TIMESTAMP_IS_NOBEGIN(value) ? "-infinity" : "infinity"),
             {}, "Leave run_at out to run the job now.");
}

void check_headers(Datum value)
{
    if (!pg::is_object(value))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "headers must be a JSON object: " + pg::shortened(pg::to_json_text(value)), {},
             "Leave headers out, or use {} for none.");
}

void check_job_key(std::string_view value)
{
    check_length("job_key", value, kMaxKeyLength);
}

void check_max_attempts(int32 value)
{
    if (value < 1 || value > PG_INT16_MAX)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "max_attempts is out of range: " + std::to_string(value),
             "It must be between 1 and 32767; the first run counts as an attempt.");
}

void check_attempts(int32 value)
{
    if (value < 0 || value > PG_INT16_MAX)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "attempts is out of range: " + std::to_string(value),
             "It must be between 0 and 32767.");
}

std::optional<int32> check_timeout(const Interval *timeout)
{
    if (timeout == nullptr)
        return std::nullopt;
    const double days = pg::approximate_days(*timeout);
    if (days < 0 || days > kLongestTimeoutDays || pg::to_microseconds(*timeout) < 1000)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "timeout is out of range: " + pg::to_text(*timeout),
             "It must be between 1 millisecond and 24 days.");
    return static_cast<int32>(pg::to_microseconds(*timeout) / 1000);
}

void check_retry_policy(const Config &config, std::string_view value)
{
    if (!config.find_policy(value))
        fail(ERRCODE_UNDEFINED_OBJECT, "retry policy " + pg::in_quotes(value) + " does not exist",
             {}, "See backfill.retry_policies, or create it with backfill.set_retry_policy().");
}

JobKeyMode parse_job_key_mode(std::string_view value)
{
    if (value == "replace")
        return JobKeyMode::kReplace;
    if (value == "preserve_run_at")
        return JobKeyMode::kPreserveRunAt;
    if (value == "unsafe_dedupe")
        return JobKeyMode::kUnsafeDedupe;
    fail(ERRCODE_INVALID_PARAMETER_VALUE, "job_key_mode is unknown: " + pg::in_quotes(value), {},
         "Use replace, preserve_run_at or unsafe_dedupe.");
}

} // namespace backfill::queue
