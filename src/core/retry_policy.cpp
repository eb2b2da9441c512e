/* retry_policy.cpp - see retry_policy.hpp. */
#include "backfill/core/retry_policy.hpp"

#include <boost/random/uniform_real_distribution.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace backfill::core
{

namespace
{

constexpr std::int64_t kMillisecond = 1000;
constexpr std::int64_t kSecond = 1000 * kMillisecond;
constexpr std::int64_t kMinute = 60 * kSecond;

constexpr double kEuler = 2.718281828459045;

constexpr std::array<NamedPolicy, 5> kPresets = {{
    {"default", {8, 1 * kSecond, 5 * kMinute, 2.0, 0.10}},
    {"fast", {3, 100 * kMillisecond, 30 * kSecond, 2.0, 0.10}},
    {"aggressive", {12, 500 * kMillisecond, 10 * kMinute, 1.5, 0.15}},
    {"conservative", {5, 5 * kSecond, 30 * kMinute, 2.5, 0.20}},
    /* Graphile Worker's: exp(attempts) seconds, attempts counting up to 10. */
    {"graphile", {25, 2718282, 22026465795, kEuler, 0.0}},
}};

} // namespace

const RetryPolicy kFreeRetryPolicy = {32767, 10 * kMillisecond, 1 * kSecond, 2.0, 0.50};

std::span<const NamedPolicy> preset_policies()
{
    return kPresets;
}

std::optional<RetryPolicy> preset_policy(std::string_view name)
{
    for (const NamedPolicy &preset : kPresets)
        if (preset.name == name)
            return preset.policy;
    return std::nullopt;
}

std::int64_t retry_delay_us(const RetryPolicy &policy, int retry, Random &random)
{
    if (retry < 0 || policy.initial_us <= 0)
        return 0;
    /* pow() may reach infinity; min() with the maximum brings it back. */
    const double longest = static_cast<double>(kLongestDelayUs);
    double delay =
        std::min({static_cast<double>(policy.initial_us) * std::pow(policy.multiplier, retry),
                  static_cast<double>(policy.max_us), longest});
    const double spread = delay * policy.jitter_factor;
    if (spread > 0)
        delay += boost::random::uniform_real_distribution<double>(-spread, spread)(random);
    return std::llround(std::clamp(delay, 0.0, longest));
}

std::int64_t backoff_delay_us(const RetryPolicy &policy, int retry, Random &random)
{
    return retry < policy.max_attempts ? retry_delay_us(policy, retry, random) : 0;
}

} // namespace backfill::core
