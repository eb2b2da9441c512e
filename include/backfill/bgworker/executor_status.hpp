/* executor_status.hpp - what others see of the calling executor: in its slot, and in
 * pg_stat_activity. */
#pragma once

#include "backfill/bgworker/worker.hpp"
#include "backfill/run/batch.hpp"

namespace backfill::bgworker
{

class ExecutorStatus final : public queue::BatchObserver
{
  public:
    bool is_idle() const { return idle_; }
    TimestampTz idle_since() const { return idle_since_; }
    void set_idle(bool idle);
    /* From here on, a commit must wake us again. */
    static void clear_woken();

    void job_starts(const queue::JobRow &row, const queue::Task &task) override;
    void job_ended(bool failed) override;
    void batch_undone() override;
    /* Others must see the claim only together with us. */
    void job_claimed(int64 claim_token) override;
    uint64 has_read_ahead(const core::ReadAhead &stretches, TimestampTz until) override;
    /* The claim's transaction has ended: the job goes on. */
    static void note_claim_committed();
    /* `claim_token` of a procedure's job that goes on; 0: there is none. */
    void end_batch(int64 claim_token);

  private:
    bool starting_ = true; /* neither idle nor busy yet: the dispatcher counts on us */
    bool idle_ = false;
    TimestampTz idle_since_ = 0;
    /* Counted in the transaction that is open. */
    int64 done_ = 0;
    int64 failed_ = 0;
};

ExecutorStatus &executor_status();

} // namespace backfill::bgworker
