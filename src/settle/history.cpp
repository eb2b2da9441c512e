/* history.cpp - see history.hpp. */
#include "backfill/settle/history.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/ended_jobs.hpp"
#include "backfill/pg/own_table.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue::job_end
{

namespace
{

/* This many failed attempts of a job are kept, the last ones. */
constexpr int kKeptAttempts = 20;

/* The columns of backfill.job_history. */
enum HistoryColumn {
    kJobId,
    kFinishedAt,
    kKeepUntil,
    kCreatedAt,
    kStartedAt,
    kPriority,
    kAttempt,
    kMaxAttempts,
    kOutcome,
    kTaskIdentifier,
    kQueueName,
    kJobKey,
    kWorker,
    kError,
    kResult,
    kHeaders,
    kHistoryColumns
};
constexpr pg::OwnColumn kOwnColumns[] = {
    {"job_id", INT8OID, true},
    {"finished_at", TIMESTAMPTZOID, true},
    {"keep_until", TIMESTAMPTZOID, true},
    {"created_at", TIMESTAMPTZOID, true},
    {"started_at", TIMESTAMPTZOID, false},
    {"priority", INT2OID, true},
    {"attempt", INT2OID, true},
    {"max_attempts", INT2OID, true},
    {"outcome", TEXTOID, true},
    {"task_identifier", TEXTOID, true},
    {"queue_name", TEXTOID, false},
    {"job_key", TEXTOID, false},
    {"worker", TEXTOID, false},
    {"error", JSONBOID, false},
    {"result", JSONBOID, false},
    {"headers", JSONBOID, false},
};
static_assert(std::size(kOwnColumns) == kHistoryColumns);
constinit pg::OwnTable own_table("job_history", kOwnColumns);

struct HistoryRow {
    Datum values[kHistoryColumns] = {};
    bool nulls[kHistoryColumns];

    HistoryRow() { std::fill(std::begin(nulls), std::end(nulls), true); }
    void set(HistoryColumn column, Datum value)
    {
        values[column] = value;
        nulls[column] = false;
    }
    void copy(HistoryColumn column, const JobRow &row, Column source)
    {
        if (!row.is_null(source))
            set(column, row.get(source));
    }
};

std::string worker_name(const JobRow &row, const Runner &runner)
{
    if (!runner.worker.empty())
        return runner.worker;
    if (!row.is_null(Column::kWorker)) /* an external consumer */
        return pg::to_string(row.get(Column::kWorker));
    /* "executor 42", as the view backfill.workers has it. */
    constexpr std::string_view kOurs = "backfill ";
    const std::string_view type = MyBgworkerEntry != nullptr ? MyBgworkerEntry->bgw_type : "";
    const bool is_ours = type.substr(0, kOurs.size()) == kOurs;
    return std::string(is_ours ? type.substr(kOurs.size()) : "session") + " " +
           std::to_string(MyProcPid);
}

/* Below SQL, like the jobs themselves: the caller needs no rights. */
void write(const HistoryRow &row)
{
    Relation table = own_table.open(RowExclusiveLock);
    own_table.insert(table, row.values, row.nulls);
    pg::call([&] { table_close(table, NoLock); });
}

void record(const Task &task, const JobRow &row, std::string_view outcome, const LastRun &run)
{
    const TimestampTz now = clock::now();
    HistoryRow history;
    history.copy(kJobId, row, Column::kId);
    history.set(kFinishedAt, TimestampTzGetDatum(now));
    history.set(kKeepUntil, TimestampTzGetDatum(now + task.keep_history_us));
    history.copy(kCreatedAt, row, Column::kCreatedAt);
    if (run.runner.started_at != 0)
        history.set(kStartedAt, TimestampTzGetDatum(run.runner.started_at));
    history.copy(kPriority, row, Column::kPriority);
    const int attempt = run.attempt > 0 ? run.attempt : row.attempts();
    history.set(kAttempt, Int16GetDatum(static_cast<int16>(attempt)));
    history.copy(kMaxAttempts, row, Column::kMaxAttempts);
    history.set(kOutcome, pg::from_text(outcome));
    history.copy(kTaskIdentifier, row, Column::kTaskIdentifier);
    if (!row.text_or_empty(Column::kQueueName).empty())
        history.copy(kQueueName, row, Column::kQueueName);
    history.copy(kJobKey, row, Column::kJobKey);
    if (run.attempt > 0)
        history.set(kWorker, pg::from_text(worker_name(row, run.runner)));
    if (run.failed)
        history.copy(kError, row, Column::kLastError);
    if (run.result)
        history.set(kResult, *run.result);
    history.copy(kHeaders, row, Column::kHeaders);
    write(history);
}

/* A job may be retried for ever at no cost. */
void forget_old_attempts(const JobRow &row)
{
    const pg::Param params[] = {pg::int8_param(row.id()), pg::int4_param(kKeptAttempts)};
    (void) pg::execute_as_owner(
        "DELETE FROM backfill.job_history h"
        " WHERE h.job_id = $1 AND h.outcome = 'retried' AND h.finished_at <="
        "   (SELECT o.finished_at FROM backfill.job_history o"
        "     WHERE o.job_id = $1 AND o.outcome = 'retried'"
        "     ORDER BY o.finished_at DESC OFFSET $2 LIMIT 1)",
        params);
}

} // namespace

bool keeps_history(const Task *task)
{
    return task != nullptr && task->keep_history_us > 0;
}

void note(const Task *task, const JobRow &row, core::Fate fate, const LastRun &run)
{
    const core::FateInfo &info = core::info(fate);
    if (info.is_end())
        ended_jobs::note(row.id(), fate);
    if (info.outcome.empty() || !keeps_history(task))
        return;
    record(*task, row, info.outcome, run);
    if (!info.is_end() && run.attempt + row.free_retries() > kKeptAttempts) {
        pg::call([] { CommandCounterIncrement(); });
        forget_old_attempts(row);
    }
}

int trim_history(int limit)
{
    const pg::Param params[] = {pg::int8_param(limit), pg::time_param(clock::now())};
    return static_cast<int>(
        pg::execute_as_owner("DELETE FROM backfill.job_history h WHERE h.ctid = ANY (ARRAY("
                             "   SELECT o.ctid FROM backfill.job_history o"
                             "    WHERE o.keep_until <= $2"
                             "    ORDER BY o.keep_until LIMIT $1))",
                             params)
            .rows);
}

} // namespace backfill::queue::job_end
