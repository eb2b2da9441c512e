/* row_lock.hpp - which transaction has a row of backfill.job now: by deleting or updating it, or by
 * a lock.
 *
 * SQL sees xmax, but not what it means: that of a row that is only locked looks like that of
 * one that is being deleted, and may be the number of several lockers. */
#pragma once

#include "backfill/pg/datum.hpp"

namespace backfill::queue
{

struct RowClaim {
    TransactionId changing = InvalidTransactionId; /* deletes or updates the row, or has done so */
    TransactionId locking = InvalidTransactionId;  /* locks it, in progress; one of them */

    /* The row at tid as it is at this moment; unclaimed if there is none. Needs a transaction. */
    static RowClaim of_job(ItemPointerData tid);
};

} // namespace backfill::queue
