/* rate_window.hpp - a sliding window over the starts of one queue, in slices. */
#pragma once

#include <array>
#include <cstdint>

namespace backfill::core
{

/* Plain data in shared memory. All times in microseconds. */
struct RateWindow {
    static constexpr int kSlices = 16;

    std::int64_t period;       /* what the slices were made for; 0: unused */
    std::int64_t newest_slice; /* number of the slice that counts[newest_slice % n] is */
    std::array<std::int32_t, kSlices + 1> counts;

    /* Makes the window count for this period. A new one has that many starts (none, or all that are
     * allowed) at a time not later than now; one of another length keeps the starts that it knows,
     * those of its own last period, as if each had been as late as it may have been. */
    void prepare(std::int64_t wanted_period, std::int64_t now, std::int32_t starts,
                 std::int64_t started_at);
    /* When a start is possible at the earliest: now, or the time when enough of the
     * starts so far have left the window. */
    std::int64_t earliest_start(std::int32_t limit, std::int64_t now);
    /* Whether none of its starts counts any more. */
    bool is_over(std::int64_t now) const;
    /* Whether it has counted starts later than now. */
    bool is_after(std::int64_t now) const;
    void count_start(std::int64_t now);
    /* Undoes one recent count_start(). */
    void uncount_start(std::int64_t now);

  private:
    std::int64_t slice_length() const;
    void keep_starts_of(const RateWindow &old, std::int64_t now);
    std::int64_t slice_of(std::int64_t time) const;
    void move_to(std::int64_t now);
};

} // namespace backfill::core
