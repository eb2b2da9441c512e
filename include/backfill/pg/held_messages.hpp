/* held_messages.hpp - log messages about what may yet be rolled back: said when it is done, and
 * not with every try that fails. */
#pragma once

#include "backfill/pg/guard.hpp"

#include <vector>

namespace backfill::queue
{

struct Message {
    int level;
    core::ErrorInfo text;
};

/* To the log at once, or, while a HeldMessages lives, when that says so. */
void say(Message message);

class HeldMessages
{
  public:
    HeldMessages();
    /* What was not said is forgotten. */
    ~HeldMessages();
    HeldMessages(const HeldMessages &) = delete;
    HeldMessages &operator=(const HeldMessages &) = delete;

    /* It is done. */
    void release();

  private:
    friend void say(Message message);
    HeldMessages *outer_;
    std::vector<Message> messages_;
};

} // namespace backfill::queue
