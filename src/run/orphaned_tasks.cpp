/* orphaned_tasks.cpp - see orphaned_tasks.hpp. */
#include "backfill/run/orphaned_tasks.hpp"

#include "backfill/core/sqlstates.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/settle/each_apart.hpp"
#include "backfill/settle/settle.hpp"

namespace backfill::queue
{

namespace
{

core::ErrorInfo no_such_role(const Task &task)
{
    return {core::sqlstate::kUndefinedObject,
            "role \"" + task.run_as + "\" of task \"" + task.identifier + "\" does not exist",
            "The jobs of the task run as this role.",
            "Register the task again with a role that exists, then requeue the job with "
            "backfill.requeue_dlq_job().",
            {}};
}

} // namespace

bool dead_letter_orphans(int limit)
{
    const std::shared_ptr<const Config> current = config();
    std::vector<std::string_view> orphaned;
    for (const Task &task : current->tasks())
        if (task.has_handler() && !OidIsValid(task.run_as_oid))
            orphaned.emplace_back(task.identifier);
    if (orphaned.empty())
        return false;

    JobTable table;
    NextJobs next(table, orphaned, Reader::kWorker);
    LatestSnapshot snapshot;
    std::vector<FoundJob> jobs;
    snapshot.renew();
    /* Those that are set aside must not take the place of the others. */
    limit += bgworker::set_aside::kMaxEntries;
    next.read(snapshot, limit);
    while (const auto candidate = next.pop())
        if (const auto found = next.fetch(*candidate, snapshot))
            jobs.push_back(*found);
    const Done done = each_apart(
        {bgworker::set_aside::Kind::kLetter, "make a dead letter of job", Transaction::kOurs}, jobs,
        thing_of_job, [&](JobTable &open, const FoundJob &job) {
            Take taken = take(open, job);
            if (!taken.job)
                return false;
            const Task *task = current->find_task(job.row.task_identifier());
            (void) settle(open, *current, *taken.job,
                          ending::lost_run(*current, job.row, no_such_role(*task)));
            return true;
        });
    const bool full = static_cast<int>(jobs.size()) == limit;
    snapshot.pop();
    table.close();
    return done.count > 0 && (full || done.more);
}

} // namespace backfill::queue
