/* table_guard.hpp - what our tables cannot bear. */
#pragma once

namespace backfill::hooks
{

/* Installs the object access hook; from _PG_init. It refuses, however the command is spelled,
 *   - a foreign key to backfill.job: a claim deletes the job's row, and a retry inserts it again;
 *   - a table that inherits from one of ours, whose rows we would not see. */
void install_table_guard();

} // namespace backfill::hooks
