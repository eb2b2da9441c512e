/* candidates.cpp - see candidates.hpp. */
#include "backfill/dequeue/candidates.hpp"

#include "backfill/guc.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::queue
{

bool sorts_before(const Candidate &a, const Candidate &b)
{
    if (a.priority != b.priority)
        return a.priority < b.priority;
    if (a.run_at != b.run_at)
        return a.run_at < b.run_at;
    return a.id < b.id;
}

int64 aged_priority(int priority, TimestampTz run_at, TimestampTz now)
{
    if (guc::ageing_interval_ms == 0)
        return priority;
    return priority - (now - run_at) / (static_cast<int64>(guc::ageing_interval_ms) * 1000);
}

void RowOwners::begin()
{
    executor_count = bgworker::available() ? bgworker::executor_xids(executors, kMaxExecutors) : 0;
    last = InvalidTransactionId;
}

RowOwners::Owner RowOwners::owner_of(TupleTableSlot *slot)
{
    const HeapTuple row = ExecFetchSlotHeapTuple(slot, false, nullptr);
    if ((row->t_data->t_infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) != 0)
        return Owner::kNobody;
    const TransactionId xmax = HeapTupleHeaderGetRawXmax(row->t_data);
    if (!TransactionIdIsValid(xmax) || TransactionIdIsCurrentTransactionId(xmax))
        return Owner::kNobody;
    if (TransactionIdEquals(xmax, last) && last_owner != Owner::kNobody)
        return last_owner;
    last = xmax;
    last_owner = Owner::kNobody;
    if (TransactionIdIsInProgress(xmax))
        last_owner =
            std::find(executors, executors + executor_count, xmax) != executors + executor_count
                ? Owner::kExecutor
                : Owner::kOther;
    return last_owner;
}

} // namespace backfill::queue
