/* handler.hpp - from a task to the function that runs its jobs. */
#pragma once

#include "backfill/queue/config.hpp"

namespace backfill::queue
{

/* What a handler may take and how a registered one is named: see register_task(). */
std::string handler_signature(const Task &task);

/* The task's handler, looked up by name and checked for EXECUTE by `role`. Cached until
 * anything about functions, schemas or memberships changes.
 * Errors: Failure 42883 if it does not exist, 42501 if the role may not execute it,
 * 42809 if it has become something that cannot be called. */
FmgrInfo *find_handler(const Task &task, Oid role);

/* Registers the invalidation callbacks; once per process, from _PG_init. */
void init_handlers();

} // namespace backfill::queue
