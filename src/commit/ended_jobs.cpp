/* ended_jobs.cpp - see ended_jobs.hpp. */
#include "backfill/commit/ended_jobs.hpp"

#include "backfill/shmem/job_waiters.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::queue::ended_jobs
{

namespace
{

constexpr int kMaxEnded = 1024;

/* Plain data: the callbacks must not fail. How deep in savepoints each was noted never
 * decreases from one to the next. */
struct Ended {
    int count;
    bool more;
    bgworker::EndedJob jobs[kMaxEnded];
    int levels[kMaxEnded];
};
Ended ended;

} // namespace

void note(int64 job_id, core::Fate end) noexcept
{
    if (!bgworker::available())
        return;
    if (ended.count == kMaxEnded) {
        ended.more = true;
        return;
    }
    ended.levels[ended.count] = GetCurrentTransactionNestLevel();
    ended.jobs[ended.count++] = {job_id, end};
}

void on_subtransaction_end(bool committed, int level) noexcept
{
    if (!committed)
        while (ended.count > 0 && ended.levels[ended.count - 1] >= level)
            ended.count--;
    for (int i = ended.count - 1; i >= 0 && ended.levels[i] >= level; i--)
        ended.levels[i] = level - 1;
}

void on_transaction_end(bool committed) noexcept
{
    if (ended.count == 0)
        return;
    if (committed && bgworker::available())
        bgworker::tell_job_waiters(ended.jobs, ended.count, ended.more);
    ended.count = 0;
    ended.more = false;
}

} // namespace backfill::queue::ended_jobs
