/* batch.hpp - claim and run jobs in one transaction.
 *
 * Fast jobs share a transaction, as many as fit into backfill.batch_time: a commit costs
 * far more than a small job. A task that is new or has been slow runs alone. The caller
 * opens and commits the transaction; if it aborts, every job of the batch is ready again. */
#pragma once

#include "backfill/call/run_job.hpp"
#include "backfill/core/read_ahead.hpp"
#include "backfill/run/procedure.hpp"

namespace backfill::queue
{

/* Makes known what the batch is at, to other processes. */
class BatchObserver
{
  public:
    BatchObserver() = default;
    BatchObserver(const BatchObserver &) = delete;
    BatchObserver &operator=(const BatchObserver &) = delete;

    virtual void job_starts(const JobRow &row, const Task &task) = 0;
    virtual void job_ended(bool failed) = 0;
    /* A procedure's job is claimed; before the claim's commit. */
    virtual void job_claimed(int64 claim_token) = 0;
    /* Until then, others should begin behind what the batch has read. */
    virtual void has_read_ahead(const core::ReadAhead &stretches, TimestampTz until) = 0;

  protected:
    ~BatchObserver() = default;
};

struct BatchOptions {
    SessionKind session = SessionKind::kExecutor;
    int64 time_limit_us = 0;  /* no further job after this time */
    int max_jobs = 0;         /* 0: no limit */
    bool urgent_only = false; /* only jobs of the fast bands */
    bool procedures = true;   /* also jobs of procedures, in an executor */
    /* The transaction ends with the batch: jobs that are done wait for it. */
    bool commits = true;
    /* Only these tasks, if not empty. */
    std::vector<std::string> tasks;
    BatchObserver *observer = nullptr; /* of an executor; of a session there is none */
};

struct BatchResult {
    int jobs = 0;      /* how many ran to their end, failures included */
    bool more = false; /* there may be further ready jobs */
    int64 last_job_id = 0;
    /* The only job of the batch, which the caller has to run after the commit. */
    std::optional<ProcedureClaim> procedure;
    /* The job was set aside before, and is the only one of the batch. */
    bool was_set_aside = false;

    /* After an error: which job it was at, if it was at one, and the error of that job's run, if
     * that had failed by then. */
    int64 current_id = 0;
    std::string current_task;
    std::optional<core::ErrorInfo> run_error;
};

/* Runs ready jobs of tasks that run as the current user. Needs a transaction. An error means that
 * the outcome of a job cannot be recorded: the transaction must be aborted, and `result` says whose
 * it was. */
void run_batch(const BatchOptions &options, BatchResult &result);

/* Fails a job without running it: its own commit failed with this error. Does nothing if
 * another session has the job by now. */
void fail_unrun_job(int64 job_id, const core::ErrorInfo &error);

/* A job's run has failed, and what becomes of it cannot be recorded: it stays in the table, where
 * no executor may look for it yet (set_aside.hpp), with this error and one attempt more. When it
 * was the last one, the next executor that claims it does not run it again. */
void charge_unsettled_job(int64 job_id, const core::ErrorInfo &error);

/* Dead-letters about `limit` ready jobs of tasks whose run_as role does not exist; returns
 * whether there are more. For the dispatcher: no executor can log in as such a role. */
bool dead_letter_orphans(int limit);

} // namespace backfill::queue
