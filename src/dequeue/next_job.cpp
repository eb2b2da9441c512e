/* next_job.cpp - see next_job.hpp.
 *
 * Per task we step from one priority to the next and read in each the jobs that are due, from its
 * low-water mark on, or from the end of its backlog if that is left out. So jobs scheduled for
 * later, the backlogs of other tasks, full or paused queues, and the dead entries of jobs already
 * done cost next to nothing, however many there are; and so does the number of queues. */
#include "backfill/dequeue/next_job.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/hint_faults.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/dequeue/backlog_reader.hpp"
#include "backfill/guc.hpp"
#include "backfill/shmem/queue_changes.hpp"
#include "backfill/stats/events.hpp"
#include "backfill/table/ready_index.hpp"

namespace backfill::queue
{

namespace
{

/* The first job on top of a heap of candidates. */
bool sorts_after(const Candidate &a, const Candidate &b)
{
    return sorts_before(b, a);
}

bool may_raise_marks(Reader reader)
{
    return reader == Reader::kWorker || reader == Reader::kExecutor;
}

} // namespace

NextJobs::NextJobs(JobTable &table, std::vector<std::string_view> tasks, Reader reader)
    : table_(table), tasks_(std::move(tasks)), reader_(reader)
{
    table_.hold_rows();
}

void NextJobs::set_tasks(std::vector<std::string_view> tasks)
{
    tasks_ = std::move(tasks);
    excluded_.clear();
    tried_ = {}; /* jobs of queues that were left out are among these */
    clear();
}

void NextJobs::clear()
{
    candidates_.clear();
    position_ = 0;
    reread_.clear();
    dropped_.clear();
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
    is_reread_ = !reread_.empty() && (position_ == candidates_.size() ||
                                      sorts_before(reread_.front(), candidates_[position_]));
    const Candidate next = is_reread_ ? reread_.front() : candidates_[position_];
    const HintFault fault = next_hint_fault();
    if (fault == HintFault::kRepeated)
        return next;
    if (is_reread_) {
        std::pop_heap(reread_.begin(), reread_.end(), sorts_after);
        reread_.pop_back();
    } else {
        position_++;
    }
    skip_dropped();
    tried_.add(ranges_[static_cast<std::size_t>(next.range)], {next.run_at, next.id});
    if (fault == HintFault::kNone)
        return next;
    has_all_ = false;
    if (fault == HintFault::kLost)
        return pop();
    return candidates_.empty() ? next : Candidate{candidates_.front().tid, next.id,    next.run_at,
                                                  next.priority,           next.queue, next.range};
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

void NextJobs::only_queues(std::vector<std::string> queues)
{
    only_queues_.emplace();
    for (std::string &queue : queues)
        only_queues_->emplace(low_water::hash_of(queue), std::move(queue));
}

/* Then whatever comes next counts. */
void NextJobs::skip_dropped()
{
    if (dropped_.empty())
        return;
    while (position_ < candidates_.size() && dropped_.count(candidates_[position_].queue) > 0)
        position_++;
    while (!reread_.empty() && excluded_.count(reread_.front().queue) > 0) {
        std::pop_heap(reread_.begin(), reread_.end(), sorts_after);
        reread_.pop_back();
    }
}

void NextJobs::exclude_queue(std::string_view queue_name)
{
    const core::QueueHash queue = low_water::hash_of(queue_name);
    excluded_.insert(queue);
    dropped_.insert(queue);
    skip_dropped();
}

void NextJobs::read(const LatestSnapshot &snapshot, int limit)
{
    clear();
    ranges_.clear();
    candidates_ = find(snapshot, limit, reader_ != Reader::kExecutor);
    if (candidates_.empty() && has_passed_over_)
        candidates_ = find(snapshot, limit, true);
    /* What it has passed over of its own it has given, unless others or dropped ones were among it,
     * or it has begun below that and has never seen what is in between. */
    if (!has_passed_over_) {
        tried_ = {};
        queue_changes_ = snapshot.queue_changes();
        has_all_ = true;
        has_dropped_ = false;
    }
    has_all_ = has_all_ && !has_passed_others_ && !has_dropped_;
    const bool is_cut_off = candidates_.size() == static_cast<std::size_t>(limit);
    cut_off_ = is_cut_off ? std::optional(candidates_.back()) : std::nullopt;
}

void NextJobs::sweep(const LatestSnapshot &snapshot, int limit)
{
    const Reader reader = reader_;
    reader_ = Reader::kSweep;
    read(snapshot, limit);
    reader_ = reader;
}

bool NextJobs::knows_first_of(std::string_view queue_name, bool just_entered) const
{
    if (!just_entered)
        return has_all_ || is_reread_;
    const core::QueueHash queue = low_water::hash_of(queue_name);
    return has_all_ && dropped_.count(queue) == 0 &&
           !bgworker::queue_changes::since(queue_changes_, queue);
}

bool NextJobs::is_first_of_queue(const JobRow &row)
{
    return guc::ageing_interval_ms == 0 && is_first_in_queue(table_, row, clock::now());
}

/* What one look works with. */
struct NextJobs::Search {
    Search(const LatestSnapshot &snapshot_to_use, const core::ReadAhead *own_read_ahead, int limit)
        : snapshot(snapshot_to_use), passed_over(own_read_ahead), best(limit)
    {
        pg::call([&] { owners.begin(); });
    }

    /* Whether the task's next ranges have jobs that are better than those before. */
    bool goes_on() const
    {
        return guc::ageing_interval_ms > 0 || !first_range_only || best.size() == size_before;
    }
    bool is_range_wanted() const
    {
        return guc::ageing_interval_ms > 0 || best.takes_priority(scans.priority);
    }

    const LatestSnapshot &snapshot;
    TimestampTz now = clock::now();
    ReadAheadRanges passed_over;
    BestCandidates best;
    core::QueueHash queue = 0;     /* the only one; 0: all */
    bool first_range_only = false; /* that has jobs */
    std::size_t size_before = 0;   /* of the best, before the task */
    RangeScans scans;
    RowOwners owners;
};

/* What the reading of a range finds out for its mark and its backlog. */
struct NextJobs::RangeRead {
    core::RangeId id;
    int place; /* in ranges_ */
    core::ReadyKey mark;
    BacklogReader backlog;
    /* Below this no job is ready, nor can one become so without an announcement. */
    core::ReadyKey first;
    bool knows_first = false; /* that is the key of a job, or the mark */
    int passed = 0;           /* entries before it */

    void note_first(core::ReadyKey key, int passed_before) noexcept
    {
        if (knows_first)
            return;
        knows_first = true;
        first = key;
        passed += passed_before;
    }
};

/* Passes over an entry of a queue that is left out. */
bool NextJobs::passes_over(const Search &search, RangeRead &range) const
{
    const RangeScans &scans = search.scans;
    if (search.queue != 0 || !leaves_any_out())
        return false;
    const core::QueueHash queue = low_water::hash_of(scans.entry_queue());
    if (!leaves_out(queue))
        return false;
    const core::ReadyKey key = scans.entry_key();
    range.note_first(key, scans.dead);
    range.backlog.pass(queue, key);
    return true;
}

/* Reads the jobs of the range that the scans are at, from `start` on, into the best candidates.
 * Runs inside pg::call(). */
void NextJobs::read_jobs(Search &search, core::ReadyKey start, RangeRead &range)
{
    RangeScans &scans = search.scans;
    scans.start_jobs(start, search.now);
    while (scans.next_entry()) {
        if (passes_over(search, range) || !scans.fetch())
            continue;
        core::ReadyKey key = scans.key();
        const core::QueueHash queue =
            search.queue != 0 ? search.queue : low_water::hash_of(scans.queue_of_row());
        const RowOwners::Owner owner = search.owners.owner_of(scans.slot);
        if (owner == RowOwners::Owner::kExecutor) {
            range.passed += range.knows_first ? 0 : 1;
            continue;
        }
        range.note_first(key, scans.dead);
        range.backlog.stop(key);
        if (reader_ == Reader::kSweep)
            range.backlog.sweep(queue, key);
        if (owner != RowOwners::Owner::kNobody || locked_.count(key.id) > 0)
            continue;
        if (search.passed_over.pass(range.id, key)) {
            has_passed_over_ = true;
            scans.start_jobs(key, search.now);
            continue;
        }
        if (!search.best.add({scans.slot->tts_tid, key.id, key.run_at,
                              aged_priority(scans.priority, key.run_at, search.now), queue,
                              range.place}))
            return;
    }
    range.passed += range.knows_first ? 0 : scans.dead;
    range.backlog.stop({search.now, PG_INT64_MAX});
}

/* Where to begin. */
core::ReadyKey NextJobs::start_of(Search &search, RangeRead &range)
{
    if (reader_ == Reader::kSweep)
        return {};
    core::ReadyKey start = range.mark;
    const bool behind_backlog =
        search.queue == 0 && leaves_any_out() && range.mark < range.backlog.end() &&
        range.backlog.can_skip([&](core::QueueHash queue) { return leaves_out(queue); });
    if (behind_backlog)
        start = range.backlog.end();
    /* Executors leave the jobs of a batch's own handlers to the next batch: its commit announces
     * them. */
    if (reader_ != Reader::kExecutor)
        start = Min(start, low_water::lowest_own_job(range.id));
    const core::ReadyKey from = start;
    if (search.passed_over.pass(range.id, start))
        has_passed_over_ = true;
    else if (search.queue == 0 && may_raise_marks(reader_))
        range.backlog.begin(from, behind_backlog);
    if (range.mark < start)
        range.note_first(range.mark, 0);
    else
        range.mark = start;
    return start;
}

/* Of the task, and the queue, that the scans are at. */
void NextJobs::read_range(Search &search, std::string_view task)
{
    const core::RangeId of_all = low_water::range_of(task, search.scans.priority);
    const core::RangeId id =
        search.queue == 0 ? of_all : low_water::range_of(search.queue, task, search.scans.priority);
    RangeRead range{id,
                    place_of(of_all),
                    reader_ == Reader::kSweep ? core::ReadyKey{} : low_water::mark(id),
                    BacklogReader(id, search.snapshot.announcements()),
                    {search.now, PG_INT64_MAX}};
    const core::ReadyKey start = start_of(search, range);
    pg::call([&] { read_jobs(search, start, range); });
    update_mark(search, range);
}

int NextJobs::place_of(core::RangeId range)
{
    const auto found = std::find(ranges_.begin(), ranges_.end(), range);
    if (found != ranges_.end())
        return static_cast<int>(found - ranges_.begin());
    ranges_.push_back(range);
    return static_cast<int>(ranges_.size()) - 1;
}

void NextJobs::update_mark(const Search &search, const RangeRead &range) const
{
    const auto announcements = search.snapshot.announcements();
    const bool may_raise = may_raise_marks(reader_);
    if (reader_ == Reader::kSweep && range.knows_first && range.first < low_water::mark(range.id))
        low_water::announce(range.id, range.first, 0);
    else if (may_raise && next_hint_fault() == HintFault::kWrong)
        low_water::raise_mark(range.id, range.mark, {search.now + USECS_PER_HOUR, 0},
                              announcements);
    else if (may_raise && range.passed >= kFewEntries)
        low_water::raise_mark(range.id, range.mark, range.first, announcements);
}

/* In the queue of this name; if it is empty, in all. */
void NextJobs::search_in(Search &search, std::string_view name)
{
    RangeScans &scans = search.scans;
    search.queue = low_water::hash_of(name);
    Relation index = name.empty() ? table_.ready_index() : table_.queue_index();
    text *const queue =
        name.empty() ? nullptr : reinterpret_cast<text *>(DatumGetPointer(pg::from_text(name)));
    pg::call([&] {
        scans.begin(table_.heap(), index, table_.slot(), search.snapshot.get(), queue,
                    name.empty() && leaves_any_out());
    });
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        search.size_before = search.best.size();
        pg::call([&] { scans.start_task(task_datum); });
        while (search.goes_on() && pg::call([&] { return scans.next_range(); }) &&
               scans.priority <= last_priority_ && search.is_range_wanted())
            read_range(search, task);
    }
    pg::call([&] { scans.end(); });
}

std::vector<Candidate> NextJobs::find(const LatestSnapshot &snapshot, int limit,
                                      bool read_ahead_too)
{
    const stats::OperationTimer timer(stats::Operation::kFetch);
    Search search(snapshot, read_ahead_too ? nullptr : &tried_, limit);
    has_passed_over_ = false;
    if (reader_ == Reader::kSweep)
        low_water::forget_queues();
    const bool reads_all = !only_queues_ || only_queues_->count(0) > 0;
    if (reads_all)
        search_in(search, {});
    else
        for (const auto &[queue, name] : *only_queues_)
            if (excluded_.count(queue) == 0)
                search_in(search, name);
    has_passed_others_ = search.passed_over.has_passed_others();
    return std::move(search.best).sorted();
}

void NextJobs::read_queue(const LatestSnapshot &snapshot, const JobRow &row, int limit)
{
    const std::string_view name = row.text_or_empty(Column::kQueueName);
    const core::QueueHash queue = low_water::hash_of(name);
    /* No commit has announced it, then. */
    const core::RangeId range = low_water::range_of(queue, row.task_identifier(), row.priority());
    const core::ReadyKey key{DatumGetTimestampTz(row.get(Column::kRunAt)), row.id()};
    if (key < low_water::mark(range))
        low_water::announce(range, key, queue);

    if (!dropped_.insert(queue).second) {
        reread_.erase(
            std::remove_if(reread_.begin(), reread_.end(),
                           [&](const Candidate &candidate) { return candidate.queue == queue; }),
            reread_.end());
        std::make_heap(reread_.begin(), reread_.end(), sorts_after);
    }
    has_dropped_ = true;
    Search search(snapshot, nullptr, limit);
    search.first_range_only = true;
    search_in(search, name);
    /* What sorts after the last read may sort after jobs of other queues not read yet. */
    for (const Candidate &candidate : std::move(search.best).sorted()) {
        if (cut_off_ && sorts_before(*cut_off_, candidate))
            break;
        reread_.push_back(candidate);
        std::push_heap(reread_.begin(), reread_.end(), sorts_after);
    }
    skip_dropped();
}

std::optional<TimestampTz> NextJobs::next_run_at(const LatestSnapshot &snapshot, TimestampTz now)
{
    /* Of jobs of queues that are left out: it is no harm to be woken once more. */
    constexpr int kMostPassed = 1000;
    TimestampTz earliest = PG_INT64_MAX;
    Relation index = table_.ready_index();
    RangeScans scans;

    pg::call([&] {
        scans.begin(table_.heap(), index, table_.slot(), snapshot.get(), nullptr, leaves_any_out());
    });
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        pg::call([&] {
            scans.start_task(task_datum);
            while (scans.next_range()) {
                int passed = 0;
                scans.start_jobs({now + 1, PG_INT64_MIN}, earliest - 1);
                while (scans.next_entry()) {
                    if (leaves_any_out() && passed++ < kMostPassed &&
                        leaves_out(low_water::hash_of(scans.entry_queue())))
                        continue;
                    if (!scans.fetch())
                        continue;
                    earliest = scans.key().run_at;
                    break;
                }
            }
        });
    }
    pg::call([&] { scans.end(); });
    return earliest == PG_INT64_MAX ? std::nullopt : std::optional(earliest);
}

} // namespace backfill::queue
