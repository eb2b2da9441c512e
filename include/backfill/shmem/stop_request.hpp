/* stop_request.hpp - how other sessions ask the handler of a job to stop. The functions take the
 * locks themselves, and raise nothing. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

/* Of the calling worker: from accept_stop() on, others may ask the job's handler to stop, by a
 * cancel. refuse_stop() returns whether one has; no cancel of theirs is under way after it. */
void accept_stop(int64 job_id);
bool refuse_stop();
bool is_stop_requested();
/* For others: whether a worker of this database runs the handler of a job; asks it to stop, and
 * ends a worker that was asked long ago. */
bool accepts_stop(int64 job_id);
bool request_stop(int64 job_id);

} // namespace backfill::bgworker
