/* Planted for test/lint: a throw through the frame of pg::call(). */
#include "backfill/pg/guard.hpp"

void planted()
{
    backfill::pg::call([] { throw 1; });
}
