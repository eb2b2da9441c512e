/* retry_policy_test.cpp - the presets and the delays between attempts. */
#include "backfill/core/retry_policy.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

using namespace backfill::core;

namespace
{

constexpr std::int64_t kMs = 1000;
constexpr std::int64_t kS = 1000 * kMs;
constexpr std::int64_t kMin = 60 * kS;

RetryPolicy without_jitter(RetryPolicy policy)
{
    policy.jitter_factor = 0;
    return policy;
}

std::int64_t exact_delay(const RetryPolicy &policy, int retry)
{
    Random random;
    return backoff_delay_us(without_jitter(policy), retry, random);
}

std::vector<std::int64_t> samples(const RetryPolicy &policy, int retry, int count,
                                  std::uint64_t seed)
{
    Random random(seed);
    std::vector<std::int64_t> delays;
    for (int i = 0; i < count; i++)
        delays.push_back(backoff_delay_us(policy, retry, random));
    return delays;
}

/* A preset with its delays before jitter, in order; behind them comes zero. */
struct Preset {
    const char *name;
    int max_attempts;
    std::int64_t initial_us;
    std::int64_t max_us;
    double multiplier;
    double jitter_factor;
    std::vector<std::int64_t> delays;
};

const std::vector<Preset> kPresets = {
    {"default",
     8,
     1 * kS,
     5 * kMin,
     2.0,
     0.10,
     {1 * kS, 2 * kS, 4 * kS, 8 * kS, 16 * kS, 32 * kS, 64 * kS, 128 * kS}},
    {"fast", 3, 100 * kMs, 30 * kS, 2.0, 0.10, {100 * kMs, 200 * kMs, 400 * kMs}},
    {"aggressive",
     12,
     500 * kMs,
     10 * kMin,
     1.5,
     0.15,
     {500000, 750000, 1125000, 1687500, 2531250, 3796875, 5695313, 8542969, 12814453, 19221680,
      28832520, 43248779}},
    {"conservative",
     5,
     5 * kS,
     30 * kMin,
     2.5,
     0.20,
     {5 * kS, 12500 * kMs, 31250 * kMs, 78125 * kMs, 195312500}},
    /* exp(attempts) seconds, attempts up to 10 */
    {"graphile",
     25,
     2718282,
     22026465795,
     2.718281828459045,
     0.0,
     {2718282,     7389057,     20085538,    54598153,    148413168,   403428819,   1096633228,
      2980958175,  8103084439,  22026465795, 22026465795, 22026465795, 22026465795, 22026465795,
      22026465795, 22026465795, 22026465795, 22026465795, 22026465795, 22026465795, 22026465795,
      22026465795, 22026465795, 22026465795, 22026465795}},
};

} // namespace

TEST_CASE("there are exactly these presets, default first")
{
    const auto presets = preset_policies();
    REQUIRE(presets.size() == kPresets.size());
    for (std::size_t i = 0; i < presets.size(); i++)
        CHECK(presets[i].name == kPresets[i].name);
}

TEST_CASE("each preset has the numbers that the documentation gives")
{
    for (const Preset &expected : kPresets) {
        CAPTURE(expected.name);
        const auto policy = preset_policy(expected.name);
        REQUIRE(policy.has_value());
        CHECK(policy->max_attempts == expected.max_attempts);
        CHECK(policy->initial_us == expected.initial_us);
        CHECK(policy->max_us == expected.max_us);
        CHECK(policy->multiplier == expected.multiplier);
        CHECK(policy->jitter_factor == expected.jitter_factor);
    }
}

TEST_CASE("preset names are exact")
{
    for (const char *name : {"", "Default", "DEFAULT", "default ", "defaul", "slow"}) {
        CAPTURE(name);
        CHECK_FALSE(preset_policy(name).has_value());
    }
}

TEST_CASE("without jitter every preset gives its documented delays, then zero")
{
    for (const Preset &preset : kPresets) {
        CAPTURE(preset.name);
        const RetryPolicy policy = *preset_policy(preset.name);
        REQUIRE(preset.delays.size() == static_cast<std::size_t>(policy.max_attempts));
        for (int retry = 0; retry < policy.max_attempts; retry++) {
            CAPTURE(retry);
            CHECK(exact_delay(policy, retry) == preset.delays[static_cast<std::size_t>(retry)]);
        }
        for (int retry : {policy.max_attempts, policy.max_attempts + 1, INT_MAX}) {
            CAPTURE(retry);
            CHECK(exact_delay(policy, retry) == 0);
        }
    }
}

TEST_CASE("with jitter as well there is no delay behind the last attempt")
{
    Random random(1);
    for (const Preset &preset : kPresets) {
        CAPTURE(preset.name);
        const RetryPolicy policy = *preset_policy(preset.name);
        CHECK(backoff_delay_us(policy, policy.max_attempts - 1, random) > 0);
        CHECK(backoff_delay_us(policy, policy.max_attempts, random) == 0);
    }
}

TEST_CASE("a job with more attempts than its policy keeps on waiting, at most for the longest delay")
{
    Random random(1);
    for (const Preset &preset : kPresets) {
        CAPTURE(preset.name);
        const RetryPolicy policy = without_jitter(*preset_policy(preset.name));
        std::int64_t before = 0;
        for (int retry = 0; retry < 200; retry++) {
            CAPTURE(retry);
            const std::int64_t delay = retry_delay_us(policy, retry, random);
            CHECK(delay >= before);
            CHECK(delay <= policy.max_us);
            if (retry < policy.max_attempts)
                CHECK(delay == backoff_delay_us(policy, retry, random));
            before = delay;
        }
        CHECK(before == policy.max_us);
        CHECK(retry_delay_us(policy, INT_MAX, random) == policy.max_us);
    }
}

TEST_CASE("a negative retry has no delay")
{
    const RetryPolicy policy = *preset_policy("default");
    CHECK(exact_delay(policy, -1) == 0);
    CHECK(exact_delay(policy, INT_MIN) == 0);
}

TEST_CASE("no delay before jitter exceeds the maximum")
{
    RetryPolicy policy = *preset_policy("default");
    policy.max_attempts = 1000;
    CHECK(exact_delay(policy, 8) == 256 * kS);
    CHECK(exact_delay(policy, 9) == 5 * kMin);
    CHECK(exact_delay(policy, 10) == 5 * kMin);
    CHECK(exact_delay(policy, 999) == 5 * kMin);
}

TEST_CASE("a maximum below the initial delay wins from the first retry on")
{
    const RetryPolicy policy = {5, 10 * kS, 3 * kS, 2.0, 0};
    CHECK(exact_delay(policy, 0) == 3 * kS);
    CHECK(exact_delay(policy, 4) == 3 * kS);
}

TEST_CASE("a multiplier of one keeps the delay")
{
    const RetryPolicy policy = {100, 7 * kS, 1 * kMin, 1.0, 0};
    for (int retry = 0; retry < 100; retry++)
        REQUIRE(exact_delay(policy, retry) == 7 * kS);
}

TEST_CASE("huge retries, multipliers and limits overflow nowhere")
{
    RetryPolicy policy = {INT_MAX, 1 * kS, 5 * kMin, 1000.0, 0};
    CHECK(exact_delay(policy, INT_MAX - 1) == 5 * kMin); /* pow() is infinite here */

    policy.max_us = INT64_MAX;
    for (int retry : {7, 100, 1000, INT_MAX - 1}) {
        CAPTURE(retry);
        CHECK(exact_delay(policy, retry) == kLongestDelayUs);
    }
    policy.initial_us = INT64_MAX;
    CHECK(exact_delay(policy, 0) == kLongestDelayUs);
    policy.jitter_factor = 1.0;
    for (const std::int64_t delay : samples(policy, 1000, 1000, 5)) {
        REQUIRE(delay >= 0);
        REQUIRE(delay <= kLongestDelayUs);
    }
}

TEST_CASE("zero delays stay zero, with jitter too")
{
    const RetryPolicy no_initial = {5, 0, 5 * kMin, 2.0, 0.5};
    const RetryPolicy no_maximum = {5, 1 * kS, 0, 2.0, 0.5};
    for (int retry = 0; retry < 5; retry++) {
        CAPTURE(retry);
        CHECK(samples(no_initial, retry, 1, 9).front() == 0);
        CHECK(samples(no_maximum, retry, 1, 9).front() == 0);
    }
}

TEST_CASE("jitter stays within its share of the delay, and uses all of it evenly")
{
    constexpr int kCount = 20000;
    for (const Preset &preset : kPresets) {
        if (preset.jitter_factor == 0)
            continue; /* graphile has none */
        const RetryPolicy policy = *preset_policy(preset.name);
        for (int retry = 0; retry < policy.max_attempts; retry++) {
            CAPTURE(preset.name);
            CAPTURE(retry);
            const auto exact = static_cast<double>(exact_delay(policy, retry));
            const double spread = exact * preset.jitter_factor;
            const auto delays = samples(policy, retry, kCount, 42);
            const auto [low, high] = std::minmax_element(delays.begin(), delays.end());
            /* one microsecond for rounding */
            CHECK(static_cast<double>(*low) >= exact - spread - 1);
            CHECK(static_cast<double>(*high) <= exact + spread + 1);
            CHECK(static_cast<double>(*low) < exact - 0.99 * spread);
            CHECK(static_cast<double>(*high) > exact + 0.99 * spread);

            /* Uniform: each tenth of the range holds a tenth of the samples; the seed is fixed. */
            std::vector<int> tenths(10);
            for (const std::int64_t delay : delays) {
                const double share = (static_cast<double>(delay) - (exact - spread)) / (2 * spread);
                tenths[static_cast<std::size_t>(std::clamp(share * 10, 0.0, 9.0))]++;
            }
            for (const int tenth : tenths) {
                CHECK(tenth > kCount / 10 * 0.9);
                CHECK(tenth < kCount / 10 * 1.1);
            }
        }
    }
}

TEST_CASE("full jitter reaches from zero to twice the delay and never below zero")
{
    const RetryPolicy policy = {3, 1 * kS, 1 * kMin, 2.0, 1.0};
    const auto delays = samples(policy, 0, 20000, 7);
    const auto [low, high] = std::minmax_element(delays.begin(), delays.end());
    CHECK(*low >= 0);
    CHECK(*low < 20 * kMs);
    CHECK(*high > 1980 * kMs);
    CHECK(*high <= 2 * kS);
}

TEST_CASE("jitter is applied after the cap: a delay may exceed the maximum by its share")
{
    const RetryPolicy policy = {50, 1 * kS, 10 * kS, 2.0, 0.1};
    const auto delays = samples(policy, 40, 1000, 3);
    CHECK(*std::max_element(delays.begin(), delays.end()) > 10 * kS);
    CHECK(*std::max_element(delays.begin(), delays.end()) <= 11 * kS);
}

TEST_CASE("the same seed gives the same delays, another seed others")
{
    const RetryPolicy policy = *preset_policy("default");
    CHECK(samples(policy, 3, 100, 123) == samples(policy, 3, 100, 123));
    CHECK(samples(policy, 3, 100, 123) != samples(policy, 3, 100, 124));
}

TEST_CASE("without jitter no random number is drawn")
{
    Random used(77);
    Random fresh(77);
    (void) backoff_delay_us(without_jitter(*preset_policy("default")), 2, used);
    CHECK(used == fresh);
}

TEST_CASE("two jobs that fail together do not come back together")
{
    auto delays = samples(*preset_policy("default"), 0, 1000, 11);
    std::sort(delays.begin(), delays.end());
    const auto distinct = std::unique(delays.begin(), delays.end()) - delays.begin();
    CHECK(distinct > 990);
}
