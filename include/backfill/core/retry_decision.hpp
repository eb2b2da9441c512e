/* retry_decision.hpp - what becomes of a job that failed. */
#pragma once

#include <string_view>

namespace backfill::core
{

enum class RetryDecision {
    kRetry,     /* run again after a delay */
    kPermanent, /* the error would come again: dead letter at once */
    kExhausted, /* no attempts left: dead letter */
};

/* Whether an error of this SQLSTATE would come again however often the job ran:
 * bad data (22), broken constraints (23), unsupported features (0A), syntax, access
 * and missing objects (42), wrong authorization (28). */
bool is_permanent_error(std::string_view sqlstate);

/* failed_attempts counts the attempt that has just failed. */
RetryDecision decide_retry(std::string_view sqlstate, int failed_attempts, int max_attempts);

} // namespace backfill::core
