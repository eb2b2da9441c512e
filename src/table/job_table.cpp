/* job_table.cpp - see job_table.hpp. */
#include "backfill/table/job_table.hpp"

#include "backfill/core/claim_token.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

void (*after_insert_by_sql)() noexcept = nullptr;

/* How much is collected for one insert. */
constexpr int kMaxPendingRows = 256;
constexpr Size kMaxPendingBytes = 1024 * 1024;

/* In the order of Column. */
constexpr pg::OwnColumn kColumns[] = {
    {"id", INT8OID, true},
    {"run_at", TIMESTAMPTZOID, true},
    {"created_at", TIMESTAMPTZOID, true},
    {"lease_expires_at", TIMESTAMPTZOID, false},
    {"claim_token", INT8OID, false},
    {"dead_letter_id", INT8OID, false},
    {"lease_permit", INT4OID, false},
    {"timeout_ms", INT4OID, false},
    {"priority", INT2OID, true},
    {"attempts", INT2OID, true},
    {"max_attempts", INT2OID, true},
    {"free_retries", INT2OID, true},
    {"task_identifier", TEXTOID, true},
    {"queue_name", TEXTOID, true},
    {"retry_policy", TEXTOID, false},
    {"job_key", TEXTOID, false},
    {"worker", TEXTOID, false},
    {"flags", TEXTARRAYOID, false},
    {"last_error", JSONBOID, false},
    {"payload", JSONBOID, true},
    {"headers", JSONBOID, false},
};
static_assert(std::size(kColumns) == kColumnCount);
constinit pg::OwnTable own_table("job", kColumns);

} // namespace

pg::OwnTable &JobTable::own()
{
    return own_table;
}

JobTable::JobTable() : memory_(CurrentMemoryContext)
{
    heap_ = own_table.open(RowExclusiveLock);
    pg::call([&] { slot_ = table_slot_create(heap_, nullptr); });
}

void JobTable::hold_rows()
{
    if (held_ != nullptr)
        return;
    held_by_ = CurrentResourceOwner;
    pg::call([&] { held_ = RegisterSnapshotOnOwner(GetLatestSnapshot(), held_by_); });
}

void JobTable::close()
{
    flush();
    if (held_ != nullptr)
        pg::call([&] { UnregisterSnapshotFromOwner(held_, held_by_); });
    held_ = nullptr;
    TupleTableSlot *const *const slots = pending_.data();
    const auto slot_count = static_cast<int>(pending_.size());
    pg::call([&] {
        ExecDropSingleTupleTableSlot(slot_);
        for (int i = 0; i < slot_count; i++)
            ExecDropSingleTupleTableSlot(slots[i]);
        if (target_.relation != nullptr)
            target_.close();
        for (Relation index : {ready_index_, queue_index_, permit_index_})
            if (index != nullptr)
                index_close(index, NoLock);
        table_close(heap_, NoLock);
    });
    heap_ = nullptr;
}

Relation JobTable::ready_index()
{
    return open_index(ready_index_, "job_ready_idx");
}

Relation JobTable::queue_index()
{
    return open_index(queue_index_, "job_queue_idx");
}

Relation JobTable::open_index(Relation &index, const char *name)
{
    if (index == nullptr) {
        const Oid oid = pg::relation_oid(name);
        pg::call([&] { index = index_open(oid, AccessShareLock); });
    }
    return index;
}

std::optional<FoundJob> JobTable::fetch(ItemPointerData tid, Snapshot snapshot)
{
    FoundJob found{tid, InvalidTransactionId, JobRow::empty()};
    const bool visible = pg::call([&] {
        if (!table_tuple_fetch_row_version(heap_, &tid, snapshot, slot_))
            return false;
        found = copy_found();
        ExecClearTuple(slot_);
        return true;
    });
    return visible ? std::optional(found) : std::nullopt;
}

namespace
{

/* Whether only the current transaction locks or changes the row at tid, perhaps at
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

RemoveResult JobTable::remove(ItemPointerData tid)
{
    Assert(TransactionIdIsValid(MyProc->xmin)); /* hold_rows() here, or of an outer table */
    if (!own_table.is_plain(heap_))
        return remove_by_sql(tid, false);
    const TM_Result result = pg::call([&] {
        TM_FailureData failure;
        const CommandId command = GetCurrentCommandId(true);
        TM_Result removed = table_tuple_delete(heap_, &tid, command, InvalidSnapshot,
                                               InvalidSnapshot, false, &failure, false);
        /* Without waiting, a row that this transaction itself has locked counts as busy. */
        if (removed == TM_BeingModified && is_ours_alone(heap_, tid))
            removed = table_tuple_delete(heap_, &tid, command, InvalidSnapshot, InvalidSnapshot,
                                         true, &failure, false);
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

RemoveResult JobTable::remove_waiting(ItemPointerData tid)
{
    Assert(TransactionIdIsValid(MyProc->xmin)); /* hold_rows() here, or of an outer table */
    if (!own_table.is_plain(heap_))
        return remove_by_sql(tid, true);
    const TM_Result result = pg::call([&] {
        TM_FailureData failure;
        return table_tuple_delete(heap_, &tid, GetCurrentCommandId(true), InvalidSnapshot,
                                  InvalidSnapshot, true, &failure, false);
    });
    return result == TM_Ok ? RemoveResult::kRemoved : RemoveResult::kGone;
}

/* What is added to the table may see the row as it is, or not let it go. */
RemoveResult JobTable::remove_by_sql(ItemPointerData tid, bool wait)
{
    const pg::Param param{TIDOID, PointerGetDatum(&tid), false};
    const char *const sql =
        wait ? "DELETE FROM backfill.job j WHERE j.ctid = $1"
             : "DELETE FROM backfill.job j WHERE j.ctid = (SELECT c.ctid FROM backfill.job c"
               "                                            WHERE c.ctid = $1"
               "                                              FOR UPDATE SKIP LOCKED)";
    if (pg::execute_as_owner(sql, std::span(&param, 1), pg::Sees::kLatest).rows > 0)
        return RemoveResult::kRemoved;
    return pg::call([&] {
        const bool is_there =
            !wait && table_tuple_fetch_row_version(heap_, &tid, SnapshotSelf, slot_);
        ExecClearTuple(slot_);
        return is_there ? RemoveResult::kBusy : RemoveResult::kGone;
    });
}

/* The row in slot_; inside pg::call(). */
FoundJob JobTable::copy_found() const
{
    FoundJob found;
    const HeapTuple tuple = ExecCopySlotHeapTuple(slot_);
    found.tid = slot_->tts_tid;
    found.xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
    own_table.deform(tuple, RelationGetDescr(heap_), found.row.values, found.row.nulls);
    return found;
}

void JobTable::on_insert_by_sql(void (*callback)() noexcept)
{
    after_insert_by_sql = callback;
}

void JobTable::open_indexes()
{
    pg::call([&] {
        const MemoryContext caller = MemoryContextSwitchTo(memory_);
        target_.open(heap_);
        MemoryContextSwitchTo(caller);
    });
}

void JobTable::insert_by_sql(const JobRow &row)
{
    own_table.insert_by_sql(row.values, row.nulls);
    if (after_insert_by_sql != nullptr)
        after_insert_by_sql();
}

void JobTable::insert(const JobRow &row)
{
    if (!own_table.is_plain(heap_)) {
        insert_by_sql(row);
        return;
    }
    if (target_.relation == nullptr)
        open_indexes();
    pg::call([&] {
        ExecClearTuple(slot_);
        own_table.spread(row.values, row.nulls, RelationGetDescr(heap_)->natts, slot_->tts_values,
                         slot_->tts_isnull);
        ExecStoreVirtualTuple(slot_);
        table_tuple_insert(heap_, slot_, GetCurrentCommandId(true), 0, nullptr);
        target_.add_index_entries(slot_);
        ExecClearTuple(slot_);
    });
}

TupleTableSlot *JobTable::next_pending_slot()
{
    const auto n = static_cast<std::size_t>(pending_rows_);
    if (n == pending_.size())
        pending_.push_back(pg::call([&] {
            const MemoryContext caller = MemoryContextSwitchTo(memory_);
            TupleTableSlot *slot = table_slot_create(heap_, nullptr);
            MemoryContextSwitchTo(caller);
            return slot;
        }));
    return pending_[n];
}

void JobTable::insert_later(const JobRow &row)
{
    if (!own_table.is_plain(heap_)) {
        flush();
        insert_by_sql(row);
        return;
    }
    if (target_.relation == nullptr)
        open_indexes();
    TupleTableSlot *const slot = next_pending_slot();
    pg::call([&] {
        own_table.spread(row.values, row.nulls, RelationGetDescr(heap_)->natts, slot->tts_values,
                         slot->tts_isnull);
        ExecStoreVirtualTuple(slot);
        ExecMaterializeSlot(slot);
        pending_bytes_ += ExecFetchSlotHeapTuple(slot, false, nullptr)->t_len;
    });
    pending_rows_++;
    if (pending_rows_ == kMaxPendingRows || pending_bytes_ >= kMaxPendingBytes)
        flush();
}

void JobTable::flush()
{
    if (pending_rows_ == 0)
        return;
    TupleTableSlot **const slots = pending_.data();
    pg::call([&] {
        /* Values that are stored out of line are made here and not needed afterwards. */
        const MemoryContext caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(target_.state));
        table_multi_insert(heap_, slots, pending_rows_, GetCurrentCommandId(true), 0, nullptr);
        MemoryContextSwitchTo(caller);
        for (int i = 0; i < pending_rows_; i++) {
            target_.add_index_entries(slots[i]);
            ExecClearTuple(slots[i]);
        }
        ResetPerTupleExprContext(target_.state);
        CommandCounterIncrement();
    });
    pending_rows_ = 0;
    pending_bytes_ = 0;
}

JobRow JobTable::detach(const JobRow &row, MemoryContext memory) const
{
    JobRow copy = row;
    pg::call([&] {
        const MemoryContext caller = MemoryContextSwitchTo(memory);
        TupleDesc columns = RelationGetDescr(heap_);
        for (int i = 0; i < kColumnCount; i++)
            if (!row.nulls[i] && TupleDescAttr(columns, own_table.attribute(i) - 1)->attlen == -1)
                copy.values[i] = PointerGetDatum(PG_DETOAST_DATUM_COPY(row.values[i]));
        MemoryContextSwitchTo(caller);
    });
    return copy;
}

int64 JobTable::next_id()
{
    const Oid sequence = pg::relation_oid("job_id_seq");
    return pg::call([&] { return nextval_internal(sequence, false); });
}

int64 JobTable::next_claim_token()
{
    const Oid sequence = pg::relation_oid("claim_token_seq");
    const int64 count = pg::call([&] { return nextval_internal(sequence, false); });
    return core::claim_token(GetWALInsertionTimeLine(), count);
}

} // namespace backfill::queue
