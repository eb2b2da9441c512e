/* job_waiters.hpp - sessions that wait for the end of a job (await_job()).
 *
 * A session that waits has a place in shared memory with the job's id; a commit that ends
 * jobs looks whether a session waits (one atomic read if none does) and wakes all that do if one
 * of its jobs is waited for. A rollback of what was enqueued wakes all if a session waits for a job
 * that is not committed. What it leaves there, how the job ended, is a hint: the session that waits
 * looks into the tables first. A session that finds no place looks now and then instead. */
#pragma once

#include "backfill/core/fate.hpp"
#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

struct EndedJob {
    int64 job_id;
    core::Fate end;
};

/* The jobs have ended, in this database; `more`: and others, too. Raises nothing. */
void tell_job_waiters(const EndedJob *jobs, int count, bool more) noexcept;

/* This session's place; it has one at most. Without shared memory there is none. */
void take_waiter_place(int64 job_id);
void leave_waiter_place() noexcept;
/* From now on the session is woken by rollbacks, too: its job is not committed. Until it leaves. */
void watch_rollbacks();
/* Something that was enqueued has been rolled back. Raises nothing. */
void tell_rollback() noexcept;
/* What a commit has left there. */
std::optional<core::Fate> told_job_end();

} // namespace backfill::bgworker
