/* dead_letter.hpp - writes of the dead letter queue. Reading and managing it is SQL
 * (sql/install/80_dlq.sql). */
#pragma once

#include "backfill/queue/job_row.hpp"

namespace backfill::queue::dead_letter
{

/* Puts a job that failed for good into the queue, or updates its task's letter that it was
 * requeued from, or that carries its key. Another task's letter with the key stays. The row holds the final attempts and last_error.
 * Returns the letter's id. */
int64 write(const JobRow &row, std::string_view reason);

/* Removes the letter of a job that has succeeded after all: the one it was requeued
 * from, and the one of its task that carries its key. */
void forget(const JobRow &row);

} // namespace backfill::queue::dead_letter
