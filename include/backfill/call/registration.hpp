/* registration.hpp - whether a function can become the handler of a task, or a hook, and as
 * which role it runs. In messages it is called `what`: "handler", "task" or "hook". */
#pragma once

#include "backfill/config/config.hpp"

namespace backfill::queue
{

/* Checks that a function can be `what`. Only a handler may be a procedure.
 * Errors: Failure 42883 if there is none, 42809, 22023 or 0A000 if it is of another kind. */
FunctionRef check_signature(Oid function, const std::string &what, bool procedures);

/* The role whose rights a `what` has: the given one, or the caller.
 * Errors: Failure 42704 if there is no such role, 42501 if the caller may not act as it. */
Oid check_run_as(std::optional<Oid> given, const std::string &what);

/* A WARNING if the owner may not act as run_as: it can replace the function. */
void warn_of_owner(const std::string &what, const FunctionRef &function, Oid run_as);

} // namespace backfill::queue
