/* next_job.hpp - the choice of the next job. The only module that decides what runs
 * next; it reads the indexes job_ready_idx and job_queue_idx.
 *
 * A candidate is a hint: the row may be gone, claimed or changed by the time a session
 * claims it, and the claim (batch.cpp) decides. Order: priority, run_at, id; with
 * backfill.ageing_interval a job counts as one priority better for each such interval
 * that it has waited. */
#pragma once

#include "backfill/dequeue/candidates.hpp"
#include "backfill/dequeue/latest_snapshot.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

/* Jobs of the fast bands, which reserved executors are for. */
inline constexpr int kLastUrgentPriority = -1;

/* The reader, and its purpose. */
enum class Reader {
    kSession, /* whose own claims may be rolled back to a savepoint: raises no marks */
    kWorker,
    kExecutor, /* and passes over what executors, itself among them, are working through */
    kSweep,    /* the dispatcher, looking for jobs that no commit announced: ignores the marks */
};

class NextJobs
{
  public:
    /* Chooses among the ready jobs of these tasks. The strings must outlive the object. */
    NextJobs(JobTable &table, std::vector<std::string_view> tasks, Reader reader);

    /* Forgets what it knows and chooses among these tasks from now on. */
    void set_tasks(std::vector<std::string_view> tasks);

    /* Reads the first `limit` ready jobs that no process runs now, as the snapshot sees them,
     * leaving out the excluded queues and jobs. An executor passes over what pop() has given,
     * and over what others are working through or what falls to them, unless it finds nothing
     * else. */
    void read(const LatestSnapshot &snapshot, int limit);
    /* The same without regard to the marks: finds also what no commit has announced. */
    void sweep(const LatestSnapshot &snapshot, int limit);
    /* Whether the candidate given last is known to be the first ready job of its serial queue. The
     * caller holds the queue's permit; `just_entered`: it has got it after the candidate was read.
     */
    bool knows_first_of(std::string_view queue_name, bool just_entered) const;
    /* Whether this job is, as of now; looked up, so that read_queue() is spared. What was read of
     * its queue behind it is not known to come next. */
    bool is_first_of_queue(const JobRow &row);
    /* Reads the first ready jobs of this one's queue again, as the snapshot sees them now: `limit`,
     * or as many as were known. */
    void read_queue(const LatestSnapshot &snapshot, const JobRow &row, int limit);
    std::optional<Candidate> pop();
    /* A candidate's row, if the snapshot sees it and it still is that job's. */
    std::optional<FoundJob> fetch(const Candidate &candidate, const LatestSnapshot &snapshot);
    /* The stretches that it works through: from the first candidate on, to the one that pop()
     * has given last or, `with_rest`, to the last one read. None while it divides the jobs with
     * others. */
    core::ReadAhead read_ahead(bool with_rest) const;
    /* Whether another executor has made known that it is working through the first candidate, after
     * the last read() had begun, but before read_ahead() was, which has got this number. */
    bool is_overtaken(uint64 number) const;
    bool empty() const { return position_ == candidates_.size() && reread_.empty(); }
    /* Whether a job that the last read() could not see yet goes before what pop() will give, to
     * judge by its band. */
    bool misses_better() const;
    /* Then: forgets the candidates, so that the better one is among the next ones. */
    void give_up();
    /* Forgets the candidates read so far. */
    void clear();

    /* Reads only these queues from now on. */
    void only_queues(std::vector<std::string> queues);
    /* Leaves a queue out from now on: it is full, paused or used up its rate. */
    void exclude_queue(std::string_view queue_name);
    /* Leaves a job out of the next reads: its row is locked by a session. */
    void exclude_job(int64 id) { locked_.insert(id); }
    /* Reads only jobs of the fast bands from now on. */
    void only_urgent() { last_priority_ = kLastUrgentPriority; }

    /* The earliest run_at after now among the tasks' waiting jobs, or nothing. */
    std::optional<TimestampTz> next_run_at(const LatestSnapshot &snapshot, TimestampTz now);

  private:
    struct Search;
    struct RangeRead;
    std::vector<Candidate> find(const LatestSnapshot &snapshot, int limit, bool read_ahead_too,
                                int last_priority);
    /* The first ready jobs of this queue, all of one priority, unless there is ageing. */
    std::vector<Candidate> find_first_of(const LatestSnapshot &snapshot,
                                         std::string_view queue_name, int limit);
    void search_in(Search &search, std::string_view name);
    void read_range(Search &search, std::string_view task);
    core::ReadyKey start_of(Search &search, RangeRead &range);
    void read_jobs(Search &search, core::ReadyKey start, RangeRead &range);
    bool passes_over(const Search &search, RangeRead &range) const;
    void choose_share(const bgworker::OtherReadAheads &others);
    void update_mark(const Search &search, const RangeRead &range) const;
    int place_of(core::RangeId range);
    bool leaves_out(core::QueueHash queue) const
    {
        return (only_queues_ && only_queues_->count(queue) == 0) || excluded_.count(queue) > 0;
    }
    std::uint64_t group() const;
    bool is_divided() const { return share_ && !share_->is_all(); }
    void note_how_many_queues() const;
    bool leaves_any_out() const { return only_queues_ || !excluded_.empty(); }
    bool is_next_reread() const
    {
        return !reread_.empty() && (position_ == candidates_.size() ||
                                    sorts_before(reread_.front(), candidates_[position_]));
    }
    const Candidate &next() const
    {
        return is_next_reread() ? reread_.front() : candidates_[position_];
    }
    void skip_dropped();

    JobTable &table_;
    std::vector<std::string_view> tasks_;
    Reader reader_;
    std::optional<std::unordered_map<core::QueueHash, std::string>> only_queues_;
    std::unordered_set<core::QueueHash> excluded_;
    std::unordered_set<int64> locked_;
    int last_priority_ = PG_INT16_MAX;
    std::vector<core::RangeId> ranges_; /* of the candidates */
    /* Whether the last candidates of this process were of many queues: one batch tells the next. */
    inline static bool finds_many_queues_ = false;
    std::optional<core::Share> share_;  /* of the jobs; from the first read() on */
    uint64 last_read_ahead_ = 0;        /* of others, that the last find() knew */
    core::ReadAhead tried_{};           /* what pop() has given */
    bool has_passed_over_ = false;      /* in the last find() */
    std::optional<int> left_to_others_; /* the best priority of which it has left jobs to them */
    bool was_given_up_ = false;         /* what was read before */
    bgworker::ready_bands::Counts ready_bands_{}; /* before the last read() */
    bool has_passed_others_ = false;              /* and what others are working through */
    std::vector<Candidate> candidates_;           /* of the last read(), in order */
    std::size_t position_ = 0;
    bool has_all_ = false;     /* of the queues in its share, up to the last candidate */
    bool has_dropped_ = false; /* candidates of a serial queue that was read again */
    std::uint64_t queue_changes_ =
        0; /* before anything was read of what read() has not passed over */
    std::optional<Candidate> cut_off_;            /* the last one read, if there may be more */
    std::vector<Candidate> reread_;               /* of read_queue(); a heap, the first on top */
    bool is_reread_ = false;                      /* the candidate given last was one of them */
    std::unordered_set<core::QueueHash> dropped_; /* queues whose candidates_ do not count */
    /* Serial queues that had changed when they were entered: what has come, or come back, since the
     * last read() that has passed over nothing may go before their candidates_. */
    std::unordered_set<core::QueueHash> changed_;
};

} // namespace backfill::queue
