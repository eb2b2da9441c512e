/* Planted for test/lint: a string that an error inside the call would leak. */
#include "backfill/pg/guard.hpp"

void planted(const char *name)
{
    backfill::pg::call([&] {
        const std::string copy(name);
        (void) pstrdup(copy.c_str());
    });
}
