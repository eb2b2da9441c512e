/* row_lock.cpp - see row_lock.hpp. */
#include "backfill/table/row_lock.hpp"

#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

namespace
{

struct RowMark {
    TransactionId xmax;
    uint16 infomask;
    bool found;
};

/* Both at one moment: the row may be changed while we look. */
RowMark read_mark(Relation table, ItemPointerData tid)
{
    if (!ItemPointerIsValid(&tid) ||
        ItemPointerGetBlockNumberNoCheck(&tid) >= RelationGetNumberOfBlocks(table))
        return {};
    HeapTupleData tuple;
    Buffer buffer;
    tuple.t_self = tid;
    if (!heap_fetch(table, SnapshotAny, &tuple, &buffer, false))
        return {};
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    const RowMark mark{HeapTupleHeaderGetRawXmax(tuple.t_data), tuple.t_data->t_infomask, true};
    UnlockReleaseBuffer(buffer);
    return mark;
}

RowClaim claim_of_members(MultiXactId several, bool only_locks)
{
    RowClaim claim;
    MultiXactMember *members;
    const int count = GetMultiXactIdMembers(several, &members, false, only_locks);
    for (int i = 0; i < count; i++) {
        if (ISUPDATE_from_mxstatus(members[i].status))
            claim.changing = members[i].xid;
        else if (TransactionIdIsInProgress(members[i].xid))
            claim.locking = members[i].xid;
    }
    if (count > 0)
        pfree(members);
    return claim;
}

} // namespace

RowClaim RowClaim::of_job(ItemPointerData tid)
{
    Relation table = JobTable::own().open(AccessShareLock);
    return pg::call([&] {
        const RowMark mark = read_mark(table, tid);
        table_close(table, AccessShareLock);
        RowClaim claim;
        if (!mark.found || (mark.infomask & HEAP_XMAX_INVALID) != 0)
            return claim;
        const bool only_locks = HEAP_XMAX_IS_LOCKED_ONLY(mark.infomask);
        if ((mark.infomask & HEAP_XMAX_IS_MULTI) != 0)
            return claim_of_members(mark.xmax, only_locks);
        if (!only_locks)
            claim.changing = mark.xmax;
        else if (TransactionIdIsInProgress(mark.xmax))
            claim.locking = mark.xmax;
        return claim;
    });
}

} // namespace backfill::queue
