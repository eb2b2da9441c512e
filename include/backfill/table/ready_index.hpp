/* ready_index.hpp - scans over the two indexes of the waiting jobs.
 *
 * job_ready_idx has all of them in the order (task_identifier, priority, run_at, id), and each
 * one's queue beside that; job_queue_idx has those in a queue, in the order (queue_name,
 * task_identifier, priority, run_at, id). The scans step from one priority to the next, looking at
 * the index alone. They are plain data, and their functions run inside pg::call(). */
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

/* Two scans: one steps from range to range of a task, or of a task in a queue, the other reads a
 * range's jobs. */
struct RangeScans {
    IndexScanDesc ranges; /* [queue =,] task =, priority > */
    IndexScanDesc jobs;   /* [queue =,] task =, priority =, (run_at, id) >=, run_at <= */
    TupleTableSlot *slot;
    text *queue; /* or null: all jobs */
    Datum task;
    int priority; /* of the range */
    bool first;
    int dead;    /* entries passed since start_jobs() whose rows the snapshot does not see */
    RowKey from; /* the scan of the jobs refers to it as long as it runs */

    /* `index` is job_queue_idx if there is a queue. With `reads_entries` entry_queue() and
     * entry_key() may be called. */
    void begin(Relation heap, Relation index, TupleTableSlot *table_slot, Snapshot snapshot,
               text *of_queue, bool reads_entries);
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

    /* Positions before the first job of the range whose key is at least `start` and whose
     * run_at is at most `until`. */
    void start_jobs(core::ReadyKey start, TimestampTz until);
    bool next_entry()
    {
        CHECK_FOR_INTERRUPTS();
        return index_getnext_tid(jobs, ForwardScanDirection) != nullptr;
    }
    /* Of the entry in job_ready_idx that the scan is at. */
    std::string_view entry_queue() const;
    core::ReadyKey entry_key() const;
    /* Its row, if the snapshot sees it. */
    bool fetch()
    {
        const bool is_visible = index_fetch_heap(jobs, slot);
        dead += is_visible ? 0 : 1;
        return is_visible;
    }
    /* The next row that the snapshot sees. */
    bool next_job()
    {
        while (next_entry())
            if (fetch())
                return true;
        return false;
    }
    Datum column(Column column)
    {
        bool is_null;
        return slot_getattr(slot, JobTable::attribute(column), &is_null);
    }
    std::string_view queue_of_row() { return view(column(Column::kQueueName)); }
    core::ReadyKey key()
    {
        return {DatumGetTimestampTz(column(Column::kRunAt)), DatumGetInt64(column(Column::kId))};
    }

  private:
    /* A text that may have a short header, as in an index or a row. */
    static std::string_view view(Datum value)
    {
        const text *const string = DatumGetTextPP(value);
        return {VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string)};
    }
    /* The keys of the task, and the queue; how many they are. */
    int prefix(ScanKeyData *keys) const;
};

/* Steps from task to task. */
struct TaskScan {
    IndexScanDesc scan;
    Datum task;

    void begin(Relation heap, Relation index, Snapshot snapshot);
    void end() { index_endscan(scan); }
    bool next_task();
};

/* Whether now no other job that is ready comes before this one in its queue, by the first few
 * entries of job_queue_idx. False also if they are too many to tell. */
bool is_first_in_queue(JobTable &table, const JobRow &row, TimestampTz now);

/* The tasks that have waiting jobs, or have had some lately. */
std::vector<std::string> tasks_with_jobs(JobTable &table, Snapshot snapshot);

} // namespace backfill::queue
