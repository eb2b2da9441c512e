/* signals.hpp - what wakes the launcher, the dispatchers and the executors, and what is left for
 * them to see when they wake. The functions take the lock themselves unless they are given it;
 * they raise nothing. */
#pragma once

#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker
{

/* A transaction with new work has committed. `jobs` of the role are ready (role
 * InvalidOid: one that does not exist), or a job becomes due at next_due. Wakes idle
 * executors, and the dispatcher if more executors could help. */
void signal_ready(Oid database, Oid role, int jobs);
void signal_due(Oid database, TimestampTz run_at);
/* There may be jobs for external consumers: the dispatcher must notify them. It is woken only
 * if it has looked since the last time. */
void signal_consumers(Oid database);
/* A job is leased until then. */
void signal_lease(Oid database, TimestampTz expires_at);
/* For the dispatcher: whether signal_consumers() was called since the last take_consumers(). */
bool consumers_announced(Oid database);
bool take_consumers(Oid database);
/* Wakes the sessions that wait for jobs to claim. */
void wake_consumers();
/* For the dispatcher: reads lease_low and forgets it, before it looks; then says what it saw. */
TimestampTz take_lease_low(Oid database);
void lower_lease_low(Oid database, TimestampTz lowest);
/* Schedules were added, changed or removed. */
void signal_schedules(Oid database);
/* For the dispatcher: whether that was called since the last time. */
bool take_schedules(Oid database);
/* Whether one has started, and listens. */
bool has_dispatcher(Oid database);
/* Wakes the dispatcher: look for work. */
void signal_dispatcher(Oid database);
/* An executor leaves out a full queue: a transaction that gives a permit back must say so. */
void note_queue_full(Oid database);
/* The dispatcher does, and the executors of the role may be busy for long: another role's executor
 * that gives a permit back must say so; one of this role looks for its next job itself. */
void note_role_waits(Oid database, Oid role);
/* Permits of limited queues were given back, after the transaction's locks are gone: if an
 * executor passed over a full queue, idle ones look again. */
void signal_permits_released(Oid database);
/* Something changed about which databases have the extension. */
void signal_launcher(Oid database);

} // namespace backfill::bgworker
