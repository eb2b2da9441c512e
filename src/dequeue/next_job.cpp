/* next_job.cpp - see next_job.hpp. How the indexes are read is in look.cpp. */
#include "backfill/dequeue/next_job.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/hint_faults.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/guc.hpp"
#include "backfill/shmem/queue_changes.hpp"
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

/* At least this many queues among at least this many candidates make executors divide them. */
constexpr std::size_t kManyQueues = 8;
constexpr std::size_t kManyCandidates = 16;

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
    share_.reset();
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
    is_reread_ = is_next_reread();
    const Candidate next = this->next();
    /* What a sweep has found is the truth by which faults are mended. */
    const HintFault fault = reader_ == Reader::kSweep ? HintFault::kNone : next_hint_fault();
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
    core::ReadAhead read_ahead{};
    if (!is_divided())
        read_ahead = tried_;
    read_ahead.group = group();
    read_ahead.wants_division = finds_many_queues_;
    if (with_rest && !is_divided())
        for (std::size_t i = position_; i < candidates_.size(); i++)
            read_ahead.add(ranges_[static_cast<std::size_t>(candidates_[i].range)],
                           {candidates_[i].run_at, candidates_[i].id});
    if (!ranges_.empty() && next_hint_fault() == HintFault::kWrong)
        read_ahead.add(ranges_.front(), {PG_INT64_MAX, 0});
    return read_ahead;
}

bool NextJobs::is_overtaken(uint64 number) const
{
    if (number == 0 || candidates_.empty() || is_divided())
        return false;
    const Candidate &first = candidates_.front();
    const auto others = bgworker::copy_read_aheads().all;
    return std::any_of(others.begin(), others.end(), [&](const core::ReadAhead &other) {
        return other.number > last_read_ahead_ && other.number < number &&
               other.end_of(ranges_[static_cast<std::size_t>(first.range)],
                            {first.run_at, first.id}) != nullptr;
    });
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
    ready_bands_ = snapshot.ready_bands();
    candidates_ = find(snapshot, limit, reader_ != Reader::kExecutor, last_priority_);
    /* They may have other things to do. Of what is worse it keeps its share. */
    if (candidates_.empty() && left_to_others_)
        candidates_ = find(snapshot, limit, true, *left_to_others_);
    if (candidates_.empty() && (has_passed_over_ || is_divided())) {
        share_ = core::Share{};
        candidates_ = find(snapshot, limit, true, last_priority_);
    }
    /* What it has passed over of its own it has given, unless others or dropped ones were among it,
     * or it has begun below that and has never seen what is in between. */
    if (!has_passed_over_) {
        tried_ = {};
        queue_changes_ = snapshot.queue_changes();
        changed_.clear();
        has_all_ = true;
        has_dropped_ = false;
    }
    has_all_ = has_all_ && !has_passed_others_ && !has_dropped_;
    const bool is_cut_off = candidates_.size() == static_cast<std::size_t>(limit) ||
                            (!candidates_.empty() && is_divided());
    cut_off_ = is_cut_off ? std::optional(candidates_.back()) : std::nullopt;
    /* Better jobs, which are read after a give_up(), say nothing about the others. */
    if (!std::exchange(was_given_up_, false))
        note_how_many_queues();
}

bool NextJobs::misses_better() const
{
    if (empty())
        return false;
    const int band = core::priority_band_number(next().priority);
    return bgworker::ready_bands::has_better_since(ready_bands_, band) ||
           next_hint_fault() == HintFault::kWrong;
}

void NextJobs::give_up()
{
    clear();
    was_given_up_ = true;
}

/* A number for executors that choose among the same jobs. */
std::uint64_t NextJobs::group() const
{
    auto number = static_cast<std::uint64_t>(last_priority_);
    for (const std::string_view task : tasks_)
        number = number * 31 + low_water::hash_of(task);
    return number | 1;
}

void NextJobs::note_how_many_queues() const
{
    if (reader_ != Reader::kExecutor || candidates_.size() < kManyCandidates)
        return;
    std::array<core::QueueHash, 8 * kManyQueues> queues;
    const std::size_t looked_at = Min(candidates_.size(), queues.size());
    std::transform(candidates_.begin(), candidates_.begin() + looked_at, queues.begin(),
                   [](const Candidate &candidate) { return candidate.queue; });
    std::sort(queues.begin(), queues.begin() + looked_at);
    const auto end = std::unique(queues.begin(), queues.begin() + looked_at);
    finds_many_queues_ = static_cast<std::size_t>(end - queues.begin()) >= kManyQueues;
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
    if (is_reread_ && !just_entered)
        return true;
    if (!has_all_)
        return false;
    if (!just_entered)
        return changed_.empty() || changed_.count(low_water::hash_of(queue_name)) == 0;
    const core::QueueHash queue = low_water::hash_of(queue_name);
    return dropped_.count(queue) == 0 && !bgworker::queue_changes::since(queue_changes_, queue);
}

bool NextJobs::is_first_of_queue(const JobRow &row)
{
    changed_.insert(low_water::hash_of(row.text_or_empty(Column::kQueueName)));
    return guc::ageing_interval_ms == 0 && is_first_in_queue(table_, row, clock::now());
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
    const auto known = std::count_if(
        candidates_.begin() + static_cast<std::ptrdiff_t>(position_), candidates_.end(),
        [&](const Candidate &candidate) { return candidate.queue == queue; });
    limit = Max(limit, static_cast<int>(known) + 1);
    /* What sorts after the last read may sort after jobs of other queues not read yet. */
    for (const Candidate &candidate : find_first_of(snapshot, name, limit)) {
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
