/* run_limit.cpp - see run_limit.hpp. */
#include "backfill/call/run_limit.hpp"

#include "backfill/core/sqlstates.hpp"
#include "backfill/pg/time_limit.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/stop_request.hpp"

namespace backfill::queue
{

namespace
{

using core::sqlstate::kQueryCanceled;
constexpr int kRepeatMs = 1000;
/* A handler that goes on after this number of cancels catches every one of them. */
constexpr int kMaxCancels = 10;

/* Others can cancel this process's jobs. */
bool is_stoppable = false;
bool timer_registered = false;
TimeoutId timer;
volatile sig_atomic_t time_is_up = 0;
bool watch_registered = false;
TimeoutId watch;
volatile sig_atomic_t in_handler = 0;
volatile sig_atomic_t waited_too_long = 0;
LOCK *volatile waited_for = nullptr; /* at the last look of the watch, in the same handler */

/* In a signal handler. A user's session is not ended. */
void on_time_up() noexcept
{
    if (time_is_up < kMaxCancels || !is_stoppable) {
        time_is_up = Min(time_is_up + 1, kMaxCancels);
        pg::cancel_statement();
        return;
    }
    bgworker::ledger::note_overrun();
    ProcDiePending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

/* Others hold such a lock for as long as they please. Those of pages, and the one to make a table
 * longer, are held for moments by sessions that are at work, and two executors that fill one table
 * wait for each other's all the time. */
bool is_held_at_will(const LOCK *lock) noexcept
{
    switch (lock->tag.locktag_type) {
    case LOCKTAG_RELATION_EXTEND:
    case LOCKTAG_PAGE:
    case LOCKTAG_SPECULATIVE_TOKEN:
        return false;
    default:
        return true;
    }
}

/* In a signal handler. A wait counts when it has been seen twice. The process that grants the lock
 * just now clears waitLock: no harm, the job is run again. A process that is ended in the middle of
 * a job still has its timers when MyProc is gone. */
void on_watch() noexcept
{
    if (proc_exit_inprogress || in_handler == 0)
        return;
    LOCK *const lock = MyProc->waitLock;
    if (lock != nullptr && lock == waited_for && is_held_at_will(lock)) {
        waited_too_long = 1;
        pg::cancel_statement();
    }
    waited_for = lock;
}

} // namespace

void become_stoppable() noexcept
{
    is_stoppable = true;
}

int64 time_limit_us(const JobRow &row, const Task &task)
{
    if (row.is_null(Column::kTimeoutMs))
        return task.timeout_us;
    return static_cast<int64>(DatumGetInt32(row.get(Column::kTimeoutMs))) * 1000;
}

void watch_lock_waits(int64 after_us)
{
    pg::call([&] {
        if (!watch_registered)
            watch = RegisterTimeout(USER_TIMEOUT, on_watch);
        watch_registered = true;
        /* Two looks make a wait. */
        const int look_ms = static_cast<int>(Max(after_us / 2000, 1));
        enable_timeout_every(watch, GetCurrentTimestamp() + after_us / 2, look_ms);
    });
}

void stop_watching() noexcept
{
    if (watch_registered)
        disable_timeout(watch, false);
}

RunLimit::RunLimit(const JobRow &row, const Task &task)
    : job_id_(row.id()), limit_us_(time_limit_us(row, task)), own_(!row.is_null(Column::kTimeoutMs))
{
}

void RunLimit::begin()
{
    pg::call([&] {
        time_is_up = 0;
        waited_too_long = 0;
        if (limit_us_ > 0 && !timer_registered) {
            timer = RegisterTimeout(USER_TIMEOUT, on_time_up);
            timer_registered = true;
        }
        active_ = true;
        waited_for = nullptr;
        in_handler = 1;
        if (is_stoppable)
            bgworker::accept_stop(job_id_);
        if (limit_us_ > 0)
            enable_timeout_every(timer, GetCurrentTimestamp() + limit_us_, kRepeatMs);
    });
}

void RunLimit::check() const
{
    const bool requested = is_stoppable && bgworker::is_stop_requested();
    if (requested || time_is_up != 0 || waited_too_long != 0)
        throw core::ErrorInfo{kQueryCanceled, "canceling the job", {}, {}, {}};
}

void RunLimit::end() noexcept
{
    if (!active_)
        return;
    active_ = false;
    in_handler = 0;
    if (limit_us_ > 0)
        disable_timeout(timer, false);
    timed_out_ = time_is_up != 0;
    time_is_up = 0;
    waited_ = waited_too_long != 0;
    waited_too_long = 0;
    cancelled_ = is_stoppable && bgworker::refuse_stop();
    /* It has done its work, or has come too late. */
    if (timed_out_ || cancelled_ || waited_)
        QueryCancelPending = false;
}

core::ErrorInfo RunLimit::timeout_error() const
{
    return {kQueryCanceled,
            std::string("job ran longer than ") +
                (own_ ? "its timeout, " : "the timeout of its task, ") +
                std::to_string(limit_us_ / 1000) + " ms",
            {},
            {},
            {}};
}

void RunLimit::explain(RunResult &result) const
{
    if (cancelled_) {
        result.cancelled = true;
    } else if (timed_out_) {
        core::ErrorInfo error = timeout_error();
        if (result.error && result.error->sqlstate == kQueryCanceled) {
            error.detail = result.error->detail;
            error.context = result.error->context;
        }
        result.error = std::move(error);
    } else if (waited_) {
        result.given_back = true;
    }
}

} // namespace backfill::queue
