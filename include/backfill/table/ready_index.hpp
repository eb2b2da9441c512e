/* ready_index.hpp - scans over job_ready_idx, the index of the waiting jobs.
 *
 * It is ordered by (task_identifier, queue_name, priority, run_at, id). The scans step from one
 * task to the next, and per task from one range, a (queue, priority), to the next, looking at the
 * index alone. They are plain data, and their functions run inside pg::call(). */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

/* A scan key for (a, b) >= or > (x, y), whose columns follow each other in the index. */
struct RowKey {
    ScanKeyData members[2];

    void set(int n, AttrNumber column, StrategyNumber strategy, Oid collation,
             RegProcedure comparison, Datum value)
    {
        ScanKeyEntryInitialize(&members[n], SK_ROW_MEMBER | (n == 1 ? SK_ROW_END : 0), column,
                               strategy, InvalidOid, collation, comparison, value);
    }
    ScanKeyData header()
    {
        ScanKeyData key;
        memset(&key, 0, sizeof(key));
        key.sk_flags = SK_ROW_HEADER;
        key.sk_attno = members[0].sk_attno;
        key.sk_strategy = members[0].sk_strategy;
        key.sk_argument = PointerGetDatum(members);
        return key;
    }
};

/* One (queue, priority) of a task. */
struct Range {
    text *queue;
    int priority;
};

/* Two scans over job_ready_idx: one steps from range to range, the other reads a range's
 * jobs. */
struct RangeScans {
    IndexScanDesc ranges; /* task =, (queue, priority) > */
    IndexScanDesc jobs;   /* task =, queue =, priority =, (run_at, id) >=, run_at <= */
    TupleTableSlot *slot;
    int last_priority; /* the last one that counts */
    Datum task;
    text *only_queue; /* or null: all */
    Range range;
    bool first;
    bool queue_done;
    int dead;     /* entries passed since start_jobs() whose rows the snapshot does not see */
    RowKey after; /* the scans refer to these as long as they run */
    RowKey from;

    void begin(Relation heap, Relation index, TupleTableSlot *table_slot, Snapshot snapshot,
               int max_priority, text *queue = nullptr);
    void end()
    {
        ExecClearTuple(slot);
        index_endscan(jobs);
        index_endscan(ranges);
    }

    void start_task(Datum task_identifier)
    {
        task = task_identifier;
        first = true;
    }
    /* Steps to the next range, whether its entries are dead or alive. */
    bool next_range();
    void skip_queue() { queue_done = true; }

    /* Positions before the first job of the range whose key is at least `start` and whose
     * run_at is at most `until`. */
    void start_jobs(core::ReadyKey start, TimestampTz until);
    /* The next row that the snapshot sees. */
    bool next_job()
    {
        while (index_getnext_tid(jobs, ForwardScanDirection) != nullptr) {
            CHECK_FOR_INTERRUPTS();
            if (index_fetch_heap(jobs, slot))
                return true;
            dead++;
        }
        return false;
    }
    Datum column(Column column)
    {
        bool is_null;
        return slot_getattr(slot, JobTable::attribute(column), &is_null);
    }
    core::ReadyKey key()
    {
        return {DatumGetTimestampTz(column(Column::kRunAt)), DatumGetInt64(column(Column::kId))};
    }
};

/* Steps from task to task. */
struct TaskScan {
    IndexScanDesc scan;
    Datum task;

    void begin(Relation heap, Relation index, Snapshot snapshot);
    void end() { index_endscan(scan); }
    bool next_task();
};

/* The tasks that have waiting jobs, or have had some lately. */
std::vector<std::string> tasks_with_jobs(JobTable &table, Snapshot snapshot);

} // namespace backfill::queue
