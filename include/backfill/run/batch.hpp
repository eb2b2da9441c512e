/* batch.hpp - claim and run jobs in one transaction.
 *
 * Fast jobs share a transaction, as many as fit into backfill.batch_time: a commit costs
 * far more than a small job. A task that is new or has been slow runs alone. The caller
 * opens and commits the transaction; if it aborts, every job of the batch is ready again.
 *
 * Jobs of tasks that hardly ever fail run without a savepoint each (task_record.hpp). Should one fail,
 * all that the batch has done is undone. The caller settles the one that has failed, which is not
 * run again for that, and has the others run again, with savepoints. */
#pragma once

#include "backfill/call/run_job.hpp"
#include "backfill/core/read_ahead.hpp"
#include "backfill/run/procedure.hpp"

namespace backfill::queue
{

/* How a job's run went. */
struct JobRun {
    RunResult result;
    TimestampTz started = 0;
    TimestampTz ended = 0;
};

/* A run that has failed, of a job whose row is there again as it was. */
struct UndoneRun {
    int64 job_id;
    ItemPointerData tid;
    TransactionId xmin;
    JobRun run;
};

/* Makes known what the batch is at, to other processes. */
class BatchObserver
{
  public:
    BatchObserver() = default;
    BatchObserver(const BatchObserver &) = delete;
    BatchObserver &operator=(const BatchObserver &) = delete;

    virtual void job_starts(const JobRow &row, const Task &task) = 0;
    virtual void job_ended(bool failed) = 0;
    /* The jobs of the batch that have ended have not: its transaction is aborted. */
    virtual void batch_undone() = 0;
    /* A procedure's job is claimed; before the claim's commit. */
    virtual void job_claimed(int64 claim_token) = 0;
    /* Until then, others should begin behind what the batch has read. Returns the number that this
     * has among what executors have made known. */
    virtual uint64 has_read_ahead(const core::ReadAhead &stretches, TimestampTz until) = 0;

  protected:
    ~BatchObserver() = default;
};

struct BatchOptions {
    SessionKind session = SessionKind::kExecutor;
    int64 time_limit_us = 0;  /* no further job after this time */
    int max_jobs = 0;         /* 0: no limit */
    bool urgent_only = false; /* only jobs of the fast bands */
    bool procedures = true;   /* also jobs of procedures, in an executor */
    /* Jobs may run without a savepoint: the caller can abort the transaction and have the jobs run
     * again, with savepoints. */
    bool may_undo = false;
    /* The transaction ends with the batch: jobs that are done wait for it. */
    bool commits = true;
    /* Only these tasks, if not empty. */
    std::vector<std::string> tasks;
    BatchObserver *observer = nullptr; /* of an executor; of a session there is none */
};

struct BatchResult {
    int jobs = 0;           /* how many ran to their end, failures included */
    bool more = false;      /* there may be further ready jobs */
    std::string first_task; /* of the jobs */
    int64 last_job_id = 0;
    /* The only job of the batch, which the caller has to run after the commit. */
    std::optional<ProcedureClaim> procedure;
    /* A job without a savepoint has failed: the transaction must be aborted. */
    std::optional<UndoneRun> undone;
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

/* Settles the job whose run has failed in the transaction that was undone: it is not run again for
 * that. Does nothing if another session has the job by now, or has changed it. */
void settle_undone(const UndoneRun &undone);

/* Fails a job without running it: its own commit failed with this error. Does nothing if
 * another session has the job by now. */
void fail_unrun_job(int64 job_id, const core::ErrorInfo &error);

/* A job's run has failed, and what becomes of it cannot be recorded: it stays in the table, where
 * no executor may look for it yet (set_aside.hpp), with this error and one attempt more. When it
 * was the last one, the next executor that claims it does not run it again. */
void charge_unsettled_job(int64 job_id, const core::ErrorInfo &error);

} // namespace backfill::queue
