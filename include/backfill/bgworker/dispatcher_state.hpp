/* dispatcher_state.hpp - what the dispatcher remembers, and what it finds in a pass. */
#pragma once

#include "backfill/bgworker/worker.hpp"
#include "backfill/clock.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/set_aside.hpp"

namespace backfill::bgworker
{

struct Executor {
    Oid role;
    BackgroundWorkerHandle *handle;
    Reservation reservation;
    bool seen_logged_in = false;
};

struct Memory {
    std::vector<Executor> executors;                 /* those that this process started */
    std::unordered_map<Oid, StartBackoff> backoff;   /* roles that executors could not log in as */
    std::unordered_map<Oid, std::string> role_names; /* of the last look, for messages */
    TimestampTz next_trim = 0;                       /* of the history */
    std::unordered_map<Oid, TimestampTz> served_at;  /* when a role last had an executor */
    TimestampTz last_sweep = 0;
    TimestampTz sweep_time = 0; /* how long it took, in microseconds */
    int sweep_factor = 1;
    TimestampTz told_at = 0; /* when consumers were looked after last */
    bool tell_consumers = false;
    std::optional<TimestampTz> consumers_due; /* when a job becomes due for them */
    SlotShortage shortage;
    bool waits_for_slots = false; /* the last pass found no worker slot */
    bool version_reported = false;
    std::vector<ledger::Entry> charged; /* in the transaction in progress */
    bool look_for_lost_claims = true;   /* until that is done and committed */
    bool lost_claims_left = true;
    bool all_leases = true; /* look at all of them, until that is done and committed */
    bool all_leases_left = true;
    bool apart = false; /* each step has its own transaction */
};

Memory &memory();

/* What a role's executors have to do. */
struct RoleWork {
    Oid role;
    std::vector<std::string_view> tasks;
    int ready = 0;
};

/* What a pass of the dispatcher has found. */
struct Pass {
    bool sweep = false; /* also for jobs that nobody announced */
    bool more = false;  /* there is something to do at once */
    bool other_version = false;
    std::vector<RoleWork> roles;
    std::optional<TimestampTz> next_due;
    bool has_told = false; /* consumers, of jobs that they can claim */
};

inline void note_due(std::optional<TimestampTz> &earliest, std::optional<TimestampTz> due)
{
    if (due && (!earliest || *due < *earliest))
        earliest = due;
}

/* The moment when something of a kind that is set aside is to be tried again. */
inline void note_retry(Pass &pass, set_aside::Kind kind)
{
    const TimestampTz at = set_aside::next_retry(kind);
    note_due(pass.next_due, at == 0 ? clock::now() : clock::of(at));
}

inline void note_soon(Pass &pass, int ms)
{
    note_due(pass.next_due, clock::now() + static_cast<TimestampTz>(ms) * 1000);
}

} // namespace backfill::bgworker
