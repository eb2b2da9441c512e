/* job_table.cpp - see job_table.hpp. */
#include "backfill/queue/job_table.hpp"

#include "backfill/pg/table.hpp"

namespace backfill::queue
{

JobTable::JobTable() : memory_(CurrentMemoryContext)
{
    heap_ = pg::open_table("job", RowExclusiveLock);
    pg::call([&] {
        slot_ = table_slot_create(heap_, nullptr);
        if (RelationGetDescr(heap_)->natts != kColumnCount)
            ereport(ERROR,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("table backfill.job has %d columns, but the library knows %d",
                            RelationGetDescr(heap_)->natts, kColumnCount),
                     errhint("Run ALTER EXTENSION backfill UPDATE, and restart the server if its "
                             "library is older than the extension.")));
    });
}

void JobTable::close()
{
    pg::call([&] {
        ExecDropSingleTupleTableSlot(slot_);
        if (insert_target_ != nullptr) {
            ExecCloseIndices(insert_target_);
            FreeExecutorState(executor_state_);
        }
        if (ready_index_ != nullptr)
            index_close(ready_index_, NoLock);
        table_close(heap_, NoLock);
    });
    heap_ = nullptr;
}

Relation JobTable::ready_index()
{
    if (ready_index_ == nullptr) {
        const Oid oid = pg::relation_oid("job_ready_idx");
        pg::call([&] { ready_index_ = index_open(oid, AccessShareLock); });
    }
    return ready_index_;
}

std::optional<JobRow> JobTable::fetch(ItemPointerData tid, Snapshot snapshot)
{
    JobRow row = JobRow::empty();
    const bool visible = pg::call([&] {
        if (!table_tuple_fetch_row_version(heap_, &tid, snapshot, slot_))
            return false;
        heap_deform_tuple(ExecCopySlotHeapTuple(slot_), RelationGetDescr(heap_), row.values,
                          row.nulls);
        ExecClearTuple(slot_);
        return true;
    });
    return visible ? std::optional(row) : std::nullopt;
}

std::vector<FoundJob> JobTable::find(const char *index_name, RegProcedure equals, Datum key_value)
{
    const Oid index_oid = pg::relation_oid(index_name);
    constexpr int kMaxRows = 64; /* of one key: one waits, a few run; more cannot be */
    std::vector<FoundJob> rows(kMaxRows);
    FoundJob *const out = rows.data();
    int count = 0;

    pg::call([&] {
        Relation index = index_open(index_oid, AccessShareLock);
        PushActiveSnapshot(GetLatestSnapshot());
        IndexScanDesc scan = pg::begin_index_scan(heap_, index, GetActiveSnapshot(), 1);
        ScanKeyData key;
        ScanKeyInit(&key, 1, BTEqualStrategyNumber, equals, key_value);
        index_rescan(scan, &key, 1, nullptr, 0);
        while (count < kMaxRows && index_getnext_slot(scan, ForwardScanDirection, slot_)) {
            FoundJob &found = out[count++];
            found.tid = slot_->tts_tid;
            heap_deform_tuple(ExecCopySlotHeapTuple(slot_), RelationGetDescr(heap_),
                              found.row.values, found.row.nulls);
        }
        ExecClearTuple(slot_);
        index_endscan(scan);
        PopActiveSnapshot();
        index_close(index, AccessShareLock);
    });
    rows.resize(static_cast<std::size_t>(count));
    std::sort(rows.begin(), rows.end(),
              [](const FoundJob &a, const FoundJob &b) { return a.row.id() > b.row.id(); });
    return rows;
}

std::vector<FoundJob> JobTable::find_by_id(int64 id)
{
    return find("job_pkey", F_INT8EQ, Int64GetDatum(id));
}

std::vector<FoundJob> JobTable::find_by_key(std::string_view job_key)
{
    return find("job_key_idx", F_TEXTEQ, pg::from_text(job_key));
}

namespace
{

/* Whether nobody but the current transaction locks or changes the row at tid, perhaps at
 * several savepoint levels. */
bool is_ours_alone(Relation heap, ItemPointerData tid)
{
    HeapTupleData tuple;
    Buffer buffer;
    tuple.t_self = tid;
    if (!heap_fetch(heap, SnapshotAny, &tuple, &buffer, false))
        return false;
    const TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);
    const uint16 infomask = tuple.t_data->t_infomask;
    ReleaseBuffer(buffer);
    if ((infomask & HEAP_XMAX_IS_MULTI) == 0)
        return TransactionIdIsCurrentTransactionId(xmax);

    MultiXactMember *members;
    const int count =
        GetMultiXactIdMembers(xmax, &members, false, HEAP_XMAX_IS_LOCKED_ONLY(infomask));
    bool ours = count > 0;
    for (int i = 0; i < count; i++)
        ours = ours && (TransactionIdIsCurrentTransactionId(members[i].xid) ||
                        !TransactionIdIsInProgress(members[i].xid));
    if (count > 0)
        pfree(members);
    return ours;
}

} // namespace

RemoveResult JobTable::remove(ItemPointerData tid, Snapshot snapshot)
{
    const TM_Result result = pg::call([&] {
        TM_FailureData failure;
        const CommandId command = GetCurrentCommandId(true);
        TM_Result removed = table_tuple_delete(heap_, &tid, command, snapshot, InvalidSnapshot,
                                               false, &failure, false);
        /* Without waiting, a row that this transaction itself has locked counts as busy. */
        if (removed == TM_BeingModified && is_ours_alone(heap_, tid))
            removed = table_tuple_delete(heap_, &tid, command, snapshot, InvalidSnapshot, true,
                                         &failure, false);
        return removed;
    });
    switch (result) {
    case TM_Ok:
        return RemoveResult::kRemoved;
    case TM_BeingModified:
        return RemoveResult::kBusy;
    default:
        return RemoveResult::kGone;
    }
}

void JobTable::open_indexes()
{
    pg::call([&] {
        const MemoryContext caller = MemoryContextSwitchTo(memory_);
        executor_state_ = CreateExecutorState();
        insert_target_ = makeNode(ResultRelInfo);
        InitResultRelInfo(insert_target_, heap_, 1, nullptr, 0);
        ExecOpenIndices(insert_target_, false);
        MemoryContextSwitchTo(caller);
    });
}

void JobTable::insert(const JobRow &row)
{
    if (insert_target_ == nullptr)
        open_indexes();
    pg::call([&] {
        ExecClearTuple(slot_);
        memcpy(slot_->tts_values, row.values, sizeof(row.values));
        memcpy(slot_->tts_isnull, row.nulls, sizeof(row.nulls));
        ExecStoreVirtualTuple(slot_);
        table_tuple_insert(heap_, slot_, GetCurrentCommandId(true), 0, nullptr);
        list_free(pg::insert_index_entries(insert_target_, slot_, executor_state_));
        ResetPerTupleExprContext(executor_state_);
        ExecClearTuple(slot_);
    });
}

int JobTable::count_in_queue(std::string_view queue_name, int limit)
{
    Relation index = ready_index();
    const Oid lease_index_oid = pg::relation_oid("job_lease_idx");
    const Datum queue = pg::from_text(queue_name);
    return pg::call([&] {
        /* The index is ordered by task first: step from task to task. */
        int count = 0;
        Datum task = PointerGetDatum(cstring_to_text_with_len("", 0));
        bool is_null;
        PushActiveSnapshot(GetLatestSnapshot());
        IndexScanDesc tasks = pg::begin_index_scan(heap_, index, GetActiveSnapshot(), 1);
        IndexScanDesc jobs = pg::begin_index_scan(heap_, index, GetActiveSnapshot(), 2);
        while (count < limit) {
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], 1, BTGreaterStrategyNumber, F_TEXT_GT, task);
            index_rescan(tasks, keys, 1, nullptr, 0);
            if (!index_getnext_slot(tasks, ForwardScanDirection, slot_))
                break;
            task = PointerGetDatum(DatumGetTextPCopy(
                slot_getattr(slot_, static_cast<int>(Column::kTaskIdentifier) + 1, &is_null)));
            ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_TEXTEQ, task);
            ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_TEXTEQ, queue);
            index_rescan(jobs, keys, 2, nullptr, 0);
            while (count < limit && index_getnext_slot(jobs, ForwardScanDirection, slot_)) {
                CHECK_FOR_INTERRUPTS();
                count++;
            }
        }
        ExecClearTuple(slot_);
        index_endscan(jobs);
        index_endscan(tasks);
        /* Leased jobs are in an index of their own. */
        Relation lease_index = index_open(lease_index_oid, AccessShareLock);
        IndexScanDesc leases = pg::begin_index_scan(heap_, lease_index, GetActiveSnapshot(), 0);
        index_rescan(leases, nullptr, 0, nullptr, 0);
        while (count < limit && index_getnext_slot(leases, ForwardScanDirection, slot_)) {
            const Datum of =
                slot_getattr(slot_, static_cast<int>(Column::kQueueName) + 1, &is_null);
            count +=
                DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, of, queue)) ? 1 : 0;
        }
        ExecClearTuple(slot_);
        index_endscan(leases);
        index_close(lease_index, AccessShareLock);
        PopActiveSnapshot();
        return count;
    });
}

int64 JobTable::next_id()
{
    const Oid sequence = pg::relation_oid("job_id_seq");
    return pg::call([&] { return nextval_internal(sequence, false); });
}

} // namespace backfill::queue
