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
#include "backfill/stats/events.hpp"
#include "backfill/table/ready_index.hpp"

namespace backfill::queue
{

namespace
{

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
    auto found = table_.fetch(candidate.tid, snapshot.get());
    if (found && found->row.id() != candidate.id)
        found.reset();
    return found;
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
    candidates_ = find(snapshot, limit, {.read_ahead_too = reader_ != Reader::kExecutor});
    if (candidates_.empty() && passed_over_ranges_)
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

/* What one find() works with. */
struct NextJobs::Search {
    Search(const core::ReadAhead *own_read_ahead, int limit)
        : passed_over(own_read_ahead), best(limit)
    {
    }

    TimestampTz now = clock::now();
    ReadAheadRanges passed_over;
    BestCandidates best;
    RangeScans scans;
    RowOwners owners;
};

/* Reads the jobs of the range that the scans are at, from `start` on, into the best candidates.
 * Runs inside pg::call(). */
void NextJobs::read_jobs(Search &search, core::ReadyKey start, ScanResult &result)
{
    RangeScans &scans = search.scans;
    const int priority = scans.range.priority;
    const int queue_number = static_cast<int>(queues_.size()) - 1;
    const int range_number = static_cast<int>(ranges_.size()) - 1;
    scans.start_jobs(start, search.now);
    while (scans.next_job()) {
        core::ReadyKey key = scans.key();
        const RowOwners::Owner owner = search.owners.owner_of(scans.slot);
        if (owner != RowOwners::Owner::kExecutor && !result.known) {
            result.known = true;
            result.first = key;
            result.passed += scans.dead;
        }
        if (owner == RowOwners::Owner::kExecutor)
            result.passed += result.known ? 0 : 1;
        if (owner != RowOwners::Owner::kNobody || locked_.count(key.id) > 0)
            continue;
        if (search.passed_over.pass(ranges_.back(), key)) {
            passed_over_ranges_ = true;
            scans.start_jobs(key, search.now);
            continue;
        }
        if (!search.best.add({scans.slot->tts_tid, key.id, key.run_at,
                              aged_priority(priority, key.run_at, search.now), queue_number,
                              range_number}))
            break;
    }
    result.passed += result.known ? 0 : scans.dead;
}

/* Of the range that the scans are at. */
void NextJobs::read_range(Search &search, std::string_view task, std::string_view queue,
                          const LatestSnapshot &snapshot)
{
    if (queues_.empty() || queues_.back() != queue)
        queues_.emplace_back(queue);
    const core::RangeId range = low_water::range_of(task, queue, search.scans.range.priority);
    ranges_.push_back(range);
    const core::ReadyKey mark = start_of_range(reader_, range);
    ScanResult result{{search.now, PG_INT64_MAX}};
    core::ReadyKey start = mark;
    if (search.passed_over.pass(range, start)) {
        passed_over_ranges_ = true;
        result.known = true;
        result.first = mark;
    }
    pg::call([&] { read_jobs(search, start, result); });
    update_mark(range, mark, result, search.now, snapshot.announcements());
}

void NextJobs::update_mark(core::RangeId range, core::ReadyKey mark, const ScanResult &result,
                           TimestampTz now, std::uint64_t announcements) const
{
    const bool may_raise = reader_ == Reader::kWorker || reader_ == Reader::kExecutor;
    if (reader_ == Reader::kSweep && result.known && result.first < low_water::mark(range))
        low_water::announce(range, result.first);
    else if (may_raise && next_hint_fault() == HintFault::kWrong)
        low_water::raise_mark(range, mark, {now + USECS_PER_HOUR, 0}, announcements);
    else if (may_raise && result.passed >= kFewEntries)
        low_water::raise_mark(range, mark, result.first, announcements);
}

std::vector<Candidate> NextJobs::find(const LatestSnapshot &snapshot, int limit, Where where)
{
    const stats::OperationTimer timer(stats::Operation::kFetch);
    Relation index = table_.ready_index();
    const Datum only_queue =
        where.only_queue ? pg::from_text(*where.only_queue) : static_cast<Datum>(0);
    Search search(where.read_ahead_too ? nullptr : &tried_, limit);
    RangeScans &scans = search.scans;
    passed_over_ranges_ = false;

    pg::call([&] {
        search.owners.begin();
        scans.begin(table_.heap(), index, table_.slot(), snapshot.get(), last_priority_,
                    reinterpret_cast<text *>(DatumGetPointer(only_queue)));
    });
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] { scans.start_task(task_datum); });
        while (pg::call([&] { return scans.next_range(); })) {
            const std::string_view queue = pg::to_view(PointerGetDatum(scans.range.queue));
            if (is_excluded(queue))
                pg::call([&] { scans.skip_queue(); });
            else
                read_range(search, task, queue, snapshot);
        }
    }
    pg::call([&] { scans.end(); });
    return std::move(search.best).sorted();
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

} // namespace backfill::queue
