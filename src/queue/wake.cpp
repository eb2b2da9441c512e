/* wake.cpp - see wake.hpp. */
#include "backfill/queue/wake.hpp"

#include "backfill/bgworker/shared_state.hpp"

namespace backfill::queue::wake
{

namespace
{

struct ReadyJobs {
    Oid role;
    int jobs;
};

/* What the current transaction has collected. Plain data, no allocation: the callback
 * must not fail. More roles than fit are announced as work for the dispatcher. */
constexpr int kMaxRoles = 8;
ReadyJobs ready[kMaxRoles];
int ready_count = 0;
TimestampTz earliest_due = 0;
bool dispatcher_wanted = false;
bool release_wanted = false;
bool installed = false;

void forget() noexcept
{
    ready_count = 0;
    earliest_due = 0;
    dispatcher_wanted = false;
    release_wanted = false;
    installed = false;
}

void pass_on() noexcept
{
    for (int i = 0; i < ready_count; i++)
        bgworker::signal_ready(MyDatabaseId, ready[i].role, ready[i].jobs);
    if (earliest_due != 0)
        bgworker::signal_due(MyDatabaseId, earliest_due);
    if (dispatcher_wanted || release_wanted)
        bgworker::signal_dispatcher(MyDatabaseId);
    if (installed)
        bgworker::signal_launcher(MyDatabaseId);
}

void on_transaction_end(XactEvent event, void *) noexcept
{
    switch (event) {
    case XACT_EVENT_COMMIT:
        if (bgworker::available())
            pass_on();
        forget();
        break;
    case XACT_EVENT_ABORT:
        if (release_wanted && bgworker::available())
            bgworker::signal_dispatcher(MyDatabaseId);
        forget();
        break;
    case XACT_EVENT_PREPARE:
        forget();
        break;
    default:
        break;
    }
}

} // namespace

void init()
{
    RegisterXactCallback(on_transaction_end, nullptr);
}

void announce_ready(Oid role, int jobs) noexcept
{
    for (int i = 0; i < ready_count; i++) {
        if (ready[i].role == role) {
            ready[i].jobs = Min(ready[i].jobs + jobs, PG_INT16_MAX);
            return;
        }
    }
    if (ready_count < kMaxRoles)
        ready[ready_count++] = {role, jobs};
    else
        dispatcher_wanted = true;
}

void announce_due(TimestampTz run_at) noexcept
{
    if (earliest_due == 0 || run_at < earliest_due)
        earliest_due = run_at;
}

void announce_dispatcher() noexcept
{
    dispatcher_wanted = true;
}

void announce_release() noexcept
{
    release_wanted = true;
}

void announce_installed() noexcept
{
    installed = true;
}

} // namespace backfill::queue::wake
