/* backoff.hpp - the process's random numbers, which give retries their jitter. */
#pragma once

#include "backfill/core/retry_policy.hpp"

namespace backfill::queue
{

/* The functions of core with this process's generator, which is seeded from a strong
 * source at its first use, or from backfill.random_seed if that is set. */
std::int64_t retry_delay_us(const core::RetryPolicy &policy, int retry);
std::int64_t backoff_delay_us(const core::RetryPolicy &policy, int retry);

} // namespace backfill::queue
