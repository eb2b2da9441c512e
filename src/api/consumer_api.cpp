/* consumer_api.cpp - SQL functions for external consumers. */
#include "backfill/call/run_job.hpp"
#include "backfill/clock.hpp"
#include "backfill/consumers/claim.hpp"
#include "backfill/consumers/lease.hpp"
#include "backfill/core/retry_policy.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/waiting.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/signals.hpp"

using namespace backfill;

namespace
{

constexpr int kMaxClaim = 10000;
constexpr std::size_t kMaxWorkerName = 256;
constexpr double kLongestLeaseDays = 366;
/* How often a session that waits looks for jobs that were not announced. */
constexpr long kLookAgainMs = 5000;

template <class Value> Value require(const char *argument, std::optional<Value> value)
{
    if (!value)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, std::string(argument) + " must not be null");
    return *value;
}

/* Between a minimum and a maximum; microseconds. */
int64 check_interval(const char *argument, const Interval *interval, int64 at_least_us,
                     double at_most_days, const char *range)
{
    if (interval == nullptr)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, std::string(argument) + " must not be null");
    const double days = pg::approximate_days(*interval);
    if (days < 0 || days > at_most_days || pg::to_microseconds(*interval) < at_least_us)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " is out of range: " + pg::to_text(*interval), range);
    return pg::to_microseconds(*interval);
}

int64 check_lease(const Interval *lease)
{
    return check_interval("lease", lease, 1000, kLongestLeaseDays,
                          "It must be between 1 millisecond and 366 days.");
}

std::optional<std::vector<std::string>> text_array(const pg::Arguments &arguments, int n)
{
    const auto elements = arguments.array(n, TEXTOID);
    if (!elements)
        return std::nullopt;
    std::vector<std::string> result;
    for (int i = 0; i < elements->count; i++)
        if (!elements->nulls[i])
            result.push_back(pg::to_string(elements->values[i]));
    return result;
}

std::vector<int64> job_ids(const pg::Arguments &arguments)
{
    return require("job_ids", arguments.int8_array(0));
}

Datum return_ids(FunctionCallInfo fcinfo, const std::vector<int64> &ids)
{
    pg::ResultSet result(fcinfo);
    for (const int64 id : ids) {
        const Datum value = Int64GetDatum(id);
        const bool is_null = false;
        result.add(&value, &is_null);
    }
    return result.finish();
}

/* A job's own permit in its queue could be taken for free. */
void prevent_in_job(const char *function)
{
    if (queue::is_running_job())
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
             std::string("a job cannot call ") + function);
}

void check_worker(std::string_view worker)
{
    if (worker.empty() || worker.size() > kMaxWorkerName)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "worker must have between 1 and " + std::to_string(kMaxWorkerName) + " bytes: \"" +
                 pg::shortened(worker) + "\"",
             {}, "Use a name that tells the consumer, such as its host and process id.");
}

std::string_view outcome_name(std::optional<core::Fate> fate)
{
    if (!fate || *fate == core::Fate::kCancelled)
        return "lost";
    return core::info(*fate).is_end() ? core::info(*fate).outcome : "retry";
}

} // namespace

BACKFILL_FUNCTION(backfill_claim_jobs)
{
    const pg::Arguments arguments(fcinfo);
    prevent_in_job("claim_jobs()");
    pg::prevent_if_read_only("claim_jobs()");
    queue::ClaimRequest request;
    request.worker = queue::require_text("worker", arguments.text(0));
    check_worker(request.worker);
    request.limit = require("max_jobs", arguments.int4(1));
    request.filter.tasks = text_array(arguments, 2);
    request.filter.queues = text_array(arguments, 3);
    if (request.limit < 1 || request.limit > kMaxClaim)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "max_jobs is out of range: " + std::to_string(request.limit),
             "It must be between 1 and " + std::to_string(kMaxClaim) + ".");
    request.lease_us = check_lease(arguments.interval(4));

    using queue::Column;
    const std::vector<queue::JobRow> jobs = queue::claim_jobs(request);
    pg::ResultSet result(fcinfo);
    for (const queue::JobRow &row : jobs) {
        const Datum values[] = {
            row.get(Column::kId),
            row.get(Column::kTaskIdentifier),
            row.get(Column::kPayload),
            row.get(Column::kQueueName),
            row.get(Column::kPriority),
            row.get(Column::kRunAt),
            Int32GetDatum(row.attempts() + 1),
            Int32GetDatum(row.max_attempts()),
            row.get(Column::kJobKey),
            row.get(Column::kLastError),
            row.get(Column::kCreatedAt),
            row.get(Column::kLeaseExpiresAt),
            row.get(Column::kClaimToken),
            row.get(Column::kHeaders),
        };
        bool nulls[std::size(values)] = {};
        nulls[3] = row.text_or_empty(Column::kQueueName).empty();
        nulls[8] = row.is_null(Column::kJobKey);
        nulls[9] = row.is_null(Column::kLastError);
        nulls[13] = row.is_null(Column::kHeaders);
        result.add(values, nulls);
    }
    return result.finish();
}

BACKFILL_FUNCTION(backfill_heartbeat)
{
    const pg::Arguments arguments(fcinfo);
    pg::prevent_if_read_only("heartbeat()");
    const int64 token = require("claim_token", arguments.int8(0));
    return return_ids(fcinfo, queue::leases::renew(token, check_lease(arguments.interval(1))));
}

BACKFILL_FUNCTION(backfill_complete_claimed_jobs)
{
    const pg::Arguments arguments(fcinfo);
    pg::prevent_if_read_only("complete_jobs()");
    const int64 token = require("claim_token", arguments.int8(1));
    return return_ids(fcinfo, queue::leases::complete(job_ids(arguments), token));
}

BACKFILL_FUNCTION(backfill_release_jobs)
{
    const pg::Arguments arguments(fcinfo);
    pg::prevent_if_read_only("release_jobs()");
    const int64 token = require("claim_token", arguments.int8(1));
    return return_ids(fcinfo, queue::leases::release(job_ids(arguments), token));
}

BACKFILL_FUNCTION(backfill_snooze_job)
{
    const pg::Arguments arguments(fcinfo);
    pg::prevent_if_read_only("snooze_job()");
    const int64 id = require("job_id", arguments.int8(0));
    const int64 token = require("claim_token", arguments.int8(1));
    const int64 delay_us =
        check_interval("delay", arguments.interval(2), 0,
                       static_cast<double>(core::kLongestDelayUs / USECS_PER_DAY), // 36500 days
                       "It must be between 0 and 36500 days.");
    return BoolGetDatum(queue::leases::snooze(id, token, delay_us));
}

BACKFILL_FUNCTION(backfill_fail_job)
{
    const pg::Arguments arguments(fcinfo);
    pg::prevent_if_read_only("fail_job()");
    const int64 id = require("job_id", arguments.int8(0));
    const int64 token = require("claim_token", arguments.int8(1));
    const auto error = queue::require_text("error", arguments.text(2));
    const auto permanent =
        arguments.is_null(3) ? std::nullopt : std::optional(DatumGetBool(arguments.datum(3)));
    return pg::from_text(outcome_name(queue::leases::fail(id, token, error, permanent)));
}

/* Leases that ran out longer ago than the argument says. */
BACKFILL_FUNCTION(backfill_expire_leases)
{
    pg::prevent_if_read_only("release_stale_job_locks()");
    const pg::Arguments arguments(fcinfo);
    const Interval *age = arguments.interval(0);
    const TimestampTz now = clock::now();
    if (age == nullptr)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "older_than must not be null");
    const int64 age_us = check_interval("older_than", age, 0, kLongestLeaseDays * 100,
                                        "It must be between 0 and 36600 days.");
    (void) queue::leases::release_orphaned(queue::Transaction::kCallers);
    return Int64GetDatum(queue::leases::expire(PG_INT64_MIN, now - age_us, PG_INT32_MAX,
                                               queue::Transaction::kCallers)
                             .jobs);
}

BACKFILL_FUNCTION(backfill_take_leases)
{
    pg::prevent_if_read_only("force_unlock_workers()");
    const auto workers = text_array(pg::Arguments(fcinfo), 0);
    return Int64GetDatum(queue::leases::take_away(workers.value_or(std::vector<std::string>())));
}

/* --- wait_for_jobs ----------------------------------------------------------------- */

namespace
{

/* Holds no snapshot while it sleeps. */
bool wait_until_claimable(const queue::ClaimFilter &filter, TimestampTz deadline)
{
    for (;;) {
        /* First, so that what becomes ready while we look wakes us. */
        if (bgworker::available())
            pg::call(
                [] { ConditionVariablePrepareToSleep(&bgworker::lock_free_state().consumers); });
        const bool claimable = queue::is_any_claimable(filter);
        pg::call([] { SPI_commit(); });
        const TimestampTz now = GetCurrentTimestamp();
        if (claimable || now >= deadline)
            return claimable;
        const bool told = bgworker::available() && bgworker::has_dispatcher(MyDatabaseId);
        pg::nap(bgworker::available() ? &bgworker::lock_free_state().consumers : nullptr,
                Min(TimestampDifferenceMilliseconds(now, deadline) + 1,
                    told ? kLookAgainMs : guc::poll_interval_ms));
    }
}

} // namespace

BACKFILL_FUNCTION(backfill_wait_for_jobs)
{
    const pg::Arguments arguments(fcinfo);
    pg::require_top_level_call(fcinfo, "wait_for_jobs()");
    pg::prevent_if_read_only("wait_for_jobs()");
    const int64 timeout_us = check_interval("timeout", arguments.interval(0), 0, 24,
                                            "It must be between 0 and 24 days.");
    const queue::ClaimFilter filter{.queues = text_array(arguments, 2),
                                    .tasks = text_array(arguments, 1)};

    pg::call([] { SPI_connect_ext(SPI_OPT_NONATOMIC); });
    const bool ready = wait_until_claimable(filter, GetCurrentTimestamp() + timeout_us);
    pg::call([] {
        if (bgworker::available())
            ConditionVariableCancelSleep();
        SPI_finish();
    });
    const Datum value = BoolGetDatum(ready);
    const bool is_null = false;
    return pg::make_row(fcinfo, &value, &is_null);
}
