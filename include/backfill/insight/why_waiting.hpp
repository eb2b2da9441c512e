/* why_waiting.hpp - why a job does not run, for people.
 *
 * The checks go the way of a job: is there one, has somebody got it, is it due, may its queue
 * start it, who is to run it, does the server serve this database, is an executor free. The first
 * obstacle is the answer. Nothing is changed, and a lock on our tables is waited for a second at
 * most. Whoever adds a reason for a job to wait adds it here, and to docs/monitoring.md. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::queue
{

/* "code: text", in one line; the codes are listed in docs/monitoring.md. Needs a transaction. */
std::string why_not_running(int64 job_id);

} // namespace backfill::queue
