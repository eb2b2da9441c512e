/* low_water.hpp - the low-water marks of this server's ranges (core/low_water.hpp), and
 * what the current transaction will have to say about them at its end.
 *
 * A commit announces the jobs it has inserted, an abort those it had claimed. Rows that
 * no commit announces (COPY, logical replication, COMMIT PREPARED, DELETE by hand that is
 * rolled back) are found by the dispatcher's sweep. Without shared memory there are no
 * marks, and every read begins at the head of its range. */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue::low_water
{

core::QueueHash hash_of(std::string_view queue) noexcept;

/* Ranges of the current database: of all jobs, and of those in a queue. */
core::RangeId range_of(std::string_view task, int priority) noexcept;
core::RangeId range_of(core::QueueHash queue, std::string_view task, int priority) noexcept;

/* To be noted before a snapshot is taken, and given to raise_mark(). */
std::uint64_t announcements() noexcept;
core::ReadyKey mark(core::RangeId range) noexcept;
/* A reader that looks for jobs of its own transaction, too, must not begin behind this: they lower
 * the mark for others only at the commit. */
core::ReadyKey lowest_own_job(core::RangeId range) noexcept;
void raise_mark(core::RangeId range, core::ReadyKey from, core::ReadyKey to,
                std::uint64_t announcements) noexcept;
core::Backlog backlog(core::RangeId range) noexcept;
void extend_backlog(const core::Backlog &found, core::ReadyKey from,
                    std::uint64_t announcements) noexcept;
/* Of the queues' ranges no mark counts any more: jobs may have come that no commit has announced. */
void forget_queues() noexcept;
/* The sweep has found a ready job here. */
void announce(core::RangeId range, core::ReadyKey key, core::QueueHash queue) noexcept;

/* The current transaction has inserted, or claimed, this job. */
void note_inserted(const JobRow &row) noexcept;
void note_claimed(const JobRow &row) noexcept;
/* It has changed jobs in some other way. */
void note_changed() noexcept;
/* Its end: announces what it has noted. Called by wake.cpp, before it wakes any process. */
void on_transaction_end(bool committed) noexcept;
/* What was claimed within a savepoint is free at once, and announced at the end. */
void on_rollback_to_savepoint() noexcept;
/* The notes are dropped: the transaction has been prepared, and ends at any time. */
void on_prepare() noexcept;
void drop_notes() noexcept;

} // namespace backfill::queue::low_water
