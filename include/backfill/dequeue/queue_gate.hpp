/* queue_gate.hpp - whether a queue's limits let one more of its jobs start.
 *
 * An executor or a consumer that claims jobs takes what each needs by QueueGate. A process that
 * only wants to know calls is_queue_open(). The order is the same everywhere: paused, the rate
 * (asked before a permit is taken, which would be held to the end of the transaction), a permit,
 * the rate's token. */
#pragma once

#include "backfill/dequeue/next_job.hpp"
#include "backfill/dequeue/queue_permits.hpp"

namespace backfill::queue
{

class QueueGate
{
  public:
    /* All of one transaction, which outlives the object. */
    QueueGate(PermitUser user, JobTable &table, NextJobs &next, LatestSnapshot &snapshot)
        : table_(table), next_(next), snapshot_(snapshot), permits_(user)
    {
    }

    /* Lets the job in, or sees to it that `next` leaves its queue out from now on. Also false
     * when it has just got the permit of a serial queue in which something has changed: its order
     * holds only among what is ready now, so `next` has read it again, and its first job is to
     * come. */
    bool enter(const JobRow &row);
    /* The job that was let in is not run after all; its permit is kept. */
    void give_back(const JobRow &row);
    /* The same for all, whose transaction is going to be aborted. */
    void give_back_all();
    /* Leaves the permit to the job's row; its number, or nothing if the job is in no queue. */
    std::optional<int> lease(const JobRow &row);
    /* No more permits should be taken in this transaction. */
    static bool is_exhausted() { return QueuePermits::is_exhausted(); }
    /* Tells the session then, as its function has found fewer jobs than there may be. */
    static void tell_if_exhausted(const char *function);

  private:
    bool take_permit(const QueueLimit &limit, const JobRow &row);

    JobTable &table_;
    NextJobs &next_;
    LatestSnapshot &snapshot_;
    QueuePermits permits_;
    std::vector<QueueLimit> tokens_; /* the rates that jobs of this transaction count in */
};

/* Whether a job of the queue could start now. If only the rate forbids it, `later` becomes the
 * time when it does not, should that be earlier. If it is full and `tell` is set, the next job that
 * leaves it wakes the workers and consumers that are idle. */
bool is_queue_open(const QueueLimit &limit, std::string_view queue, JobTable &table, bool tell,
                   std::optional<TimestampTz> &later);

} // namespace backfill::queue
