/* next_job.cpp - see next_job.hpp.
 *
 * The index is ordered by (task_identifier, queue_name, priority, run_at, id). Per task
 * we step from one (queue, priority) to the next and read only the range that is due:
 * jobs scheduled for later, the backlogs of other tasks, and full or paused queues
 * cost one step each, however many jobs they hold. */
#include "backfill/queue/next_job.hpp"

#include "backfill/guc.hpp"

namespace backfill::queue
{

namespace
{

constexpr AttrNumber kIndexTask = 1;
constexpr AttrNumber kIndexQueue = 2;
constexpr AttrNumber kIndexPriority = 3;
constexpr AttrNumber kIndexRunAt = 4;
constexpr int kMaxKeys = 4;

/* One scan over job_ready_idx that is positioned again and again. Plain data; all its
 * functions run inside pg::call(). */
struct ReadyScan {
    IndexScanDesc scan;
    TupleTableSlot *slot;
    ScanKeyData keys[kMaxKeys];
    int key_count;

    void begin(Relation heap, Relation index, TupleTableSlot *table_slot, Snapshot snapshot,
               int count)
    {
        slot = table_slot;
        key_count = count;
        scan = pg::begin_index_scan(heap, index, snapshot, count);
    }
    void key(int n, AttrNumber column, StrategyNumber strategy, RegProcedure procedure, Datum value)
    {
        ScanKeyInit(&keys[n], column, strategy, procedure, value);
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

bool is_among(const text *name, const std::vector<std::string> &names)
{
    const std::size_t length = VARSIZE_ANY_EXHDR(name);
    for (const std::string &other : names)
        if (other.size() == length && memcmp(other.data(), VARDATA_ANY(name), length) == 0)
            return true;
    return false;
}

/* The scans that step through a task's queues and their priorities. */
struct RangeScans {
    ReadyScan queues;     /* task =, queue > */
    ReadyScan priorities; /* task =, queue =, priority > */
    ReadyScan jobs;       /* task =, queue =, priority =, run_at <= or > */

    void begin(Relation heap, Relation index, TupleTableSlot *slot, Snapshot snapshot)
    {
        queues.begin(heap, index, slot, snapshot, 2);
        priorities.begin(heap, index, slot, snapshot, 3);
        jobs.begin(heap, index, slot, snapshot, 4);
    }
    void end()
    {
        jobs.end();
        priorities.end();
        queues.end();
    }
};

/* Calls visit(priority) for each (queue, priority) that has jobs of the task, with
 * scans.jobs positioned before the jobs whose run_at is <= now (due) or > now. */
template <class Visit>
void for_each_range(RangeScans &scans, Datum task, const std::vector<std::string> &excluded,
                    int last_priority, bool due, TimestampTz now, Visit &&visit)
{
    Datum queue = 0; /* before the first */
    const Datum before_all = PointerGetDatum(cstring_to_text_with_len("", 0));
    for (;;) {
        scans.queues.key(0, kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
        scans.queues.key(1, kIndexQueue,
                         queue == 0 ? BTGreaterEqualStrategyNumber : BTGreaterStrategyNumber,
                         queue == 0 ? F_TEXT_GE : F_TEXT_GT, queue == 0 ? before_all : queue);
        scans.queues.start();
        if (!scans.queues.next())
            return;
        queue = PointerGetDatum(DatumGetTextPCopy(scans.queues.column(Column::kQueueName)));
        if (is_among(DatumGetTextPP(queue), excluded))
            continue;

        int priority = PG_INT16_MIN;
        for (bool first = true;; first = false) {
            CHECK_FOR_INTERRUPTS();
            scans.priorities.key(0, kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
            scans.priorities.key(1, kIndexQueue, BTEqualStrategyNumber, F_TEXTEQ, queue);
            scans.priorities.key(
                2, kIndexPriority, first ? BTGreaterEqualStrategyNumber : BTGreaterStrategyNumber,
                first ? F_INT2GE : F_INT2GT, Int16GetDatum(static_cast<int16>(priority)));
            scans.priorities.start();
            if (!scans.priorities.next())
                break;
            priority = DatumGetInt16(scans.priorities.column(Column::kPriority));
            if (priority > last_priority)
                break;
            scans.jobs.key(0, kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
            scans.jobs.key(1, kIndexQueue, BTEqualStrategyNumber, F_TEXTEQ, queue);
            scans.jobs.key(2, kIndexPriority, BTEqualStrategyNumber, F_INT2EQ,
                           Int16GetDatum(static_cast<int16>(priority)));
            scans.jobs.key(3, kIndexRunAt,
                           due ? BTLessEqualStrategyNumber : BTGreaterStrategyNumber,
                           due ? F_TIMESTAMPTZ_LE : F_TIMESTAMPTZ_GT, TimestampTzGetDatum(now));
            scans.jobs.start();
            visit(priority);
        }
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

/* The priority as it counts: one better for each ageing interval of waiting. */
int64 aged_priority(int priority, TimestampTz run_at, TimestampTz now)
{
    if (guc::ageing_interval_s == 0)
        return priority;
    return priority - (now - run_at) / (static_cast<int64>(guc::ageing_interval_s) * USECS_PER_SEC);
}

/* The best candidates so far, the worst of them on top of the heap. Never grows beyond
 * the memory it was given, so it may be used inside pg::call(). */
class BestCandidates
{
  public:
    explicit BestCandidates(int limit) : limit_(static_cast<std::size_t>(limit))
    {
        heap_.reserve(limit_);
    }
    /* False if this candidate, and so any that sorts after it, is not among the best. */
    bool add(const Candidate &candidate)
    {
        if (heap_.size() == limit_) {
            if (!sorts_before(candidate, heap_.front()))
                return false;
            std::pop_heap(heap_.begin(), heap_.end(), sorts_before);
            heap_.back() = candidate;
        } else {
            heap_.push_back(candidate);
        }
        std::push_heap(heap_.begin(), heap_.end(), sorts_before);
        return true;
    }
    std::vector<Candidate> sorted() &&
    {
        std::sort_heap(heap_.begin(), heap_.end(), sorts_before);
        return std::move(heap_);
    }

  private:
    std::size_t limit_;
    std::vector<Candidate> heap_;
};

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
    const TimestampTz now = GetCurrentTimestamp();
    Relation index = table_.ready_index();
    BestCandidates best(limit);

    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] {
            RangeScans scans;
            TransactionId in_progress = InvalidTransactionId;
            scans.begin(table_.heap(), index, table_.slot(), snapshot);
            for_each_range(
                scans, task_datum, excluded_, last_priority_, true, now, [&](int priority) {
                    while (scans.jobs.next()) {
                        CHECK_FOR_INTERRUPTS();
                        if (is_claimed(scans.jobs.slot, &in_progress))
                            continue;
                        const TimestampTz run_at =
                            DatumGetTimestampTz(scans.jobs.column(Column::kRunAt));
                        const bool added = best.add({scans.jobs.slot->tts_tid,
                                                     DatumGetInt64(scans.jobs.column(Column::kId)),
                                                     run_at, aged_priority(priority, run_at, now)});
                        if (!added)
                            break;
                    }
                });
            scans.end();
        });
    }
    clear();
    candidates_ = std::move(best).sorted();
}

std::optional<TimestampTz> NextJobs::next_run_at(Snapshot snapshot, TimestampTz now)
{
    TimestampTz earliest = PG_INT64_MAX;
    Relation index = table_.ready_index();

    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] {
            RangeScans scans;
            scans.begin(table_.heap(), index, table_.slot(), snapshot);
            for_each_range(scans, task_datum, excluded_, PG_INT16_MAX, false, now, [&](int) {
                if (scans.jobs.next())
                    earliest =
                        Min(earliest, DatumGetTimestampTz(scans.jobs.column(Column::kRunAt)));
            });
            scans.end();
        });
    }
    return earliest == PG_INT64_MAX ? std::nullopt : std::optional(earliest);
}

} // namespace backfill::queue
