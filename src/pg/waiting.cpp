/* waiting.cpp - see waiting.hpp. */
#include "backfill/pg/waiting.hpp"

namespace backfill::pg
{

bool is_atomic_call(FunctionCallInfo fcinfo)
{
    return fcinfo->context == nullptr || !IsA(fcinfo->context, CallContext) ||
           reinterpret_cast<const CallContext *>(fcinfo->context)->atomic;
}

void require_top_level_call(FunctionCallInfo fcinfo, const char *procedure)
{
    if (is_atomic_call(fcinfo))
        fail(ERRCODE_ACTIVE_SQL_TRANSACTION,
             std::string(procedure) + " cannot be called in a transaction block or a function",
             "It would hold the transaction open while it waits.",
             "CALL it by itself, in autocommit mode.");
}

void nap(ConditionVariable *condition, long ms)
{
    call([&] {
        if (condition != nullptr)
            (void) ConditionVariableTimedSleep(condition, ms, PG_WAIT_EXTENSION);
        else {
            (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
                             PG_WAIT_EXTENSION);
            ResetLatch(MyLatch);
        }
        CHECK_FOR_INTERRUPTS();
    });
}

} // namespace backfill::pg
