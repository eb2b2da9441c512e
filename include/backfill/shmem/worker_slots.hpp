/* worker_slots.hpp - what the calling worker says about itself in its slot. */
#pragma once

#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

/* This process is the worker of that slot. */
void set_my_slot(int number) noexcept;
/* The calling worker's slot. */
WorkerSlot &my_slot();
int my_slot_number();
/* The current job of the calling worker says how far it is; fraction below 0: unknown. Visible to
 * all at once. Does nothing in other processes. */
void publish_progress(double fraction, const char *message) noexcept;
/* The calling executor is working through these stretches: others pass over them until then.
 * Does nothing in other processes. */
void publish_read_ahead(const core::ReadAhead &read_ahead, TimestampTz until) noexcept;

} // namespace backfill::bgworker
