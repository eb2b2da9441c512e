/* executor.cpp - runs jobs, logged in as the role of their tasks.
 *
 * Each iteration is one transaction: claim and run as many jobs as fit (batch.hpp),
 * commit, and look again until nothing is ready. A procedure's job is only claimed there, and
 * run after the commit (procedure.hpp). Then it says that it is idle, looks
 * once more (a commit may have come between), and sleeps until its latch is set.
 *
 * A job whose outcome cannot be recorded is set aside (set_aside.hpp), and so is a procedure's
 * outcome: the executor keeps that for a while, and runs other jobs meanwhile.
 *
 * The process lives and dies with its role: nothing a handler does can reach a more
 * powerful one, and what a job leaves in the session is removed before the next. */
#include "backfill/bgworker/claimed_procedure.hpp"
#include "backfill/bgworker/executor_session.hpp"
#include "backfill/bgworker/executor_status.hpp"
#include "backfill/call/deferred_events.hpp"
#include "backfill/call/hooks.hpp"
#include "backfill/call/run_limit.hpp"
#include "backfill/clock.hpp"
#include "backfill/guc.hpp"
#include "backfill/run/batch.hpp"
#include "backfill/shmem/bulk_lane.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/shmem/unsettled_job.hpp"
#include "backfill/stats/events.hpp"

extern "C" {
PGDLLEXPORT void backfill_executor_main(Datum argument);
}

namespace backfill::bgworker
{

namespace
{

/* When this many jobs have been set aside one after the other, it is not the jobs: a pause after
 * each, so that they are not all run in vain. */
constexpr int kManyTroubles = 8;
constexpr long kTroublePauseMs = 500;

class Executor
{
  public:
    /* Returns how long to wait. */
    long iterate();

  private:
    /* A job whose own transaction could not commit, and so is failed with that error; or one
     * without a savepoint that has failed, and with it the transaction. */
    struct UnchargedFailure {
        int64 job_id;
        std::string task;
        core::ErrorInfo error;
        std::optional<queue::UndoneRun> undone = std::nullopt;
    };

    /* One transaction. */
    void charge_failure() const;
    void run_one_batch(queue::BatchResult &result);
    void fill_transaction(queue::BatchResult &result);
    bool run_transaction(queue::BatchResult &result);
    void set_job_aside(int64 job_id, const std::string &task, const core::ErrorInfo &error,
                       const std::optional<core::ErrorInfo> &run_error);
    bool commit_batch(const queue::BatchResult &result);
    void undo_batch(queue::BatchResult &result);
    void end_batch();

    /* Procedures. */
    void run_procedure(queue::ProcedureClaim claim);
    void settle_procedure();

    /* The loop. */
    bool must_end() const;
    long go_on(queue::BatchResult &result);
    long go_idle();

    int troubles_ = 0; /* jobs set aside, one after the other */
    /* Jobs of a batch whose commit failed are run again one per transaction, so that one of
     * them cannot sink the others. */
    int solo_jobs_ = 0;
    /* How many jobs were undone because one without a savepoint has failed. They are run again
     * with savepoints. */
    int undone_jobs_ = 0;
    std::optional<UnchargedFailure> uncharged_failure_;
    std::optional<ClaimedProcedure> procedure_; /* from its claim to the commit of its outcome */
    int64 jobs_run_ = 0;
    /* What was set for the session cannot be taken back; a fresh process has the new value. */
    const int synchronous_commit_ = guc::executor_synchronous_commit;
    bool announced_start_ = false;
};

/* Whether the dispatcher wants us to end, we have slept long enough, or a setting changed. If so,
 * no other process counts on this executor any more once this has returned. */
bool Executor::must_end() const
{
    const ExecutorStatus &status = executor_status();
    const bool timed_out =
        status.is_idle() && TimestampDifferenceExceeds(status.idle_since(), GetCurrentTimestamp(),
                                                       guc::executor_idle_timeout_s * 1000);
    const bool outdated = synchronous_commit_ != guc::executor_synchronous_commit;
    const SharedLock lock;
    WorkerSlot &slot = my_slot(lock);
    if (!slot.retire && !outdated && !(timed_out && !slot.woken))
        return false;
    slot.retire = true;
    return true;
}

void Executor::end_batch()
{
    executor_status().end_batch(procedure_ ? procedure_->claim_token() : 0);
}

/* --- One transaction ----------------------------------------------------------- */

void Executor::charge_failure() const
{
    /* A table that has long values is written under one. */
    pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
    if (uncharged_failure_->undone) {
        queue::settle_undone(*uncharged_failure_->undone);
        executor_status().job_ended(true);
    } else
        queue::fail_unrun_job(uncharged_failure_->job_id, uncharged_failure_->error);
    pg::call([] { PopActiveSnapshot(); });
}

void Executor::run_one_batch(queue::BatchResult &result)
{
    queue::BatchOptions options;
    options.max_jobs = solo_jobs_ > 0 ? 1 : 0;
    options.time_limit_us = static_cast<int64>(guc::batch_time_ms) * 1000;
    options.observer = &executor_status();
    options.procedures = !procedure_;
    options.may_undo = solo_jobs_ == 0 && undone_jobs_ == 0;
    options.urgent_only = !enter_bulk_lane(MyDatabaseId, my_slot_number());
    if (solo_jobs_ > 0)
        solo_jobs_--;
    queue::run_batch(options, result);
    const bool is_over = result.jobs == 0 && !result.more;
    undone_jobs_ = is_over ? 0 : Max(undone_jobs_ - result.jobs, 0);
}

/* A batch, or what is left of the last one. */
void Executor::fill_transaction(queue::BatchResult &result)
{
    begin_or_end();
    if (!uncharged_failure_) {
        run_one_batch(result);
        stats::note_poll(WorkerKind::kExecutor, result.jobs > 0);
        return;
    }
    result.current_id = uncharged_failure_->job_id;
    result.current_task = uncharged_failure_->task;
    charge_failure();
    result.current_id = 0;
    result.more = true;
}

/* The job's outcome cannot be recorded; `error` says why. It is passed over for a while. If its run
 * has failed, that is counted, where it is possible. */
void Executor::set_job_aside(int64 job_id, const std::string &task, const core::ErrorInfo &error,
                             const std::optional<core::ErrorInfo> &run_error)
{
    const TimestampTz retry_at =
        set_aside::note_failure(set_aside::Kind::kJob, job_id, task, error);
    bool charged = false;
    if (run_error)
        charged = !try_transaction([&] {
            begin_or_end();
            pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
            queue::charge_unsettled_job(job_id, *run_error);
            pg::call([] { PopActiveSnapshot(); });
            commit_transaction();
        });
    pg::call([&] {
        ereport(WARNING, (errmsg("backfill could not record the outcome of job %lld: %s",
                                 static_cast<long long>(job_id), error.message.c_str()),
                          error.detail.empty() ? 0 : errdetail_internal("%s", error.detail.c_str()),
                          errhint("The job is tried again at %s, and others go on. "
                                  "The function backfill.health() shows what is set aside.",
                                  timestamptz_to_str(retry_at)),
                          errcontext("job %lld, task \"%s\"%s", static_cast<long long>(job_id),
                                     task.c_str(), charged ? ", charged with an attempt" : "")));
    });
    signal_due(MyDatabaseId, clock::of(retry_at));
    troubles_++;
}

/* Commits, or says why that failed and arranges for the jobs to be run again. */
bool Executor::commit_batch(const queue::BatchResult &result)
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
        uncharged_failure_ = UnchargedFailure{result.last_job_id, result.first_task, *error};
    else
        solo_jobs_ = result.jobs;
    return false;
}

/* The job that has failed is charged with that, and the others of the batch are run again. */
void Executor::undo_batch(queue::BatchResult &result)
{
    const bool is_charged = !result.undone->run.result.given_back;
    if (is_charged)
        hold_unsettled(result.undone->job_id);
    abort_transaction();
    queue::clean_session(); /* of what the failed job has left: nothing could be done before */
    executor_status().batch_undone();
    end_batch();
    undone_jobs_ = result.jobs;
    queue::UndoneRun &undone = *result.undone;
    if (is_charged)
        uncharged_failure_ = {undone.job_id, result.current_task, *undone.run.result.error,
                              std::move(undone)};
}

/* Returns false if the transaction was aborted because of one job, which is set aside, or which had
 * no savepoint. An error that says nothing about a job is thrown on. */
bool Executor::run_transaction(queue::BatchResult &result)
{
    std::optional<core::ErrorInfo> error;
    try {
        fill_transaction(result);
    } catch (const pg::Error &raised) {
        if (result.current_id == 0)
            throw;
        error = pg::to_error_info(raised);
    } catch (const Failure &raised) {
        if (result.current_id == 0)
            throw;
        error = pg::to_error_info(raised);
    }
    if (result.undone) {
        undo_batch(result);
        return false;
    }
    if (error) {
        abort_transaction();
        release_unsettled();
    }
    std::optional<core::ErrorInfo> run_error = std::move(result.run_error);
    if (uncharged_failure_ && error)
        run_error = uncharged_failure_->error;
    uncharged_failure_.reset();
    if (!error)
        return true;
    end_batch();
    set_job_aside(result.current_id, result.current_task, *error, run_error);
    solo_jobs_ = Max(result.jobs, solo_jobs_);
    return false;
}

/* --- Procedures ---------------------------------------------------------------- */

/* Records the outcome, or keeps it to try again later. */
void Executor::settle_procedure()
{
    if (procedure_->settle()) {
        const MemoryContext memory = procedure_->memory();
        procedure_.reset();
        pg::call([&] { MemoryContextReset(memory); });
    }
    end_batch();
}

void Executor::run_procedure(queue::ProcedureClaim claim)
{
    ExecutorStatus::note_claim_committed();
    procedure_.emplace(std::move(claim));
    procedure_->run();
    settle_procedure();
}

/* --- The loop -------------------------------------------------------------------- */

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
long Executor::go_idle()
{
    ExecutorStatus &status = executor_status();
    leave_bulk_lane(MyDatabaseId, my_slot_number());
    if (!status.is_idle()) {
        status.set_idle(true);
        return 0;
    }
    if (was_called())
        return 0;
    const TimestampTz now = GetCurrentTimestamp();
    if (procedure_)
        return TimestampDifferenceMilliseconds(now, procedure_->retry_at()) + 1;
    const TimestampTz end =
        status.idle_since() + static_cast<int64>(guc::executor_idle_timeout_s) * 1000000;
    return Max(TimestampDifferenceMilliseconds(now, end), 0) + 1;
}

/* After a batch whose transaction has not failed because of a job. */
long Executor::go_on(queue::BatchResult &result)
{
    const bool committed = commit_batch(result);
    release_unsettled();
    const bool has_claimed = committed && result.procedure;
    if (has_claimed)
        run_procedure(std::move(*result.procedure));
    else
        end_batch();
    if (committed && result.jobs > 0)
        troubles_ = 0;
    if (committed && result.was_set_aside && !has_claimed)
        set_aside::clear(set_aside::Kind::kJob, result.last_job_id);
    clean_session();
    jobs_run_ += result.jobs;
    if (!procedure_ && guc::executor_max_jobs > 0 && jobs_run_ >= guc::executor_max_jobs)
        end_executor();
    if (result.jobs > 0 || result.more || !committed)
        return 0;
    pgstat_report_activity(STATE_IDLE, nullptr);
    return go_idle();
}

long Executor::iterate()
{
    if (!announced_start_) {
        announced_start_ = true;
        notify_worker_event(core::HookEvent::kWorkerStart);
    }
    if (procedure_) {
        if (!procedure_->has_run())
            end_worker(); /* an error of ours that says nothing about the job: it is released */
        if (procedure_->retry_at() <= GetCurrentTimestamp() || is_asked_to_end()) {
            settle_procedure();
            return 0;
        }
    }
    if (!procedure_ && !uncharged_failure_ && must_end())
        end_executor();
    if (executor_status().is_idle())
        ExecutorStatus::clear_woken();
    queue::BatchResult result;
    if (run_transaction(result))
        return go_on(result);
    clean_session();
    return troubles_ < kManyTroubles ? 0 : kTroublePauseMs;
}

long executor_iteration()
{
    static Executor executor;
    return executor.iterate();
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
    backfill::queue::deferred::own_every_transaction();
    backfill::queue::become_stoppable();
    worker_loop(executor_iteration);
}
