/* finish.hpp - what becomes of a job after its run, in the transaction that claimed it.
 *
 * Success writes nothing: the claim has deleted the row, the commit completes the job. */
#pragma once

#include "backfill/queue/config.hpp"
#include "backfill/queue/job_table.hpp"

namespace backfill::queue
{

enum class Outcome {
    kDone,
    kRetried,      /* inserted again, for later */
    kDeadLettered, /* in the dead letter queue */
    kSuperseded,   /* dropped: a newer job carries its key */
};

/* After success: a keyed or requeued job takes its dead letter with it. */
void finish_success(const JobRow &row);

/* After a failure whose effects are rolled back: insert the job again with one more
 * attempt and a later run_at, or write it to the dead letter queue. */
Outcome finish_failure(JobTable &table, const Config &config, const Task *task, JobRow row,
                       const core::ErrorInfo &error);

} // namespace backfill::queue
