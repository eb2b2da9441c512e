/* executor_session.cpp - see executor_session.hpp. */
#include "backfill/bgworker/executor_session.hpp"

#include "backfill/call/run_job.hpp"

namespace backfill::bgworker
{

void begin_or_end()
{
    if (!begin_extension_transaction())
        end_worker();
}

void clean_session()
{
    /* Of a lock that its batch held already, when a handler took it for the session (run_job.cpp). */
    pg::call([] { LockReleaseSession(USER_LOCKMETHOD); });
    if (!queue::session_is_dirty())
        return;
    pg::call([] {
        StartTransactionCommand();
        /* As PostgreSQL runs it: temporary objects are dropped under a snapshot. */
        PushActiveSnapshot(GetTransactionSnapshot());
        DiscardStmt *all = makeNode(DiscardStmt);
        all->target = DISCARD_ALL;
        DiscardCommand(all, true);
        PopActiveSnapshot();
        CommitTransactionCommand();
    });
    queue::mark_session_clean();
}

bool is_asked_to_end()
{
    const SharedReadLock lock;
    return my_slot(lock).retire;
}

} // namespace backfill::bgworker
