/* job_rights.hpp - what a caller may do to, and see of, a job that is there already.
 *
 * EXECUTE on a function admits its caller; what these ask is whether that caller may touch this
 * job. Every function that takes a job by its key, or hands out its row, must ask here. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::job_rights
{

/* Throws a Failure 42501 unless the current user may enqueue the task. */
void check_enqueue(const Config &config, std::string_view task_identifier);

/* The same about the task of a job that is found by its key: a role that may not enqueue a task may
 * neither replace, supersede nor remove its jobs. The message does not say what task it is. */
bool may_use_key(const Config &config, std::string_view task_identifier);
void check_key(const Config &config, std::string_view task_identifier, std::string_view job_key);

/* Whether the current user may read the table of jobs, and with it their payloads. */
bool may_see_all();

/* A job as the current user may see it: a user that may not read the table gets no payload,
 * headers, last_error, worker and claim_token. */
JobRow visible(const JobRow &row);

} // namespace backfill::queue::job_rights
