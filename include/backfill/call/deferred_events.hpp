/* deferred_events.hpp - the deferred constraints and triggers that jobs and hooks leave for the end
 * of the transaction.
 *
 * One that fails must fail the job, or the hook, that left it, not the commit of all. So what is
 * pending is tried in a subtransaction that is rolled back, which leaves it pending and in its
 * mode: SET CONSTRAINTS would otherwise last to the end of the transaction and reach the next job.
 *
 * PostgreSQL can try only all that is pending, and up to version 17 does that as the current user.
 * What a session has left before it called us is none of ours: its triggers would get the rights
 * of a SECURITY DEFINER function that runs jobs, and its violations would fail the jobs. So nothing
 * is tried then, and what a job violates fails the session's transaction. */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::queue::deferred
{

/* Whether triggers that users have made are pending. Unlike constraints they may do what cannot
 * be undone: in our own transactions they are not tried again for the next job. */
bool triggers_of_users_pending();

/* Raises the error that what is pending would end in now. Call it only if all_ours(). */
void try_pending();

/* Whether all that is pending in this transaction has been left by jobs and their hooks. */
bool all_ours();

/* This process runs nothing but jobs. */
void own_every_transaction();

/* Jobs run in a user's transaction for a scope; what is pending now is not theirs. */
class OwnedTransaction
{
  public:
    OwnedTransaction();
    ~OwnedTransaction();
    OwnedTransaction(const OwnedTransaction &) = delete;
    OwnedTransaction &operator=(const OwnedTransaction &) = delete;
    /* Another transaction has begun. */
    void begin();

  private:
    bool before_;
};

/* Of what a hook leaves, if it can be told from what was pending before: between two jobs that
 * is known to succeed. */
class Trial
{
  public:
    Trial();
    void run() const;

  private:
    bool possible_;
};

/* Registers an invalidation callback; once per process, from _PG_init. */
void init();

} // namespace backfill::queue::deferred
