/* serial_queues.hpp - queues that producers make serial.
 *
 * A producer that enqueues into a new serial queue makes the row that says so when its transaction
 * ends. Had it the row before, each other producer of the queue would wait for the rest of that
 * transaction, however long, and two that make several queues could wait for each other. Until then
 * no other session sees the jobs that need the row; one that comes to take its own makes it first. If
 * the queue has got limits meanwhile, the commit fails as the call would have.
 *
 * Such a row is automatic: the dispatcher deletes it when the queue is empty
 * (bgworker/housekeeping.hpp), so that queues may be as many as customers come and go. */
#pragma once

#include "backfill/config/queue_config.hpp"

namespace backfill::queue
{

/* Makes a queue run one job at a time. The job that is to run there must be in the table. Errors:
 * Failure 22023 for fast and bulk, 42501 if the queue has limits and the current user may not call
 * set_queue(). */
void make_queue_serial(std::string_view queue_name);
/* The same unless it is fast or bulk, or is configured already. */
void make_new_queue_serial(std::string_view queue_name);
/* The same at once, and for good. */
void configure_new_queue_serial(std::string_view queue_name);

/* Makes the rows that are still to be made in this transaction. Called before it takes jobs or
 * configures queues. */
void write_serial_queues();

/* Registers a callback; once per process, from _PG_init. */
void init_serial_queues();

} // namespace backfill::queue
