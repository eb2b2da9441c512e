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
enum class Field {
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
    {Field::kId, Column::kId},
    {Field::kTaskIdentifier, Column::kTaskIdentifier},
    {Field::kPayload, Column::kPayload},
    {Field::kPriority, Column::kPriority},
    {Field::kRunAt, Column::kRunAt},
    {Field::kAttempts, Column::kAttempts},
    {Field::kMaxAttempts, Column::kMaxAttempts},
    {Field::kJobKey, Column::kJobKey},
    {Field::kLastError, Column::kLastError},
    {Field::kWorker, Column::kWorker},
    {Field::kCreatedAt, Column::kCreatedAt},
    {Field::kFlags, Column::kFlags},
    {Field::kHeaders, Column::kHeaders},
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
        job.values[static_cast<int>(field)] = value;
        job.nulls[static_cast<int>(field)] = false;
    };
    for (const auto &[field, column] : kCopied)
        if (!shown.is_null(column))
            set(field, shown.get(column));
    if (!shown.text_or_empty(Column::kQueueName).empty())
        set(Field::kQueueName, shown.get(Column::kQueueName));
    set(Field::kPriorityBand, pg::from_text(core::priority_band(shown.priority())));
    set(Field::kRetryPolicy, pg::from_text(policy_name(shown)));
    if (state != JobState::kGone)
        set(Field::kState, pg::from_text(kStateNames[static_cast<int>(state)]));
    if (!shown.is_null(Column::kLeaseExpiresAt) && !shown.is_in_executor())
        set(Field::kLeaseExpiresAt, shown.get(Column::kLeaseExpiresAt));
    if (!shown.is_null(Column::kTimeoutMs))
        set(Field::kTimeout, PointerGetDatum(pg::from_microseconds(
                                 int64{1000} * DatumGetInt32(shown.get(Column::kTimeoutMs)))));
    return job;
}

} // namespace backfill::queue
