/* hooks.hpp - users' functions that are called at certain moments of a job's life.
 *
 * A hook is a function f(event jsonb). It runs in the session to which the moment belongs,
 * that of the producer (before_job_schedule) or an executor, but as the role that registered it
 * and with the search_path of then: neither gets at the other's rights.
 * The deciding ones (before_job_schedule, before_job_run, after_job_run) return jsonb,
 * {"action": ...}, or NULL to continue; what they raise fails the enqueue or the job.
 * The others only watch: their errors are logged and change nothing. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/core/hook_event.hpp"
#include "backfill/core/sqlstates.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::hooks
{

struct Decision {
    enum class Action { kContinue, kSkip, kFail, kRetry };
    Action action = Action::kContinue;
    std::string reason;           /* kFail */
    std::string refused_by;       /* kFail: which hook; the error's detail names it */
    int64 delay_us = 0;           /* kRetry */
    std::optional<Datum> payload; /* kContinue, before_job_schedule: the new one */
};

/* A hook refused the job. */
inline constexpr int kErrorRefused = pg::error_code(core::sqlstate::kRefusedByHook);

/* Nothing below costs anything but this if there is no hook. */
inline bool any(const Config &config, core::HookEvent event)
{
    return !config.hooks(event).empty();
}

/* Whether a hook runs in this process just now. */
bool is_calling() noexcept;

/* The event's "job" member. */
Datum describe(const JobRow &row);

/* Calls the deciding hooks of an event in turn, until one does not say continue; a changed
 * payload reaches the next hook. error is null unless the job has failed. */
Decision decide(const Config &config, core::HookEvent event, const JobRow &row,
                const core::ErrorInfo *error = nullptr);

/* Calls the watching hooks of an event, each in a subtransaction. row may be null. */
void notify(const Config &config, core::HookEvent event, const JobRow *row,
            const core::ErrorInfo *error = nullptr);

/* The same for cron_tick: those of every task and of the schedule's own. `schedule` is the
 * event's member of that name. */
void notify_tick(const Config &config, std::string_view task_identifier, Datum schedule);

} // namespace backfill::queue::hooks
