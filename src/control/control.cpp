/* control.cpp - see control.hpp. */
#include "backfill/control/control.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/config/job_rights.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/enqueue/headers.hpp"
#include "backfill/enqueue/job_key.hpp"
#include "backfill/enqueue/producer_locks.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/settle/dead_letter.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/settle/settle.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue::control
{

namespace
{

constexpr std::string_view kNoAttemptsLeft = "no attempts left";

/* In one order everywhere, so that two calls never wait for each other; each once. */
std::vector<int64> in_order(std::vector<int64> ids)
{
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
}

struct Taken {
    bool exists = false;             /* a job with this id waits, runs or is leased */
    std::optional<TakenJob> waiting; /* it waited, and is out of the table now */
};

Taken take_waiting(JobTable &table, int64 id)
{
    for (;;) {
        pg::call([] {
            CHECK_FOR_INTERRUPTS();
            CommandCounterIncrement(); /* what this command has removed is not found again */
        });
        const std::vector<FoundJob> rows = table.find_by_id(id);
        if (rows.empty())
            return {};
        const FoundJob &job = rows.front();
        if (!job.row.is_null(Column::kLeaseExpiresAt))
            return {true, std::nullopt};
        Take taken = take(table, job);
        if (taken.job || taken.is_busy)
            return {true, std::move(taken.job)};
        /* It has been changed meanwhile: look again. */
    }
}

const Task *task_of(const JobRow &row)
{
    return config()->find_task(row.task_identifier());
}

/* A waiting job, out of the table, ends without a run. */
void end_unrun(JobTable &table, TakenJob &job)
{
    (void) settle(table, *config(), job, ending::removed());
}

int64 bury_taken(JobTable &table, TakenJob &job, std::string_view reason)
{
    return settle(table, *config(), job, ending::buried(job.row, reason)).letter;
}

/* Calls with_waiting(job) for each job that waits, which is out of the table then, and returns the
 * dead letters of those that are not there at all. */
template <class WithWaiting>
std::vector<JobRow> take_all(JobTable &table, std::vector<int64> ids, WithWaiting &&with_waiting)
{
    std::vector<int64> not_there;
    for (const int64 id : in_order(std::move(ids))) {
        Taken job = take_waiting(table, id);
        if (job.waiting)
            with_waiting(*job.waiting);
        else if (!job.exists)
            not_there.push_back(id);
    }
    return dead_letter::lock_by_job(not_there);
}

void append(std::vector<JobRow> &result, const std::vector<JobRow> &rows)
{
    result.insert(result.end(), rows.begin(), rows.end());
}

void apply(JobRow &row, const Changes &changes)
{
    if (changes.run_at)
        row.set(Column::kRunAt, TimestampTzGetDatum(*changes.run_at));
    for (const auto &[column, value] : {std::pair{Column::kPriority, changes.priority},
                                        std::pair{Column::kAttempts, changes.attempts},
                                        std::pair{Column::kMaxAttempts, changes.max_attempts}})
        if (value)
            row.set(column, Int16GetDatum(static_cast<int16>(*value)));
}

void apply(JobRow &row, const Update &update)
{
    apply(row, update.changes);
    if (update.payload != 0)
        row.set(Column::kPayload, update.payload);
    if (update.queue_name)
        row.set(Column::kQueueName, pg::from_text(*update.queue_name));
    if (update.timeout_ms)
        row.set(Column::kTimeoutMs, Int32GetDatum(*update.timeout_ms));
    if (update.retry_policy == kDefaultPolicy)
        row.set_null(Column::kRetryPolicy);
    else if (update.retry_policy)
        row.set(Column::kRetryPolicy, pg::from_text(*update.retry_policy));
    if (update.headers == 0)
        return;
    row.set_null(Column::kHeaders);
    if (const Datum headers = kept_headers(update.headers); headers != 0)
        row.set(Column::kHeaders, headers);
}

bool has_attempts_left(const JobRow &row)
{
    return row.attempts() < row.max_attempts();
}

void insert(JobTable &table, const JobRow &row)
{
    table.insert(row);
    wake::announce_job(row, task_of(row), clock::now());
    pg::call([] { CommandCounterIncrement(); });
}

/* A dead job waits again, unless another one has its id or key by now. */
bool revive(JobTable &table, const JobRow &row)
{
    if (!table.find_by_id(row.id()).empty() ||
        (!row.is_null(Column::kJobKey) && is_key_taken(table, row.text_or_empty(Column::kJobKey))))
        return false;
    allow_retry(row.id());
    insert(table, row);
    stats::note_requeued(row);
    dead_letter::note_requeued(row);
    return true;
}

} // namespace

std::vector<JobRow> complete(std::vector<int64> ids)
{
    JobTable table;
    std::vector<JobRow> result;
    const std::vector<JobRow> dead = take_all(table, std::move(ids), [&](TakenJob &job) {
        end_unrun(table, job);
        result.push_back(job.row);
    });
    dead_letter::remove(dead);
    append(result, dead);
    table.close();
    return result;
}

std::vector<JobRow> fail_for_good(std::vector<int64> ids, std::string_view message)
{
    const std::string reason = pg::kept_error_text(message);
    pg::JsonbObject error;
    error.add_text("message", reason);
    const Datum last_error = error.finish();
    const auto as_dead = [&](JobRow row) {
        row.set(Column::kLastError, last_error);
        row.set(Column::kAttempts, row.get(Column::kMaxAttempts));
        return row;
    };
    JobTable table;
    std::vector<JobRow> result;
    const std::vector<JobRow> dead = take_all(table, std::move(ids), [&](TakenJob &job) {
        job.row.set(Column::kLastError, last_error);
        (void) bury_taken(table, job, reason);
        result.push_back(as_dead(job.row));
    });
    for (const JobRow &row : dead) {
        dead_letter::change_reason(row, reason, last_error);
        result.push_back(as_dead(row));
    }
    table.close();
    return result;
}

std::vector<Changed> reschedule(std::vector<int64> ids, const Changes &changes)
{
    JobTable table;
    std::vector<Changed> result;
    const std::vector<JobRow> dead = take_all(table, std::move(ids), [&](TakenJob &job) {
        result.push_back({job.row, job.row});
        apply(job.row, changes);
        if (has_attempts_left(job.row))
            put_back(table, *config(), job, job.row);
        else
            (void) bury_taken(table, job, kNoAttemptsLeft);
        result.back().after = job.row;
    });
    std::vector<Changed> letters;
    std::vector<std::string_view> keys;
    for (const JobRow &row : dead) {
        Changed &letter = letters.emplace_back(Changed{row, row});
        apply(letter.after, changes);
        if (has_attempts_left(letter.after) && !row.is_null(Column::kJobKey))
            keys.push_back(row.text_or_empty(Column::kJobKey));
    }
    lock_job_keys(std::move(keys));
    for (const Changed &letter : letters) {
        if (!has_attempts_left(letter.after))
            dead_letter::change_settings(letter.after);
        else if (!revive(table, letter.after))
            continue;
        result.push_back(letter);
    }
    table.close();
    return result;
}

std::optional<Changed> update(int64 id, const Update &update)
{
    JobTable table;
    /* First: it waits for producers of the queue, and until then executors may have the job. */
    const int max_depth =
        update.queue_name ? lock_queue_depth(*update.queue_name, table).max_depth : 0;
    std::optional<Changed> result;
    if (Taken job = take_waiting(table, id); job.waiting) {
        JobRow row = job.waiting->row;
        apply(row, update);
        if (update.changes.max_attempts && !has_attempts_left(row))
            fail(ERRCODE_INVALID_PARAMETER_VALUE,
                 "max_attempts is too low: " + std::to_string(row.max_attempts()),
                 "Job " + std::to_string(id) + " has had " + std::to_string(row.attempts()) +
                     " attempts.",
                 "To end it, call backfill.cancel_job() or backfill.add_to_dlq().");
        const std::string_view queue_name = row.text_or_empty(Column::kQueueName);
        if (max_depth > 0 && queue_name != job.waiting->row.text_or_empty(Column::kQueueName))
            check_room(queue_name, table.count_in_queue(queue_name, max_depth), max_depth);
        put_back(table, *config(), *job.waiting, row);
        result = {job.waiting->row, row};
    }
    table.close();
    return result;
}

std::vector<JobRow> remove(std::string_view job_key)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    std::vector<JobRow> removed;
    std::vector<JobRow> running;
    lock_job_key(job_key);
    for (const FoundJob &job : table.find_by_key(job_key)) {
        if (why_no_retry(job.row.id()))
            continue; /* it has lost its key already */
        job_rights::check_key(*current, job.row.task_identifier(), job_key);
        Taken taken = take_waiting(table, job.row.id());
        if (taken.waiting) {
            end_unrun(table, *taken.waiting);
            removed.push_back(taken.waiting->row);
        } else if (taken.exists) {
            running.push_back(job.row);
        }
    }
    if (removed.empty()) {
        for (const JobRow &row : running)
            forbid_retry(row.id(), core::Fate::kSuperseded);
        removed = std::move(running);
    }
    if (removed.empty()) {
        for (const JobRow &row : dead_letter::lock_by_key(job_key))
            if (job_rights::may_use_key(*current, row.task_identifier()) &&
                table.find_by_id(row.id()).empty())
                removed.push_back(row);
        dead_letter::remove(removed);
    }
    table.close();
    return removed;
}

std::optional<int64> bury(int64 id, std::string_view reason, Datum last_error)
{
    JobTable table;
    std::optional<int64> letter;
    Taken job = take_waiting(table, id);
    if (job.waiting) {
        if (last_error != 0)
            job.waiting->row.set(Column::kLastError, last_error);
        letter = bury_taken(table, *job.waiting, reason);
    }
    table.close();
    return letter;
}

} // namespace backfill::queue::control
