/* histogram.hpp - the buckets of the metrics.
 *
 * Bounds are whole microseconds, so that counting needs no floating point. A value belongs
 * to the first bucket whose bound is not below it ("le" means less or equal); what is
 * above all bounds is in one more bucket, +Inf. */
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace backfill::core
{

using HistogramBounds = std::span<const std::int64_t>;

/* How long a job ran: 10 ms to 10 minutes. */
inline constexpr std::array<std::int64_t, 12> kDurationBoundsUs = {
    10'000,    50'000,     100'000,    500'000,    1'000'000,   2'500'000,
    5'000'000, 10'000'000, 30'000'000, 60'000'000, 300'000'000, 600'000'000};

/* How long a job that was due waited for its start: 100 ms to an hour. */
inline constexpr std::array<std::int64_t, 11> kWaitBoundsUs = {
    100'000,    500'000,     1'000'000,   5'000'000,     10'000'000,   30'000'000,
    60'000'000, 300'000'000, 600'000'000, 1'800'000'000, 3'600'000'000};

/* How long an operation on the database took: 10 microseconds to 5 seconds. */
inline constexpr std::array<std::int64_t, 12> kOperationBoundsUs = {
    10, 50, 100, 500, 1'000, 5'000, 10'000, 50'000, 100'000, 500'000, 1'000'000, 5'000'000};

/* The number of the bucket that a value belongs to, from 0; bounds.size() is +Inf. */
constexpr std::size_t bucket_of(HistogramBounds bounds, std::int64_t value_us)
{
    std::size_t bucket = 0;
    while (bucket < bounds.size() && value_us > bounds[bucket])
        bucket++;
    return bucket;
}

} // namespace backfill::core
