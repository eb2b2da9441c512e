/* ready_index.cpp - see ready_index.hpp. */
#include "backfill/table/ready_index.hpp"

#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

/* The columns of job_ready_idx; in job_queue_idx the queue is the first, and the others follow. */
constexpr AttrNumber kIndexTask = 1;
constexpr AttrNumber kIndexPriority = 2;
constexpr AttrNumber kIndexRunAt = 3;
constexpr AttrNumber kIndexId = 4;
constexpr AttrNumber kIndexQueue = 5;

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
                       text *of_queue, bool reads_entries)
{
    slot = table_slot;
    queue = of_queue;
    const int prefix_keys = queue != nullptr ? 2 : 1;
    ranges = begin_key_scan(heap, index, snapshot, prefix_keys + 1);
    jobs = pg::begin_index_scan(heap, index, snapshot, prefix_keys + 3);
    jobs->xs_want_itup = reads_entries;
}

int RangeScans::prefix(ScanKeyData *keys) const
{
    int count = 0;
    if (queue != nullptr)
        ScanKeyInit(&keys[count++], 1, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(queue));
    const auto column = static_cast<AttrNumber>(kIndexTask + count);
    ScanKeyInit(&keys[count++], column, BTEqualStrategyNumber, F_TEXTEQ, task);
    return count;
}

bool RangeScans::next_range()
{
    CHECK_FOR_INTERRUPTS();
    ScanKeyData keys[3];
    int count = prefix(keys);
    const auto column = static_cast<AttrNumber>(count + 1);
    if (first)
        ScanKeyInit(&keys[count++], column, BTGreaterEqualStrategyNumber, F_INT2GE,
                    Int16GetDatum(PG_INT16_MIN));
    else
        ScanKeyInit(&keys[count++], column, BTGreaterStrategyNumber, F_INT2GT,
                    Int16GetDatum(static_cast<int16>(priority)));
    index_rescan(ranges, keys, count, nullptr, 0);
    if (index_getnext_tid(ranges, ForwardScanDirection) == nullptr)
        return false;
    bool is_null;
    priority = DatumGetInt16(index_getattr(ranges->xs_itup, column, ranges->xs_itupdesc, &is_null));
    first = false;
    return true;
}

void RangeScans::start_jobs(core::ReadyKey start, TimestampTz until)
{
    ScanKeyData keys[5];
    int count = prefix(keys);
    const int shift = queue != nullptr ? 1 : 0;
    const auto run_at = static_cast<AttrNumber>(kIndexRunAt + shift);
    ScanKeyInit(&keys[count++], static_cast<AttrNumber>(kIndexPriority + shift),
                BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(static_cast<int16>(priority)));
    from.set(0, run_at, BTGreaterEqualStrategyNumber, InvalidOid, F_TIMESTAMPTZ_CMP,
             TimestampTzGetDatum(start.run_at));
    from.set(1, static_cast<AttrNumber>(kIndexId + shift), BTGreaterEqualStrategyNumber, InvalidOid,
             F_BTINT8CMP, Int64GetDatum(start.id));
    keys[count++] = from.header();
    ScanKeyInit(&keys[count++], run_at, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
                TimestampTzGetDatum(until));
    index_rescan(jobs, keys, count, nullptr, 0);
    dead = 0;
}

std::string_view RangeScans::entry_queue() const
{
    bool is_null;
    return view(index_getattr(jobs->xs_itup, kIndexQueue, jobs->xs_itupdesc, &is_null));
}

core::ReadyKey RangeScans::entry_key() const
{
    bool is_null;
    return {DatumGetTimestampTz(
                index_getattr(jobs->xs_itup, kIndexRunAt, jobs->xs_itupdesc, &is_null)),
            DatumGetInt64(index_getattr(jobs->xs_itup, kIndexId, jobs->xs_itupdesc, &is_null))};
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

bool is_first_in_queue(JobTable &table, const JobRow &row, TimestampTz now)
{
    constexpr int kFewEntries = 16;
    Relation index = table.queue_index();
    const core::ReadyKey own{DatumGetTimestampTz(row.get(Column::kRunAt)), row.id()};
    const int own_priority = row.priority();
    const Datum queue = row.get(Column::kQueueName);
    return pg::call([&] {
        ScanKeyData key;
        ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_TEXTEQ, queue);
        PushActiveSnapshot(GetLatestSnapshot());
        IndexScanDesc scan = pg::begin_index_scan(table.heap(), index, GetActiveSnapshot(), 1);
        scan->xs_want_itup = true;
        index_rescan(scan, &key, 1, nullptr, 0);
        int entries = 0;
        bool is_first = true;
        while (is_first && index_getnext_tid(scan, ForwardScanDirection) != nullptr) {
            const auto column = [&](AttrNumber attribute) {
                bool is_null;
                return index_getattr(scan->xs_itup, static_cast<AttrNumber>(attribute + 1),
                                     scan->xs_itupdesc, &is_null);
            };
            const int priority = DatumGetInt16(column(kIndexPriority));
            const core::ReadyKey other{DatumGetTimestampTz(column(kIndexRunAt)),
                                       DatumGetInt64(column(kIndexId))};
            const bool comes_before =
                other.run_at <= now &&
                (priority < own_priority || (priority == own_priority && other < own));
            is_first = ++entries <= kFewEntries &&
                       !(comes_before && index_fetch_heap(scan, table.slot()));
        }
        ExecClearTuple(table.slot());
        index_endscan(scan);
        PopActiveSnapshot();
        return is_first;
    });
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
