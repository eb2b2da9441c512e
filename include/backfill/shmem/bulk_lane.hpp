/* bulk_lane.hpp - how many executors may run jobs that are not urgent. The functions take the lock
 * themselves, and raise nothing. */
#pragma once

#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

/* Whether one more executor of the database may run jobs that are not urgent, seeing to
 * backfill.reserved_urgent_executors; if so, the worker in `slot` counts as doing so until
 * leave_bulk_lane(). */
bool enter_bulk_lane(Oid database, int slot);
void leave_bulk_lane(Oid database, int slot);

} // namespace backfill::bgworker
