/* ready_bands.hpp - whether a better job has become ready since a process has looked.
 *
 * An executor reads many candidates at once. A job that comes while it runs them, and that goes
 * before all that are left, must not wait for their end. A commit counts by the band of the best
 * job that it has made ready (core/priority.hpp), after that can be seen; databases that share a
 * place only make each other look once more. A hint: what is not counted is found by the next
 * look. */
#pragma once

#include "backfill/shmem/ready_band_counts.hpp"

namespace backfill::bgworker::ready_bands
{

/* To be noted before the snapshot is taken that a process looks with. */
Counts last() noexcept;
/* Whether there was a commit since then of a band better than this one. */
bool has_better_since(const Counts &counts, int band) noexcept;
void note(int band) noexcept;

} // namespace backfill::bgworker::ready_bands
