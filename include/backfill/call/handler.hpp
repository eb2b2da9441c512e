/* handler.hpp - from a task to the function that runs its jobs. */
#pragma once

#include "backfill/config/config.hpp"

namespace backfill::queue
{

/* Looks the task's handler up by name and checks that `role` may execute it.
 * Errors: Failure 42883 if it does not exist, 42501 if the role may not execute it or if it
 * belongs to a role that it did not belong to at the registration and that is not trusted,
 * 42809 if it has become something that cannot be called. */
Oid check_handler(const Task &task, Oid role);

/* Whether the owner of a function can do nothing by it that it could not do anyhow: it may act
 * as the role whose rights the function has, or owns the extension. */
bool is_trusted_owner(Oid owner, Oid role);

/* check_handler(), ready to be called; cached until anything about functions, schemas or
 * memberships changes. Only for run_job(), which never runs inside of itself: what is
 * cached may be in use while a handler runs. */
FmgrInfo *find_handler(const Task &task, Oid role);

/* Registers the invalidation callbacks; once per process, from _PG_init. */
void init_handlers();

} // namespace backfill::queue
