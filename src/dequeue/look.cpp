/* look.cpp - one look for the next jobs: how NextJobs reads the ready indexes (next_job.hpp).
 *
 * Per task it steps from one priority to the next and reads in each the jobs that are due, from its
 * low-water mark on, or from the end of its backlog if that is left out. So jobs scheduled for
 * later, the backlogs of other tasks, full or paused queues, and the dead entries of jobs already
 * done cost next to nothing, however many there are; and so does the number of queues. */
#include "backfill/clock.hpp"
#include "backfill/commit/hint_faults.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/dequeue/backlog_reader.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/guc.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/stats/events.hpp"
#include "backfill/table/ready_index.hpp"

namespace backfill::queue
{

namespace
{

/* How many entries of others' shares a look walks over at most beyond twice as many as it has to:
 * if there are more, those others are slower than this executor, which had better help them. */
constexpr int64 kMostOfOthers = 4096;

bool may_raise_marks(Reader reader)
{
    return reader == Reader::kWorker || reader == Reader::kExecutor;
}

} // namespace

/* What one look works with. */
struct NextJobs::Search {
    Search(const LatestSnapshot &snapshot_to_use, ReadAheadRanges to_pass_over, int limit,
           int worst)
        : snapshot(snapshot_to_use), passed_over(std::move(to_pass_over)), best(limit),
          last_priority(worst)
    {
        pg::call([&] { owners.begin(); });
    }

    /* Whether the task's next ranges have jobs that are better than those before. */
    bool goes_on() const
    {
        return !is_given_up &&
               (guc::ageing_interval_ms > 0 || !first_range_only || best.size() == size_before);
    }
    /* Whether the entry that the scans are at falls to another executor. Runs inside pg::call(). */
    bool is_of_others() const
    {
        return queue == 0 && !share.is_all() &&
               !share.has(low_water::hash_of(scans.entry_queue()), scans.entry_key().id);
    }
    void note_of_others()
    {
        of_others++;
        shared_priority = Min(shared_priority, scans.priority);
        is_given_up = of_others > kMostOfOthers + 2 * share.executors * static_cast<int64>(own);
    }
    bool is_range_wanted() const
    {
        return guc::ageing_interval_ms > 0 ||
               (scans.priority <= shared_priority && best.takes_priority(scans.priority));
    }
    /* Jobs come before worse ones of all queues, whichever executor the better ones fall to. */
    std::vector<Candidate> found() &&
    {
        if (is_given_up)
            return {};
        std::vector<Candidate> jobs = std::move(best).sorted();
        while (!jobs.empty() && jobs.back().priority > shared_priority)
            jobs.pop_back();
        return jobs;
    }

    const LatestSnapshot &snapshot;
    TimestampTz now = clock::now();
    ReadAheadRanges passed_over;
    BestCandidates best;
    int last_priority;
    core::QueueHash queue = 0;          /* the only one; 0: all */
    bool first_range_only = false;      /* that has jobs */
    std::size_t size_before = 0;        /* of the best, before the task */
    core::Share share;                  /* the jobs to look for */
    int64 of_others = 0;                /* entries passed that fall to others */
    int own = 0;                        /* jobs found that do not */
    bool is_given_up = false;           /* because there are too many of the former */
    int shared_priority = PG_INT32_MAX; /* the best that has any of them */
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
        if (passes_over(search, range))
            continue;
        const bool is_of_others = search.is_of_others();
        /* Before the first job is known, entries must be told from dead ones. */
        if (is_of_others && range.knows_first) {
            range.backlog.stop(scans.entry_key());
            search.note_of_others();
            if (search.is_given_up)
                return;
            continue;
        }
        if (!scans.fetch())
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
        if (is_of_others) {
            search.note_of_others();
            continue;
        }
        search.own++;
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
                    name.empty() && (leaves_any_out() || !search.share.is_all()));
    });
    for (const std::string_view task : tasks_) {
        const Datum task_datum = pg::from_text(task);
        search.size_before = search.best.size();
        pg::call([&] { scans.start_task(task_datum); });
        while (search.goes_on() && pg::call([&] { return scans.next_range(); }) &&
               scans.priority <= search.last_priority && search.is_range_wanted())
            read_range(search, task);
    }
    pg::call([&] { scans.end(); });
}

/* It must not change while candidates are read on: what is in the share and has not been read must
 * come after what has been. With ageing a worse priority may come first, and all count. */
void NextJobs::choose_share(const bgworker::OtherReadAheads &others)
{
    if (share_)
        return;
    share_ = core::share_among(others.all, others.before, group(), finds_many_queues_);
    if (guc::ageing_interval_ms > 0)
        share_ = core::Share{};
    if (next_hint_fault() == HintFault::kWrong)
        share_->place = (share_->place + 1) % share_->executors;
}

std::vector<Candidate> NextJobs::find(const LatestSnapshot &snapshot, int limit,
                                      bool read_ahead_too, int last_priority)
{
    const stats::OperationTimer timer(stats::Operation::kFetch);
    ReadAheadRanges passed_over(nullptr, {});
    if (!read_ahead_too) {
        bgworker::OtherReadAheads others = bgworker::copy_read_aheads();
        last_read_ahead_ = others.last_number;
        choose_share(others);
        if (!share_->is_all())
            others.all.clear();
        passed_over = ReadAheadRanges(&tried_, std::move(others.all));
    }
    Search search(snapshot, std::move(passed_over), limit, last_priority);
    search.share = read_ahead_too ? core::Share{} : *share_;
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
    left_to_others_.reset();
    if (!search.is_given_up && search.shared_priority != PG_INT32_MAX)
        left_to_others_ = search.shared_priority;
    return std::move(search).found();
}

std::vector<Candidate> NextJobs::find_first_of(const LatestSnapshot &snapshot,
                                               std::string_view queue_name, int limit)
{
    Search search(snapshot, ReadAheadRanges(nullptr, {}), limit, last_priority_);
    search.first_range_only = true;
    search_in(search, queue_name);
    std::vector<Candidate> jobs = std::move(search).found();
    /* Another task may have jobs between this one's first range and a worse one of the others. */
    if (guc::ageing_interval_ms == 0)
        while (!jobs.empty() && jobs.back().priority > jobs.front().priority)
            jobs.pop_back();
    return jobs;
}

} // namespace backfill::queue
