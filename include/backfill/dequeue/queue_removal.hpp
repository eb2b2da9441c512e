/* queue_removal.hpp - the end of a queue's row: by delete_queue(), and of automatic ones by the
 * dispatcher (bgworker/empty_queues.hpp).
 *
 * The row is deleted first, then is looked whether there is anything that counts on what it says
 * (see announce_deletion() in config/queue_config.hpp); if so, the caller has to undo the deletion.
 */
#pragma once

#include "backfill/table/job_table.hpp"

#include <string>
#include <vector>

namespace backfill::queue
{

enum class QueueUse {
    kNone,
    kJobs,
    kTransactions, /* not yet ended, that enqueue a job, or run one */
};

struct QueueRow {
    int32 id;
    int places;
    std::string name;
};

/* To be called before a row is deleted: until our transaction ends no executor takes a permit of
 * such a queue, and then it must look again. */
void announce_removals();

struct Deletion {
    bool had_row;
    QueueUse use;
};
Deletion delete_queue_row(std::string_view queue_name);

/* Up to `limit` automatic queues with ids above after_id, in their order; not paused ones. */
std::vector<QueueRow> automatic_queues(int32 after_id, int limit);

/* Leaves those that nothing needs: no job, no transaction, and no dead letter, whose job may be
 * requeued and must find the queue as it was. */
void drop_used(std::vector<QueueRow> &queues);
bool is_any_used(const std::vector<QueueRow> &queues);

/* False: another transaction has locked it, or it is no longer automatic. Waits for no lock. */
bool delete_automatic_row(const QueueRow &queue);

} // namespace backfill::queue
