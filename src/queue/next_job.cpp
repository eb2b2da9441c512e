/* next_job.cpp - see next_job.hpp.
 *
 * The index is ordered by (task_identifier, priority, run_at, id). Per task we step
 * from one priority to the next and read only the range that is due, so neither jobs
 * scheduled for later nor other tasks' backlogs cost anything. */
#include "backfill/queue/next_job.hpp"

#include "backfill/stats/events.hpp"

namespace backfill::queue
{

namespace
{

constexpr AttrNumber kIndexTask = 1;
constexpr AttrNumber kIndexPriority = 2;
constexpr AttrNumber kIndexRunAt = 3;

/* One scan over job_ready_idx that is positioned again and again. Plain data; all its
 * functions run inside pg::call(). */
struct ReadyScan {
    IndexScanDesc scan;
    TupleTableSlot *slot;
    ScanKeyData keys[3];
    int key_count;

    void begin(Relation heap, Relation index, TupleTableSlot *table_slot, Snapshot snapshot,
               int count)
    {
        slot = table_slot;
        key_count = count;
        scan = pg::begin_index_scan(heap, index, snapshot, count);
    }
    void start() { index_rescan(scan, keys, key_count, nullptr, 0); }
    bool next() { return index_getnext_slot(scan, ForwardScanDirection, slot); }
    Datum column(Column column)
    {
        bool is_null;
        return slot_getattr(slot, static_cast<int>(column) + 1, &is_null);
    }
    void end()
    {
        ExecClearTuple(slot);
        index_endscan(scan);
    }
};

/* Whether the row in the slot is being deleted or updated by another transaction. Rows
 * of a batch stand together, so the last answer usually serves again. */
bool is_claimed(TupleTableSlot *slot, TransactionId *known_in_progress)
{
    bool is_null;
    const TransactionId xmax =
        DatumGetTransactionId(slot_getsysattr(slot, MaxTransactionIdAttributeNumber, &is_null));
    if (!TransactionIdIsValid(xmax))
        return false;
    if (TransactionIdEquals(xmax, *known_in_progress))
        return true;
    if (TransactionIdIsCurrentTransactionId(xmax) || !TransactionIdIsInProgress(xmax))
        return false;
    *known_in_progress = xmax;
    return true;
}

bool is_in_queue(ReadyScan &scan, const std::vector<std::string> &queues)
{
    if (queues.empty())
        return false;
    bool is_null;
    const Datum queue = slot_getattr(scan.slot, static_cast<int>(Column::kQueueName) + 1, &is_null);
    if (is_null)
        return false;
    const text *name = DatumGetTextPP(queue);
    const std::size_t length = VARSIZE_ANY_EXHDR(name);
    for (const std::string &excluded : queues)
        if (excluded.size() == length && memcmp(excluded.data(), VARDATA_ANY(name), length) == 0)
            return true;
    return false;
}

/* Calls visit(priority) for every priority that has jobs of the task, in order, until
 * visit returns false. */
template <class Visit> void for_each_priority(ReadyScan &priorities, Datum task, Visit &&visit)
{
    int previous = PG_INT16_MIN;
    bool first = true;
    for (;;) {
        ScanKeyInit(&priorities.keys[0], kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
        ScanKeyInit(&priorities.keys[1], kIndexPriority,
                    first ? BTGreaterEqualStrategyNumber : BTGreaterStrategyNumber,
                    first ? F_INT2GE : F_INT2GT, Int16GetDatum(static_cast<int16>(previous)));
        priorities.start();
        if (!priorities.next())
            return;
        previous = DatumGetInt16(priorities.column(Column::kPriority));
        first = false;
        if (!visit(previous))
            return;
        CHECK_FOR_INTERRUPTS();
    }
}

bool sorts_before(const Candidate &a, const Candidate &b)
{
    if (a.priority != b.priority)
        return a.priority < b.priority;
    if (a.run_at != b.run_at)
        return a.run_at < b.run_at;
    return a.id < b.id;
}

} // namespace

NextJobs::NextJobs(JobTable &table, std::vector<std::string_view> tasks)
    : table_(table), tasks_(std::move(tasks))
{
}

void NextJobs::set_tasks(std::vector<std::string_view> tasks)
{
    tasks_ = std::move(tasks);
    excluded_.clear();
    clear();
}

void NextJobs::clear()
{
    candidates_.clear();
    position_ = 0;
}

std::optional<Candidate> NextJobs::pop()
{
    if (empty())
        return std::nullopt;
    return candidates_[position_++];
}

void NextJobs::read(Snapshot snapshot, int limit)
{
    const stats::OperationTimer timer(stats::Operation::kFetch);
    const TimestampTz now = GetCurrentTimestamp();
    Relation index = table_.ready_index();

    clear();
    std::vector<Candidate> found(static_cast<std::size_t>(limit));
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        int count = 0;
        /* The array is large enough: nothing in the call allocates C++ memory. */
        Candidate *const out = found.data();
        pg::call([&] {
            ReadyScan priorities;
            ReadyScan ready;
            TransactionId in_progress = InvalidTransactionId;
            priorities.begin(table_.heap(), index, table_.slot(), snapshot, 2);
            ready.begin(table_.heap(), index, table_.slot(), snapshot, 3);
            for_each_priority(priorities, task_datum, [&](int priority) {
                ScanKeyInit(&ready.keys[0], kIndexTask, BTEqualStrategyNumber, F_TEXTEQ,
                            task_datum);
                ScanKeyInit(&ready.keys[1], kIndexPriority, BTEqualStrategyNumber, F_INT2EQ,
                            Int16GetDatum(static_cast<int16>(priority)));
                ScanKeyInit(&ready.keys[2], kIndexRunAt, BTLessEqualStrategyNumber,
                            F_TIMESTAMPTZ_LE, TimestampTzGetDatum(now));
                ready.start();
                while (count < limit && ready.next()) {
                    CHECK_FOR_INTERRUPTS();
                    if (is_claimed(ready.slot, &in_progress))
                        continue;
                    if (is_in_queue(ready, excluded_))
                        continue;
                    out[count++] = {ready.slot->tts_tid, DatumGetInt64(ready.column(Column::kId)),
                                    DatumGetTimestampTz(ready.column(Column::kRunAt)), priority};
                }
                return count < limit;
            });
            ready.end();
            priorities.end();
            pfree(DatumGetPointer(task_datum));
        });
        candidates_.insert(candidates_.end(), found.begin(), found.begin() + count);
    }
    std::sort(candidates_.begin(), candidates_.end(), sorts_before);
    if (candidates_.size() > static_cast<std::size_t>(limit))
        candidates_.resize(static_cast<std::size_t>(limit));
}

std::optional<TimestampTz> NextJobs::next_run_at(Snapshot snapshot, TimestampTz now)
{
    TimestampTz earliest = PG_INT64_MAX;
    Relation index = table_.ready_index();

    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] {
            ReadyScan priorities;
            ReadyScan later;
            priorities.begin(table_.heap(), index, table_.slot(), snapshot, 2);
            later.begin(table_.heap(), index, table_.slot(), snapshot, 3);
            for_each_priority(priorities, task_datum, [&](int priority) {
                ScanKeyInit(&later.keys[0], kIndexTask, BTEqualStrategyNumber, F_TEXTEQ,
                            task_datum);
                ScanKeyInit(&later.keys[1], kIndexPriority, BTEqualStrategyNumber, F_INT2EQ,
                            Int16GetDatum(static_cast<int16>(priority)));
                ScanKeyInit(&later.keys[2], kIndexRunAt, BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
                            TimestampTzGetDatum(now));
                later.start();
                if (later.next())
                    earliest = Min(earliest, DatumGetTimestampTz(later.column(Column::kRunAt)));
                return true;
            });
            later.end();
            priorities.end();
            pfree(DatumGetPointer(task_datum));
        });
    }
    return earliest == PG_INT64_MAX ? std::nullopt : std::optional(earliest);
}

} // namespace backfill::queue
