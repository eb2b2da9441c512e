/* history.hpp - what is kept of a job when it ends: its place in the history, and a word to
 * sessions that wait for it.
 *
 * Only tasks registered with keep_history have a history: each end of a job, and each failed
 * attempt before, is a row of backfill.job_history, written by the transaction that ends the job
 * or attempt. Everything else costs a few stores: the ids of ended jobs are collected, and the
 * commit looks whether a session waits for one (shmem/job_waiters.hpp).
 *
 * For settle() only (settle.hpp). */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/core/fate.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::job_end
{

/* The process that ran the job. */
struct Runner {
    TimestampTz started_at = 0; /* 0: unknown */
    std::string worker;         /* empty: this process */
};

/* The run that has led to a job's fate, if one has. */
struct LastRun {
    int attempt = 0; /* 0: it did not run */
    Runner runner;
    bool failed = false;         /* with the row's last_error */
    std::optional<Datum> result; /* jsonb */
};

/* What the current transaction makes of the job; task is null if it is not registered (any more).
 */
void note(const Task *task, const JobRow &row, core::Fate fate, const LastRun &run);
bool keeps_history(const Task *task);

/* Deletes up to `limit` rows whose time is over; returns how many. For the dispatcher. */
int trim_history(int limit);

} // namespace backfill::queue::job_end
