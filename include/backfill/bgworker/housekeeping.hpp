/* housekeeping.hpp - the steps of the dispatcher's pass that clean up: charges, leases, claims,
 * dead letters, history. */
#pragma once

#include "backfill/bgworker/dispatcher_state.hpp"

namespace backfill::bgworker
{

/* Charges the jobs whose run was their process's last. */
void charge_lost_runs(Pass &pass);
/* After the commit. Should we not come to this, the charges are refused the next time, for the
 * jobs have changed. */
void settle_charges();
/* Releases the jobs of procedures whose executors are gone. */
void release_lost_claims(Pass &pass);
/* Jobs without attempts left become dead letters. */
void bury_exhausted_jobs(Pass &pass);
/* What somebody has locked is left for the next time. */
void delete_old_letters(Pass &pass);
void move_orphans(Pass &pass);
/* Deletes a batch of the history that is no longer wanted. */
void trim_history_when_due(Pass &pass);
/* Makes jobs ready again, or dead letters, whose consumers were not heard of in time. */
void end_leases(Pass &pass);

} // namespace backfill::bgworker
