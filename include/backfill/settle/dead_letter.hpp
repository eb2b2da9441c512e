/* dead_letter.hpp - writes of the dead letter queue. Reading and managing it is SQL
 * (sql/install/80_dlq.sql). */
#pragma once

#include "backfill/table/job_row.hpp"

namespace backfill::queue::dead_letter
{

/* Puts a job that failed for good into the queue, or updates the letter that it was
 * requeued from, or its task's letter that carries its key. Another task's with the key stays. The
 * row holds the final attempts and last_error. Returns the letter's id. */
int64 write(const JobRow &row, std::string_view reason);

/* Removes the letter of a job that has succeeded after all: the one it was requeued
 * from, and the one of its task that carries its key, unless the job has lost the key meanwhile. */
void forget(const JobRow &row);

/* The letters of these jobs, or with this key, as the jobs' rows that they were: dead_letter_id is
 * set, and no attempts are left. They are locked; one that another session has locked is
 * passed over. Newest first. */
std::vector<JobRow> lock_by_job(const std::vector<int64> &job_ids);
std::vector<JobRow> lock_by_key(std::string_view job_key);

/* What becomes of such letters: deleted by hand; failed for another reason; with the row's
 * priority, run_at and max_attempts; its job waits again. */
void remove(const std::vector<JobRow> &letters);
void change_reason(const JobRow &letter, std::string_view reason, Datum last_error);
void change_settings(const JobRow &letter);
void note_requeued(const JobRow &letter);

} // namespace backfill::queue::dead_letter
