/* stop_request.hpp - how others tell the handler of a job to stop. The functions take the lock
 * themselves, and raise nothing. */
#pragma once

#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

/* Of the calling worker, whose slot this is: from open_to_stop() on, others may tell the job's
 * handler to stop, by a cancel. close_to_stop() returns whether somebody has; no cancel of theirs
 * is under way after it. */
void open_to_stop(WorkerSlot &slot, int64 job_id);
bool close_to_stop(WorkerSlot &slot);
bool is_told_to_stop(WorkerSlot &slot);
/* For others: whether a worker of this database runs the handler of a job; tells it to stop, and
 * ends a worker that was told long ago. */
bool is_stoppable(int64 job_id);
bool tell_to_stop(int64 job_id);

} // namespace backfill::bgworker
