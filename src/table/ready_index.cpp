/* ready_index.cpp - see ready_index.hpp. */
#include "backfill/table/ready_index.hpp"

#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

constexpr AttrNumber kIndexTask = 1;
constexpr AttrNumber kIndexQueue = 2;
constexpr AttrNumber kIndexPriority = 3;
constexpr AttrNumber kIndexRunAt = 4;
constexpr AttrNumber kIndexId = 5;

/* For a scan that looks at index entries alone, whether they are dead or alive. */
IndexScanDesc begin_key_scan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
    IndexScanDesc scan = pg::begin_index_scan(heap, index, snapshot, nkeys);
    scan->xs_want_itup = true;
    /* Else each step would walk over the pages of a range's head whose entries are known to be
     * dead, to find one that may not be. */
    scan->ignore_killed_tuples = false;
    return scan;
}

} // namespace

void RangeScans::begin(Relation heap, Relation index, TupleTableSlot *table_slot, Snapshot snapshot,
                       int max_priority, text *queue)
{
    slot = table_slot;
    last_priority = max_priority;
    only_queue = queue;
    ranges = begin_key_scan(heap, index, snapshot, 2);
    jobs = pg::begin_index_scan(heap, index, snapshot, 5);
}

bool RangeScans::next_range()
{
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        ScanKeyData keys[2];
        ScanKeyInit(&keys[0], kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
        if (first)
            ScanKeyInit(&keys[1], kIndexQueue, BTGreaterEqualStrategyNumber, F_TEXT_GE,
                        PointerGetDatum(only_queue != nullptr ? only_queue
                                                              : cstring_to_text_with_len("", 0)));
        else if (queue_done && only_queue != nullptr)
            return false;
        else if (queue_done)
            ScanKeyInit(&keys[1], kIndexQueue, BTGreaterStrategyNumber, F_TEXT_GT,
                        PointerGetDatum(range.queue));
        else {
            after.set(0, kIndexQueue, BTGreaterStrategyNumber, C_COLLATION_OID, F_BTTEXTCMP,
                      PointerGetDatum(range.queue));
            after.set(1, kIndexPriority, BTGreaterStrategyNumber, InvalidOid, F_BTINT2CMP,
                      Int16GetDatum(static_cast<int16>(range.priority)));
            keys[1] = after.header();
        }
        index_rescan(ranges, keys, 2, nullptr, 0);
        if (index_getnext_tid(ranges, ForwardScanDirection) == nullptr)
            return false;
        bool is_null;
        TupleDesc columns = ranges->xs_itupdesc;
        range.queue =
            DatumGetTextPCopy(index_getattr(ranges->xs_itup, kIndexQueue, columns, &is_null));
        range.priority =
            DatumGetInt16(index_getattr(ranges->xs_itup, kIndexPriority, columns, &is_null));
        first = false;
        if (only_queue != nullptr && !DatumGetBool(DirectFunctionCall2Coll(
                                         texteq, C_COLLATION_OID, PointerGetDatum(range.queue),
                                         PointerGetDatum(only_queue))))
            return false;
        queue_done = range.priority > last_priority;
        if (!queue_done)
            return true;
    }
}

void RangeScans::start_jobs(core::ReadyKey start, TimestampTz until)
{
    ScanKeyData keys[5];
    ScanKeyInit(&keys[0], kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
    ScanKeyInit(&keys[1], kIndexQueue, BTEqualStrategyNumber, F_TEXTEQ,
                PointerGetDatum(range.queue));
    ScanKeyInit(&keys[2], kIndexPriority, BTEqualStrategyNumber, F_INT2EQ,
                Int16GetDatum(static_cast<int16>(range.priority)));
    from.set(0, kIndexRunAt, BTGreaterEqualStrategyNumber, InvalidOid, F_TIMESTAMPTZ_CMP,
             TimestampTzGetDatum(start.run_at));
    from.set(1, kIndexId, BTGreaterEqualStrategyNumber, InvalidOid, F_BTINT8CMP,
             Int64GetDatum(start.id));
    keys[3] = from.header();
    ScanKeyInit(&keys[4], kIndexRunAt, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
                TimestampTzGetDatum(until));
    index_rescan(jobs, keys, 5, nullptr, 0);
    dead = 0;
}

void TaskScan::begin(Relation heap, Relation index, Snapshot snapshot)
{
    scan = begin_key_scan(heap, index, snapshot, 1);
    task = PointerGetDatum(cstring_to_text_with_len("", 0));
}

bool TaskScan::next_task()
{
    CHECK_FOR_INTERRUPTS();
    ScanKeyData key;
    bool is_null;
    ScanKeyInit(&key, kIndexTask, BTGreaterStrategyNumber, F_TEXT_GT, task);
    index_rescan(scan, &key, 1, nullptr, 0);
    if (index_getnext_tid(scan, ForwardScanDirection) == nullptr)
        return false;
    task = PointerGetDatum(
        DatumGetTextPCopy(index_getattr(scan->xs_itup, kIndexTask, scan->xs_itupdesc, &is_null)));
    return true;
}

std::vector<std::string> tasks_with_jobs(JobTable &table, Snapshot snapshot)
{
    std::vector<std::string> tasks;
    Relation index = table.ready_index();
    TaskScan scan;
    pg::call([&] { scan.begin(table.heap(), index, snapshot); });
    while (pg::call([&] { return scan.next_task(); }))
        tasks.push_back(pg::to_string(scan.task));
    pg::call([&] { scan.end(); });
    return tasks;
}

} // namespace backfill::queue
