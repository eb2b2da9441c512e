/* settle.cpp - see settle.hpp. */
#include "backfill/settle/settle.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/clock.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/lock_wait.hpp"
#include "backfill/settle/backoff.hpp"
#include "backfill/settle/dead_letter.hpp"
#include "backfill/settle/failure_log.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue
{

namespace
{

using core::Fate;
using core::FateInfo;

/* For what users' transactions may have locked, a dead letter, say, a worker waits no longer than
 * this when it records an outcome; then the job is set aside. In a session, it is the user's
 * business. */
constexpr char kOutcomeWaitMs[] = "500";

void limit_waits(pg::LockWaitLimit &limit)
{
    if (MyBgworkerEntry != nullptr)
        limit.enter(kOutcomeWaitMs);
}

std::optional<Fate> why_unwanted(JobTable &table, const JobRow &row)
{
    if (const auto forbidden = why_no_retry(row.id()))
        return forbidden;
    const bool newer = !row.is_null(Column::kJobKey) &&
                       has_newer_keyed_job(table, row.text_or_empty(Column::kJobKey), row.id());
    return newer ? std::optional(Fate::kSuperseded) : std::nullopt;
}

/* Whether anything is to be written, and not only the row that the claim has deleted. */
bool leaves_traces(const Task *task, const JobRow &row, Fate fate)
{
    return fate != Fate::kCompleted || !row.is_null(Column::kJobKey) ||
           !row.is_null(Column::kDeadLetterId) || job_end::keeps_history(task);
}

void count_run(const JobRow &row, const Ending &ending)
{
    switch (ending.counted) {
    case Counted::kNoRun:
        break;
    case Counted::kNothing:
        stats::note_lost_run(row, ending.fate);
        break;
    case Counted::kStart:
        stats::note_claim_end(row, ending.fate);
        break;
    case Counted::kOwnRun:
        stats::note_run(row, clock::of(ending.started), ending.ended - ending.started, ending.fate);
        break;
    }
}

void charge(JobRow &row, core::Cost cost)
{
    if (cost == core::Cost::kAttempt)
        row.set(Column::kAttempts, Int16GetDatum(static_cast<int16>(row.attempts() + 1)));
    else if (cost == core::Cost::kFreeRetry)
        row.set(Column::kFreeRetries, Int16GetDatum(static_cast<int16>(row.free_retries() + 1)));
}

/* The job's letter and what forbade it a further run; the letter's id if one is written. */
int64 settle_letter(const JobRow &row, const FateInfo &info, const Ending &ending)
{
    if (info.letter == core::LetterAfter::kWritten)
        return dead_letter::write(row, ending.reason);
    if (info.letter == core::LetterAfter::kForgotten || (info.is_drop && ending.by_operator))
        dead_letter::forget(row);
    if (info.is_drop)
        allow_retry(row.id());
    return 0;
}

void tell_hooks(const Config &config, const JobRow &row, const FateInfo &info, const Ending &ending)
{
    using core::HookEvent;
    if (ending.tells == Tells::kNobody)
        return;
    const bool has_failed = ending.run.failed && ending.fate != Fate::kDiscarded;
    const core::ErrorInfo *const error = has_failed ? &*ending.error : nullptr;
    if (has_failed && ending.tells == Tells::kOwnRun)
        hooks::notify(config, HookEvent::kAfterJobRun, &row, error);
    if (has_failed && ending.tells >= Tells::kFailure)
        hooks::notify(config, HookEvent::kJobFail, &row, error);
    if (info.hook)
        hooks::notify(config, *info.hook, &row, error);
}

/* The row as the run leaves it. */
JobRow row_after(const JobRow &taken, const Ending &ending)
{
    JobRow row = taken;
    row.clear_lease();
    if (ending.run.failed && !ending.attempt_is_counted) {
        row.set(Column::kLastError, pg::error_to_jsonb(*ending.error));
        charge(row, core::info(ending.fate).cost);
    }
    if (ending.delay_us)
        row.set(Column::kRunAt, TimestampTzGetDatum(clock::now() + *ending.delay_us));
    return row;
}

job_end::LastRun last_run(const JobRow &taken, const Ending &ending)
{
    job_end::LastRun run = ending.run;
    if (run.runner.worker.empty())
        run.runner.worker = taken.text_or_empty(Column::kWorker);
    return run;
}

} // namespace

Settled settle(JobTable &table, const Config &config, TakenJob &job, const Ending &ending)
{
    const JobRow &taken = job.row;
    count_run(taken, ending);
    const Task *const task = config.find_task(taken.task_identifier());
    Settled settled{ending.fate};
    if (core::info(ending.fate).yields_to_drop && !ending.by_operator)
        settled.fate = why_unwanted(table, taken).value_or(ending.fate);
    const FateInfo &info = core::info(settled.fate);
    stats::note_fate(taken, settled.fate);
    JobRow row = row_after(taken, ending);

    pg::LockWaitLimit limit;
    if (leaves_traces(task, row, settled.fate))
        limit_waits(limit);
    if (info.row == core::RowAfter::kBack)
        put_back(table, config, job, row);
    else
        job.close();
    settled.letter = settle_letter(row, info, ending);
    job_end::note(task, row, settled.fate, last_run(taken, ending));
    limit.leave();
    if (ending.error)
        log_failure(row, settled.fate, ending);
    if (settled.fate != Fate::kCompleted)
        pg::call([] { CommandCounterIncrement(); }); /* the hooks should see it */
    tell_hooks(config, taken, info, ending);
    return settled;
}

bool settle_if_unwanted(JobTable &table, const Config &config, TakenJob &job)
{
    const auto fate = why_unwanted(table, job.row);
    if (fate)
        (void) settle(table, config, job, {*fate});
    return fate.has_value();
}

void charge_unsettled(JobTable &table, const Config &config, TakenJob &job,
                      const core::ErrorInfo &error)
{
    JobRow row = job.row;
    row.clear_lease();
    row.set(Column::kLastError, pg::error_to_jsonb(error));
    row.set(Column::kAttempts,
            Int16GetDatum(static_cast<int16>(Min(row.attempts() + 1, Max(row.max_attempts(), 1)))));
    int64 delay = 0;
    if (!ending::is_spent(config, row))
        delay = retry_delay_us(policy_of(config, policy_name(row)), row.attempts() - 1);
    if (delay > 0)
        row.set(Column::kRunAt, TimestampTzGetDatum(clock::now() + delay));
    put_back(table, config, job, row);
}

} // namespace backfill::queue
