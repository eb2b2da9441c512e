/* queue_removal.hpp - the end of a queue's row: by delete_queue(), and of automatic ones by the
 * dispatcher.
 *
 * The row is deleted first, then is looked whether there is anything that counts on what it says
 * (see announce_deletion() in config/queue_config.hpp); if so, the caller has to undo the deletion.
 */
#pragma once

#include "backfill/table/job_table.hpp"

namespace backfill::queue
{

enum class QueueUse {
    kNone,
    kJobs,
    kTransactions, /* not yet ended, that enqueue a job, or run one */
};

struct Deletion {
    bool had_row;
    QueueUse use;
};
Deletion delete_queue_row(std::string_view queue_name);

struct EmptyQueues {
    int looked_at = 0;
    int32 last_id = 0; /* of those that were looked at */
    int deleted = 0;
    bool contested = false; /* none was deleted, because one came to be used */
};
/* Looks at up to `limit` automatic queues with ids above after_id, in their order, and deletes
 * those that nothing needs: no job, no transaction, and no dead letter, whose job may be requeued
 * and must find the queue as it was. Waits for no lock. */
EmptyQueues delete_empty_queues(int32 after_id, int limit);

} // namespace backfill::queue
