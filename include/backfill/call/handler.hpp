/* handler.hpp - from a task or a hook to the function that is called for it. */
#pragma once

#include "backfill/config/config.hpp"

namespace backfill::queue
{

/* Looks the function up by its name and checks that `role` may execute it.
 * Errors: Failure 42883 if it does not exist, 42501 if the role may not execute it or if it
 * belongs to a role that it did not belong to at the registration and that is not trusted,
 * 42809 if it has become something that cannot be called. */
Oid check_function(const Task &task, Oid role);
Oid check_function(const Hook &hook, Oid role);

/* Whether the owner of a function can do nothing by it that it could not do anyhow: it may act
 * as the role whose rights the function has, or owns the extension. */
bool is_trusted_owner(Oid owner, Oid role);

/* check_function() of a handler, ready to be called; cached until anything about functions, schemas
 * or memberships changes. Only for run_job(), which never runs inside of itself: what is cached may
 * be in use while a handler runs. */
FmgrInfo *find_handler(const Task &task, Oid role);

/* Registers the invalidation callbacks; once per process, from _PG_init. */
void init_handlers();

} // namespace backfill::queue
