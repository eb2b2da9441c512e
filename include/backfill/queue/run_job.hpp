/* run_job.hpp - run one claimed job's handler in a subtransaction. */
#pragma once

#include "backfill/queue/config.hpp"
#include "backfill/queue/job_row.hpp"

namespace backfill::queue
{

/* Whose session the job runs in. */
enum class SessionKind {
    kExecutor, /* our worker, logged in as the task's role: clean up after each job */
    kUser,     /* a user's own session (process_available_jobs): leave its state alone */
};

/* Runs the handler of a job that this transaction has claimed. The handler's effects
 * and its deferred constraints are in a subtransaction: on an error all of it is gone,
 * and the error is returned. Settings that the handler changed are put back either way.
 * Errors: Failure 57014 if the user cancels a kUser session. */
std::optional<core::ErrorInfo> run_job(const JobRow &row, const Task &task, SessionKind session);

/* State that a job may have left behind and that only the end of the transaction or a
 * reset of the whole session removes: SET CONSTRAINTS, held cursors, temporary objects. The
 * utility hook and run_job() set it; it ends the batch, and the executor then resets
 * its session. */
bool session_is_dirty();
void mark_session_dirty() noexcept;
void mark_session_clean();

/* Whether a job's handler is running in this process. */
bool is_running_job();

/* Registers an invalidation callback; once per process, from _PG_init. */
void init_run_job();

} // namespace backfill::queue
