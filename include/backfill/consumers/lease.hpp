/* lease.hpp - what becomes of the jobs that consumers have claimed.
 *
 * A lease that has run out, or whose job has been claimed anew, can change nothing any
 * more: every function here looks for the token in the row, and waits for a transaction that is
 * changing the row just now. All need a transaction. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/settle/each_apart.hpp"

namespace backfill::queue::leases
{

/* Lengthens (or shortens) a claim's leases; returns the jobs that it still has. */
std::vector<int64> renew(int64 token, int64 lease_us);
/* The jobs are done. Returns those that the claim had. */
std::vector<int64> complete(std::vector<int64> ids, int64 token);
/* Gives the jobs back, at no cost. Returns those that the claim had. */
std::vector<int64> release(std::vector<int64> ids, int64 token);
/* The same for one job, which is to run again after a delay. */
bool snooze(int64 id, int64 token, int64 delay_us);
/* The attempt has failed; the error is classified by its text unless `permanent` says it. Returns
 * what became of the job; nothing if the claim does not have it. */
std::optional<core::Fate> fail(int64 id, int64 token, std::string_view error,
                               std::optional<bool> permanent);

struct Expired {
    int jobs = 0;
    bool more = false;               /* there are more than it had room or time for */
    bool busy = false;               /* a transaction is changing the row of one just now */
    bool aside = false;              /* one could not be ended, and is tried again later */
    std::optional<TimestampTz> next; /* when the next lease runs out */
    TimestampTz lowest = 0;          /* no lease that could be seen runs out before */
};

/* Makes about `limit` jobs ready, or dead letters, whose leases have run out between two times;
 * what a transaction is changing just now is passed over, and what fails is set aside. */
Expired expire(TimestampTz from, TimestampTz until, int limit, Transaction transaction);
/* Releases the jobs of procedures whose executors are gone, which it knows by the claims
 * published in shared memory: at no cost, because the ledger charges those whose fault it was
 * (crash_charge.hpp). Returns whether one of them has to wait: its charge is not settled, a
 * transaction is changing it just now, or it failed. */
bool release_orphaned(Transaction transaction);
/* Ends now, like expire(), all leases of these workers. Waits for transactions that are changing
 * them. */
int take_away(const std::vector<std::string> &workers);

} // namespace backfill::queue::leases
