/* executor_session.hpp - the transactions of an executor, and what jobs leave in its session. */
#pragma once

#include "backfill/bgworker/worker.hpp"
#include "backfill/core/error_info.hpp"

#include <optional>

namespace backfill::bgworker
{

/* Runs body, whose errors end its transaction; the error, if there was one. */
template <class Body> std::optional<core::ErrorInfo> try_transaction(Body &&body)
{
    std::optional<core::ErrorInfo> error;
    try {
        body();
    } catch (const pg::Error &raised) {
        error = pg::to_error_info(raised);
    } catch (const Failure &raised) {
        error = pg::to_error_info(raised);
    }
    if (error)
        abort_transaction();
    return error;
}

/* Begins a transaction; ends the process if the extension is gone. */
void begin_or_end();
/* Removes what the last jobs have left in the session, if they have left anything. */
void clean_session();
/* Whether the dispatcher wants this executor to end. */
bool is_asked_to_end();

} // namespace backfill::bgworker
