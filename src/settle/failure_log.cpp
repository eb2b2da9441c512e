/* failure_log.cpp - see failure_log.hpp. */
#include "backfill/settle/failure_log.hpp"

#include "backfill/core/sqlstates.hpp"
#include "backfill/pg/held_messages.hpp"

namespace backfill::queue
{

namespace
{

/* An error that a consumer reports has no SQLSTATE (external_routine_exception). */
using core::sqlstate::kReportedError;

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

/* "failed and will be retried" and the like. */
std::string what_happened(core::Fate fate, const Ending &ending)
{
    const core::FateInfo &info = core::info(fate);
    if (!ending.run.failed)
        return "was cancelled while it ran";
    if (ending.is_lost && fate == core::Fate::kRetried)
        return "was lost and is ready again";
    const bool is_dead = info.letter == core::LetterAfter::kWritten;
    return (ending.is_lost && !is_dead ? "was lost " : "failed ") + std::string(info.log);
}

} // namespace

void log_failure(const JobRow &row, core::Fate fate, const Ending &ending)
{
    if (!may_log_failure())
        return;
    const core::ErrorInfo &error = *ending.error;
    const bool is_dead = core::info(fate).letter == core::LetterAfter::kWritten;
    const std::string job = "job " + std::to_string(row.id());
    say({is_dead ? WARNING : LOG,
         {error.sqlstate.empty() ? kReportedError : error.sqlstate,
          job + " " + what_happened(fate, ending) + ": " + error.message, error.detail, error.hint,
          job + ", task \"" + std::string(row.task_identifier()) + "\", queue \"" +
              std::string(row.text_or_empty(Column::kQueueName)) + "\", attempt " +
              std::to_string(ending.run.attempt) + " of " + std::to_string(row.max_attempts())}});
}

} // namespace backfill::queue
