/* job_spec.hpp - what a job is to be like, and the checks of each of its arguments. */
#pragma once

#include "backfill/config/config.hpp"

namespace backfill::queue
{

enum class JobKeyMode { kReplace, kPreserveRunAt, kUnsafeDedupe };

/* What a caller asks for; an absent member means the task's own setting or the default.
 * The strings point into the caller's memory. */
struct JobSpec {
    std::string_view task_identifier;
    Datum payload = 0; /* jsonb; 0 means an empty object */
    Datum headers = 0; /* jsonb, an object; 0: those of the session (headers.hpp) */
    bool no_headers_of_session = false;
    std::optional<std::string_view> queue_name;
    bool no_queue = false; /* in no queue at all, as add_job() has it */
    std::optional<int32> priority;
    std::optional<TimestampTz> run_at;
    std::optional<int32> max_attempts;
    std::optional<std::string_view> job_key;
    JobKeyMode job_key_mode = JobKeyMode::kReplace;
    std::optional<std::string_view> retry_policy;
    std::optional<int32> timeout_ms;
    Datum flags = 0; /* text[]; 0: none */
    /* A requeued dead letter keeps its id and knows its letter. */
    std::optional<int64> id;
    std::optional<int64> dead_letter_id;
};

/* The one place for what each argument may be. Each throws a Failure 22023 (or 22004 for NULL)
 * that names the argument and the value. */
std::string_view require_text(const char *argument, std::optional<std::string_view> value);
void check_task_identifier(std::string_view value);
void check_queue_name(std::string_view value);
void check_priority(int32 value);
void check_run_at(TimestampTz value);
void check_headers(Datum value);
void check_job_key(std::string_view value);
void check_max_attempts(int32 value);
void check_attempts(int32 value);
/* Returns it in milliseconds; nothing for NULL. */
std::optional<int32> check_timeout(const Interval *timeout);
void check_retry_policy(const Config &config, std::string_view value);
JobKeyMode parse_job_key_mode(std::string_view value);

} // namespace backfill::queue
