/* crash_charge.cpp - see crash_charge.hpp. */
#include "backfill/settle/crash_charge.hpp"

#include "backfill/core/sqlstates.hpp"
#include "backfill/pg/held_messages.hpp"
#include "backfill/settle/settle.hpp"

namespace backfill::queue::lost_run
{

namespace
{

using core::sqlstate::kProcessEnded;

std::string ended_by(const bgworker::ledger::Entry &entry)
{
    using bgworker::ledger::End;
    switch (entry.end) {
    case End::kItself:
        return "it terminated the process that ran it";
    case End::kOverrun:
        return "it ran on after its timeout and caught every cancel, so its process was ended";
    case End::kWithAll:
        return "it ran each time when all processes of the server were killed at once";
    case End::kExit:
        return entry.message[0] == '\0'
                   ? std::string("it ended the process that ran it")
                   : "it ended the process that ran it: " + std::string(entry.message);
    default:
        if (entry.signal == 0)
            return "the server crashed while it ran: its executor was killed (signal 9), or left "
                   "without a word";
        return std::string("the server crashed while it ran: ") +
               (entry.crashed_pid == entry.pid ? "its executor"
                                               : "a parallel worker of its query") +
               " was terminated by signal " + std::to_string(entry.signal) + " (" +
               pg_strsignal(entry.signal) + ")";
    }
}

core::ErrorInfo describe(const bgworker::ledger::Entry &entry)
{
    return {kProcessEnded,
            ended_by(entry),
            "The executor was process " + std::to_string(entry.pid) + ".",
            "The server's log may say more.",
            {}};
}

void warn(const JobRow &row, const core::ErrorInfo &error)
{
    const std::string job = "job " + std::to_string(row.id());
    say({WARNING,
         {kProcessEnded,
          job + " is charged an attempt: " + error.message,
          error.detail,
          {},
          job + ", task \"" + std::string(row.task_identifier()) + "\", attempt " +
              std::to_string(row.attempts() + 1) + " of " + std::to_string(row.max_attempts())}});
}

/* Whether the row still is as it was before the run. */
bool is_before(const JobRow &row, const bgworker::ledger::Run &run)
{
    return row.attempts() == run.attempts && row.free_retries() == run.free_retries &&
           DatumGetTimestampTz(row.get(Column::kCreatedAt)) == run.created_at;
}

} // namespace

void InLedger::check_end() const
{
    using bgworker::ledger::Terminator;
    if (bgworker::ledger::terminator() == Terminator::kItself)
        pg::call([] { CHECK_FOR_INTERRUPTS(); });
}

Charged charge(const bgworker::ledger::Entry &entry)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    Charged result = Charged::kNo;
    /* The dispatcher has no snapshot, and changing a table with long values needs one. */
    pg::call([] { PushActiveSnapshot(GetLatestSnapshot()); });
    for (const FoundJob &found : table.find_by_id(entry.run.job_id)) {
        /* A consumer has it by now: the task has changed. */
        const bool is_consumers =
            !found.row.is_null(Column::kLeaseExpiresAt) && !found.row.is_in_executor();
        if (!is_before(found.row, entry.run) || is_consumers)
            continue;
        Take taken = take(table, found);
        if (!taken.job) {
            result = Charged::kLater;
            continue;
        }
        const core::ErrorInfo error = describe(entry);
        warn(found.row, error);
        const job_end::Runner runner{entry.run.started_at, "executor " + std::to_string(entry.pid)};
        (void) settle(table, *current, *taken.job,
                      ending::lost_run(*current, found.row, error, runner));
        result = Charged::kYes;
        break;
    }
    pg::call([] { PopActiveSnapshot(); });
    table.close();
    return result;
}

} // namespace backfill::queue::lost_run
