/* executor_status.cpp - see executor_status.hpp. */
#include "backfill/bgworker/executor_status.hpp"

namespace backfill::bgworker
{

namespace
{

void set_state(WorkerState state)
{
    const SharedLock lock;
    WorkerSlot &slot = my_slot(lock);
    slot.state = state;
    slot.woken = false;
}

} // namespace

ExecutorStatus &executor_status()
{
    static ExecutorStatus instance;
    return instance;
}

void ExecutorStatus::set_idle(bool idle)
{
    if (idle_ == idle && !starting_)
        return;
    starting_ = false;
    idle_ = idle;
    idle_since_ = GetCurrentTimestamp();
    set_state(idle ? WorkerState::kIdle : WorkerState::kBusy);
    lock_my_report()->state_since = idle_since_;
}

void ExecutorStatus::clear_woken()
{
    const SharedLock lock;
    my_slot(lock).woken = false;
}

void ExecutorStatus::job_starts(const queue::JobRow &row, const queue::Task &task)
{
    set_idle(false);
    char activity[kMaxTaskName + 64];
    snprintf(activity, sizeof(activity), "job %lld: %s", static_cast<long long>(row.id()),
             task.identifier.c_str());
    pgstat_report_activity(STATE_RUNNING, activity);

    const int64 job_id = row.id();
    const int attempt = row.attempts() + 1;
    const TransactionId xid = GetTopTransactionIdIfAny();
    const TimestampTz now = GetCurrentTimestamp();
    const SlotLock report = lock_my_report();
    report->xid = xid;
    report->job_id = job_id;
    report->attempt = attempt;
    strlcpy(report->task, task.identifier.c_str(), sizeof(report->task));
    report->state_since = now;
    report->progress = -1;
    report->progress_message[0] = '\0';
}

void ExecutorStatus::job_ended(bool failed)
{
    const SlotLock report = lock_my_report();
    report->job_id = 0;
    report->jobs_done++;
    report->jobs_failed += failed ? 1 : 0;
    done_++;
    failed_ += failed ? 1 : 0;
}

void ExecutorStatus::batch_undone()
{
    const SlotLock report = lock_my_report();
    report->jobs_done -= done_;
    report->jobs_failed -= failed_;
    done_ = failed_ = 0;
}

void ExecutorStatus::job_claimed(int64 claim_token)
{
    lock_my_report()->claim_token = claim_token;
}

uint64 ExecutorStatus::has_read_ahead(const core::ReadAhead &stretches, TimestampTz until)
{
    return publish_read_ahead(stretches, until);
}

void ExecutorStatus::note_claim_committed()
{
    lock_my_report()->xid = InvalidTransactionId;
}

void ExecutorStatus::end_batch(int64 claim_token)
{
    done_ = failed_ = 0;
    const SlotLock report = lock_my_report();
    report->xid = InvalidTransactionId;
    report->job_id = 0;
    report->claim_token = claim_token;
}

} // namespace backfill::bgworker
