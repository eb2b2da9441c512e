/* events.hpp - what is to be sent to one listener of Server-Sent Events. */
#pragma once

#include "asio.hpp"

#include <cstddef>
#include <deque>
#include <memory>
#include <string>

namespace backfill::web
{

/* Texts are shared by all listeners. One that does not read fast enough is dropped, not waited for.
 */
class EventQueue
{
  public:
    using Text = std::shared_ptr<const std::string>;

    explicit EventQueue(const asio::any_io_executor &executor) : bell_(executor) {}

    void push(Text text);
    /* Sends what is there, and no more. */
    void close();

    bool is_closed() const { return closed_; }
    /* The next text; nothing if the time has passed without one, or the queue is closed and empty.
     */
    Task<Text> next(TimePoint until);

  private:
    static constexpr std::size_t kMost = 32;
    std::deque<Text> texts_;
    Bell bell_;
    bool closed_ = false;
};
using EventQueuePtr = std::shared_ptr<EventQueue>;

} // namespace backfill::web
