/* dead_letter.cpp - see dead_letter.hpp. */
#include "backfill/queue/dead_letter.hpp"

#include "backfill/pg/table.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue::dead_letter
{

namespace
{

/* A job without a queue has an empty name in its row, NULL in its letter. */
pg::Param queue_param(const JobRow &row)
{
    return {TEXTOID, row.get(Column::kQueueName), row.text_or_empty(Column::kQueueName).empty()};
}

pg::Param column_param(const JobRow &row, Column column, Oid type)
{
    return {type, row.get(column), row.is_null(column)};
}

/* Both statements take the parameters of write(), in its order, and set the same columns. The
 * letter of a requeued job is of the same task; what has replaced the job under its key since may
 * differ in all else. */
constexpr char kUpdate[] =
    "UPDATE backfill.dead_letter AS d"
    " SET original_job_id = $2, payload = $4, queue_name = $5, priority = $6, max_attempts = $8,"
    "     retry_policy = $9, failure_reason = $10, failure_count = d.failure_count + $11,"
    "     last_error = $12, original_run_at = $14, failed_at = backfill._now(),"
    "     timeout_ms = $15, flags = $16"
    " WHERE d.id = $1 AND d.task_identifier = $3"
    " RETURNING d.id";

constexpr char kInsert[] =
    "INSERT INTO backfill.dead_letter AS d (original_job_id, task_identifier, payload, queue_name,"
    "   priority, job_key, max_attempts, retry_policy, failure_reason, failure_count, last_error,"
    "   original_created_at, original_run_at, failed_at, timeout_ms, flags)"
    " VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,"
    "   backfill._now(), $15, $16)"
    " ON CONFLICT (job_key, task_identifier) WHERE job_key IS NOT NULL DO UPDATE"
    " SET original_job_id = excluded.original_job_id, payload = excluded.payload,"
    "     queue_name = excluded.queue_name, priority = excluded.priority,"
    "     max_attempts = excluded.max_attempts, retry_policy = excluded.retry_policy,"
    "     failure_reason = excluded.failure_reason,"
    "     failure_count = d.failure_count + excluded.failure_count,"
    "     last_error = excluded.last_error, original_run_at = excluded.original_run_at,"
    "     failed_at = excluded.failed_at, timeout_ms = excluded.timeout_ms,"
    "     flags = excluded.flags"
    " RETURNING d.id";

} // namespace

int64 write(const JobRow &row, std::string_view reason)
{
    const stats::OperationTimer timer(stats::Operation::kDlqAdd);
    const pg::Param params[] = {
        column_param(row, Column::kDeadLetterId, INT8OID),
        column_param(row, Column::kId, INT8OID),
        column_param(row, Column::kTaskIdentifier, TEXTOID),
        column_param(row, Column::kPayload, JSONBOID),
        queue_param(row),
        column_param(row, Column::kPriority, INT2OID),
        column_param(row, Column::kJobKey, TEXTOID),
        column_param(row, Column::kMaxAttempts, INT2OID),
        column_param(row, Column::kRetryPolicy, TEXTOID),
        {TEXTOID, pg::from_text(pg::kept_error_text(reason)), false},
        {INT4OID, Int32GetDatum(row.attempts()), false},
        column_param(row, Column::kLastError, JSONBOID),
        column_param(row, Column::kCreatedAt, TIMESTAMPTZOID),
        column_param(row, Column::kRunAt, TIMESTAMPTZOID),
        column_param(row, Column::kTimeoutMs, INT4OID),
        column_param(row, Column::kFlags, TEXTARRAYOID),
    };
    if (!row.is_null(Column::kDeadLetterId)) {
        const pg::StatementResult updated = pg::execute_as_owner(kUpdate, params);
        if (updated.has_value)
            return DatumGetInt64(updated.first_value);
    }
    return DatumGetInt64(pg::execute_as_owner(kInsert, params).first_value);
}

void forget(const JobRow &row)
{
    if (row.is_null(Column::kDeadLetterId) && row.is_null(Column::kJobKey))
        return;
    const stats::SettlingLetters settling;
    const pg::Param params[] = {
        column_param(row, Column::kDeadLetterId, INT8OID),
        column_param(row, Column::kJobKey, TEXTOID),
        column_param(row, Column::kId, INT8OID),
        column_param(row, Column::kTaskIdentifier, TEXTOID),
    };
    (void) pg::execute_as_owner(
        "WITH allowed AS (DELETE FROM backfill.no_retry n WHERE n.job_id = $3)"
        " DELETE FROM backfill.dead_letter d"
        " WHERE (d.id = $1 OR d.job_key = $2) AND d.task_identifier = $4",
        params);
}

} // namespace backfill::queue::dead_letter
