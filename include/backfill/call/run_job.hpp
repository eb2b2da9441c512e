/* run_job.hpp - run one claimed job's handler, in a subtransaction or without one. */
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

/* What an error of the handler undoes. */
enum class Undo {
    kJob,         /* its own effects: it runs in a subtransaction */
    kTransaction, /* all: the caller must abort the transaction. For kExecutor. */
};

/* Runs the handler of a job that this transaction has claimed, and tries the deferred constraints
 * that it leaves (deferred_events.hpp). An error is returned, and undone, or to be undone by the
 * caller. Settings that the handler changed are put back either way.
 * Errors: Failure 57014 if the user cancels a kUser session. */
RunResult run_job(const Config &config, const JobRow &row, const Task &task, SessionKind session,
                  Undo undo);

/* --- For run_job(), procedure.cpp, and executors after Undo::kTransaction. --- */

/* Asks the deciding hooks; false if they have decided about the job. */
bool may_go_on(const Config &config, core::HookEvent event, const JobRow &row);
/* Removes what a job may have left in the session and what can be removed at once. Temporary
 * objects cannot: their removal is part of the job's transaction. Without `may_hold_locks` it has
 * left no lock of the session's. */
void clean_session(bool may_hold_locks = true);

} // namespace backfill::queue
