/* clock.hpp - the queue's idea of now.
 *
 * What is ready, when a retry or a lease is due, which minutes a schedule has had, how old a dead
 * letter is: all of that asks this clock, in C++ as clock::now(), in SQL as backfill._now().
 * It is the machine's, unless a superuser has set backfill.fake_now for a test; then it stands
 * still at that time. What is measured (durations, time limits, how long to wait) goes by the
 * machine's clock. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::clock
{

inline constexpr TimestampTz kReal = DT_NOBEGIN;

/* The value of backfill.fake_now, or kReal. For the inline functions below. */
extern TimestampTz fake;

inline bool is_fake() noexcept
{
    return fake != kReal;
}

/* The queue's time of a moment that was just read from the machine's clock. */
inline TimestampTz of(TimestampTz real) noexcept
{
    return is_fake() ? fake : real;
}

inline TimestampTz now() noexcept
{
    return is_fake() ? fake : GetCurrentTimestamp();
}

/* When the transaction began. */
inline TimestampTz transaction_start() noexcept
{
    return of(GetCurrentTransactionStartTimestamp());
}

/* The hooks of the setting. A time without a time zone is UTC, so that all processes agree on it;
 * it must be a date of the calendar, not "now" or "tomorrow". Raise nothing but a lack of memory.
 */
bool check_fake_now(char **value, void **extra, GucSource source);
void assign_fake_now(const char *value, void *extra) noexcept;

} // namespace backfill::clock
