/* sqlstates.hpp - SQLSTATEs that the code asks for or gives, as core::ErrorInfo keeps them.
 *
 * What is raised as an error of PostgreSQL's and never asked for has an ERRCODE_ macro instead. */
#pragma once

namespace backfill::core::sqlstate
{

/* Ours: docs/administration.md, consumers.md, hooks.md and queues.md say what users do with them.
 */
inline constexpr char kQueueFull[] = "JB001";
inline constexpr char kNeverRetry[] = "JB002"; /* for RAISE in handlers, as the next */
inline constexpr char kRetryAfter[] = "JB003"; /* the error's detail says how long */
inline constexpr char kRefusedByHook[] = "JB004";
inline constexpr char kLeaseRanOut[] = "JB005";
inline constexpr char kProcessEnded[] = "JB006"; /* the run has ended its process */

/* PostgreSQL's. */
inline constexpr char kReportedError[] = "38000"; /* external_routine_exception */
inline constexpr char kSerializationFailure[] = "40001";
inline constexpr char kDeadlockDetected[] = "40P01";
inline constexpr char kUndefinedObject[] = "42704";
inline constexpr char kLockNotAvailable[] = "55P03";
inline constexpr char kQueryCanceled[] = "57014";
inline constexpr char kAdminShutdown[] = "57P01";
inline constexpr char kSystemError[] = "58000";

} // namespace backfill::core::sqlstate
