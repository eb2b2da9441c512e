/* events.cpp - see events.hpp. */
#include "events.hpp"

namespace backfill::web
{

void EventQueue::push(Text text)
{
    if (closed_)
        return;
    if (texts_.size() >= kMost) {
        texts_.clear();
        close();
        return;
    }
    texts_.push_back(std::move(text));
    bell_.ring();
}

void EventQueue::close()
{
    closed_ = true;
    bell_.ring();
}

Task<EventQueue::Text> EventQueue::next(TimePoint until)
{
    if (texts_.empty() && !closed_)
        co_await bell_.wait(until);
    if (texts_.empty())
        co_return nullptr;
    Text text = std::move(texts_.front());
    texts_.pop_front();
    co_return text;
}

} // namespace backfill::web
