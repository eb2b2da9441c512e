/* claimed_procedure.cpp - see claimed_procedure.hpp. */
#include "backfill/bgworker/claimed_procedure.hpp"

#include "backfill/bgworker/executor_session.hpp"
#include "backfill/bgworker/executor_status.hpp"
#include "backfill/shmem/set_aside.hpp"

namespace backfill::bgworker
{

namespace
{

/* An executor tries to record the outcome for this long, before the job is run again. */
constexpr int64 kKeepOutcomeUs = 60 * USECS_PER_SEC;

} // namespace

void ClaimedProcedure::run()
{
    queue::mark_session_dirty(); /* what it sets, and commits, stays */
    run_ = queue::run_procedure(claim_);
}

void ClaimedProcedure::record() const
{
    clean_session();
    begin_or_end();
    queue::record_outcome(claim_, *run_);
    commit_transaction();
    const queue::RunResult &result = run_->result;
    executor_status().job_ended(result.error.has_value() || result.cancelled);
}

/* The job is charged if its run has failed, and run again otherwise. Should that not be possible
 * either, we end: the dispatcher releases the claims of executors that are gone. */
void ClaimedProcedure::give_up(const core::ErrorInfo &error) const
{
    const queue::RunResult &result = run_->result;
    if (!result.error || result.cancelled)
        end_worker();
    const auto failure = try_transaction([&] {
        begin_or_end();
        queue::charge_unsettled_run(claim_, *result.error);
        commit_transaction();
    });
    if (failure)
        end_worker();
    (void) set_aside::note_failure(set_aside::Kind::kJob, claim_.row.id(), claim_.task.identifier,
                                   error);
}

void ClaimedProcedure::note_failure(const core::ErrorInfo &error)
{
    const int64 job_id = claim_.row.id();
    const TimestampTz now = GetCurrentTimestamp();
    retry_at_ =
        set_aside::note_failure(set_aside::Kind::kClaim, job_id, claim_.task.identifier, error);
    if (give_up_at_ == 0)
        give_up_at_ = now + kKeepOutcomeUs;
    pg::call([&] {
        ereport(WARNING,
                (errmsg("backfill could not record the outcome of job %lld, a procedure: %s",
                        static_cast<long long>(job_id), error.message.c_str()),
                 errhint("It is tried again at %s, and others go on. "
                         "The function backfill.health() shows what is set aside.",
                         timestamptz_to_str(retry_at_))));
    });
}

bool ClaimedProcedure::settle()
{
    const int64 job_id = claim_.row.id();
    const auto error = try_transaction([&] { record(); });
    if (error) {
        note_failure(*error);
        if (GetCurrentTimestamp() < give_up_at_ && !is_asked_to_end())
            return false;
        give_up(*error);
    } else
        set_aside::clear(set_aside::Kind::kJob, job_id);
    set_aside::clear(set_aside::Kind::kClaim, job_id);
    return true;
}

} // namespace backfill::bgworker
