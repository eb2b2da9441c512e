/* time_limit.cpp - see time_limit.hpp. */
#include "backfill/pg/time_limit.hpp"

namespace backfill::pg
{

namespace
{

constexpr int kRepeatMs = 1000;
constexpr int kMaxCancels = 10;

bool timer_registered = false;
TimeoutId timer;
volatile sig_atomic_t cancels = 0;

/* In a signal handler. */
void on_time_up() noexcept
{
    if (cancels < kMaxCancels) {
        cancels = cancels + 1;
        cancel_statement();
        return;
    }
    ProcDiePending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

} // namespace

void cancel_statement() noexcept
{
    if (proc_exit_inprogress)
        return;
    InterruptPending = true;
    QueryCancelPending = true;
    SetLatch(MyLatch);
}

TimeLimit::TimeLimit(int64 limit_us)
{
    call([&] {
        if (!timer_registered)
            timer = RegisterTimeout(USER_TIMEOUT, on_time_up);
        timer_registered = true;
        cancels = 0;
        enable_timeout_every(timer, GetCurrentTimestamp() + limit_us, kRepeatMs);
    });
}

bool TimeLimit::end() noexcept
{
    if (!active_)
        return false;
    active_ = false;
    disable_timeout(timer, false);
    if (cancels == 0)
        return false;
    QueryCancelPending = false;
    return true;
}

} // namespace backfill::pg
