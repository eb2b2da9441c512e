/* hint_faults.hpp - faults in what shared memory says, which tests ask for (backfill.hint_faults).
 *
 * The table is the only truth: whatever happens to the wake-ups, the low-water marks and the
 * candidates that were read from the index, every job runs exactly once. */
#pragma once

#include "backfill/guc.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::queue
{

/* What is done to a hint. */
enum class HintFault { kNone, kLost, kRepeated, kWrong };

/* By chance; always kNone unless a test wants faults. */
inline HintFault next_hint_fault() noexcept
{
    if (guc::hint_faults == 0 || pg_prng_double(&pg_global_prng_state) >= guc::hint_faults)
        return HintFault::kNone;
    const HintFault faults[] = {HintFault::kLost, HintFault::kRepeated, HintFault::kWrong};
    return faults[pg_prng_uint64_range(&pg_global_prng_state, 0, 2)];
}

} // namespace backfill::queue
