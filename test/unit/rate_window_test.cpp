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
                /* Who waits waits for the limit-th start before him to be a period old. */
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
