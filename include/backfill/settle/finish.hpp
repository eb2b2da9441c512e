/* finish.hpp - what becomes of a job after its run, in the transaction that claimed it.
 *
 * Success writes nothing: the claim has deleted the row, the commit completes the job. */
#pragma once

#include "backfill/call/run_job.hpp"
#include "backfill/config/config.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

enum class Outcome {
    kDone,
    kRetried,      /* inserted again, for later */
    kSnoozed,      /* the same, because the handler wants it */
    kDeadLettered, /* in the dead letter queue */
    kSuperseded,   /* dropped: a newer job carries its key */
    kCancelled,    /* dropped: cancel_job() has ended it */
};

/* After the handler's run, however it went: counts it, settles the job, tells the hooks that
 * watch. A keyed or requeued job that is done takes its dead letter with it. */
void finish_run(JobTable &table, const Config &config, const Task *task, const JobRow &row,
                const RunResult &run, TimestampTz started, TimestampTz ended);

/* Ends a job of which nobody wants a (further) run: a newer job carries its key, or it was
 * cancelled, or its key removed or enqueued again, while it ran. What forbade the run is forgotten
 * with the job. The outcome, kSuperseded or kCancelled, or nothing if the job may run. */
std::optional<Outcome> drop_if_unwanted(JobTable &table, const Task *task, const JobRow &row,
                                        const job_end::LastRun &run = {});

/* After a failure whose effects are rolled back: insert the job again with one more
 * attempt and a later run_at, or write it to the dead letter queue. The error is classified by
 * its SQLSTATE, or as given. */
Outcome finish_failure(JobTable &table, const Config &config, const Task *task, const JobRow &row,
                       const core::ErrorInfo &error, const job_end::Runner &runner = {});
Outcome finish_failure(JobTable &table, const Config &config, const Task *task, JobRow row,
                       const core::ErrorInfo &error, core::ErrorClass error_class,
                       const job_end::Runner &runner = {});

/* A leased job whose consumer was not heard of in time: one attempt more, and it is ready again
 * at once, or in the dead letter queue. */
Outcome finish_lost(JobTable &table, const Task *task, JobRow row);

/* A job that has failed, of which nothing else can be recorded: charge_unsettled_job() in
 * batch.hpp.
 */
void charge_unsettled(JobTable &table, const Config &config, const Task *task, JobRow row,
                      const core::ErrorInfo &error);
/* Whether such a job has had its last run, by its last_error and its attempts; and what is left to
 * be done for it then. */
bool is_spent(const Config &config, const JobRow &row);
void finish_spent(JobTable &table, const Config &config, const Task *task, const JobRow &row);

/* A job that shall run again at no cost: in its old place, or after a delay. */
Outcome finish_unrun(JobTable &table, const Task *task, JobRow row, std::optional<int64> delay_us);

} // namespace backfill::queue
