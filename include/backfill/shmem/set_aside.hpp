/* set_aside.hpp - what has failed for reasons of ours or the server's, and is tried again later.
 *
 * One thing that cannot be done must not stop all others: an outcome that cannot be recorded, a
 * lease that cannot be ended, a charge, a schedule. The process that fails with it notes it here
 * and goes on with the rest; until the time that note_failure() returns, all processes pass over
 * it. The delay grows with each failure, from 100 ms to 10 s, and is longer for what takes up much
 * time.
 *
 * A job whose executor other sessions terminate is here, too.
 *
 * A bounded list in shared memory, of all databases. It is lost with the server, and an entry that
 * was not touched for long is given back: then the thing is simply tried again. Without
 * shared_preload_libraries there is no list, and nothing is ever set aside. */
#pragma once

#include "backfill/core/error_info.hpp"
#include "backfill/shmem/set_aside_entry.hpp"

#include <optional>
#include <vector>

namespace backfill::bgworker::set_aside
{

/* As messages and health() say it. */
const char *kind_name(Kind kind);

inline constexpr int64 kFirstDelayUs = 100000;
inline constexpr int64 kLongestDelayUs = 10000000;

/* It has failed, in this database. Returns when to try again, by the machine's clock, not before
 * a time that is given. Logs nothing about the failure itself, but says so when another entry had
 * to make room. */
TimestampTz note_failure(Kind kind, int64 id, std::string_view name, const core::ErrorInfo &error,
                         TimestampTz not_before = 0);

/* --- Those below raise nothing; with an empty list they cost one atomic read. --- */

bool is_empty() noexcept;
/* The executor of a job was terminated. */
void note_termination(int64 job_id, const char *task, const char *message) noexcept;
/* All of this database may be tried again at once. */
void retry_all() noexcept;
/* The database, or the extension in it, is gone. */
void forget_database(Oid database) noexcept;
/* Whether it has to be passed over now. */
bool is_set_aside(Kind kind, int64 id) noexcept;
/* It has succeeded, and that is committed; or it is gone. */
void clear(Kind kind, int64 id) noexcept;
/* When the next thing of this kind in this database may be tried again; 0: there is none. */
TimestampTz next_retry(Kind kind) noexcept;
/* The entry, to show it. */
std::optional<Entry> find(Kind kind, int64 id);
/* All entries of this database. */
std::vector<Entry> copy_entries();

} // namespace backfill::bgworker::set_aside
