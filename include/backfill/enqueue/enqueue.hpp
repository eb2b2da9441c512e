/* enqueue.hpp - from arguments to rows of backfill.job.
 *
 * An Enqueuer is open for one SQL call: it checks each specification, fills in the
 * task's own settings and the defaults, resolves the job_key and inserts the row. The
 * commit wakes the workers (wake.hpp). */
#pragma once

#include "backfill/core/sqlstates.hpp"
#include "backfill/enqueue/job_spec.hpp"
#include "backfill/stats/events.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

/* The queue holds max_depth jobs. */
inline constexpr int kErrorQueueFull = pg::error_code(core::sqlstate::kQueueFull);
/* Throws that unless a queue that has this many jobs may get another one. */
void check_room(std::string_view queue_name, int jobs, int max_depth);

class Enqueuer
{
  public:
    /* Errors: Failure 25006 in a read-only transaction, 55000 without the extension. */
    explicit Enqueuer(const char *function);

    /* Many jobs follow: they are inserted together, and so are not visible before finish(). */
    void expect_many() { many_ = true; }

    /* Takes the locks of their queues that have a max_depth, in an order that is the same for all,
     * so that lists of jobs for several such queues do not deadlock. */
    void lock_queues(std::span<const JobSpec> specs);

    /* Throws what enqueue() would throw about the arguments. */
    void check(const JobSpec &spec) const;
    /* Inserts or replaces one job and returns its id; nothing if a hook skipped it. Errors: Failure
     * 22023 for a bad argument, 42501 if the caller may not enqueue this task, JB001 if its queue
     * is full. */
    std::optional<int64> enqueue(const JobSpec &spec);
    /* The same; returns the whole row. */
    std::optional<JobRow> add(const JobSpec &spec);
    /* Inserts a dead job again under spec.id. Errors: Failure 55000 if the job, or one
     * with its key, is waiting or running. */
    void requeue(const JobSpec &spec);
    void finish();

    const Config &config() const { return *config_; }

  private:
    static std::string_view queue_of(const JobSpec &spec, const Task *task);
    JobRow make_row(const JobSpec &spec, const Task *task) const;
    bool take_over_key(JobRow &row, const JobSpec &spec);
    void insert(const JobRow &row, const Task *task);
    void check_depth(std::string_view queue_name);

    stats::OperationTimer timer_{stats::Operation::kEnqueue};
    std::shared_ptr<const Config> config_;
    JobTable table_;
    TimestampTz now_;
    bool many_ = false;
    bool replaces_ = false; /* the present job takes the place of one in the same queue */
    std::unordered_map<std::string, int> depth_; /* of queues with a max_depth */
};

} // namespace backfill::queue
