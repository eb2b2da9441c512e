/* executor.cpp - runs jobs, logged in as the role of their tasks.
 *
 * Each iteration is one transaction: claim and run as many jobs as fit (batch.hpp),
 * commit, and look again until nothing is ready. A procedure's job is only claimed there, and
 * run after the commit (procedure.hpp). Then it says that it is idle, looks
 * once more (a commit may have come between), and sleeps until its latch is set.
 *
 * The process lives and dies with its role: nothing a handler does can reach a more
 * powerful one, and what a job leaves in the session is removed before the next. */
#include "backfill/bgworker/ledger.hpp"
#include "backfill/bgworker/worker.hpp"
#include "backfill/guc.hpp"
#include "backfill/queue/batch.hpp"
#include "backfill/queue/hooks.hpp"
#include "backfill/queue/run_limit.hpp"
#include "backfill/stats/events.hpp"

extern "C" {
PGDLLEXPORT void backfill_executor_main(Datum argument);
}

namespace backfill::bgworker
{

namespace
{

/* Jobs of a batch whose commit failed are run again one per transaction, so that one of
 * them cannot sink the others. */
int solo_jobs = 0;
/* A job whose own transaction could not commit: it is failed with that error. */
struct UnchargedFailure {
    int64 job_id;
    core::ErrorInfo error;
};
std::optional<UnchargedFailure> &uncharged_failure()
{
    static std::optional<UnchargedFailure> failure;
    return failure;
}

/* The procedure's job that is ours, from its claim to the commit of its outcome. */
struct Procedure {
    queue::ProcedureClaim claim;
    std::optional<queue::ProcedureRun> run; /* when it has ended */
};
std::optional<Procedure> &procedure()
{
    static std::optional<Procedure> instance;
    return instance;
}

int64 jobs_run = 0;
int started_with_synchronous_commit = 0;
bool announced_start = false;
bool idle = false;
bool starting = true; /* neither idle nor busy yet: the dispatcher counts on us */
TimestampTz idle_since = 0;

/* --- What others see of us ----------------------------------------------------- */

void set_state(WorkerState state)
{
    SharedLock lock;
    WorkerSlot &slot = my_slot();
    slot.state = state;
    slot.woken = false;
}

void set_idle(bool now_idle)
{
    if (idle == now_idle && !starting)
        return;
    starting = false;
    idle = now_idle;
    idle_since = GetCurrentTimestamp();
    set_state(idle ? WorkerState::kIdle : WorkerState::kBusy);
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.state_since = idle_since;
    SpinLockRelease(&slot.mutex);
}

void on_job_start(const queue::JobRow &row, const queue::Task &task)
{
    set_idle(false);
    char activity[kMaxTaskName + 64];
    snprintf(activity, sizeof(activity), "job %lld: %s", static_cast<long long>(row.id()),
             task.identifier.c_str());
    pgstat_report_activity(STATE_RUNNING, activity);

    const TransactionId xid = GetTopTransactionIdIfAny();
    const TimestampTz now = GetCurrentTimestamp();
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.xid = xid;
    slot.job_id = row.id();
    slot.attempt = row.attempts() + 1;
    strlcpy(slot.task, task.identifier.c_str(), sizeof(slot.task));
    slot.state_since = now;
    slot.progress = -1;
    slot.progress_message[0] = '\0';
    SpinLockRelease(&slot.mutex);
}

void on_job_end(bool failed)
{
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.job_id = 0;
    slot.jobs_done++;
    slot.jobs_failed += failed ? 1 : 0;
    SpinLockRelease(&slot.mutex);
}

/* Others shall see the claim only together with us. */
void on_claim(int64 claim_token)
{
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.claim_token = claim_token;
    SpinLockRelease(&slot.mutex);
}

/* Of a claim whose transaction has ended: the job goes on. */
void on_claim_committed()
{
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.xid = InvalidTransactionId;
    SpinLockRelease(&slot.mutex);
}

void on_batch_end()
{
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.xid = InvalidTransactionId;
    slot.job_id = 0;
    slot.claim_token = 0;
    SpinLockRelease(&slot.mutex);
}

/* Whether the dispatcher wants us to end, we have slept long enough, or a setting changed. If so,
 * nobody counts on this executor any more once this has returned. */
bool shall_end()
{
    const bool timed_out = idle && TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(),
                                                              guc::executor_idle_timeout_s * 1000);
    /* What was set for the session cannot be taken back; a fresh process has the new value. */
    const bool outdated = started_with_synchronous_commit != guc::executor_synchronous_commit;
    SharedLock lock;
    WorkerSlot &slot = my_slot();
    if (!slot.retire && !outdated && !(timed_out && !slot.woken))
        return false;
    slot.retire = true;
    return true;
}

/* --- One transaction ----------------------------------------------------------- */

void charge_failed_commit()
{
    const UnchargedFailure failure = *uncharged_failure();
    uncharged_failure().reset();
    /* Whoever writes a table that has long values needs one. */
    pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
    queue::fail_unrun_job(failure.job_id, failure.error);
    pg::call([] { PopActiveSnapshot(); });
}

queue::BatchResult run_one_batch()
{
    queue::BatchOptions options;
    options.max_jobs = solo_jobs > 0 ? 1 : 0;
    options.time_limit_us = static_cast<int64>(guc::batch_time_ms) * 1000;
    options.on_start = on_job_start;
    options.on_end = on_job_end;
    options.on_claim = on_claim;
    options.urgent_only = !enter_bulk_lane(MyDatabaseId, my_slot_number());
    if (solo_jobs > 0)
        solo_jobs--;
    return queue::run_batch(options);
}

/* Commits, or says why that failed and arranges for the jobs to be run again. */
bool commit_batch(const queue::BatchResult &result)
{
    std::optional<core::ErrorInfo> error;
    try {
        const stats::OperationTimer timer(stats::Operation::kCommit);
        commit_transaction();
    } catch (const pg::Error &raised) {
        error = pg::to_error_info(raised);
    }
    if (!error)
        return true;
    abort_transaction();
    if (result.jobs == 1)
        uncharged_failure() = UnchargedFailure{result.last_job_id, *error};
    else
        solo_jobs = result.jobs;
    return false;
}

/* Removes what the last jobs have left in the session. */
void reset_session()
{
    pg::call([] {
        StartTransactionCommand();
        /* As PostgreSQL runs it: temporary objects are dropped under a snapshot. */
        PushActiveSnapshot(GetTransactionSnapshot());
        DiscardStmt *all = makeNode(DiscardStmt);
        all->target = DISCARD_ALL;
        DiscardCommand(all, true);
        PopActiveSnapshot();
        CommitTransactionCommand();
    });
    queue::mark_session_clean();
}

/* --- Procedures ---------------------------------------------------------------- */

/* Records the outcome, which is tried until it succeeds: after an error the next iteration
 * comes here again. */
void finish_procedure()
{
    if (queue::session_is_dirty())
        reset_session();
    if (!begin_extension_transaction())
        end_worker();
    queue::record_outcome(procedure()->claim, *procedure()->run);
    commit_transaction();
    const queue::RunResult &result = procedure()->run->result;
    on_job_end(result.error.has_value() || result.cancelled);
    on_batch_end();
    procedure().reset();
}

void run_claimed_procedure()
{
    queue::mark_session_dirty(); /* what it sets, and commits, stays */
    procedure()->run = queue::run_procedure(procedure()->claim);
    finish_procedure();
}

/* Calls the hooks worker_start or worker_shutdown, in a transaction of their own. */
void notify_worker_event(core::HookEvent event)
{
    if (!begin_extension_transaction())
        return;
    queue::hooks::notify(*queue::config(), event, nullptr);
    commit_transaction();
}

[[noreturn]] void end_executor()
{
    notify_worker_event(core::HookEvent::kWorkerShutdown);
    end_worker();
}

/* How long to sleep. Says first that we are idle and looks once more: a commit that
 * did not see us idle is one whose jobs we see then. */
long go_idle()
{
    if (!idle) {
        leave_bulk_lane(MyDatabaseId, my_slot_number());
        set_idle(true);
        return 0;
    }
    leave_bulk_lane(MyDatabaseId, my_slot_number());
    if (was_called())
        return 0;
    const TimestampTz end = idle_since + static_cast<int64>(guc::executor_idle_timeout_s) * 1000000;
    return Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end), 0) + 1;
}

long executor_iteration()
{
    if (!announced_start) {
        announced_start = true;
        notify_worker_event(core::HookEvent::kWorkerStart);
    }
    if (procedure()) {
        if (!procedure()->run)
            end_worker(); /* an error of ours that says nothing about the job: it is released */
        finish_procedure();
        return 0;
    }
    if (shall_end())
        end_executor();
    if (idle)
        set_state(WorkerState::kIdle); /* from here on, a commit must wake us again */
    if (!begin_extension_transaction())
        end_worker();
    queue::BatchResult result;
    if (uncharged_failure()) {
        charge_failed_commit();
        result.more = true;
    } else {
        result = run_one_batch();
        stats::note_poll(WorkerKind::kExecutor, result.jobs > 0);
    }
    const bool committed = commit_batch(result);
    if (committed && result.procedure) {
        on_claim_committed();
        procedure() = Procedure{std::move(*result.procedure), std::nullopt};
        run_claimed_procedure();
    } else {
        on_batch_end();
    }
    if (queue::session_is_dirty())
        reset_session();
    jobs_run += result.jobs;
    if (guc::executor_max_jobs > 0 && jobs_run >= guc::executor_max_jobs)
        end_executor();
    if (result.jobs > 0 || result.more || !committed)
        return 0;
    pgstat_report_activity(STATE_IDLE, nullptr);
    return go_idle();
}

/* Handlers run as run_as, READ COMMITTED and read-write, whatever the role's or the database's
 * settings say; they may still change it for themselves. */
void set_session_defaults()
{
    const char *const settings[][2] = {
        {"application_name", "backfill executor"},
        {"role", "none"}, /* ALTER ROLE ... SET role must not decide whose jobs these are */
        {"default_transaction_isolation", "read committed"},
        {"default_transaction_read_only", "off"},
        {"default_transaction_deferrable", "off"},
#if PG_VERSION_NUM >= 170000
        {"transaction_timeout", "0"},
#endif
    };
    for (const auto &setting : settings)
        SetConfigOption(setting[0], setting[1], PGC_USERSET, PGC_S_OVERRIDE);
    started_with_synchronous_commit = guc::executor_synchronous_commit;
    if (const char *const level = guc::executor_synchronous_commit_name())
        SetConfigOption("synchronous_commit", level, PGC_USERSET, PGC_S_OVERRIDE);
}

} // namespace

} // namespace backfill::bgworker

void backfill_executor_main(Datum argument)
{
    using namespace backfill::bgworker;

    attach_worker(argument);
    ledger::open_entry();
    set_session_defaults();
    backfill::queue::set_stoppable_slot(&my_slot());
    worker_loop(executor_iteration);
}
