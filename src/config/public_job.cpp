/* public_job.cpp - see public_job.hpp. */
#include "backfill/config/public_job.hpp"

#include "backfill/clock.hpp"
#include "backfill/config/job_rights.hpp"
#include "backfill/core/priority.hpp"

namespace backfill::queue
{

namespace
{

/* Of the view backfill.jobs, in their order (sql/install/70_views.sql). */
enum Field {
    kId,
    kTaskIdentifier,
    kPayload,
    kQueueName,
    kPriority,
    kPriorityBand,
    kRunAt,
    kAttempts,
    kMaxAttempts,
    kJobKey,
    kRetryPolicy,
    kState,
    kLastError,
    kWorker,
    kLeaseExpiresAt,
    kTimeout,
    kCreatedAt,
    kProgress,
    kProgressMessage,
    kFlags,
    kHeaders,
};

/* Fields that are columns of the table. */
constexpr std::pair<Field, Column> kCopied[] = {
    {kId, Column::kId},
    {kTaskIdentifier, Column::kTaskIdentifier},
    {kPayload, Column::kPayload},
    {kPriority, Column::kPriority},
    {kRunAt, Column::kRunAt},
    {kAttempts, Column::kAttempts},
    {kMaxAttempts, Column::kMaxAttempts},
    {kJobKey, Column::kJobKey},
    {kLastError, Column::kLastError},
    {kWorker, Column::kWorker},
    {kCreatedAt, Column::kCreatedAt},
    {kFlags, Column::kFlags},
    {kHeaders, Column::kHeaders},
};

constexpr const char *kStateNames[] = {"scheduled", "ready", "running", "leased", "dead"};

} // namespace

JobState state_of(const JobRow &row)
{
    const TimestampTz now = clock::now();
    if (row.is_in_executor())
        return JobState::kRunning;
    if (!row.is_null(Column::kLeaseExpiresAt) &&
        DatumGetTimestampTz(row.get(Column::kLeaseExpiresAt)) > now)
        return JobState::kLeased;
    return DatumGetTimestampTz(row.get(Column::kRunAt)) > now ? JobState::kScheduled
                                                              : JobState::kReady;
}

PublicJob public_job(const JobRow &row, JobState state)
{
    const JobRow shown = job_rights::visible(row);
    PublicJob job{};
    std::fill(std::begin(job.nulls), std::end(job.nulls), true);
    const auto set = [&](Field field, Datum value) {
        job.values[field] = value;
        job.nulls[field] = false;
    };
    for (const auto &[field, column] : kCopied)
        if (!shown.is_null(column))
            set(field, shown.get(column));
    if (!shown.text_or_empty(Column::kQueueName).empty())
        set(kQueueName, shown.get(Column::kQueueName));
    set(kPriorityBand, pg::from_text(core::priority_band(shown.priority())));
    set(kRetryPolicy, pg::from_text(policy_name(shown)));
    if (state != JobState::kGone)
        set(kState, pg::from_text(kStateNames[static_cast<int>(state)]));
    if (!shown.is_null(Column::kLeaseExpiresAt) && !shown.is_in_executor())
        set(kLeaseExpiresAt, shown.get(Column::kLeaseExpiresAt));
    if (!shown.is_null(Column::kTimeoutMs))
        set(kTimeout, PointerGetDatum(pg::from_microseconds(
                          int64{1000} * DatumGetInt32(shown.get(Column::kTimeoutMs)))));
    return job;
}

} // namespace backfill::queue
