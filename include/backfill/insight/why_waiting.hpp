/* why_waiting.hpp - tells operators why a job does not run.
 *
 * The checks go the way of a job: is there one, has a process got it, is it due, may its queue
 * start it, which role is to run it, does the server serve this database, is an executor free. The
 * first obstacle is the answer. Nothing is changed, and a lock on our tables is waited for a second
 * at most. A new reason for a job to wait must be added here, and to docs/monitoring.md. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::queue
{

/* "code: text", in one line; the codes are listed in docs/monitoring.md. Needs a transaction. */
std::string why_not_running(int64 job_id);

} // namespace backfill::queue
