/* job_claimer.cpp - see job_claimer.hpp. */
#include "backfill/run/job_claimer.hpp"

namespace backfill::queue
{

std::optional<TakenJob> JobClaimer::next()
{
    while (may_continue()) {
        if (next_.empty())
            read();
        const auto candidate = next_.pop();
        if (!candidate)
            break;
        look_at(candidate->id);
        snapshot_.see_own_changes();
        const auto found = next_.fetch(*candidate, snapshot_);
        if (!found || is_held_back(found->row))
            continue;
        const Choice choice = choose(found->row);
        if (choice == Choice::kStop)
            break;
        if (choice == Choice::kPassOver || !gate_.enter(found->row))
            continue;
        if (auto job = take_wanted(*found))
            return job;
        gate_.give_back(found->row);
    }
    return std::nullopt;
}

std::optional<TakenJob> JobClaimer::take_wanted(const FoundJob &found)
{
    Take taken = take(table_, found);
    if (taken.is_busy)
        next_.exclude_job(found.row.id());
    if (!taken.job)
        return std::nullopt;
    /* Its executor may have died since we looked: what takes its row next sees the charge. */
    if (is_held_back(found.row)) {
        (void) settle(table_, *config_, *taken.job, ending::released());
        return std::nullopt;
    }
    /* It was cancelled, or its key enqueued again or removed, while it ran, and then its worker
     * died: it stays removed. */
    if (settle_if_unwanted(table_, *config_, *taken.job))
        return std::nullopt;
    return std::move(taken.job);
}

void JobClaimer::exclude_paused_queues()
{
    for (const std::string_view name : paused_queues())
        next_.exclude_queue(name);
}

void JobClaimer::close()
{
    snapshot_.pop();
    table_.close();
}

} // namespace backfill::queue
