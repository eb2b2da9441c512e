/* extension_update.hpp - ALTER EXTENSION backfill UPDATE: rights go along.
 *
 * A role that was granted a bundle of rights (grant_producer() and the like) has to have what the
 * new version adds to it. Which roles that are is read from the rights themselves, before the
 * update: those that hold all that the bundle consists of. A role from which an administrator has
 * taken a part is not among them, and gets nothing that it was not granted.
 *
 * This is not done by the scripts that upgrade: what they grant, PostgreSQL takes for rights that
 * the extension began with, and leaves it out of dumps. */
#pragma once

#include "backfill/pg/table.hpp"

namespace backfill::hooks
{

/* Roles and the names of bundles that they hold; none if the extension is not there. Inside a
 * transaction. */
pg::TableRows bundle_holders();
/* Grants these bundles as they are now. */
void grant_bundles(const pg::TableRows &holders);

} // namespace backfill::hooks
