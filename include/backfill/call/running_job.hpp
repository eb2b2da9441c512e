/* running_job.hpp - the job that runs in this process, what becomes of its run, and what it leaves
 * behind in the session. */
#pragma once

#include "backfill/call/said.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

struct RunResult {
    std::optional<core::ErrorInfo> error; /* the handler failed; its effects are gone */
    bool cancelled = false;               /* the same, because the job was cancelled */
    bool given_back = false; /* the same, because it waited for a lock while others' jobs that are
                                done waited for it: as if it had not been run */
    Verdict verdict;         /* else: what it wants */
    TimestampTz started_at = 0;
    std::optional<Datum> result; /* jsonb, if the task keeps a history */
};

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

/* --- For run_job() and procedure.cpp only. --- */

/* For the time of a scope the job is the one that runs in this process. */
class RunningMark
{
  public:
    explicit RunningMark(const JobRow &row);
    ~RunningMark();
    RunningMark(const RunningMark &) = delete;
    RunningMark &operator=(const RunningMark &) = delete;
};

} // namespace backfill::queue
