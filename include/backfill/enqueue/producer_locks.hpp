/* producer_locks.hpp - what keeps producers of one job_key, and of one queue that has a max_depth,
 * one after the other. */
#pragma once

#include "backfill/config/queue_config.hpp"
#include "backfill/table/job_table.hpp"

#include <set>

namespace backfill::queue
{

/* Producers of one job_key, or of a queue that has a max_depth, come one after the other: what one
 * of them has not committed yet, the next could not see. A lock is kept until the end of the
 * transaction; it waits for other producers, never for a running job.
 *
 * The server's table of locks is shared by all sessions, so a transaction keeps the locks of its
 * first keys, and of its first queues, only. A further one is locked until the next is, and by then
 * the job must be in the table: others find there that a transaction with many locks uses the key
 * or has a job in the queue, and wait for the end of that. */
void lock_job_key(std::string_view job_key);
/* The same for several keys, in an order that is the same everywhere, so that calls
 * which name several keys never deadlock with each other. Of many keys each must be locked by
 * lock_job_key() besides, when its turn comes; of two calls with many, one waits for the other. */
void lock_job_keys(const std::vector<std::string_view> &job_keys);
/* Locks the depth of a queue, if it has a max_depth, and returns its limits as they are then. */
QueueLimit lock_queue_depth(std::string_view queue_name, JobTable &table);
/* The same for those among several queues that have one, as lock_job_keys() does; each must be
 * locked by lock_queue_depth() besides. */
void lock_queue_depths(const std::set<std::string_view> &queue_names, JobTable &table);

/* Registers a callback; once per process, from _PG_init. */
void init_producer_locks();

} // namespace backfill::queue
