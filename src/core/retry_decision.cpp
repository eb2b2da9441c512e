/* retry_decision.cpp - see retry_decision.hpp. */
#include "backfill/core/retry_decision.hpp"

#include <algorithm>
#include <array>

namespace backfill::core
{

namespace
{

constexpr std::array<std::string_view, 5> kPermanentClasses = {"0A", "22", "23", "28", "42"};

} // namespace

bool is_permanent_error(std::string_view sqlstate)
{
    return std::find(kPermanentClasses.begin(), kPermanentClasses.end(), sqlstate.substr(0, 2)) !=
           kPermanentClasses.end();
}

RetryDecision decide_retry(std::string_view sqlstate, int failed_attempts, int max_attempts)
{
    if (is_permanent_error(sqlstate))
        return RetryDecision::kPermanent;
    return failed_attempts >= max_attempts ? RetryDecision::kExhausted : RetryDecision::kRetry;
}

} // namespace backfill::core
