/* wake.hpp - tell the workers, at commit, what a transaction has left for them.
 *
 * Functions collect per transaction; a callback at its end passes it on, when the rows
 * are visible to all sessions. A rollback drops it, except what it gives back. A rollback to a
 * savepoint does not: a worker that wakes for nothing looks once and sleeps again. COMMIT PREPARED
 * has no callback, so the dispatcher's sweep finds what it releases. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::wake
{

/* Registers the callbacks; once per process, from _PG_init. */
void init();

/* A row that this transaction inserts; task is null if it is not registered. */
void announce_job(const JobRow &row, const Task *task, TimestampTz now);
/* A job that becomes due in the future. */
void announce_due(TimestampTz run_at) noexcept;
/* Jobs that external consumers can claim, now or at a time that announce_due() has been told. */
void announce_consumers() noexcept;
/* This transaction has claimed jobs for a consumer, until then. If it is rolled back, others can
 * have them. */
void announce_lease(TimestampTz expires_at) noexcept;
/* Something about tasks changed: the dispatcher must look which jobs can run. */
void announce_dispatcher() noexcept;
/* Schedules changed: the dispatcher must look when the next is due. */
void announce_schedules() noexcept;
/* This transaction holds permits of limited queues: when it is over, committed or not, others
 * may run what it kept from them. */
void announce_permits() noexcept;
/* It has locked or removed waiting jobs, which executors pass over meanwhile: should that be
 * rolled back, also to a savepoint, the dispatcher must look at them again. */
void announce_taken() noexcept;
/* This database has the extension from this transaction's commit on. */
void announce_installed() noexcept;
/* When this transaction is over, committed or not, the launcher must look which databases
 * there are: a new one may have the extension from its template, and one whose workers
 * had to go may have them again. */
void announce_databases() noexcept;

} // namespace backfill::queue::wake
