/* work_finder.cpp - see work_finder.hpp. */
#include "backfill/bgworker/work_finder.hpp"

#include "backfill/bgworker/executor_pool.hpp"
#include "backfill/consumers/claim.hpp"
#include "backfill/dequeue/queue_gate.hpp"
#include "backfill/guc.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/shmem/unsettled_job.hpp"
#include "backfill/table/ready_index.hpp"

namespace backfill::bgworker
{

namespace
{

std::vector<RoleWork> group_by_role(const queue::Config &config)
{
    std::vector<RoleWork> roles;
    for (const queue::Task &task : config.tasks()) {
        if (!task.has_handler() || !OidIsValid(task.run_as_oid))
            continue;
        auto role = std::find_if(roles.begin(), roles.end(), [&](const RoleWork &work) {
            return work.role == task.run_as_oid;
        });
        if (role == roles.end())
            role = roles.insert(roles.end(), RoleWork{task.run_as_oid, {}, {}, 0});
        role->tasks.emplace_back(task.identifier);
    }
    return roles;
}

/* Whether an executor would not run the job now: it is set aside, or to be charged first. */
bool is_passed_over(const queue::JobRow &row)
{
    return set_aside::is_set_aside(set_aside::Kind::kJob, row.id()) ||
           ledger::awaits_charge(queue::lost_run::run_of(row)) || is_unsettled(row.id());
}

/* How many jobs that may be, at most. */
int count_passed_over()
{
    return static_cast<int>(set_aside::copy_entries().size() + ledger::charges().size());
}

/* How many candidates it reads at most, where many queues are full. */
constexpr int kMostWanted = 1024;

/* How many executors of the role could start a job now, at most `limit`; `reopens` becomes
 * the time when a queue whose rate is used up takes jobs again, if that is earlier. */
int count_startable(queue::JobTable &table, queue::NextJobs &next,
                    const queue::LatestSnapshot &snapshot, Oid role, int limit,
                    std::optional<TimestampTz> &reopens)
{
    std::unordered_map<std::string, int> room; /* how many more jobs a limited queue takes */
    /* An executor of the role looks into full queues itself before it rests, and asks to be told;
     * were we told, too, every commit of a busy serial queue would wake us. */
    const bool has_executors = count_executors(role).of_role > 0;
    /* What executors pass over must not hide what is behind it. */
    const int hidden = count_passed_over();
    int wanted = limit + hidden;
    int startable = 0;
    bool looking = true;
    while (looking && startable < limit) {
        looking = false;
        startable = 0;
        room.clear();
        next.read(snapshot, wanted);
        wanted = Min(wanted * 4, kMostWanted);
        while (const auto candidate = startable < limit ? next.pop() : std::nullopt) {
            const auto found = next.fetch(*candidate, snapshot);
            if (!found || is_passed_over(found->row))
                continue;
            const std::string queue(found->row.text_or_empty(queue::Column::kQueueName));
            const queue::QueueLimit queue_limit = queue::queue_limit(queue);
            if (queue_limit.is_limited()) {
                const auto [entry, first] = room.emplace(
                    queue, queue_limit.concurrency > 0 ? queue_limit.concurrency : limit);
                const auto is_open = [&] {
                    return queue::is_queue_open(queue_limit, queue, table, !has_executors, reopens);
                };
                bool closed = first && !is_open();
                if (closed && has_executors) {
                    note_role_waits(MyDatabaseId, role);
                    closed = !is_open(); /* it may have got a free slot before that was known */
                }
                if (closed) {
                    next.exclude_queue(queue);
                    looking = true; /* the jobs behind the full queue count, too */
                    continue;
                }
                if (entry->second == 0)
                    continue;
                entry->second--;
            }
            startable++;
        }
    }
    return startable;
}

/* The tasks of jobs that the server does not run, by the channel of their consumers. */
std::unordered_map<std::string, std::vector<std::string>>
external_tasks(const queue::Config &config, queue::JobTable &table,
               const queue::LatestSnapshot &snapshot)
{
    std::unordered_map<std::string, std::vector<std::string>> channels;
    for (std::string &name : queue::tasks_with_jobs(table, snapshot.get())) {
        const queue::Task *task = config.find_task(name);
        if (task == nullptr)
            channels[std::string(queue::kDefaultChannel)].push_back(std::move(name));
        else if (!task->has_handler())
            channels[task->notify_channel].push_back(std::move(name));
    }
    return channels;
}

} // namespace

TimestampTz WorkFinder::may_notify_at() const
{
    return notified_at_ + static_cast<TimestampTz>(guc::notify_interval_ms) * 1000;
}

std::optional<TimestampTz> WorkFinder::next_notification() const
{
    if (!must_notify_ && !consumers_announced(MyDatabaseId))
        return std::nullopt;
    return may_notify_at();
}

void WorkFinder::on_abort(const Pass &pass)
{
    must_notify_ = must_notify_ || pass.has_notified;
}

/* Whether it is time to notify consumers of jobs, if there are any for them. */
bool WorkFinder::is_time_to_notify(bool sweep)
{
    must_sweep_ = must_sweep_ || sweep;
    must_notify_ = must_notify_ || sweep || (consumers_due_ && *consumers_due_ <= clock::now());
    if (GetCurrentTimestamp() < may_notify_at())
        return false; /* the flag stays up, and so producers do not wake us before */
    return take_consumers(MyDatabaseId) || must_notify_;
}

/* Notifies the channels that have jobs which can be claimed, if it is time for that, and finds
 * out when the next one becomes due. The notifications go out at the commit. */
void WorkFinder::look_after_consumers(const queue::Config &config, queue::JobTable &table,
                                      const queue::LatestSnapshot &snapshot, bool notify,
                                      Pass &pass)
{
    const TimestampTz now = clock::now();
    std::optional<TimestampTz> due;
    for (const auto &entry : external_tasks(config, table, snapshot)) {
        const std::string &channel = entry.first;
        const std::vector<std::string> &names = entry.second;
        queue::NextJobs next(table, {names.begin(), names.end()},
                             must_sweep_ ? queue::Reader::kSweep : queue::Reader::kWorker);
        if (notify && queue::is_any_claimable(table, next, snapshot, due)) {
            pg::call([&] { Async_Notify(channel.c_str(), ""); });
            pass.has_notified = true;
        }
        note_due(due, next.next_run_at(snapshot, now));
    }
    if (notify) {
        notified_at_ = GetCurrentTimestamp();
        must_notify_ = false;
        must_sweep_ = false;
    }
    consumers_due_ = due;
    pass.note_due(due);
}

void WorkFinder::look(Pass &pass)
{
    /* Before the snapshot: what is announced later is for the next time. */
    const bool notify = is_time_to_notify(pass.sweep);
    const bool notify_again = must_notify_;
    must_notify_ = must_notify_ || notify; /* should this fail */
    const std::shared_ptr<const queue::Config> config = queue::config();
    pass.roles = group_by_role(*config);
    const TimestampTz now = clock::now();
    const int limit = Max(guc::max_executors, 1);

    queue::JobTable table;
    queue::LatestSnapshot snapshot;
    snapshot.renew();
    for (RoleWork &work : pass.roles) {
        queue::NextJobs next(table, work.tasks,
                             pass.sweep ? queue::Reader::kSweep : queue::Reader::kWorker);
        for (const std::string_view queue : queue::paused_queues())
            next.exclude_queue(queue);
        /* Before full queues are left out: no commit would tell us of what becomes due in one that
         * has room again by then. */
        pass.note_due(next.next_run_at(snapshot, now));
        work.ready = count_startable(table, next, snapshot, work.role, limit, pass.next_due);
        work.tasks.clear(); /* views into the configuration, which we let go */
        work.role_name = pg::role_name(work.role);
    }
    if (set_aside::next_retry(set_aside::Kind::kJob) != 0)
        pass.note_retry(set_aside::Kind::kJob);
    must_notify_ = notify_again;
    look_after_consumers(*config, table, snapshot, notify, pass);
    snapshot.pop();
    table.close();
}

} // namespace backfill::bgworker
