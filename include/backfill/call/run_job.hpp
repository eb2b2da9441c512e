/* run_job.hpp - run one claimed job's handler in a subtransaction. */
#pragma once

#include "backfill/call/said.hpp"
#include "backfill/config/config.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

/* Whose session the job runs in. */
enum class SessionKind {
    kExecutor, /* our worker, logged in as the task's role: clean up after each job */
    kUser,     /* a user's own session (process_available_jobs): leave its state alone */
};

struct RunResult {
    std::optional<core::ErrorInfo> error; /* the handler failed; its effects are gone */
    bool cancelled = false;               /* the same, because somebody has cancelled the job */
    bool given_back = false; /* the same, because it waited for a lock while others' jobs that are
                                done waited for it: as if it had not been run */
    Verdict verdict;         /* else: what it wants */
    TimestampTz started_at = 0;
    std::optional<Datum> result; /* jsonb, if the task keeps a history */
};

/* Runs the handler of a job that this transaction has claimed. The handler's effects
 * and the trial of its deferred constraints (deferred_events.hpp) are in a subtransaction: on
 * an error all of it is gone, and the error is returned. Settings that the handler changed are put
 * back either way. Errors: Failure 57014 if the user cancels a kUser session. */
RunResult run_job(const Config &config, const JobRow &row, const Task &task, SessionKind session);

/* --- For run_job() and procedure.cpp only. --- */

/* The job is the one that runs in this process, for a scope. */
class RunningMark
{
  public:
    explicit RunningMark(const JobRow &row);
    ~RunningMark();
    RunningMark(const RunningMark &) = delete;
    RunningMark &operator=(const RunningMark &) = delete;
};
/* Asks the deciding hooks; false if they have decided about the job. */
bool may_go_on(const Config &config, core::HookEvent event, const JobRow &row);
/* Removes what a job may have left in the session and what can be removed at once. Temporary
 * objects cannot: their removal is part of the job's transaction. */
void clean_session();

/* --- For everybody. --- */

/* The job whose handler runs in this process; null if none does. */
const JobRow *running_job();

/* State that a job may have left behind and that only the end of the transaction or a
 * reset of the whole session removes: SET CONSTRAINTS, held cursors, temporary objects. The
 * utility hook and run_job() set it; it ends the batch, and the executor then resets
 * its session. */
bool session_is_dirty();
void mark_session_dirty() noexcept;
void mark_session_clean();

inline bool is_running_job()
{
    return running_job() != nullptr;
}

} // namespace backfill::queue
