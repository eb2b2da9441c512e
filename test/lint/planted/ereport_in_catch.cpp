/* Planted for test/lint: an ereport that leaves the exception current for ever. */
#include "backfill/pg/guard.hpp"

void planted()
{
    try {
        throw 1;
    } catch (int) {
        ereport(ERROR, (errmsg("caught")));
    }
}
