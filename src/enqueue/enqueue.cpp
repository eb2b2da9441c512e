/* enqueue.cpp - see enqueue.hpp. */
#include "backfill/enqueue/enqueue.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/clock.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/config/job_rights.hpp"
#include "backfill/core/priority.hpp"
#include "backfill/enqueue/headers.hpp"
#include "backfill/enqueue/job_key.hpp"
#include "backfill/enqueue/producer_locks.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/no_retry.hpp"

#include <set>

namespace backfill::queue
{

namespace
{

std::shared_ptr<const Config> config_for_writing(const char *function)
{
    pg::prevent_if_read_only(function);
    return config();
}

template <class Explicit, class Own> Explicit first_of(const Explicit &given, const Own &own)
{
    if (given)
        return given;
    if (own)
        return Explicit(*own);
    return std::nullopt;
}

} // namespace

void check_room(std::string_view queue_name, int jobs, int max_depth)
{
    if (jobs >= max_depth)
        fail(kErrorQueueFull, "queue " + pg::in_quotes(queue_name) + " is full",
             "It has max_depth " + std::to_string(max_depth) + ", and as many jobs.",
             "Try again when jobs have been done, or raise the limit with backfill.set_queue().");
}

Enqueuer::Enqueuer(const char *function)
    : config_(config_for_writing(function)), now_(clock::transaction_start())
{
}

void Enqueuer::check(const JobSpec &spec) const
{
    check_task_identifier(spec.task_identifier);
    if (spec.queue_name)
        check_queue_name(*spec.queue_name);
    if (spec.priority)
        check_priority(*spec.priority);
    if (spec.max_attempts)
        check_max_attempts(*spec.max_attempts);
    if (spec.job_key)
        check_job_key(*spec.job_key);
    if (spec.retry_policy)
        check_retry_policy(*config_, *spec.retry_policy);
    if (spec.run_at)
        check_run_at(*spec.run_at);
    if (spec.headers != 0)
        check_headers(spec.headers);
    job_rights::check_enqueue(*config_, spec.task_identifier);
}

/* Empty: none. */
std::string_view Enqueuer::queue_of(const JobSpec &spec, const Task *task)
{
    if (spec.no_queue)
        return {};
    if (spec.queue_name)
        return *spec.queue_name;
    return task != nullptr && task->queue_name ? std::string_view(*task->queue_name)
                                               : kDefaultQueue;
}

void Enqueuer::lock_queues(std::span<const JobSpec> specs)
{
    std::set<std::string_view> queues;
    for (const JobSpec &spec : specs)
        queues.insert(queue_of(spec, config_->find_task(spec.task_identifier)));
    lock_queue_depths(queues, table_);
}

JobRow Enqueuer::make_row(const JobSpec &spec, const Task *task) const
{
    static const Task unregistered;
    const Task &own = task == nullptr ? unregistered : *task;
    const auto policy = first_of(spec.retry_policy, own.retry_policy);
    auto max_attempts = spec.max_attempts;
    if (!max_attempts && !spec.retry_policy)
        max_attempts = own.max_attempts;
    if (!max_attempts)
        max_attempts = policy_of(*config_, policy.value_or(kDefaultPolicy)).max_attempts;
    const int priority = first_of(spec.priority, own.priority).value_or(core::kPriorityBulkDefault);

    JobRow row = JobRow::empty();
    row.set(Column::kId, Int64GetDatum(spec.id ? *spec.id : JobTable::next_id()));
    row.set(Column::kRunAt, TimestampTzGetDatum(spec.run_at.value_or(now_)));
    row.set(Column::kCreatedAt, TimestampTzGetDatum(now_));
    if (spec.dead_letter_id)
        row.set(Column::kDeadLetterId, Int64GetDatum(*spec.dead_letter_id));
    if (spec.timeout_ms)
        row.set(Column::kTimeoutMs, Int32GetDatum(*spec.timeout_ms));
    row.set(Column::kPriority, Int16GetDatum(static_cast<int16>(priority)));
    row.set(Column::kAttempts, Int16GetDatum(0));
    row.set(Column::kMaxAttempts, Int16GetDatum(static_cast<int16>(*max_attempts)));
    row.set(Column::kFreeRetries, Int16GetDatum(0));
    if (spec.flags != 0)
        row.set(Column::kFlags, spec.flags);
    row.set(Column::kTaskIdentifier, pg::from_text(spec.task_identifier));
    row.set(Column::kQueueName, pg::from_text(queue_of(spec, task)));
    if (policy && *policy != kDefaultPolicy)
        row.set(Column::kRetryPolicy, pg::from_text(*policy));
    if (spec.job_key)
        row.set(Column::kJobKey, pg::from_text(*spec.job_key));
    row.set(Column::kPayload, spec.payload != 0 ? spec.payload : pg::call([] {
                return DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
            }));
    if (const Datum headers = headers_of(spec); headers != 0)
        row.set(Column::kHeaders, headers);
    return row;
}

/* replace, preserve_run_at: the row takes over the waiting job's id, and that job goes; a
 * running job is left alone and a new one waits beside it. unsafe_dedupe: returns false,
 * with the existing job's id in the row, if there is one. The caller holds the key's lock. */
bool Enqueuer::take_over_key(JobRow &row, const JobSpec &spec)
{
    const bool dedupe = spec.job_key_mode == JobKeyMode::kUnsafeDedupe;
    const KeyedJobs existing = find_keyed_jobs(table_, *config_, *spec.job_key, !dedupe);
    if (dedupe && existing.any) {
        row.set(Column::kId, Int64GetDatum(existing.existing_id));
        return false;
    }
    /* A job that takes another's place in its queue does not make the queue longer. */
    replaces_ = existing.waiting && existing.waiting->text_or_empty(Column::kQueueName) ==
                                        row.text_or_empty(Column::kQueueName);
    if (existing.waiting) {
        const JobRow &old = *existing.waiting;
        row.set(Column::kId, old.get(Column::kId));
        row.set(Column::kCreatedAt, old.get(Column::kCreatedAt));
        if (spec.job_key_mode == JobKeyMode::kPreserveRunAt && old.attempts() == 0)
            row.set(Column::kRunAt, old.get(Column::kRunAt));
        if (!old.is_null(Column::kDeadLetterId))
            row.set(Column::kDeadLetterId, old.get(Column::kDeadLetterId));
        /* Two arrays become one: that is how batch jobs are built. */
        pg::call([&] {
            const Datum old_payload = old.get(Column::kPayload);
            const Datum new_payload = row.get(Column::kPayload);
            if (JB_ROOT_IS_ARRAY(DatumGetJsonbP(old_payload)) &&
                !JB_ROOT_IS_SCALAR(DatumGetJsonbP(old_payload)) &&
                JB_ROOT_IS_ARRAY(DatumGetJsonbP(new_payload)) &&
                !JB_ROOT_IS_SCALAR(DatumGetJsonbP(new_payload)))
                row.set(Column::kPayload,
                        DirectFunctionCall2(jsonb_concat, old_payload, new_payload));
        });
    }
    return true;
}

std::optional<int64> Enqueuer::enqueue(const JobSpec &spec)
{
    const auto row = add(spec);
    return row ? std::optional(row->id()) : std::nullopt;
}

std::optional<JobRow> Enqueuer::add(const JobSpec &spec)
{
    replaces_ = false;
    check(spec);
    const Task *task = config_->find_task(spec.task_identifier);
    if (spec.job_key) {
        table_.flush(); /* a job of this call may have the key, and others must see what it was */
        /* Before the id is drawn: of two jobs with one key the newer has the greater id. */
        lock_job_key(*spec.job_key);
    }
    JobRow row = make_row(spec, task);
    if (hooks::any(*config_, core::HookEvent::kBeforeJobSchedule)) {
        const hooks::Decision decision =
            hooks::decide(*config_, core::HookEvent::kBeforeJobSchedule, row);
        if (decision.action == hooks::Decision::Action::kFail)
            fail(hooks::kErrorRefused, decision.reason, decision.refused_by);
        if (decision.action == hooks::Decision::Action::kSkip)
            return std::nullopt;
        if (decision.action == hooks::Decision::Action::kRetry)
            row.set(Column::kRunAt, TimestampTzGetDatum(clock::now() + decision.delay_us));
        if (decision.payload)
            row.set(Column::kPayload, *decision.payload);
    }
    if (spec.job_key && !take_over_key(row, spec)) {
        const std::vector<FoundJob> existing = table_.find_by_id(row.id());
        return existing.empty() ? row : existing.front().row;
    }
    if (!replaces_)
        check_depth(row.text_or_empty(Column::kQueueName));
    insert(row, task);
    stats::note_enqueued(row);
    return row;
}

void Enqueuer::requeue(const JobSpec &spec)
{
    timer_.set(stats::Operation::kRequeue);
    const auto refuse = [](const std::string &what) {
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, what, {},
             "Let it finish, or delete the dead letter with backfill.delete_dlq_job().");
    };
    if (!table_.find_by_id(*spec.id).empty())
        refuse("job " + std::to_string(*spec.id) + " is waiting or running already");
    if (spec.job_key) {
        lock_job_key(*spec.job_key);
        if (is_key_taken(table_, *spec.job_key))
            refuse("another job with job_key " + pg::in_quotes(*spec.job_key) +
                   " is waiting or running");
    }
    allow_retry(*spec.id);
    const Task *task = config_->find_task(spec.task_identifier);
    const JobRow row = make_row(spec, task);
    insert(row, task);
    stats::note_requeued(row);
}

void Enqueuer::check_depth(std::string_view queue_name)
{
    QueueLimit limit = queue_limit(queue_name);
    if (limit.max_depth == 0)
        return;
    const std::string name(queue_name);
    auto depth = depth_.find(name);
    if (depth == depth_.end()) {
        table_.flush();
        limit = lock_queue_depth(queue_name, table_);
        if (limit.max_depth == 0)
            return;
        depth = depth_.emplace(name, table_.count_in_queue(queue_name, limit.max_depth)).first;
    }
    check_room(queue_name, depth->second, limit.max_depth);
    depth->second++;
}

void Enqueuer::insert(const JobRow &row, const Task *task)
{
    wake::announce_job(row, task, now_);
    /* A hook may look at the jobs so far. */
    if (many_ && !hooks::any(*config_, core::HookEvent::kBeforeJobSchedule)) {
        table_.insert_later(row);
        return;
    }
    table_.insert(row);
    /* The row must be visible to what the caller runs next, this call's siblings included. */
    pg::call([] { CommandCounterIncrement(); });
}

void Enqueuer::finish()
{
    table_.close();
}

} // namespace backfill::queue
