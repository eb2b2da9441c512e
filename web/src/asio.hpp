/* asio.hpp - Boost.Asio as this program uses it: one thread, and coroutines on it. Whatever waits
 * gives the thread to others. */
#pragma once

#include "log.hpp"

/* Boost 1.74 uses of it without including it. */
#include <utility>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>

namespace backfill::web
{

namespace asio = boost::asio;
using ErrorCode = boost::system::error_code;
template <class T = void> using Task = asio::awaitable<T>;
using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Seconds = std::chrono::seconds;

/* Counts as long as it lives. */
template <class Number> class Counted
{
  public:
    explicit Counted(Number &count) : count_(count) { count_++; }
    ~Counted() { count_--; }
    Counted(const Counted &) = delete;
    Counted &operator=(const Counted &) = delete;

  private:
    Number &count_;
};

/* Starts a coroutine that nothing waits for; the log has what ends it early. */
inline void spawn(const asio::any_io_executor &executor, Task<> task)
{
    asio::co_spawn(executor, std::move(task), [](std::exception_ptr end) {
        try {
            if (end)
                std::rethrow_exception(end);
        } catch (const std::exception &error) {
            log_line(std::string("internal error: ") + error.what());
        }
    });
}

/* Calls a function at a time, unless it is destroyed before. */
class Alarm
{
  public:
    Alarm(const asio::any_io_executor &executor, TimePoint at, std::function<void()> ring)
        : timer_(executor, at), alive_(std::make_shared<bool>(true))
    {
        timer_.async_wait([alive = alive_, ring = std::move(ring)](const ErrorCode &error) {
            if (!error && *alive)
                ring();
        });
    }
    ~Alarm() { *alive_ = false; }
    Alarm(const Alarm &) = delete;
    Alarm &operator=(const Alarm &) = delete;

  private:
    asio::steady_timer timer_;
    std::shared_ptr<bool> alive_;
};

/* Lets the coroutines go on that wait for something. */
class Bell
{
  public:
    explicit Bell(const asio::any_io_executor &executor) : timer_(executor, TimePoint::max()) {}

    void ring() { timer_.cancel(); }

    /* Until the next ring, or a time; whatever is waited for has to be looked at again. */
    Task<> wait(TimePoint until)
    {
        const Alarm end(timer_.get_executor(), until, [this] { timer_.cancel(); });
        ErrorCode error;
        co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }

  private:
    asio::steady_timer timer_;
};

} // namespace backfill::web
