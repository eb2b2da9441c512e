/* rate_limit.cpp - see rate_limit.hpp. */
#include "backfill/dequeue/rate_limit.hpp"

#include "backfill/clock.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::queue
{

namespace
{

/* Sessions of a server that does not preload the library have only themselves. */
core::RateWindow *local_window(int32 queue_id) noexcept
{
    constexpr int kWindows = 64;
    static struct {
        int32 queue_id;
        core::RateWindow window;
    } windows[kWindows];
    for (auto &entry : windows) {
        if (entry.queue_id == 0)
            entry.queue_id = queue_id;
        if (entry.queue_id == queue_id)
            return &entry.window;
    }
    return nullptr;
}

/* What was before the server's start is unknown; see the header. */
std::int32_t starts_before_server(const QueueLimit &limit) noexcept
{
    const bool was_limited = limit.rated_since <= PgStartTime;
    return bgworker::available() && !clock::is_fake() && was_limited ? limit.rate_limit : 0;
}

/* A test's clock has windows of its own, which the real one never meets. */
std::int32_t window_id(const QueueLimit &limit) noexcept
{
    return clock::is_fake() ? limit.queue_id ^ PG_INT32_MIN : limit.queue_id;
}

/* Runs use(window) on the queue's window, which no other process changes meanwhile. Without a
 * window (all are in use) the queue waits for one to become free. */
template <class Use>
TimestampTz with_window(const QueueLimit &limit, TimestampTz now, Use &&use) noexcept
{
    const auto prepared = [&](core::RateWindow *window) -> TimestampTz {
        if (window == nullptr)
            return now + Min(limit.rate_period_us, USECS_PER_SEC);
        if (clock::is_fake() && window->is_after(now))
            window->period = 0; /* the test has set its clock back */
        window->prepare(limit.rate_period_us, now, starts_before_server(limit), PgStartTime);
        const TimestampTz earliest = window->earliest_start(limit.rate_limit, now);
        return earliest > now ? earliest : use(*window);
    };
    if (!bgworker::available())
        return prepared(local_window(window_id(limit)));
    const bgworker::SharedLock lock;
    return prepared(lock->find_rate_window(MyDatabaseId, window_id(limit)));
}

} // namespace

TimestampTz take_rate_token(const QueueLimit &limit, TimestampTz now) noexcept
{
    return with_window(limit, now, [&](core::RateWindow &window) -> TimestampTz {
        window.count_start(now);
        return 0;
    });
}

void return_rate_token(const QueueLimit &limit, TimestampTz now) noexcept
{
    const auto take_back = [&](core::RateWindow *window) {
        if (window != nullptr && window->period == limit.rate_period_us)
            window->uncount_start(now);
    };
    if (!bgworker::available()) {
        take_back(local_window(window_id(limit)));
        return;
    }
    const bgworker::SharedLock lock;
    take_back(lock->find_rate_window(MyDatabaseId, window_id(limit)));
}

TimestampTz next_rate_token(const QueueLimit &limit, TimestampTz now) noexcept
{
    return with_window(limit, now, [](core::RateWindow &) -> TimestampTz { return 0; });
}

} // namespace backfill::queue
