/* headers.hpp - what a job carries besides its payload: W3C's traceparent, attributes of
 * CloudEvents.
 *
 * A trace goes on from one job to the next without a word from the handlers: what a call does not
 * give comes from backfill.headers, which a tracing library sets for a transaction, or else from
 * the job that is running in this process. */
#pragma once

#include "backfill/enqueue/job_spec.hpp"

namespace backfill::queue
{

/* The headers of the row, jsonb; 0: none, which an empty object also means. They may point into the
 * caller's memory, or into that of the running job. */
Datum headers_of(const JobSpec &spec);
/* The same of headers that a call gives. */
Datum kept_headers(Datum headers);

} // namespace backfill::queue
