/* waiting.hpp - for procedures that end their transaction, and functions that have to wait. */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* Whether the call is part of a transaction of the caller's, in a block or a function, which it
 * must not end. */
bool is_atomic_call(FunctionCallInfo fcinfo);
/* Errors: Failure 25001 if it is. For a procedure that waits. */
void require_top_level_call(FunctionCallInfo fcinfo, const char *procedure);

/* Sleeps until the condition variable is signalled, or, if that is null, until the latch is set;
 * at most ms milliseconds. Lets interrupts through. */
void nap(ConditionVariable *condition, long ms);

} // namespace backfill::pg
