/* job_row.hpp - a row of backfill.job in memory.
 *
 * The columns in table order (sql/install/20_tables.sql), as datums that point into
 * palloc'd memory. Plain data, so that it may be used inside pg::call(). */
#pragma once

#include "backfill/pg/datum.hpp"

namespace backfill::queue
{

enum class Column : int {
    kId,
    kRunAt,
    kCreatedAt,
    kLeaseExpiresAt,
    kClaimToken,
    kDeadLetterId,
    kLeasePermit,
    kTimeoutMs,
    kPriority,
    kAttempts,
    kMaxAttempts,
    kFreeRetries,
    kTaskIdentifier,
    kQueueName,
    kRetryPolicy,
    kJobKey,
    kWorker,
    kFlags,
    kLastError,
    kPayload,
    kHeaders,
    kCount
};
inline constexpr int kColumnCount = static_cast<int>(Column::kCount);

struct JobRow {
    Datum values[kColumnCount];
    bool nulls[kColumnCount];

    static JobRow empty()
    {
        JobRow row{};
        std::fill(std::begin(row.nulls), std::end(row.nulls), true);
        return row;
    }
    bool is_null(Column column) const { return nulls[static_cast<int>(column)]; }
    Datum get(Column column) const { return values[static_cast<int>(column)]; }
    void set(Column column, Datum value)
    {
        values[static_cast<int>(column)] = value;
        nulls[static_cast<int>(column)] = false;
    }
    void set_null(Column column) { nulls[static_cast<int>(column)] = true; }

    int64 id() const { return DatumGetInt64(get(Column::kId)); }
    int priority() const { return DatumGetInt16(get(Column::kPriority)); }
    int attempts() const { return DatumGetInt16(get(Column::kAttempts)); }
    int free_retries() const { return DatumGetInt16(get(Column::kFreeRetries)); }
    int max_attempts() const { return DatumGetInt16(get(Column::kMaxAttempts)); }
    std::string_view task_identifier() const { return pg::to_view(get(Column::kTaskIdentifier)); }
    /* A procedure's job that an executor of this server has claimed: its lease does not run out,
     * but is void when the executor is gone (procedure.hpp). */
    bool is_in_executor() const
    {
        return !is_null(Column::kLeaseExpiresAt) &&
               TIMESTAMP_IS_NOEND(DatumGetTimestampTz(get(Column::kLeaseExpiresAt)));
    }
    /* No consumer has it any more. */
    void clear_lease()
    {
        for (const Column column :
             {Column::kLeaseExpiresAt, Column::kClaimToken, Column::kLeasePermit, Column::kWorker})
            set_null(column);
    }
    /* Empty where the column is NULL. */
    std::string_view text_or_empty(Column column) const
    {
        return is_null(column) ? std::string_view() : pg::to_view(get(column));
    }
};

inline constexpr std::string_view kDefaultPolicy = "default";

/* The name of the job's retry policy; NULL in the table means the default one. */
inline std::string_view policy_name(const JobRow &row)
{
    return row.is_null(Column::kRetryPolicy) ? kDefaultPolicy
                                             : pg::to_view(row.get(Column::kRetryPolicy));
}

} // namespace backfill::queue
