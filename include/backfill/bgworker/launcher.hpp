/* launcher.hpp - one per server: finds the databases that have the extension. */
#pragma once

namespace backfill::bgworker
{

/* Registers the launcher with the postmaster; from _PG_init, when preloaded. It starts
 * when the server accepts writes: at promotion, on a standby. */
void register_launcher();

} // namespace backfill::bgworker
