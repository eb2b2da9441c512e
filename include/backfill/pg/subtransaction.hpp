/* subtransaction.hpp - run something in a subtransaction of its own. */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

enum class OnSuccess { kKeep, kRollBack };

/* Runs body, which may throw pg::Error, Failure or an ErrorInfo, and returns the error. What body
 * did is still there: the (sub)transaction must be aborted. For in_subtransaction() and run_job().
 */
template <class Body> std::optional<core::ErrorInfo> error_of(Body &&body)
{
    try {
        body();
        return std::nullopt;
    } catch (const Error &raised) {
        return to_error_info(raised);
    } catch (const Failure &raised) {
        return to_error_info(raised);
    } catch (const core::ErrorInfo &raised) {
        return raised;
    }
}

/* Runs body in a subtransaction. Returns nothing on success; on an error the
 * subtransaction is rolled back, with everything that body did to the database and to
 * settings and roles, and the error is returned. body may throw (pg::Error, Failure, or
 * an ErrorInfo) and calls PostgreSQL through pg::call() itself. kRollBack undoes a
 * success as well: to see whether something would work. */
template <class Body>
std::optional<core::ErrorInfo> in_subtransaction(Body &&body,
                                                 OnSuccess on_success = OnSuccess::kKeep)
{
    const MemoryContext memory = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;

    call([&] {
        BeginInternalSubTransaction(nullptr);
        MemoryContextSwitchTo(memory);
    });
    bool released = false;
    const std::optional<core::ErrorInfo> error = error_of([&] {
        body();
        if (on_success == OnSuccess::kKeep) {
            call([] { ReleaseCurrentSubTransaction(); });
            released = true;
        }
    });
    if (!released)
        call([] { RollbackAndReleaseCurrentSubTransaction(); });
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = owner;
    return error;
}

/* An interval in a user's words, in microseconds; nothing if it cannot be read or
 * is longer than 36500 days; a negative one gives -1. Reads it in a subtransaction. */
std::optional<int64> parse_delay(const std::string &text);

} // namespace backfill::pg
