/* procedure.hpp - jobs whose handler is a procedure, which may commit.
 *
 * Such a job cannot share our transaction. It is run in three steps: the claim, which keeps the
 * row, with a lease that does not run out (batch.cpp); the CALL, outside of any transaction of
 * ours; and the outcome, fenced by the claim's token. So it runs at least once.
 *
 * The executor publishes the token in its slot of shared memory before the claim's commit, and
 * until the outcome's. Tokens are never used twice, and shared memory does not survive the
 * server: a claim that no executor publishes is void, and the dispatcher releases its job
 * (leases::release_orphaned()). Only executors run procedures. */
#pragma once

#include "backfill/settle/settle.hpp"

#include <memory>

namespace backfill::queue
{

/* A claim. It is good until the process makes the next one: the row lives in `memory`. */
struct ProcedureClaim {
    JobRow row;
    std::shared_ptr<const Config> config; /* as of the claim */
    Task task;
    MemoryContext memory;

    int64 token() const { return DatumGetInt64(row.get(Column::kClaimToken)); }
};

/* Leases the job, which the transaction has taken out of the table, to this process, and puts it
 * back. The claim is worth nothing before the commit. */
ProcedureClaim claim_for_procedure(JobTable &table, TakenJob &job, std::optional<int> lease_permit,
                                   std::shared_ptr<const Config> config, const Task &task);

struct ProcedureRun {
    RunResult result;
    TimestampTz started;
    TimestampTz ended;
};
/* Runs the job, in transactions of its own. Must not be called in one. What the procedure leaves
 * in the session stays: the caller resets it. Errors of the job are in the result. */
ProcedureRun run_procedure(const ProcedureClaim &claim);

/* Records the outcome; needs a transaction. Nothing happens if the job was taken away. */
void record_outcome(const ProcedureClaim &claim, const ProcedureRun &run);
/* The same for a run that has failed, if nothing else can be recorded: as charge_unsettled_job().
 */
void charge_unsettled_run(const ProcedureClaim &claim, const core::ErrorInfo &error);

} // namespace backfill::queue
