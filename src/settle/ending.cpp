/* ending.cpp - see ending.hpp. */
#include "backfill/settle/ending.hpp"

#include "backfill/core/retry_decision.hpp"
#include "backfill/core/sqlstates.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/settle/backoff.hpp"

namespace backfill::queue::ending
{

namespace
{

/* A job that snoozes costs no attempt, so that nothing else would end its spinning. */
constexpr int64 kShortestSnoozeUs = 100 * 1000;

using namespace core::sqlstate;

std::string failure_reason(core::Fate fate, int attempts, const core::ErrorInfo &error)
{
    if (fate == core::Fate::kPermanent)
        return "permanent error" + (error.sqlstate.empty() ? "" : " " + error.sqlstate) + ": " +
               error.message;
    return (attempts == 1 ? std::string("the only attempt failed: ")
                          : "all " + std::to_string(attempts) + " attempts failed: ") +
           error.message;
}

/* SQLSTATE JB003, "retry after": the handler says in the error's detail how long. */
std::optional<int64> requested_delay(const core::ErrorInfo &error)
{
    if (error.sqlstate != kRetryAfter || error.detail.empty())
        return std::nullopt;
    const auto delay = pg::parse_delay(error.detail);
    return delay ? std::optional(Max(*delay, int64{0})) : std::nullopt;
}

std::optional<int64> delay_of(const Config &config, const JobRow &row, core::Fate fate,
                              const core::ErrorInfo &error)
{
    if (fate == core::Fate::kFreeRetried)
        return retry_delay_us(core::kFreeRetryPolicy, row.free_retries());
    if (fate != core::Fate::kRetried)
        return std::nullopt;
    const int64 backoff = retry_delay_us(policy_of(config, policy_name(row)), row.attempts());
    return requested_delay(error).value_or(backoff);
}

Ending failed_run(core::Fate fate, int attempt, const job_end::Runner &runner,
                  const core::ErrorInfo &error)
{
    Ending ending{fate};
    ending.counted = Counted::kStart;
    ending.run = {attempt, runner, true, {}};
    ending.error = error;
    if (core::info(fate).letter == core::LetterAfter::kWritten)
        ending.reason = failure_reason(fate, attempt, error);
    return ending;
}

core::ErrorInfo last_error_of(const JobRow &row)
{
    const Datum error = row.get(Column::kLastError);
    const auto text = [&](const char *key) {
        return pg::get_text(error, key).value_or(std::string());
    };
    return {text("sqlstate"), text("message"), text("detail"), text("hint"), text("context")};
}

/* As decide_retry() sees a job whose last run is counted already. */
core::Fate fate_of_charged(const Config &config, const JobRow &row, const core::ErrorInfo &error)
{
    return core::decide_retry(config.error_rules().classify(row.task_identifier(), error.sqlstate),
                              row.attempts(), row.max_attempts(), row.free_retries(),
                              guc::max_free_retries);
}

Ending cancelled_run(int attempt, const job_end::Runner &runner)
{
    Ending ending{core::Fate::kCancelled};
    ending.run = {attempt, runner, false, {}};
    ending.error = {kQueryCanceled, "by request", {}, {}, {}};
    return ending;
}

Ending of_verdict(const RunResult &run, int attempt, const job_end::Runner &runner)
{
    const Verdict &verdict = run.verdict;
    if (verdict.fate == core::Fate::kSnoozed)
        return snoozed(Max(verdict.delay_us, kShortestSnoozeUs));
    Ending ending{verdict.fate};
    ending.run = {attempt, runner, false, {}};
    if (verdict.fate == core::Fate::kDiscarded) {
        ending.run.failed = true;
        ending.error = {kNeverRetry, verdict.reason, {}, {}, {}};
        ending.reason = "discarded by its handler: " + verdict.reason;
    } else {
        ending.run.result = run.result;
    }
    return ending;
}

} // namespace

Ending failure(const Config &config, const JobRow &row, const core::ErrorInfo &error,
               const job_end::Runner &runner)
{
    return failure(config, row, error,
                   config.error_rules().classify(row.task_identifier(), error.sqlstate), runner);
}

Ending failure(const Config &config, const JobRow &row, const core::ErrorInfo &error,
               core::ErrorClass error_class, const job_end::Runner &runner)
{
    const int attempt = row.attempts() + 1;
    const core::Fate fate = core::decide_retry(error_class, attempt, row.max_attempts(),
                                               row.free_retries(), guc::max_free_retries);
    Ending ending = failed_run(fate, attempt, runner, error);
    ending.delay_us = delay_of(config, row, fate, error);
    return ending;
}

Ending lost_run(const Config &config, const JobRow &row, const core::ErrorInfo &error,
                const job_end::Runner &runner)
{
    Ending ending = failure(config, row, error, runner);
    ending.counted = Counted::kNothing;
    return ending;
}

Ending after_run(const Config &config, const JobRow &row, const RunResult &run, TimestampTz started,
                 TimestampTz ended)
{
    const job_end::Runner runner{run.started_at, {}};
    const int attempt = row.attempts() + 1;
    Ending ending = run.cancelled ? cancelled_run(attempt, runner)
                    : run.error   ? failure(config, row, *run.error, runner)
                                  : of_verdict(run, attempt, runner);
    ending.counted = Counted::kOwnRun;
    ending.tells = run.error && !run.cancelled ? Tells::kOwnRun : Tells::kEnd;
    ending.started = started;
    ending.ended = ended;
    return ending;
}

Ending lost_lease(const JobRow &row)
{
    const std::string worker(row.text_or_empty(Column::kWorker));
    const int attempt = row.attempts() + 1;
    Ending ending = failed_run(
        attempt < row.max_attempts() ? core::Fate::kRetried : core::Fate::kExhausted, attempt,
        {0, worker}, {kLeaseRanOut, "the lease of worker \"" + worker + "\" ran out", {}, {}, {}});
    ending.is_lost = true;
    return ending;
}

Ending released(Counted counted)
{
    Ending ending{core::Fate::kReleased};
    ending.counted = counted;
    return ending;
}

Ending snoozed(int64 delay_us)
{
    Ending ending{core::Fate::kSnoozed};
    ending.counted = Counted::kStart;
    ending.delay_us = delay_us;
    return ending;
}

Ending completed_by_consumer(const JobRow &row)
{
    Ending ending{core::Fate::kCompleted};
    ending.counted = Counted::kStart;
    ending.tells = Tells::kEnd;
    ending.run.attempt = row.attempts() + 1;
    return ending;
}

Ending failed_for_consumer(const Config &config, const JobRow &row, std::string_view error,
                           std::optional<bool> permanent)
{
    const core::ErrorClass by_text =
        config.error_rules().classify_text(row.task_identifier(), error);
    const core::ErrorClass given =
        permanent.value_or(false) ? core::ErrorClass::kPermanent : core::ErrorClass::kRetry;
    Ending ending =
        failure(config, row, {{}, pg::kept_error_text(error), {}, {}, {}},
                permanent ? given : by_text, {0, std::string(row.text_or_empty(Column::kWorker))});
    ending.tells = Tells::kFailure;
    return ending;
}

Ending cancelled(const JobRow &row)
{
    Ending ending{core::Fate::kCancelled};
    ending.counted = row.is_null(Column::kLeaseExpiresAt) ? Counted::kNoRun : Counted::kStart;
    return ending;
}

Ending removed()
{
    Ending ending{core::Fate::kCancelled};
    ending.by_operator = true;
    return ending;
}

Ending buried(const JobRow &row, std::string_view reason)
{
    Ending ending{row.attempts() < row.max_attempts() ? core::Fate::kBuried
                                                      : core::Fate::kExhausted};
    ending.reason = reason;
    ending.by_operator = true;
    return ending;
}

bool is_spent(const Config &config, const JobRow &row)
{
    if (row.attempts() == 0 || row.is_null(Column::kLastError))
        return false;
    return core::info(fate_of_charged(config, row, last_error_of(row))).is_end();
}

Ending spent(const Config &config, const JobRow &row)
{
    const core::ErrorInfo error = last_error_of(row);
    Ending ending = failed_run(fate_of_charged(config, row, error), row.attempts(), {}, error);
    ending.tells = Tells::kEnd;
    ending.attempt_is_counted = true;
    return ending;
}

} // namespace backfill::queue::ending
