/* Planted for test/lint: an ereport that would jump over a string's destructor. */
#include "backfill/pg/guard.hpp"

void planted(const char *name)
{
    const std::string copy(name);
    ereport(ERROR, (errmsg("no %s", copy.c_str())));
}
