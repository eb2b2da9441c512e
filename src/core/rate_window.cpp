/* rate_window.cpp - see rate_window.hpp. */
#include "backfill/core/rate_window.hpp"

#include <algorithm>
#include <numeric>

namespace backfill::core
{

/* Rounded up, so that sixteen slices are never shorter than the period. */
std::int64_t RateWindow::slice_length() const
{
    return (period + kSlices - 1) / kSlices;
}

std::int64_t RateWindow::slice_of(std::int64_t time) const
{
    return time / slice_length();
}

void RateWindow::prepare(std::int64_t wanted_period, std::int64_t now, std::int32_t starts,
                         std::int64_t started_at)
{
    if (period == wanted_period)
        return;
    const RateWindow old = *this;
    period = wanted_period;
    counts.fill(0);
    newest_slice = slice_of(now);
    if (old.period != 0) {
        keep_starts_of(old, now);
        return;
    }
    const std::int64_t slice = std::min(slice_of(started_at), newest_slice);
    if (slice >= newest_slice - kSlices)
        counts[static_cast<std::size_t>(slice % (kSlices + 1))] = starts;
}

void RateWindow::keep_starts_of(const RateWindow &old, std::int64_t now)
{
    for (std::int64_t i = old.newest_slice - kSlices; i <= old.newest_slice; i++) {
        const std::int64_t latest = std::min((i + 1) * old.slice_length() - 1, now);
        const std::int64_t slice = slice_of(latest);
        if (i >= 0 && slice >= newest_slice - kSlices)
            counts[static_cast<std::size_t>(slice % (kSlices + 1))] +=
                old.counts[static_cast<std::size_t>(i % (kSlices + 1))];
    }
}

void RateWindow::move_to(std::int64_t now)
{
    const std::int64_t slice = slice_of(now);
    if (slice <= newest_slice)
        return; /* the clock may have gone back: keep counting in the newest slice */
    const std::int64_t steps = std::min<std::int64_t>(slice - newest_slice, kSlices + 1);
    for (std::int64_t i = 0; i < steps; i++)
        counts[static_cast<std::size_t>((slice - i) % (kSlices + 1))] = 0;
    newest_slice = slice;
}

std::int64_t RateWindow::earliest_start(std::int32_t limit, std::int64_t now)
{
    move_to(now);
    std::int64_t total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    if (total < limit)
        return now;
    /* Drop slices, the oldest first, until there is room; the last one dropped leaves
     * the window when the slice kSlices + 1 after it begins. */
    const std::int64_t length = slice_length();
    for (std::int64_t slice = newest_slice - kSlices; slice <= newest_slice; slice++) {
        total -= counts[static_cast<std::size_t>(slice % (kSlices + 1))];
        if (total < limit)
            return (slice + kSlices + 1) * length;
    }
    return (newest_slice + kSlices + 1) * length;
}

bool RateWindow::is_over(std::int64_t now) const
{
    if (period == 0 || slice_of(now) - newest_slice > kSlices)
        return true;
    return std::all_of(counts.begin(), counts.end(), [](std::int32_t n) { return n == 0; });
}

bool RateWindow::is_after(std::int64_t now) const
{
    return period != 0 && newest_slice > slice_of(now);
}

void RateWindow::count_start(std::int64_t now)
{
    move_to(now);
    counts[static_cast<std::size_t>(newest_slice % (kSlices + 1))]++;
}

void RateWindow::uncount_start(std::int64_t now)
{
    move_to(now);
    for (std::int64_t i = 0; i <= kSlices; i++) {
        std::int32_t &count =
            counts[static_cast<std::size_t>((newest_slice + kSlices + 1 - i) % (kSlices + 1))];
        if (count > 0) {
            count--;
            return;
        }
    }
}

} // namespace backfill::core
