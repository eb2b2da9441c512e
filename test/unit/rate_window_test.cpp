/* rate_window_test.cpp - no window of a period sees more starts than the limit. */
#include "backfill/core/rate_window.hpp"

#include <boost/random/mersenne_twister.hpp>
#include <boost/random/uniform_int_distribution.hpp>
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using backfill::core::RateWindow;

namespace
{

constexpr std::int64_t kSecond = 1000000;

/* The most starts in any window of `period` that begins at a start. */
std::size_t most_in_window(const std::vector<std::int64_t> &starts, std::int64_t period)
{
    std::size_t most = 0;
    for (std::size_t i = 0; i < starts.size(); i++) {
        const auto end = std::lower_bound(starts.begin(), starts.end(), starts[i] + period);
        most = std::max(most, static_cast<std::size_t>(end - starts.begin()) - i);
    }
    return most;
}

} // namespace

TEST_CASE("the first starts are free, the next waits until they have left the window")
{
    RateWindow window{};
    const std::int64_t now = 1000 * kSecond;
    window.prepare(kSecond, now, 0, now);
    for (int i = 0; i < 3; i++) {
        CHECK(window.earliest_start(3, now) == now);
        window.count_start(now);
    }
    const std::int64_t next = window.earliest_start(3, now);
    CHECK(next > now + kSecond - kSecond / RateWindow::kSlices);
    CHECK(next <= now + kSecond + kSecond / RateWindow::kSlices + 1);
    CHECK(window.earliest_start(3, next) == next);
}

TEST_CASE("a window that starts used up waits a period")
{
    RateWindow window{};
    const std::int64_t now = 77 * kSecond + 123;
    window.prepare(kSecond, now, 5, now);
    CHECK(window.earliest_start(5, now) > now);
    CHECK(window.earliest_start(5, now + 2 * kSecond) == now + 2 * kSecond);
}

TEST_CASE("a window that was used up some time ago waits for the rest of the period")
{
    RateWindow window{};
    const std::int64_t now = 77 * kSecond + 123;
    window.prepare(kSecond, now, 5, now - 3 * kSecond / 4);
    const std::int64_t next = window.earliest_start(5, now);
    CHECK(next > now);
    CHECK(next <= now + kSecond / 4 + kSecond / RateWindow::kSlices + 1);

    RateWindow past{};
    past.prepare(kSecond, now, 5, now - 2 * kSecond);
    CHECK(past.earliest_start(5, now) == now);
}

TEST_CASE("a start that is taken back can be used again")
{
    RateWindow window{};
    const std::int64_t now = 5 * kSecond;
    window.prepare(kSecond, now, 0, now);
    window.count_start(now);
    CHECK(window.earliest_start(1, now) > now);
    window.uncount_start(now + kSecond / 2);
    CHECK(window.earliest_start(1, now + kSecond / 2) == now + kSecond / 2);
}

TEST_CASE("another period keeps the starts that count")
{
    RateWindow window{};
    const std::int64_t now = 1000 * kSecond + 77;
    window.prepare(2 * kSecond, now, 0, now);
    for (int i = 0; i < 5; i++)
        window.count_start(now);
    window.prepare(2100000, now + 1000, 0, now);
    CHECK(window.earliest_start(5, now + 1000) > now + 2000000);
    window.prepare(2 * kSecond, now + 2000, 0, now);
    CHECK(window.earliest_start(5, now + 2000) > now + 1800000);
    CHECK(window.earliest_start(6, now + 2000) == now + 2000);
    /* A longer one counts them longer, a shorter one no longer than itself. */
    window.prepare(60 * kSecond, now + kSecond, 0, now);
    CHECK(window.earliest_start(5, now + 3 * kSecond) > now + 50 * kSecond);
    window.prepare(kSecond, now + 3 * kSecond, 0, now);
    CHECK(window.earliest_start(5, now + 9 * kSecond) == now + 9 * kSecond);
}

TEST_CASE("changes of the period let through no more than the limit of any of them")
{
    boost::random::mt19937_64 random(43);
    constexpr std::int64_t kPeriods[] = {2 * kSecond, 2100000, 1900000};
    for (int round = 0; round < 100; round++) {
        RateWindow window{};
        std::int64_t now = 1000000 * kSecond;
        std::vector<std::int64_t> starts;
        window.prepare(kPeriods[0], now, 0, now);
        boost::random::uniform_int_distribution<int> which(0, 2);
        boost::random::uniform_int_distribution<std::int64_t> gaps(0, kSecond / 2);
        for (int i = 0; i < 200; i++) {
            now += gaps(random);
            window.prepare(kPeriods[which(random)], now, 0, now);
            if (window.earliest_start(5, now) > now)
                continue;
            window.count_start(now);
            starts.push_back(now);
        }
        /* The shortest is the one that all of them keep. */
        CHECK(most_in_window(starts, 1900000) <= 5);
    }
}

TEST_CASE("a window is over when none of its starts counts any more")
{
    RateWindow window{};
    const std::int64_t now = 1000 * kSecond;
    CHECK(window.is_over(now));
    window.prepare(kSecond, now, 0, now);
    CHECK(window.is_over(now));
    window.count_start(now);
    CHECK_FALSE(window.is_over(now + kSecond - 1));
    CHECK(window.is_over(now + kSecond + kSecond / 8));
    CHECK_FALSE(window.is_over(now - kSecond));
}

TEST_CASE("a clock that goes back neither opens the window nor breaks it")
{
    RateWindow window{};
    window.prepare(kSecond, 100 * kSecond, 0, 100 * kSecond);
    window.count_start(100 * kSecond);
    CHECK(window.earliest_start(1, 50 * kSecond) > 50 * kSecond);
    window.count_start(50 * kSecond);
    CHECK(window.earliest_start(2, 100 * kSecond) > 100 * kSecond);
}

TEST_CASE(
    "random arrivals never exceed the limit in any window, and never wait much longer than needed")
{
    boost::random::mt19937_64 random(42);
    for (int round = 0; round < 200; round++) {
        boost::random::uniform_int_distribution<std::int64_t> periods(1000, 10 * kSecond);
        boost::random::uniform_int_distribution<std::int32_t> limits(1, 50);
        const std::int64_t period = periods(random);
        const std::int32_t limit = limits(random);
        boost::random::uniform_int_distribution<std::int64_t> gaps(0, 2 * period / limit);
        CAPTURE(period);
        CAPTURE(limit);

        RateWindow window{};
        std::int64_t now = 1000000 * kSecond;
        window.prepare(period, now, 0, now);
        std::vector<std::int64_t> starts;
        for (int i = 0; i < 300; i++) {
            now += gaps(random);
            const std::int64_t earliest = window.earliest_start(limit, now);
            if (earliest > now) {
                /* A start waits until the limit-th start before it is a period old. */
                const auto n = static_cast<std::ptrdiff_t>(starts.size()) - limit;
                REQUIRE(n >= 0);
                CHECK(earliest <=
                      starts[static_cast<std::size_t>(n)] + period + 2 * ((period + 15) / 16));
                now = earliest;
            }
            REQUIRE(window.earliest_start(limit, now) == now);
            window.count_start(now);
            starts.push_back(now);
        }
        CHECK(most_in_window(starts, period) <= static_cast<std::size_t>(limit));
    }
}
