/* empty_queues.hpp - the end of automatic queues that nothing needs any more. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker
{

struct EmptyQueues {
    int looked_at = 0;
    int32 last_id = 0; /* of those that were looked at */
    int deleted = 0;
    bool more = false;  /* there was no time for all of them */
    bool aside = false; /* some cannot be deleted, and are set aside */
};

/* Looks at up to `limit` automatic queues with ids above after_id, in their order, and deletes
 * those that nothing needs; none of them if one has come to be used meanwhile. Waits for no lock.
 * Called by the dispatcher. */
EmptyQueues delete_empty_queues(int32 after_id, int limit);

} // namespace backfill::bgworker
