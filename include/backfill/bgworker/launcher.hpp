/* launcher.hpp - one per server: finds the databases that have the extension. */
#pragma once

namespace backfill::bgworker
{

/* Registers the launcher with the postmaster; from _PG_init, when preloaded. It starts
 * when the server accepts writes: at promotion, on a standby. */
void register_launcher();

/* Whether backfill.databases names this database. Inside pg::call(): allocates. */
bool is_listed(const char *database_name);

} // namespace backfill::bgworker
