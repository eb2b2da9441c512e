/* utility_hook.hpp - commands that concern the workers. */
#pragma once

namespace backfill::hooks
{

/* Installs the ProcessUtility hook; from _PG_init, when preloaded. It
 *   - ends the workers of a database that is to be dropped, renamed, moved or copied,
 *     and of one whose extension is to be dropped, until the command is over;
 *   - tells the launcher about new databases;
 *   - extends the rights of roles when the extension is updated (extension_update.hpp);
 *   - notes what a running job does to its session. */
void install_utility_hook();

} // namespace backfill::hooks
