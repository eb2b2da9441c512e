/* empty_queues.cpp - see empty_queues.hpp. */
#include "backfill/bgworker/empty_queues.hpp"

#include "backfill/dequeue/queue_removal.hpp"
#include "backfill/settle/each_apart.hpp"

namespace backfill::bgworker
{

namespace
{

/* Deletes each apart from the others, should one refuse. */
queue::Done delete_each(const std::vector<queue::QueueRow> &queues,
                        std::vector<queue::QueueRow> &deleted)
{
    return queue::each_apart(
        {set_aside::Kind::kQueue, "delete the empty queue", queue::Transaction::kOurs}, queues,
        [](const queue::QueueRow &queue) {
            return queue::Thing{queue.id, queue.name};
        },
        [&](queue::JobTable &, const queue::QueueRow &queue) {
            if (!queue::delete_automatic_row(queue))
                return false;
            deleted.push_back(queue);
            return true;
        });
}

} // namespace

EmptyQueues delete_empty_queues(int32 after_id, int limit)
{
    std::vector<queue::QueueRow> queues = queue::automatic_queues(after_id, limit);
    EmptyQueues result;
    if (queues.empty())
        return result;
    result.looked_at = static_cast<int>(queues.size());
    result.last_id = queues.back().id;
    queue::drop_used(queues);
    if (queues.empty())
        return result;
    queue::announce_removals();
    bool contested = false;
    const auto error = pg::in_subtransaction([&] {
        /* With those whose deletion was undone. */
        std::vector<queue::QueueRow> deleted;
        const queue::Done done = delete_each(queues, deleted);
        result.more = done.more;
        result.aside = done.aside;
        contested = queue::is_any_used(deleted);
        if (contested)
            throw core::ErrorInfo{};
        result.deleted = done.count;
    });
    if (error && !contested)
        throw *error;
    return result;
}

} // namespace backfill::bgworker
