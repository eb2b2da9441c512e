/* unsettled_job.hpp - a job whose run has failed and was undone with all its transaction has done,
 * until the executor has settled it in another one: meanwhile others must not run it. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

/* By an executor, before it aborts the transaction; and when it has settled the job, or given up.
 */
void hold_unsettled(int64 job_id) noexcept;
void release_unsettled() noexcept;

/* Whether an executor of this database is about to settle the job. Without one that does, it costs
 * a look at shared memory. */
bool is_unsettled(int64 job_id) noexcept;

} // namespace backfill::bgworker
