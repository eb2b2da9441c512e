/* crash_charge.hpp - charge a job for a run that has ended its process, or the server.
 *
 * The ledger (shmem/run_ledger.hpp) knows of such runs; the dispatcher calls this before it
 * looks for work, so that the job is not run again uncharged. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::lost_run
{

/* How the ledger names the next run of a job. */
inline bgworker::ledger::Run run_of(const JobRow &row, TimestampTz started_at = 0)
{
    return {MyDatabaseId,
            static_cast<int16>(row.attempts()),
            static_cast<int16>(row.free_retries()),
            row.id(),
            DatumGetTimestampTz(row.get(Column::kCreatedAt)),
            started_at};
}

/* Writes a run into the ledger for the time of its life. Should a hook run jobs in the middle of
 * another one, that one answers for all. */
class InLedger
{
  public:
    InLedger(const JobRow &row, TimestampTz started_at)
        : is_outermost_(!bgworker::ledger::is_in_run())
    {
        if (is_outermost_)
            bgworker::ledger::begin_run(run_of(row, started_at));
    }
    ~InLedger()
    {
        if (is_outermost_)
            bgworker::ledger::end_run();
    }
    InLedger(const InLedger &) = delete;
    InLedger &operator=(const InLedger &) = delete;

    /* At the end of the run: a handler that sent SIGTERM to its own process must die now, while it
     * is its job that runs. */
    void check_end() const;

  private:
    const bool is_outermost_;
};

enum class Charged {
    kYes,
    kNo,    /* the job is gone or has changed since: nothing is to be charged */
    kLater, /* a transaction is changing its row */
};

/* Counts the run as a failed attempt, in the current transaction, and says so in the log. */
Charged charge(const bgworker::ledger::Entry &entry);

} // namespace backfill::queue::lost_run
