/* histogram_test.cpp - which bucket a value falls into. */
#include "backfill/core/histogram.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <vector>

using namespace backfill::core;

namespace
{

const std::vector<HistogramBounds> kAll = {kDurationBoundsUs, kWaitBoundsUs, kOperationBoundsUs};

std::vector<double> in_seconds(HistogramBounds bounds)
{
    std::vector<double> seconds;
    for (const std::int64_t bound : bounds)
        seconds.push_back(static_cast<double>(bound) / 1e6);
    return seconds;
}

} // namespace

TEST_CASE("the bounds for jobs are the documented ones")
{
    CHECK(in_seconds(kDurationBoundsUs) ==
          std::vector<double>{.01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300, 600});
    CHECK(in_seconds(kWaitBoundsUs) ==
          std::vector<double>{.1, .5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600});
    CHECK(in_seconds(kOperationBoundsUs) ==
          std::vector<double>{.00001, .00005, .0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5});
}

TEST_CASE("bounds grow")
{
    for (const HistogramBounds bounds : kAll)
        for (std::size_t i = 1; i < bounds.size(); i++)
            CHECK(bounds[i - 1] < bounds[i]);
}

TEST_CASE("a bound belongs to its own bucket, the next microsecond to the next one")
{
    for (const HistogramBounds bounds : kAll)
        for (std::size_t i = 0; i < bounds.size(); i++) {
            CAPTURE(bounds[i]);
            CHECK(bucket_of(bounds, bounds[i]) == i);
            CHECK(bucket_of(bounds, bounds[i] + 1) == i + 1);
            CHECK(bucket_of(bounds, bounds[i] - 1) == i);
        }
}

TEST_CASE("the smallest and the greatest values have a bucket")
{
    for (const HistogramBounds bounds : kAll) {
        CHECK(bucket_of(bounds, 0) == 0);
        CHECK(bucket_of(bounds, -1) == 0);
        CHECK(bucket_of(bounds, std::numeric_limits<std::int64_t>::max()) == bounds.size());
    }
}
