/* dead_letter.cpp - see dead_letter.hpp. */
#include "backfill/settle/dead_letter.hpp"

#include "backfill/core/priority.hpp"
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

/* All three statements take the parameters of write(), in its order. What has replaced a requeued
 * job under its key may be of another task, which may have a letter with that key: the one that
 * the job was requeued from takes its place. */
constexpr char kMerge[] = "DELETE FROM backfill.dead_letter d"
                          " WHERE d.job_key = $7 AND d.task_identifier = $3 AND d.id <> $1"
                          "   AND EXISTS (SELECT FROM backfill.dead_letter l WHERE l.id = $1)"
                          " RETURNING d.task_identifier, d.queue_name, d.priority";

constexpr char kUpdate[] =
    "UPDATE backfill.dead_letter AS d"
    " SET original_job_id = $2, task_identifier = $3, payload = $4, queue_name = $5,"
    "     priority = $6, max_attempts = $8, retry_policy = $9, failure_reason = $10,"
    "     failure_count = d.failure_count + $11, last_error = $12, original_run_at = $14,"
    "     failed_at = backfill._now(), timeout_ms = $15, flags = $16,"
    "     headers = $17"
    " WHERE d.id = $1"
    " RETURNING d.id";

constexpr char kInsert[] =
    "INSERT INTO backfill.dead_letter AS d (original_job_id, task_identifier, payload, queue_name,"
    "   priority, job_key, max_attempts, retry_policy, failure_reason, failure_count, last_error,"
    "   original_created_at, original_run_at, failed_at, timeout_ms, flags, headers)"
    " VALUES ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,"
    "   backfill._now(), $15, $16, $17)"
    " ON CONFLICT (job_key, task_identifier) WHERE job_key IS NOT NULL DO UPDATE"
    " SET original_job_id = excluded.original_job_id, payload = excluded.payload,"
    "     queue_name = excluded.queue_name, priority = excluded.priority,"
    "     max_attempts = excluded.max_attempts, retry_policy = excluded.retry_policy,"
    "     failure_reason = excluded.failure_reason,"
    "     failure_count = d.failure_count + excluded.failure_count,"
    "     last_error = excluded.last_error, original_run_at = excluded.original_run_at,"
    "     failed_at = excluded.failed_at, timeout_ms = excluded.timeout_ms,"
    "     flags = excluded.flags, headers = excluded.headers"
    " RETURNING d.id";

/* Deletes letters whose jobs live on, or have succeeded. */
void delete_settled(const char *sql, std::span<const pg::Param> params)
{
    const pg::TableRows letters = pg::query_as_owner(sql, params);
    for (int i = 0; i < letters.count; i++) {
        const pg::TableRow &letter = letters.rows[i];
        stats::note_letter_settled(
            {pg::to_view(letter.values[0]),
             letter.nulls[1] ? std::string_view() : pg::to_view(letter.values[1]),
             core::priority_band(DatumGetInt16(letter.values[2]))});
    }
}

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
        pg::text_param(pg::kept_error_text(reason)),
        pg::int4_param(row.attempts()),
        column_param(row, Column::kLastError, JSONBOID),
        column_param(row, Column::kCreatedAt, TIMESTAMPTZOID),
        column_param(row, Column::kRunAt, TIMESTAMPTZOID),
        column_param(row, Column::kTimeoutMs, INT4OID),
        column_param(row, Column::kFlags, TEXTARRAYOID),
        column_param(row, Column::kHeaders, JSONBOID),
    };
    if (!row.is_null(Column::kDeadLetterId)) {
        if (!row.is_null(Column::kJobKey))
            delete_settled(kMerge, params);
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
    const pg::Param params[] = {
        column_param(row, Column::kDeadLetterId, INT8OID),
        column_param(row, Column::kJobKey, TEXTOID),
        column_param(row, Column::kId, INT8OID),
        column_param(row, Column::kTaskIdentifier, TEXTOID),
    };
    /* A job that has lost its key while it ran speaks for no other: not even in the letter that it
     * was requeued from, once that tells of the job which has got the key. */
    delete_settled("WITH allowed AS (DELETE FROM backfill.no_retry n WHERE n.job_id = $3)"
                   " DELETE FROM backfill.dead_letter d"
                   " WHERE (d.id = $1 OR d.job_key = $2 AND d.task_identifier = $4)"
                   "   AND (d.id = $1 AND d.original_job_id = $3"
                   "        OR NOT EXISTS (SELECT FROM backfill.no_retry n WHERE n.job_id = $3))"
                   " RETURNING d.task_identifier, d.queue_name, d.priority",
                   params);
}

namespace
{

pg::Param array_param(const std::vector<int64> &ids)
{
    return pg::call([&] {
        auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * (ids.size() + 1)));
        for (std::size_t i = 0; i < ids.size(); i++)
            values[i] = Int64GetDatum(ids[i]);
        ArrayType *array = construct_array(values, static_cast<int>(ids.size()), INT8OID,
                                           sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
        return pg::Param{INT8ARRAYOID, PointerGetDatum(array), false};
    });
}

std::vector<JobRow> lock(const pg::Param &job_ids, const pg::Param &job_key)
{
    constexpr char kSelect[] =
        "SELECT d.id, d.original_job_id, d.task_identifier, d.payload,"
        "       coalesce(d.queue_name, ''), d.priority, d.job_key, d.max_attempts,"
        "       d.retry_policy, d.last_error, d.original_created_at, d.original_run_at,"
        "       d.timeout_ms, d.flags, d.max_attempts, 0::smallint,"
        "       d.headers"
        "  FROM backfill.dead_letter d"
        " WHERE d.original_job_id = ANY ($1) OR d.job_key = $2"
        " ORDER BY d.id DESC FOR UPDATE SKIP LOCKED";
    constexpr Column kColumns[] = {
        Column::kDeadLetterId, Column::kId,        Column::kTaskIdentifier, Column::kPayload,
        Column::kQueueName,    Column::kPriority,  Column::kJobKey,         Column::kMaxAttempts,
        Column::kRetryPolicy,  Column::kLastError, Column::kCreatedAt,      Column::kRunAt,
        Column::kTimeoutMs,    Column::kFlags,     Column::kAttempts,       Column::kFreeRetries,
        Column::kHeaders,
    };
    const pg::Param params[] = {job_ids, job_key};
    const pg::TableRows rows = pg::query_as_owner(kSelect, params);
    std::vector<JobRow> jobs;
    for (int i = 0; i < rows.count; i++) {
        JobRow &job = jobs.emplace_back(JobRow::empty());
        for (std::size_t n = 0; n < std::size(kColumns); n++)
            if (!rows.rows[i].nulls[n])
                job.set(kColumns[n], rows.rows[i].values[n]);
    }
    return jobs;
}

} // namespace

std::vector<JobRow> lock_by_job(const std::vector<int64> &job_ids)
{
    if (job_ids.empty())
        return {};
    return lock(array_param(job_ids), pg::text_param(std::nullopt));
}

std::vector<JobRow> lock_by_key(std::string_view job_key)
{
    return lock({INT8ARRAYOID, 0, true}, pg::text_param(job_key));
}

void remove(const std::vector<JobRow> &letters)
{
    if (letters.empty())
        return;
    std::vector<int64> ids;
    for (const JobRow &letter : letters)
        ids.push_back(DatumGetInt64(letter.get(Column::kDeadLetterId)));
    const pg::Param param = array_param(ids);
    (void) pg::execute_as_owner("DELETE FROM backfill.dead_letter d WHERE d.id = ANY ($1)",
                                std::span(&param, 1));
}

void change_reason(const JobRow &letter, std::string_view reason, Datum last_error)
{
    const pg::Param params[] = {
        column_param(letter, Column::kDeadLetterId, INT8OID),
        pg::text_param(reason),
        pg::jsonb_param(last_error),
    };
    (void) pg::execute_as_owner("UPDATE backfill.dead_letter d"
                                "   SET failure_reason = $2, last_error = $3 WHERE d.id = $1",
                                params);
}

void change_settings(const JobRow &letter)
{
    const pg::Param params[] = {
        column_param(letter, Column::kDeadLetterId, INT8OID),
        column_param(letter, Column::kPriority, INT2OID),
        column_param(letter, Column::kRunAt, TIMESTAMPTZOID),
        column_param(letter, Column::kMaxAttempts, INT2OID),
    };
    (void) pg::execute_as_owner("UPDATE backfill.dead_letter d"
                                "   SET priority = $2, original_run_at = $3, max_attempts = $4"
                                " WHERE d.id = $1",
                                params);
}

void note_requeued(const JobRow &letter)
{
    const pg::Param id = column_param(letter, Column::kDeadLetterId, INT8OID);
    (void) pg::execute_as_owner("UPDATE backfill.dead_letter d"
                                "   SET requeued_count = d.requeued_count + 1,"
                                "       last_requeued_at = backfill._now()"
                                " WHERE d.id = $1",
                                std::span(&id, 1));
}

} // namespace backfill::queue::dead_letter
