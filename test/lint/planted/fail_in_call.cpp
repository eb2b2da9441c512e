/* Planted for test/lint: the same by fail(). */
#include "backfill/pg/guard.hpp"

void planted()
{
    backfill::pg::call([] { backfill::fail(ERRCODE_INTERNAL_ERROR, "no"); });
}
