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
#include "backfill/bgworker/worker.hpp"
#include "backfill/call/deferred_events.hpp"
#include "backfill/call/hooks.hpp"
#include "backfill/call/run_limit.hpp"
#include "backfill/clock.hpp"
#include "backfill/guc.hpp"
#include "backfill/run/batch.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/stats/events.hpp"

extern "C" {
PGDLLEXPORT void backfill_executor_main(Datum argument);
}

namespace backfill::bgworker
{

namespace
{

/* So long an executor tries to record the outcome of a procedure, before the job is run again. */
constexpr int64 kKeepOutcomeUs = 60 * USECS_PER_SEC;
/* When so many jobs have been set aside one after the other, it is not the jobs: a pause after
 * each, so that they are not all run in vain. */
constexpr int kManyTroubles = 8;
constexpr long kTroublePauseMs = 500;
int troubles = 0;

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
    /* Its outcome could not be recorded: when to try again, and until when. */
    TimestampTz retry_at = 0;
    TimestampTz give_up_at = 0;
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
    const SharedLock lock;
    WorkerSlot &slot = my_slot(lock);
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
    const SlotLock report = lock_my_report();
    report->state_since = idle_since;
}

void on_job_start(const queue::JobRow &row, const queue::Task &task)
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

void on_job_end(bool failed)
{
    const SlotLock report = lock_my_report();
    report->job_id = 0;
    report->jobs_done++;
    report->jobs_failed += failed ? 1 : 0;
}

/* Others shall see the claim only together with us. */
void on_claim(int64 claim_token)
{
    const SlotLock report = lock_my_report();
    report->claim_token = claim_token;
}

/* Of a claim whose transaction has ended: the job goes on. */
void on_claim_committed()
{
    const SlotLock report = lock_my_report();
    report->xid = InvalidTransactionId;
}

void on_batch_end()
{
    const int64 claim_token = procedure() ? procedure()->claim.token() : 0;
    const SlotLock report = lock_my_report();
    report->xid = InvalidTransactionId;
    report->job_id = 0;
    report->claim_token = claim_token;
}

/* Whether the dispatcher wants us to end, we have slept long enough, or a setting changed. If so,
 * nobody counts on this executor any more once this has returned. */
bool shall_end()
{
    const bool timed_out = idle && TimestampDifferenceExceeds(idle_since, GetCurrentTimestamp(),
                                                              guc::executor_idle_timeout_s * 1000);
    /* What was set for the session cannot be taken back; a fresh process has the new value. */
    const bool outdated = started_with_synchronous_commit != guc::executor_synchronous_commit;
    const SharedLock lock;
    WorkerSlot &slot = my_slot(lock);
    if (!slot.retire && !outdated && !(timed_out && !slot.woken))
        return false;
    slot.retire = true;
    return true;
}

bool is_told_to_end()
{
    const SharedReadLock lock;
    return my_slot(lock).retire;
}

/* --- One transaction ----------------------------------------------------------- */

void charge_failed_commit()
{
    const UnchargedFailure failure = *uncharged_failure();
    /* Whoever writes a table that has long values needs one. */
    pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
    queue::fail_unrun_job(failure.job_id, failure.error);
    pg::call([] { PopActiveSnapshot(); });
}

void run_one_batch(queue::BatchResult &result)
{
    queue::BatchOptions options;
    options.max_jobs = solo_jobs > 0 ? 1 : 0;
    options.time_limit_us = static_cast<int64>(guc::batch_time_ms) * 1000;
    options.on_start = on_job_start;
    options.on_end = on_job_end;
    options.on_claim = on_claim;
    options.procedures = !procedure();
    options.urgent_only = !enter_bulk_lane(MyDatabaseId, my_slot_number());
    if (solo_jobs > 0)
        solo_jobs--;
    queue::run_batch(options, result);
}

/* Runs body, whose errors end its transaction; the error, if there was one. */
template <class Body> std::optional<core::ErrorInfo> try_transaction(Body &&body)
{
    std::optional<core::ErrorInfo> error;
    try {
        body();
    } catch (const pg::Error &raised) {
        error = pg::to_error_info(raised);
    } catch (const Failure &raised) {
        error = pg::to_error_info(raised);
    }
    if (error)
        abort_transaction();
    return error;
}

/* The job's outcome cannot be recorded, for this reason. It is passed over for a while. If its run
 * has failed, that is counted, where it is possible. */
void set_job_aside(int64 job_id, const std::string &task, const core::ErrorInfo &error,
                   const std::optional<core::ErrorInfo> &run_error)
{
    const TimestampTz retry_at =
        set_aside::note_failure(set_aside::Kind::kJob, job_id, task, error);
    bool charged = false;
    if (run_error)
        charged = !try_transaction([&] {
            if (!begin_extension_transaction())
                end_worker();
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
    troubles++;
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

/* One transaction: a batch, or what is left of the last one. Returns false if it was aborted
 * because of one job, which is set aside. */
bool run_transaction(queue::BatchResult &result)
{
    std::optional<core::ErrorInfo> error;
    try {
        if (!begin_extension_transaction())
            end_worker();
        if (uncharged_failure()) {
            result.current_id = uncharged_failure()->job_id;
            charge_failed_commit();
            result.current_id = 0;
            result.more = true;
        } else {
            run_one_batch(result);
            stats::note_poll(WorkerKind::kExecutor, result.jobs > 0);
        }
    } catch (const pg::Error &raised) {
        if (result.current_id == 0) /* it says nothing about a job */
            throw;
        error = pg::to_error_info(raised);
    } catch (const Failure &raised) {
        if (result.current_id == 0)
            throw;
        error = pg::to_error_info(raised);
    }
    if (error)
        abort_transaction();
    std::optional<core::ErrorInfo> run_error = std::move(result.run_error);
    if (uncharged_failure() && error)
        run_error = uncharged_failure()->error;
    uncharged_failure().reset();
    if (!error)
        return true;
    on_batch_end();
    set_job_aside(result.current_id, result.current_task, *error, run_error);
    solo_jobs = Max(result.jobs, solo_jobs);
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

/* With what the claim and the run have left in memory. */
void forget_procedure()
{
    const MemoryContext memory = procedure()->claim.memory;
    procedure().reset();
    pg::call([&] { MemoryContextReset(memory); });
}

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
    const int64 job_id = procedure()->claim.row.id();
    forget_procedure();
    on_batch_end();
    set_aside::clear(set_aside::Kind::kClaim, job_id);
    set_aside::clear(set_aside::Kind::kJob, job_id);
}

/* Gives the job up: it is charged if its run has failed, and run again otherwise. Should that not
 * be possible either, we end: the dispatcher releases the claims of who has gone. */
void give_up_procedure(const core::ErrorInfo &error)
{
    const queue::ProcedureClaim &claim = procedure()->claim;
    const queue::RunResult &result = procedure()->run->result;
    if (!result.error || result.cancelled)
        end_worker();
    const auto failure = try_transaction([&] {
        if (!begin_extension_transaction())
            end_worker();
        queue::charge_unsettled_run(claim, *result.error);
        commit_transaction();
    });
    if (failure)
        end_worker();
    const int64 job_id = claim.row.id();
    (void) set_aside::note_failure(set_aside::Kind::kJob, job_id, claim.task.identifier, error);
    set_aside::clear(set_aside::Kind::kClaim, job_id);
    forget_procedure();
    on_batch_end();
}

/* Records the outcome, or keeps it to try again later. */
void settle_procedure()
{
    const auto error = try_transaction(finish_procedure);
    if (!error)
        return;
    const int64 job_id = procedure()->claim.row.id();
    const std::string &task = procedure()->claim.task.identifier;
    const TimestampTz now = GetCurrentTimestamp();
    procedure()->retry_at = set_aside::note_failure(set_aside::Kind::kClaim, job_id, task, *error);
    if (procedure()->give_up_at == 0)
        procedure()->give_up_at = now + kKeepOutcomeUs;
    pg::call([&] {
        ereport(WARNING,
                (errmsg("backfill could not record the outcome of job %lld, a procedure: %s",
                        static_cast<long long>(job_id), error->message.c_str()),
                 errhint("It is tried again at %s, and others go on. "
                         "The function backfill.health() shows what is set aside.",
                         timestamptz_to_str(procedure()->retry_at))));
    });
    if (now >= procedure()->give_up_at || is_told_to_end())
        give_up_procedure(*error);
    else
        on_batch_end();
}

void run_claimed_procedure()
{
    queue::mark_session_dirty(); /* what it sets, and commits, stays */
    procedure()->run = queue::run_procedure(procedure()->claim);
    settle_procedure();
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
    if (procedure())
        return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), procedure()->retry_at) + 1;
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
        if (procedure()->retry_at <= GetCurrentTimestamp() || is_told_to_end()) {
            settle_procedure();
            return 0;
        }
    }
    if (!procedure() && shall_end())
        end_executor();
    if (idle)
        set_state(WorkerState::kIdle); /* from here on, a commit must wake us again */
    queue::BatchResult result;
    if (!run_transaction(result)) {
        if (queue::session_is_dirty())
            reset_session();
        return troubles < kManyTroubles ? 0 : kTroublePauseMs;
    }
    const bool committed = commit_batch(result);
    if (committed && result.procedure) {
        on_claim_committed();
        procedure() = Procedure{std::move(*result.procedure), std::nullopt};
        run_claimed_procedure();
    } else {
        on_batch_end();
    }
    if (committed && result.jobs > 0)
        troubles = 0;
    if (committed && result.was_set_aside && !result.procedure)
        set_aside::clear(set_aside::Kind::kJob, result.last_job_id);
    if (queue::session_is_dirty())
        reset_session();
    jobs_run += result.jobs;
    if (!procedure() && guc::executor_max_jobs > 0 && jobs_run >= guc::executor_max_jobs)
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
    backfill::queue::deferred::own_every_transaction();
    backfill::queue::become_stoppable();
    worker_loop(executor_iteration);
}
