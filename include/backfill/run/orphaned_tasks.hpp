/* orphaned_tasks.hpp - jobs of tasks whose role does not exist: no executor can log in as it. */
#pragma once

namespace backfill::queue
{

/* Dead-letters about `limit` ready ones; returns whether there are more. For the dispatcher. */
bool dead_letter_orphans(int limit);

} // namespace backfill::queue
