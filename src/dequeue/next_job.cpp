/* next_job.cpp - see next_job.hpp.
 *
 * The index is ordered by (task_identifier, queue_name, priority, run_at, id). Per task
 * we step from one range, a (queue, priority), to the next, looking at the index alone,
 * and read in each the jobs that are due, from its low-water mark on. So jobs
 * scheduled for later, the backlogs of other tasks, full or paused queues, and the dead
 * entries of jobs already done cost next to nothing, however many there are. */
#include "backfill/dequeue/next_job.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/hint_faults.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/guc.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue
{

namespace
{

constexpr AttrNumber kIndexTask = 1;
constexpr AttrNumber kIndexQueue = 2;
constexpr AttrNumber kIndexPriority = 3;
constexpr AttrNumber kIndexRunAt = 4;
constexpr AttrNumber kIndexId = 5;
/* A mark that spares fewer entries than this is not worth its place. */
constexpr int kFewEntries = 16;
constexpr int kMaxExecutors = 128;

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
 * jobs. Plain data; all its functions run inside pg::call(). */
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
               int max_priority, text *queue = nullptr)
    {
        slot = table_slot;
        last_priority = max_priority;
        only_queue = queue;
        ranges = begin_key_scan(heap, index, snapshot, 2);
        jobs = pg::begin_index_scan(heap, index, snapshot, 5);
    }
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
    bool next_range()
    {
        for (;;) {
            CHECK_FOR_INTERRUPTS();
            ScanKeyData keys[2];
            ScanKeyInit(&keys[0], kIndexTask, BTEqualStrategyNumber, F_TEXTEQ, task);
            if (first)
                ScanKeyInit(&keys[1], kIndexQueue, BTGreaterEqualStrategyNumber, F_TEXT_GE,
                            PointerGetDatum(only_queue != nullptr
                                                ? only_queue
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
    void skip_queue() { queue_done = true; }

    /* Positions before the first job of the range whose key is at least `start` and whose
     * run_at is at most `until`. */
    void start_jobs(core::ReadyKey start, TimestampTz until)
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

/* Steps from task to task, looking at the index alone. Plain data; all its functions run inside
 * pg::call(). */
struct TaskScan {
    IndexScanDesc scan;
    Datum task;

    void begin(Relation heap, Relation index, Snapshot snapshot)
    {
        scan = begin_key_scan(heap, index, snapshot, 1);
        task = PointerGetDatum(cstring_to_text_with_len("", 0));
    }
    void end() { index_endscan(scan); }
    bool next_task()
    {
        CHECK_FOR_INTERRUPTS();
        ScanKeyData key;
        bool is_null;
        ScanKeyInit(&key, kIndexTask, BTGreaterStrategyNumber, F_TEXT_GT, task);
        index_rescan(scan, &key, 1, nullptr, 0);
        if (index_getnext_tid(scan, ForwardScanDirection) == nullptr)
            return false;
        task = PointerGetDatum(DatumGetTextPCopy(
            index_getattr(scan->xs_itup, kIndexTask, scan->xs_itupdesc, &is_null)));
        return true;
    }
};

/* Which rows are claimed, and by which transactions. Rows of a batch stand together, so the last
 * answer usually serves again. Plain data. */
struct Claims {
    enum class Owner { kNobody, kExecutor, kOther };

    TransactionId executors[kMaxExecutors];
    int executor_count;
    TransactionId last;
    Owner last_owner;

    void begin()
    {
        executor_count =
            bgworker::available() ? bgworker::executor_xids(executors, kMaxExecutors) : 0;
        last = InvalidTransactionId;
    }
    /* The transaction that is deleting, updating or locking the row in the slot. Several lockers at
     * once are left for the claim to find out: they may all be our own. */
    Owner owner_of(TupleTableSlot *slot)
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
};

/* What executors, this one among them, are working through (read_ahead.hpp). */
class Stretches
{
  public:
    /* Null: there are none to pass over. */
    explicit Stretches(const core::ReadAhead *own) : own_(own)
    {
        if (own != nullptr)
            others_ = bgworker::copy_read_aheads();
    }
    /* Moves `key` behind the stretches that it lies in; whether it lay in one. No allocation. */
    bool pass(core::RangeId range, core::ReadyKey &key) const noexcept
    {
        bool moved = false;
        while (const core::ReadyKey *end = end_of(range, key)) {
            key = {end->run_at, end->id + 1};
            moved = true;
        }
        return moved;
    }

  private:
    const core::ReadyKey *end_of(core::RangeId range, core::ReadyKey key) const noexcept
    {
        if (own_ == nullptr)
            return nullptr;
        /* To pass over its own saves only time. */
        if (const core::ReadyKey *end = own_->end_of(range, key, kFewEntries))
            return end;
        for (const core::ReadAhead &other : others_)
            if (const core::ReadyKey *end = other.end_of(range, key))
                return end;
        return nullptr;
    }

    const core::ReadAhead *own_;
    std::vector<core::ReadAhead> others_;
};

/* Below this the reader finds no job. Executors leave the jobs of a batch's own handlers to the
 * next batch: its commit announces them. */
core::ReadyKey start_of_range(Reader reader, core::RangeId range) noexcept
{
    switch (reader) {
    case Reader::kSweep:
        return {};
    case Reader::kExecutor:
        return low_water::mark(range);
    default:
        return low_water::mark_for_own_jobs(range);
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
    if (guc::ageing_interval_ms == 0)
        return priority;
    return priority - (now - run_at) / (static_cast<int64>(guc::ageing_interval_ms) * 1000);
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

void LatestSnapshot::renew()
{
    pop();
    announcements_ = low_water::announcements();
    pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
    pushed_ = true;
}

void LatestSnapshot::see_own_changes()
{
    pg::call([] { UpdateActiveSnapshotCommandId(); });
}

void LatestSnapshot::pop()
{
    if (pushed_)
        pg::call([] { PopActiveSnapshot(); });
    pushed_ = false;
}

NextJobs::NextJobs(JobTable &table, std::vector<std::string_view> tasks, Reader reader)
    : table_(table), tasks_(std::move(tasks)), reader_(reader)
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

std::optional<FoundJob> NextJobs::fetch(const Candidate &candidate, const LatestSnapshot &snapshot)
{
    auto row = table_.fetch(candidate.tid, snapshot.get());
    if (!row || row->id() != candidate.id)
        return std::nullopt;
    return FoundJob{candidate.tid, *row};
}

std::optional<Candidate> NextJobs::pop()
{
    if (empty())
        return std::nullopt;
    const Candidate next = candidates_[position_++];
    tried_.add(ranges_[static_cast<std::size_t>(next.range)], {next.run_at, next.id});
    switch (next_hint_fault()) {
    case HintFault::kLost:
        return pop();
    case HintFault::kRepeated:
        position_--;
        return next;
    case HintFault::kWrong:
        return Candidate{candidates_.front().tid, next.id,    next.run_at,
                         next.priority,           next.queue, next.range};
    default:
        return next;
    }
}

core::ReadAhead NextJobs::read_ahead(bool with_rest) const
{
    core::ReadAhead read_ahead = tried_;
    if (with_rest)
        for (std::size_t i = position_; i < candidates_.size(); i++)
            read_ahead.add(ranges_[static_cast<std::size_t>(candidates_[i].range)],
                           {candidates_[i].run_at, candidates_[i].id});
    if (!ranges_.empty() && next_hint_fault() == HintFault::kWrong)
        read_ahead.add(ranges_.front(), {PG_INT64_MAX, 0});
    return read_ahead;
}

bool NextJobs::is_excluded(std::string_view queue_name) const
{
    if (only_queues_ &&
        std::find(only_queues_->begin(), only_queues_->end(), queue_name) == only_queues_->end())
        return true;
    return std::find(excluded_.begin(), excluded_.end(), queue_name) != excluded_.end();
}

/* Drops the queue's candidates. */
void NextJobs::forget_queue(std::string_view queue_name)
{
    std::vector<bool> drop;
    drop.reserve(queues_.size());
    for (const std::string &queue : queues_)
        drop.push_back(queue == queue_name);
    const auto waiting = candidates_.begin() + static_cast<std::ptrdiff_t>(position_);
    candidates_.erase(std::remove_if(waiting, candidates_.end(),
                                     [&](const Candidate &candidate) {
                                         return drop[static_cast<std::size_t>(candidate.queue)];
                                     }),
                      candidates_.end());
}

void NextJobs::exclude_queue(std::string_view queue_name)
{
    excluded_.emplace_back(queue_name);
    forget_queue(queue_name);
}

void NextJobs::read(const LatestSnapshot &snapshot, int limit)
{
    clear();
    queues_.clear();
    ranges_.clear();
    candidates_ = find(snapshot, limit, {.on_stretches = reader_ != Reader::kExecutor});
    if (candidates_.empty() && passed_over_stretches_)
        candidates_ = find(snapshot, limit, {});
    cut_off_.reset();
    if (candidates_.size() == static_cast<std::size_t>(limit))
        cut_off_ = candidates_.back();
}

void NextJobs::sweep(const LatestSnapshot &snapshot, int limit)
{
    const Reader reader = reader_;
    reader_ = Reader::kSweep;
    read(snapshot, limit);
    reader_ = reader;
}

void NextJobs::read_queue(const LatestSnapshot &snapshot, std::string_view queue_name, int limit)
{
    forget_queue(queue_name);
    candidates_.erase(candidates_.begin(),
                      candidates_.begin() + static_cast<std::ptrdiff_t>(position_));
    position_ = 0;
    const auto others = static_cast<std::ptrdiff_t>(candidates_.size());
    /* What sorts after the last read may sort after jobs of other queues not read yet. */
    for (const Candidate &candidate : find(snapshot, limit, {.only_queue = queue_name}))
        if (!cut_off_ || !sorts_before(*cut_off_, candidate))
            candidates_.push_back(candidate);
    std::inplace_merge(candidates_.begin(), candidates_.begin() + others, candidates_.end(),
                       sorts_before);
}

std::vector<Candidate> NextJobs::find(const LatestSnapshot &snapshot, int limit, Where where)
{
    const stats::OperationTimer timer(stats::Operation::kFetch);
    const TimestampTz now = clock::now();
    Relation index = table_.ready_index();
    BestCandidates best(limit);
    RangeScans scans;
    Claims claims;
    const Datum queue_datum =
        where.only_queue ? pg::from_text(*where.only_queue) : static_cast<Datum>(0);
    const Stretches stretches(where.on_stretches ? nullptr : &tried_);
    passed_over_stretches_ = false;

    pg::call([&] {
        claims.begin();
        scans.begin(table_.heap(), index, table_.slot(), snapshot.get(), last_priority_,
                    reinterpret_cast<text *>(DatumGetPointer(queue_datum)));
    });
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] { scans.start_task(task_datum); });
        while (pg::call([&] { return scans.next_range(); })) {
            const std::string_view queue = pg::to_view(PointerGetDatum(scans.range.queue));
            if (is_excluded(queue)) {
                pg::call([&] { scans.skip_queue(); });
                continue;
            }
            if (queues_.empty() || queues_.back() != queue)
                queues_.emplace_back(queue);
            const int queue_number = static_cast<int>(queues_.size()) - 1;
            const int priority = scans.range.priority;
            const core::RangeId range = low_water::range_of(task, queue, priority);
            const int range_number = static_cast<int>(ranges_.size());
            ranges_.push_back(range);
            const core::ReadyKey mark = start_of_range(reader_, range);
            /* Below this no job is ready, nor can one become so without an announcement. */
            core::ReadyKey first{now, PG_INT64_MAX};
            int passed = 0;
            bool known = false;
            core::ReadyKey start = mark;
            if (stretches.pass(range, start)) {
                passed_over_stretches_ = true;
                known = true;
                first = mark;
            }

            pg::call([&] {
                scans.start_jobs(start, now);
                while (scans.next_job()) {
                    core::ReadyKey key = scans.key();
                    const Claims::Owner owner = claims.owner_of(scans.slot);
                    if (owner != Claims::Owner::kExecutor && !known) {
                        known = true;
                        first = key;
                        passed += scans.dead;
                    }
                    if (owner == Claims::Owner::kExecutor)
                        passed += known ? 0 : 1;
                    if (owner != Claims::Owner::kNobody || locked_.count(key.id) > 0)
                        continue;
                    if (stretches.pass(range, key)) {
                        passed_over_stretches_ = true;
                        scans.start_jobs(key, now);
                        continue;
                    }
                    if (!best.add({scans.slot->tts_tid, key.id, key.run_at,
                                   aged_priority(priority, key.run_at, now), queue_number,
                                   range_number}))
                        break;
                }
                passed += known ? 0 : scans.dead;
            });
            const bool may_raise = reader_ == Reader::kWorker || reader_ == Reader::kExecutor;
            if (reader_ == Reader::kSweep && known && first < low_water::mark(range))
                low_water::announce(range, first);
            else if (may_raise && next_hint_fault() == HintFault::kWrong)
                low_water::raise_mark(range, mark, {now + USECS_PER_HOUR, 0},
                                      snapshot.announcements());
            else if (may_raise && passed >= kFewEntries)
                low_water::raise_mark(range, mark, first, snapshot.announcements());
        }
    }
    pg::call([&] { scans.end(); });
    return std::move(best).sorted();
}

std::optional<TimestampTz> NextJobs::next_run_at(const LatestSnapshot &snapshot, TimestampTz now)
{
    TimestampTz earliest = PG_INT64_MAX;
    Relation index = table_.ready_index();
    RangeScans scans;

    pg::call(
        [&] { scans.begin(table_.heap(), index, table_.slot(), snapshot.get(), PG_INT16_MAX); });
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] { scans.start_task(task_datum); });
        while (pg::call([&] { return scans.next_range(); })) {
            if (is_excluded(pg::to_view(PointerGetDatum(scans.range.queue)))) {
                pg::call([&] { scans.skip_queue(); });
                continue;
            }
            pg::call([&] {
                scans.start_jobs({now + 1, PG_INT64_MIN}, earliest - 1);
                if (scans.next_job())
                    earliest = scans.key().run_at;
            });
        }
    }
    pg::call([&] { scans.end(); });
    return earliest == PG_INT64_MAX ? std::nullopt : std::optional(earliest);
}

std::vector<std::string> tasks_with_jobs(JobTable &table, const LatestSnapshot &snapshot)
{
    std::vector<std::string> tasks;
    Relation index = table.ready_index();
    TaskScan scan;
    pg::call([&] { scan.begin(table.heap(), index, snapshot.get()); });
    while (pg::call([&] { return scan.next_task(); }))
        tasks.push_back(pg::to_string(scan.task));
    pg::call([&] { scan.end(); });
    return tasks;
}

} // namespace backfill::queue
