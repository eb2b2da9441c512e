/* next_job.hpp - the choice of the next job. The only module that decides what runs
 * next; it reads the index job_ready_idx.
 *
 * A candidate is a hint: the row may be gone, claimed or changed by the time somebody
 * claims it, and the claim (batch.cpp) decides. Order: priority, run_at, id; with
 * backfill.ageing_interval a job counts as one priority better for each such interval
 * that it has waited. */
#pragma once

#include "backfill/queue/job_table.hpp"

namespace backfill::queue
{

struct Candidate {
    ItemPointerData tid;
    int64 id;
    TimestampTz run_at;
    int64 priority; /* as it counts now: ageing may have lifted it */
};

/* Jobs of the fast bands, which reserved executors are for. */
inline constexpr int kLastUrgentPriority = -1;

class NextJobs
{
  public:
    /* Chooses among the ready jobs of these tasks. The strings must outlive the object. */
    NextJobs(JobTable &table, std::vector<std::string_view> tasks);

    /* Forgets what it knows and chooses among these tasks from now on. */
    void set_tasks(std::vector<std::string_view> tasks);

    /* Reads the first `limit` ready jobs that nobody runs now, as `snapshot` sees them,
     * leaving out the excluded queues. */
    void read(Snapshot snapshot, int limit);
    std::optional<Candidate> pop();
    bool empty() const { return position_ == candidates_.size(); }
    /* Forgets the candidates read so far. */
    void clear();

    /* Leaves a queue out of the next reads: it is full, paused or used up its rate. */
    void exclude_queue(std::string_view queue_name) { excluded_.emplace_back(queue_name); }
    /* Reads only jobs of the fast bands from now on. */
    void only_urgent() { last_priority_ = kLastUrgentPriority; }

    /* The earliest run_at after now among the tasks' waiting jobs, or nothing. */
    std::optional<TimestampTz> next_run_at(Snapshot snapshot, TimestampTz now);

  private:
    JobTable &table_;
    std::vector<std::string_view> tasks_;
    std::vector<std::string> excluded_;
    int last_priority_ = PG_INT16_MAX;
    std::vector<Candidate> candidates_;
    std::size_t position_ = 0;
};

} // namespace backfill::queue
