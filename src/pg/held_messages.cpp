/* held_messages.cpp - see held_messages.hpp. */
#include "backfill/pg/held_messages.hpp"

namespace backfill::queue
{

namespace
{

HeldMessages *current = nullptr;

} // namespace

void say(Message message)
{
    if (current != nullptr) {
        current->messages_.push_back(std::move(message));
        return;
    }
    const core::ErrorInfo &text = message.text;
    pg::call([&] {
        const char *const state = text.sqlstate.c_str();
        ereport(message.level,
                (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
                 errmsg_internal("%s", text.message.c_str()),
                 text.detail.empty() ? 0 : errdetail_internal("%s", text.detail.c_str()),
                 text.hint.empty() ? 0 : errhint("%s", text.hint.c_str()),
                 text.context.empty() ? 0 : errcontext("%s", text.context.c_str())));
    });
}

HeldMessages::HeldMessages() : outer_(current)
{
    current = this;
}

HeldMessages::~HeldMessages()
{
    current = outer_;
}

void HeldMessages::release()
{
    current = outer_;
    for (Message &message : messages_)
        say(std::move(message));
    messages_.clear();
    current = this;
}

} // namespace backfill::queue
