/* job_claimer.hpp - executors, sessions and consumers choose and take their next job by this.
 *
 * The next candidate that is still there, that its queue lets in, and that no other transaction
 * takes first. What a claimer has of its own is in the virtual functions. */
#pragma once

#include "backfill/config/serial_queues.hpp"
#include "backfill/dequeue/queue_gate.hpp"
#include "backfill/settle/settle.hpp"

namespace backfill::queue
{

class JobClaimer
{
  public:
    JobClaimer(const JobClaimer &) = delete;
    JobClaimer &operator=(const JobClaimer &) = delete;

  protected:
    /* All of one transaction, which outlives the object. */
    JobClaimer(PermitUser user, std::shared_ptr<const Config> config,
               std::vector<std::string_view> tasks, Reader reader)
        : config_(std::move(config)), next_(table_, std::move(tasks), reader),
          gate_(user, table_, next_, snapshot_)
    {
        write_serial_queues(); /* of jobs that this transaction has enqueued itself */
    }
    ~JobClaimer() = default;

    /* The job is out of the table, and may start. Nothing: there is none, or the claimer stops. */
    std::optional<TakenJob> next();
    /* So that the backlogs of paused queues are not read in vain. */
    void exclude_paused_queues();
    void close();

    enum class Choice { kTake, kPassOver, kStop };

    /* Before each candidate. */
    virtual bool may_continue() = 0;
    /* There are no candidates left: reads further ones, if there are any. */
    virtual void read() = 0;
    /* The next candidate's row is about to be read. */
    virtual void look_at(int64) {}
    virtual Choice choose(const JobRow &) { return Choice::kTake; }
    /* Whether the job must not run now; asked again when it is taken. */
    virtual bool is_held_back(const JobRow &) { return false; }

    std::shared_ptr<const Config> config_;
    JobTable table_;
    NextJobs next_;
    LatestSnapshot snapshot_;
    QueueGate gate_;

  private:
    std::optional<TakenJob> take_wanted(const FoundJob &found);
};

} // namespace backfill::queue
