/* rate_limit.hpp - how many jobs of a queue start per period.
 *
 * Exact across all processes: starts are counted in shared memory, in slices of a
 * sixteenth of the period, and a job may start only if the last seventeen slices hold
 * fewer starts than the limit. So no period, wherever it begins, sees more; at worst a
 * start waits a sixteenth of the period longer than it had to. After a start of the
 * server a queue counts as used up for one period, since it is unknown what ran before, unless
 * its rate was set after that. A new period applies to the starts that count when it is set. */
#pragma once

#include "backfill/config/queue_config.hpp"

namespace backfill::queue
{

/* Counts one start. Returns 0, or when the next start is possible. Raises nothing. */
TimestampTz take_rate_token(const QueueLimit &limit, TimestampTz now) noexcept;
/* Takes a start back that has not come about. */
void return_rate_token(const QueueLimit &limit, TimestampTz now) noexcept;
/* When the next start is possible, 0 for now; counts nothing. */
TimestampTz next_rate_token(const QueueLimit &limit, TimestampTz now) noexcept;

} // namespace backfill::queue
