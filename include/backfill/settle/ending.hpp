/* ending.hpp - how a job's time out of the table ends, as the process knows it that has taken the
 * job: what settle() is told. */
#pragma once

#include "backfill/call/run_job.hpp"
#include "backfill/config/config.hpp"
#include "backfill/settle/history.hpp"

namespace backfill::queue
{

/* What of the run has been counted so far. */
enum class Counted {
    kNoRun,
    kNothing, /* it left no trace, its start included */
    kStart,   /* by the claim */
    kOwnRun,  /* nothing: it was in this process, which knows its times */
};

/* Which hooks are told. */
enum class Tells {
    kNobody,
    kEnd,     /* those of the job's end */
    kFailure, /* and job_fail, if the run has failed */
    kOwnRun,  /* and after_job_run, which this process asks after a success */
};

struct Ending {
    core::Fate fate; /* unless the job was cancelled or has lost its key meanwhile */
    Counted counted = Counted::kNoRun;
    Tells tells = Tells::kNobody;
    job_end::LastRun run = {}; /* failed: by `error`, which becomes the row's last one */
    TimestampTz started = 0;
    TimestampTz ended = 0;
    std::optional<core::ErrorInfo> error = std::nullopt;
    std::optional<int64> delay_us =
        std::nullopt;        /* of a job that is put back; absent: to its old place */
    std::string reason = {}; /* for the dead letter */
    bool attempt_is_counted = false;
    bool is_lost = false;     /* its consumer was not heard of in time */
    bool by_operator = false; /* of a waiting job: without a letter, its letter goes, too */
};

namespace ending
{

/* After a run in this process, however it went. */
Ending after_run(const Config &config, const JobRow &row, const RunResult &run, TimestampTz started,
                 TimestampTz ended);
/* Of a run whose effects are rolled back. The error is classified by its SQLSTATE, or as given:
 * the job runs again later with one attempt more, or becomes a dead letter. */
Ending failure(const Config &config, const JobRow &row, const core::ErrorInfo &error,
               const job_end::Runner &runner = {});
Ending failure(const Config &config, const JobRow &row, const core::ErrorInfo &error,
               core::ErrorClass error_class, const job_end::Runner &runner = {});
/* Of a job whose run left no trace, or that cannot be run. */
Ending lost_run(const Config &config, const JobRow &row, const core::ErrorInfo &error,
                const job_end::Runner &runner = {});
/* Of a leased job whose consumer was not heard of in time: one attempt more, and it is ready again
 * at once, or in the dead letter queue. */
Ending lost_lease(const JobRow &row);
/* Of a job that is not run to its end, and costs nothing: in its old place, or after a delay. */
Ending released(Counted counted = Counted::kNoRun);
Ending snoozed(int64 delay_us);

/* A consumer says it of the job that it has leased. */
Ending completed_by_consumer(const JobRow &row);
Ending failed_for_consumer(const Config &config, const JobRow &row, std::string_view error,
                           std::optional<bool> permanent);

/* Of a job that waits or is leased: by cancel_job(). */
Ending cancelled(const JobRow &row);
/* Of a waiting one, by an operator: as if it were done; or into the dead letter queue. */
Ending removed();
Ending buried(const JobRow &row, std::string_view reason);

/* Whether a job that charge_unsettled() has put back has had its last run, by its last_error and
 * its attempts, and what is left to be done for it then. */
bool is_spent(const Config &config, const JobRow &row);
Ending spent(const Config &config, const JobRow &row);

} // namespace ending

} // namespace backfill::queue
