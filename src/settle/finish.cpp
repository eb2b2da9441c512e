/* finish.cpp - see finish.hpp. */
#include "backfill/settle/finish.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/clock.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/core/retry_decision.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/held_messages.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/lock_wait.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/settle/backoff.hpp"
#include "backfill/settle/dead_letter.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue
{

namespace
{

/* What users' transactions may have locked, a dead letter, say, a worker waits for only so long
 * when it records an outcome; then the job is set aside. In a session, it is the user's business.
 */
constexpr char kOutcomeWaitMs[] = "500";

void limit_waits(pg::LockWaitLimit &limit)
{
    if (MyBgworkerEntry != nullptr)
        limit.enter(kOutcomeWaitMs);
}

/* A job that snoozes costs no attempt, so that nothing else would end its spinning. */
constexpr int64 kShortestSnoozeUs = 100 * 1000;

/* Our own SQLSTATEs, for RAISE in handlers. */
constexpr char kNeverRetry[] = "JB002";
constexpr char kRetryAfter[] = "JB003";
constexpr char kLeaseRanOut[] = "JB005";
/* For the log: an error that a consumer reports has none (external_routine_exception). */
constexpr char kReportedError[] = "38000";

std::string failure_reason(core::RetryDecision decision, int attempts, const core::ErrorInfo &error)
{
    if (decision == core::RetryDecision::kPermanent)
        return "permanent error" + (error.sqlstate.empty() ? "" : " " + error.sqlstate) + ": " +
               error.message;
    return (attempts == 1 ? std::string("the only attempt failed: ")
                          : "all " + std::to_string(attempts) + " attempts failed: ") +
           error.message;
}

/* Limits how many failures a process reports in a second, a session more than a worker: when
 * everything fails, or an operator fails thousands of jobs by one call, log and client must stay
 * readable. Says afterwards how many it has kept back. */
bool may_log_failure()
{
    const int per_second = MyBgworkerEntry != nullptr ? 50 : 1000;
    static TimestampTz second_began = 0;
    static int logged = 0;
    static long long kept_back = 0;
    const TimestampTz now = GetCurrentTimestamp();
    if (now - second_began >= USECS_PER_SEC) {
        if (kept_back > 0)
            pg::call([] {
                ereport(LOG, (errmsg_plural("%lld more job failure was not logged",
                                            "%lld more job failures were not logged",
                                            static_cast<unsigned long>(kept_back), kept_back)));
            });
        second_began = now;
        logged = 0;
        kept_back = 0;
    }
    if (logged < per_second) {
        logged++;
        return true;
    }
    kept_back++;
    return false;
}

void log_failure(const JobRow &row, int attempt, const core::ErrorInfo &error, const char *what,
                 int level)
{
    if (!may_log_failure())
        return;
    const std::string job = "job " + std::to_string(row.id());
    say({level,
         {error.sqlstate.empty() ? kReportedError : error.sqlstate,
          job + " " + what + ": " + error.message, error.detail, error.hint,
          job + ", task \"" + std::string(row.task_identifier()) + "\", queue \"" +
              std::string(row.text_or_empty(Column::kQueueName)) + "\", attempt " +
              std::to_string(attempt) + " of " + std::to_string(row.max_attempts())}});
}

/* Ready again, in its old place. */
void give_back(JobTable &table, const Task *task, const JobRow &row)
{
    table.insert(row);
    wake::announce_job(row, task, clock::now());
}

void run_again(JobTable &table, const Task *task, JobRow &row, int64 delay_us)
{
    const TimestampTz now = clock::now();
    row.set(Column::kRunAt, TimestampTzGetDatum(now + delay_us));
    table.insert(row);
    wake::announce_job(row, task, now);
}

Outcome bury(const JobRow &row, const core::ErrorInfo &error, const std::string &reason)
{
    (void) dead_letter::write(row, reason);
    log_failure(row, row.attempts(), error, "failed for good and is in the dead letter queue",
                WARNING);
    return Outcome::kDeadLettered;
}

/* SQLSTATE JB003, "retry after": the handler says in the error's detail how long. */
std::optional<int64> requested_delay(const core::ErrorInfo &error)
{
    if (error.sqlstate != kRetryAfter || error.detail.empty())
        return std::nullopt;
    const auto delay = pg::parse_delay(error.detail);
    return delay ? std::optional(Max(*delay, int64{0})) : std::nullopt;
}

} // namespace

std::optional<Outcome> drop_if_unwanted(JobTable &table, const Task *task, const JobRow &row,
                                        const job_end::LastRun &run)
{
    const bool newer = !row.is_null(Column::kJobKey) &&
                       has_newer_keyed_job(table, row.text_or_empty(Column::kJobKey), row.id());
    const NoRetry forbidden = why_no_retry(row.id());
    if (!newer && forbidden == NoRetry::kNone)
        return std::nullopt;
    pg::LockWaitLimit limit;
    limit_waits(limit);
    allow_retry(row.id()); /* the job ends here, and the note with it */
    limit.leave();
    const bool cancelled = forbidden == NoRetry::kCancelled;
    stats::note_dropped(row,
                        cancelled ? stats::DropReason::kCancelled : stats::DropReason::kSuperseded);
    job_end::note_end(task, row,
                      cancelled ? job_end::JobEnd::kCancelled : job_end::JobEnd::kSuperseded, run);
    return cancelled ? Outcome::kCancelled : Outcome::kSuperseded;
}

Outcome finish_failure(JobTable &table, const Config &config, const Task *task, const JobRow &row,
                       const core::ErrorInfo &error, const job_end::Runner &runner)
{
    return finish_failure(table, config, task, row, error,
                          config.error_rules().classify(row.task_identifier(), error.sqlstate),
                          runner);
}

Outcome finish_failure(JobTable &table, const Config &config, const Task *task, JobRow row,
                       const core::ErrorInfo &error, core::ErrorClass error_class,
                       const job_end::Runner &runner)
{
    const int attempts = row.attempts() + 1;
    const core::RetryDecision decision = core::decide_retry(
        error_class, attempts, row.max_attempts(), row.free_retries(), guc::max_free_retries);
    row.set(Column::kLastError, pg::error_to_jsonb(error));
    stats::note_failed(row, decision);
    if (const auto dropped = drop_if_unwanted(table, task, row, {attempts, runner, true, {}})) {
        log_failure(row, attempts, error,
                    dropped == Outcome::kCancelled
                        ? "failed and was cancelled"
                        : "failed and is superseded by a newer job with its key",
                    LOG);
        return *dropped;
    }
    if (decision == core::RetryDecision::kFreeRetry) {
        const int64 delay = retry_delay_us(core::kFreeRetryPolicy, row.free_retries());
        row.set(Column::kFreeRetries, Int16GetDatum(static_cast<int16>(row.free_retries() + 1)));
        run_again(table, task, row, delay);
        job_end::note_failed_attempt(task, row, attempts, runner);
        stats::note_retry(row);
        log_failure(row, attempts, error, "failed and will be retried at no cost", LOG);
        return Outcome::kRetried;
    }
    row.set(Column::kAttempts, Int16GetDatum(static_cast<int16>(attempts)));
    if (decision == core::RetryDecision::kRetry) {
        const int64 backoff = retry_delay_us(policy_of(config, policy_name(row)), attempts - 1);
        run_again(table, task, row, requested_delay(error).value_or(backoff));
        job_end::note_failed_attempt(task, row, attempts, runner);
        stats::note_retry(row);
        log_failure(row, attempts, error, "failed and will be retried", LOG);
        return Outcome::kRetried;
    }
    stats::note_dead_letter(row, decision);
    job_end::note_end(task, row, job_end::JobEnd::kDead, {attempts, runner, true, {}});
    return bury(row, error, failure_reason(decision, attempts, error));
}

Outcome finish_lost(JobTable &table, const Task *task, JobRow row)
{
    const std::string worker(row.text_or_empty(Column::kWorker));
    const core::ErrorInfo error{
        kLeaseRanOut, "the lease of worker \"" + worker + "\" ran out", {}, {}, {}};
    const int attempts = row.attempts() + 1;
    const job_end::Runner runner{0, worker};
    row.clear_lease();
    row.set(Column::kLastError, pg::error_to_jsonb(error));
    const core::RetryDecision decision = attempts < row.max_attempts()
                                             ? core::RetryDecision::kRetry
                                             : core::RetryDecision::kExhausted;
    stats::note_failed(row, decision);
    if (const auto dropped = drop_if_unwanted(table, task, row, {attempts, runner, true, {}})) {
        log_failure(row, attempts, error,
                    dropped == Outcome::kCancelled
                        ? "was lost and was cancelled"
                        : "was lost and is superseded by a newer job with its key",
                    LOG);
        return *dropped;
    }
    row.set(Column::kAttempts, Int16GetDatum(static_cast<int16>(attempts)));
    if (decision == core::RetryDecision::kExhausted) {
        stats::note_dead_letter(row, decision);
        job_end::note_end(task, row, job_end::JobEnd::kDead, {attempts, runner, true, {}});
        return bury(row, error, failure_reason(decision, attempts, error));
    }
    give_back(table, task, row);
    job_end::note_failed_attempt(task, row, attempts, runner);
    stats::note_retry(row);
    log_failure(row, attempts, error, "was lost and is ready again", LOG);
    return Outcome::kRetried;
}

Outcome finish_unrun(JobTable &table, const Task *task, JobRow row, std::optional<int64> delay_us)
{
    row.clear_lease();
    if (const auto dropped = drop_if_unwanted(table, task, row))
        return *dropped;
    if (delay_us)
        run_again(table, task, row, *delay_us);
    else
        give_back(table, task, row);
    return Outcome::kSnoozed;
}

namespace
{

core::ErrorInfo last_error_of(const JobRow &row)
{
    const Datum error = row.get(Column::kLastError);
    const auto text = [&](const char *key) {
        return pg::get_text(error, key).value_or(std::string());
    };
    return {text("sqlstate"), text("message"), text("detail"), text("hint"), text("context")};
}

/* As decide_retry() sees a job whose last run is counted already. */
core::RetryDecision decide_for_charged(const Config &config, const JobRow &row,
                                       const core::ErrorInfo &error)
{
    return core::decide_retry(config.error_rules().classify(row.task_identifier(), error.sqlstate),
                              row.attempts(), row.max_attempts(), row.free_retries(),
                              guc::max_free_retries);
}

} // namespace

void charge_unsettled(JobTable &table, const Config &config, const Task *task, JobRow row,
                      const core::ErrorInfo &error)
{
    row.set(Column::kLastError, pg::error_to_jsonb(error));
    row.set(Column::kAttempts,
            Int16GetDatum(static_cast<int16>(Min(row.attempts() + 1, Max(row.max_attempts(), 1)))));
    int64 delay = 0;
    if (!is_spent(config, row))
        delay = retry_delay_us(policy_of(config, policy_name(row)), row.attempts() - 1);
    if (delay > 0)
        run_again(table, task, row, delay);
    else
        give_back(table, task, row);
}

bool is_spent(const Config &config, const JobRow &row)
{
    if (row.attempts() == 0 || row.is_null(Column::kLastError))
        return false;
    const core::RetryDecision decision = decide_for_charged(config, row, last_error_of(row));
    return decision == core::RetryDecision::kPermanent ||
           decision == core::RetryDecision::kExhausted;
}

void finish_spent(JobTable &table, const Config &config, const Task *task, const JobRow &row)
{
    if (drop_if_unwanted(table, task, row))
        return;
    const core::ErrorInfo error = last_error_of(row);
    const core::RetryDecision decision = decide_for_charged(config, row, error);
    stats::note_failed(row, decision);
    stats::note_dead_letter(row, decision);
    job_end::note_end(task, row, job_end::JobEnd::kDead, {row.attempts(), {}, true, {}});
    pg::LockWaitLimit limit;
    limit_waits(limit);
    (void) bury(row, error, failure_reason(decision, row.attempts(), error));
    limit.leave();
    hooks::notify(config, core::HookEvent::kJobPermanentlyFail, &row, &error);
}

namespace
{

/* Whether anything is to be written, and not only the row that the claim has deleted. */
bool leaves_traces(const Task *task, const JobRow &row, const RunResult &run)
{
    return run.error || run.cancelled || run.verdict.kind != Verdict::Kind::kDone ||
           !row.is_null(Column::kJobKey) || !row.is_null(Column::kDeadLetterId) ||
           (task != nullptr && task->keep_history_us > 0);
}

/* The job's way on; its handler has run. */
Outcome finish_job(JobTable &table, const Config &config, const Task *task, const JobRow &row,
                   const RunResult &run)
{
    const job_end::Runner runner{run.started_at, {}};
    const int attempt = row.attempts() + 1;
    if (run.cancelled) {
        allow_retry(row.id()); /* the job ends here, and the note with it */
        stats::note_failed(row, core::RetryDecision::kPermanent);
        stats::note_dropped(row, stats::DropReason::kCancelled);
        job_end::note_end(task, row, job_end::JobEnd::kCancelled, {attempt, runner, false, {}});
        log_failure(row, attempt, {"57014", "by request", {}, {}, {}}, "was cancelled while it ran",
                    LOG);
        return Outcome::kCancelled;
    }
    if (run.error)
        return finish_failure(table, config, task, row, *run.error, runner);
    switch (run.verdict.kind) {
    case Verdict::Kind::kSnooze:
        return finish_unrun(table, task, row, Max(run.verdict.delay_us, kShortestSnoozeUs));
    case Verdict::Kind::kDiscard: {
        const core::ErrorInfo error{kNeverRetry, run.verdict.reason, {}, {}, {}};
        JobRow dead = row;
        dead.set(Column::kAttempts, Int16GetDatum(static_cast<int16>(row.attempts() + 1)));
        dead.set(Column::kLastError, pg::error_to_jsonb(error));
        stats::note_failed(row, core::RetryDecision::kPermanent);
        stats::note_dead_letter(row, core::RetryDecision::kPermanent);
        job_end::note_end(task, dead, job_end::JobEnd::kDiscarded, {attempt, runner, true, {}});
        return bury(dead, error, "discarded by its handler: " + run.verdict.reason);
    }
    default:
        dead_letter::forget(row);
        job_end::note_end(task, row, job_end::JobEnd::kCompleted,
                          {attempt, runner, false, run.result});
        return Outcome::kDone;
    }
}

/* For the metrics: a job that is discarded has failed for good. */
stats::RunEnd end_of(const RunResult &run)
{
    if (run.error || run.cancelled || run.verdict.kind == Verdict::Kind::kDiscard)
        return stats::RunEnd::kFailed;
    return run.verdict.kind == Verdict::Kind::kSnooze ? stats::RunEnd::kSnoozed
                                                      : stats::RunEnd::kCompleted;
}

void notify_outcome(const Config &config, const JobRow &row, const RunResult &run, Outcome outcome)
{
    const core::ErrorInfo *error = run.error ? &*run.error : nullptr;
    if (error != nullptr && !run.cancelled) {
        hooks::notify(config, core::HookEvent::kAfterJobRun, &row, error);
        hooks::notify(config, core::HookEvent::kJobFail, &row, error);
    } else if (outcome == Outcome::kDone) {
        hooks::notify(config, core::HookEvent::kJobComplete, &row);
    }
    if (outcome == Outcome::kDeadLettered)
        hooks::notify(config, core::HookEvent::kJobPermanentlyFail, &row, error);
}

} // namespace

void finish_run(JobTable &table, const Config &config, const Task *task, const JobRow &row,
                const RunResult &run, TimestampTz started, TimestampTz ended)
{
    stats::note_run(row, clock::of(started), ended - started, end_of(run));
    pg::LockWaitLimit limit;
    if (leaves_traces(task, row, run))
        limit_waits(limit);
    const Outcome outcome = finish_job(table, config, task, row, run);
    limit.leave();
    if (outcome != Outcome::kDone)
        pg::call([] { CommandCounterIncrement(); }); /* the hooks shall see it */
    notify_outcome(config, row, run, outcome);
}

} // namespace backfill::queue
