/* claimed_procedure.hpp - the procedure's job that an executor has claimed: its run, and the record
 * of its outcome, which is tried again for a while if it fails (set_aside.hpp). */
#pragma once

#include "backfill/run/procedure.hpp"

namespace backfill::bgworker
{

class ClaimedProcedure
{
  public:
    explicit ClaimedProcedure(queue::ProcedureClaim claim) : claim_(std::move(claim)) {}

    int64 claim_token() const { return claim_.token(); }
    bool has_run() const { return run_.has_value(); }
    /* When to try again to record the outcome. */
    TimestampTz retry_at() const { return retry_at_; }

    /* Outside of a transaction. Errors of the job are in its outcome. */
    void run();
    /* Records the outcome. Returns false if it has to be tried again later; true if the job is no
     * longer this executor's: then forget it. Ends the process if all else fails. */
    bool settle();
    /* What the claim and the run have left in memory; when the object is gone. */
    MemoryContext memory() const { return claim_.memory; }

  private:
    void record() const;
    void give_up(const core::ErrorInfo &error) const;
    void note_failure(const core::ErrorInfo &error);

    queue::ProcedureClaim claim_;
    std::optional<queue::ProcedureRun> run_;
    TimestampTz retry_at_ = 0;
    TimestampTz give_up_at_ = 0;
};

} // namespace backfill::bgworker
