/* parallel_worker_hook.hpp - the parallel workers of jobs' queries. */
#pragma once

namespace backfill::hooks
{

/* Installs the ExecutorStart hook; from _PG_init, when preloaded. In a parallel worker of an
 * executor's query it sees to it that a crash there is charged to the job. */
void install_parallel_worker_hook();

} // namespace backfill::hooks
