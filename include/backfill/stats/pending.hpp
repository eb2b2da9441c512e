/* pending.hpp - what the current transaction has to count when it commits.
 *
 * Counting at statement time would count what is rolled back later. So counts are kept per
 * transaction and level of nesting: a rollback to a savepoint drops what its level has
 * collected, a release hands it to the level above, the commit adds all of it to shared
 * memory, an abort forgets it. PREPARE TRANSACTION forgets it, too: COMMIT PREPARED
 * happens in another session, perhaps after a restart, and has no callback. */
#pragma once

#include "backfill/stats/counters.hpp"

namespace backfill::stats
{

/* Registers the callbacks; once per process, from _PG_init, when preloaded. */
void init_pending();

/* The counts of one label set at the present level of the transaction. Plain numbers: what
 * to add to JobCounters::values. Valid until the next call, or the end of the level. Needs a
 * transaction and available(). Null if the label set has no place. */
uint64 *pending_counts(const LabelSet &labels);

} // namespace backfill::stats
