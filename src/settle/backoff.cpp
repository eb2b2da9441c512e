/* backoff.cpp - see backoff.hpp. */
#include "backfill/settle/backoff.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/error.hpp"

namespace backfill::queue
{

namespace
{

int seeded_by = 0; /* the process: a forked child must not repeat its parent's numbers */
int seeded_at = 0; /* by which assignment of backfill.random_seed */

core::Random &generator()
{
    static core::Random random;
    if (seeded_by != MyProcPid || seeded_at != guc::random_seed_assignments) {
        std::uint64_t seed = static_cast<std::uint64_t>(guc::random_seed);
        if (guc::random_seed < 0 && !pg_strong_random(&seed, sizeof(seed)))
            fail(ERRCODE_INTERNAL_ERROR, "could not obtain random data to seed retry jitter");
        random.seed(seed);
        seeded_by = MyProcPid;
        seeded_at = guc::random_seed_assignments;
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

} // namespace backfill::queue
