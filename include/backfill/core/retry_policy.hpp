/* retry_policy.hpp - how often and when a failed job runs again. */
#pragma once

#include <boost/random/mersenne_twister.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace backfill::core
{

using Random = boost::random::mt19937_64;

struct RetryPolicy {
    int max_attempts;        /* every run counts, the first included */
    std::int64_t initial_us; /* delay before the first retry, microseconds */
    std::int64_t max_us;     /* no delay is longer, before jitter, microseconds */
    double multiplier;       /* the ratio of each delay to the one before */
    double jitter_factor;    /* 0 to 1: a delay varies by up to this share of it */
};

struct NamedPolicy {
    std::string_view name;
    RetryPolicy policy;
};

/* The built-in policies; the first is the default. */
std::span<const NamedPolicy> preset_policies();
std::optional<RetryPolicy> preset_policy(std::string_view name);
/* Delays of retries that cost no attempt. */
extern const RetryPolicy kFreeRetryPolicy;

/* No delay is longer, whatever a policy says: 100 years of 365 days, microseconds. */
inline constexpr std::int64_t kLongestDelayUs = std::int64_t{100} * 365 * 86400 * 1000000;

/* The delay in microseconds before retry number `retry` (0 is the first), with jitter. How often a
 * job is retried is the job's own number, which may be more than the policy's max_attempts: the
 * delay goes on growing up to max_us. Never negative, never over kLongestDelayUs. */
std::int64_t retry_delay_us(const RetryPolicy &policy, int retry, Random &random);
/* The same, but zero when the policy by itself allows no such retry: what backfill.backoff_delay()
 * answers, as in the crate. */
std::int64_t backoff_delay_us(const RetryPolicy &policy, int retry, Random &random);

} // namespace backfill::core
