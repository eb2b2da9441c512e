/* Planted for test/lint: PostgreSQL called outside of pg::call() over a string. */
#include "backfill/pg/guard.hpp"

char *planted(const char *name)
{
    const std::string copy(name);
    return pstrdup(copy.c_str());
}
