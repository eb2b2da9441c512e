/* queue_changes.hpp - whether anything has changed in a queue since a process has looked.
 *
 * The first job of a serial queue that a process has read is still the first if, since then, no
 * other process has given the queue's permit back (whatever that one ran may be there again), and
 * no job was added. The process must hold the permit when it asks. Changes are told after they are
 * visible, and before a permit is given back; hash collisions only make it look again. */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::bgworker::queue_changes
{

/* To be noted before the snapshot is taken that a process looks with. */
uint64 last() noexcept;
/* Always true without shared memory. */
bool since(uint64 number, core::QueueHash queue) noexcept;

void note(core::QueueHash queue) noexcept;
void note_all() noexcept;
/* From now on it may change at a moment of which no process tells: the end of a lease, or of a
 * prepared transaction. */
void note_always(core::QueueHash queue) noexcept;
void note_always_all() noexcept;

} // namespace backfill::bgworker::queue_changes
