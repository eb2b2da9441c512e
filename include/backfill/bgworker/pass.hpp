/* pass.hpp - what one pass of the dispatcher has found. */
#pragma once

#include "backfill/clock.hpp"
#include "backfill/shmem/set_aside.hpp"

#include <string>
#include <string_view>

namespace backfill::bgworker
{

/* What a role's executors have to do. */
struct RoleWork {
    Oid role;
    std::string role_name;
    std::vector<std::string_view> tasks;
    int ready = 0;
};

inline void note_due(std::optional<TimestampTz> &earliest, std::optional<TimestampTz> due)
{
    if (due && (!earliest || *due < *earliest))
        earliest = due;
}

struct Pass {
    bool sweep = false; /* also for jobs that were not announced */
    bool more = false;  /* there is something to do at once */
    bool other_version = false;
    std::vector<RoleWork> roles;
    std::optional<TimestampTz> next_due;
    bool has_notified = false; /* consumers, of jobs that they can claim */

    void note_due(std::optional<TimestampTz> due) { bgworker::note_due(next_due, due); }
    void note_soon(int ms) { note_due(clock::now() + static_cast<TimestampTz>(ms) * 1000); }
    /* The moment when something of a kind that is set aside is to be tried again. */
    void note_retry(set_aside::Kind kind)
    {
        const TimestampTz at = set_aside::next_retry(kind);
        note_due(at == 0 ? clock::now() : clock::of(at));
    }
};

} // namespace backfill::bgworker
