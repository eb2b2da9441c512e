/* run_limit.hpp - what ends a handler from outside: its time limit, cancel_job(), and jobs that are
 * done and wait for it.
 *
 * A job that is done waits for the end of its batch. So a handler that has to wait for a lock then
 * must not go on waiting: watch_lock_waits() has it cancelled, too, and the job is given back as if
 * it had not been run. Nothing that the handler can see or set is used for that.
 *
 * All cancel the handler's statement, as pg_cancel_backend() does, and leave a note that tells
 * them apart from it. The note counts, not the error: a handler that catches the cancel has
 * timed out, or is cancelled, all the same. The time limit cancels again every second, because a
 * handler may catch it and go on; after ten cancels an executor ends its process, and the ledger
 * charges the job. One job at a time; used by run_job.cpp and procedure.cpp. */
#pragma once

#include "backfill/call/running_job.hpp"
#include "backfill/config/config.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::queue
{

/* Others can cancel this process's jobs, through its slot; once, by an executor. */
void become_stoppable() noexcept;

/* The job's own limit, or else its task's; 0: none. Microseconds. */
int64 time_limit_us(const JobRow &row, const Task &task);

/* Until stop_watching(), a handler of this process that waits for a lock is cancelled at the latest
 * after after_us. */
void watch_lock_waits(int64 after_us);
void stop_watching() noexcept;

class RunLimit
{
  public:
    RunLimit(const JobRow &row, const Task &task);
    ~RunLimit() { end(); }
    RunLimit(const RunLimit &) = delete;
    RunLimit &operator=(const RunLimit &) = delete;

    /* From here on, to end(), the handler can be cancelled. */
    void begin();
    /* Throws if the handler must not be regarded as successful. */
    void check() const;
    /* No cancel of ours is under way after this. Raises nothing. */
    void end() noexcept;

    /* After end(): why. */
    bool timed_out() const { return timed_out_; }
    bool cancelled() const { return cancelled_; }
    bool waited() const { return waited_; }
    /* Puts the reason into the result, whose error is what the handler raised, if it did. */
    void explain(RunResult &result) const;

  private:
    core::ErrorInfo timeout_error() const;

    int64 job_id_;
    int64 limit_us_;
    bool own_; /* the limit is the job's own */
    bool active_ = false;
    bool timed_out_ = false;
    bool cancelled_ = false;
    bool waited_ = false;
};

} // namespace backfill::queue
