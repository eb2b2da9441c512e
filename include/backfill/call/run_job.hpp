/* run_job.hpp - run one claimed job's handler in a subtransaction. */
#pragma once

#include "backfill/call/running_job.hpp"
#include "backfill/config/config.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

/* Whose session the job runs in. */
enum class SessionKind {
    kExecutor, /* our worker, logged in as the task's role: clean up after each job */
    kUser,     /* a user's own session (process_available_jobs): leave its state alone */
};

/* Runs the handler of a job that this transaction has claimed. The handler's effects
 * and the trial of its deferred constraints (deferred_events.hpp) are in a subtransaction: on
 * an error all of it is gone, and the error is returned. Settings that the handler changed are put
 * back either way. Errors: Failure 57014 if the user cancels a kUser session. */
RunResult run_job(const Config &config, const JobRow &row, const Task &task, SessionKind session);

/* --- For run_job() and procedure.cpp only. --- */

/* Asks the deciding hooks; false if they have decided about the job. */
bool may_go_on(const Config &config, core::HookEvent event, const JobRow &row);
/* Removes what a job may have left in the session and what can be removed at once. Temporary
 * objects cannot: their removal is part of the job's transaction. */
void clean_session();

} // namespace backfill::queue
