/* next_job.hpp - the choice of the next job. The only module that decides what runs
 * next; it reads the index job_ready_idx.
 *
 * A candidate is a hint: the row may be gone, claimed or changed by the time a session
 * claims it, and the claim (batch.cpp) decides. Order: priority, run_at, id; with
 * backfill.ageing_interval a job counts as one priority better for each such interval
 * that it has waited. */
#pragma once

#include "backfill/dequeue/candidates.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

/* Jobs of the fast bands, which reserved executors are for. */
inline constexpr int kLastUrgentPriority = -1;

/* An active snapshot taken now, also in a REPEATABLE READ transaction of the caller. */
class LatestSnapshot
{
  public:
    void renew();
    /* Lets it see what this transaction has changed meanwhile, as a handler may have done: a
     * transaction that tries to delete a row that it has deleted itself gets an error. */
    void see_own_changes();
    void pop();
    Snapshot get() const { return GetActiveSnapshot(); }
    /* What had been announced for sure when the snapshot was taken (low_water.hpp). */
    std::uint64_t announcements() const { return announcements_; }

  private:
    bool pushed_ = false;
    std::uint64_t announcements_ = 0;
};

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
     * leaving out the excluded queues and jobs. An executor passes over what it has read before,
     * and over what others are working through, unless it finds nothing else. */
    void read(const LatestSnapshot &snapshot, int limit);
    /* The same without regard to the marks: finds also what no commit has announced. */
    void sweep(const LatestSnapshot &snapshot, int limit);
    /* Reads the first ready jobs of one queue again, as the snapshot sees them now. */
    void read_queue(const LatestSnapshot &snapshot, std::string_view queue_name, int limit);
    std::optional<Candidate> pop();
    /* A candidate's row, if the snapshot sees it and it still is that job's. */
    std::optional<FoundJob> fetch(const Candidate &candidate, const LatestSnapshot &snapshot);
    /* The stretches that it works through: from the first candidate on, to the one that pop()
     * has given last or, `with_rest`, to the last one read. */
    core::ReadAhead read_ahead(bool with_rest) const;
    bool empty() const { return position_ == candidates_.size(); }
    /* Forgets the candidates read so far. */
    void clear();

    /* Reads only these queues from now on. */
    void only_queues(std::vector<std::string> queues) { only_queues_ = std::move(queues); }
    /* Leaves a queue out from now on: it is full, paused or used up its rate. */
    void exclude_queue(std::string_view queue_name);
    /* Leaves a job out of the next reads: its row is locked by a session. */
    void exclude_job(int64 id) { locked_.insert(id); }
    /* Reads only jobs of the fast bands from now on. */
    void only_urgent() { last_priority_ = kLastUrgentPriority; }

    /* The earliest run_at after now among the tasks' waiting jobs, or nothing. */
    std::optional<TimestampTz> next_run_at(const LatestSnapshot &snapshot, TimestampTz now);

  private:
    /* Where to look: from the marks on, or in the ranges of one queue; with or without what is on
     * an executor's stretch. */
    struct Where {
        std::optional<std::string_view> only_queue = std::nullopt;
        bool read_ahead_too = true;
    };
    /* What the reading of a range has found out for its mark. */
    struct ScanResult {
        /* Below this no job is ready, nor can one become so without an announcement. */
        core::ReadyKey first;
        bool known = false; /* that is the key of a job, or the mark */
        int passed = 0;     /* entries before it */
    };
    struct Search;
    std::vector<Candidate> find(const LatestSnapshot &snapshot, int limit, Where where);
    void read_range(Search &search, std::string_view task, std::string_view queue,
                    const LatestSnapshot &snapshot);
    void read_jobs(Search &search, core::ReadyKey start, ScanResult &result);
    void update_mark(core::RangeId range, core::ReadyKey mark, const ScanResult &result,
                     TimestampTz now, std::uint64_t announcements) const;
    void forget_queue(std::string_view queue_name);
    bool is_excluded(std::string_view queue_name) const;

    JobTable &table_;
    std::vector<std::string_view> tasks_;
    Reader reader_;
    std::optional<std::vector<std::string>> only_queues_;
    std::vector<std::string> excluded_;
    std::unordered_set<int64> locked_;
    int last_priority_ = PG_INT16_MAX;
    std::vector<std::string> queues_;   /* of the candidates */
    std::vector<core::RangeId> ranges_; /* of the candidates */
    core::ReadAhead tried_{};           /* what pop() has given */
    bool passed_over_ranges_ = false;   /* in the last find() */
    std::vector<Candidate> candidates_;
    std::optional<Candidate> cut_off_; /* the last one read, if there may be more */
    std::size_t position_ = 0;
};

} // namespace backfill::queue
