/* backoff.cpp - see backoff.hpp. */
#include "backfill/settle/backoff.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/error.hpp"

namespace backfill::queue
{

namespace
{

bool seeded = false;
int seeded_by = 0; /* the process: a forked child must not repeat its parent's numbers */

core::Random &generator()
{
    static core::Random random;
    if (!seeded || seeded_by != MyProcPid) {
        std::uint64_t seed = static_cast<std::uint64_t>(guc::random_seed);
        if (guc::random_seed < 0 && !pg_strong_random(&seed, sizeof(seed)))
            fail(ERRCODE_INTERNAL_ERROR, "could not obtain random data to seed retry jitter");
        random.seed(seed);
        seeded = true;
        seeded_by = MyProcPid;
    }
    return random;
}

} // namespace

std::int64_t retry_delay_us(const core::RetryPolicy &policy, int retry)
{
    return core::retry_delay_us(policy, retry, generator());
}

std::int64_t backoff_delay_us(const core::RetryPolicy &policy, int retry)
{
    return core::backoff_delay_us(policy, retry, generator());
}

void on_random_seed_assigned(int, void *) noexcept
{
    seeded = false;
}

} // namespace backfill::queue
