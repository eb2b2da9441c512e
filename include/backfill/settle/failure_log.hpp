/* failure_log.hpp - what the log says of a run that has failed, or was cancelled. */
#pragma once

#include "backfill/settle/ending.hpp"

namespace backfill::queue
{

/* The ending has an error; the row holds the attempts as the fate leaves them. */
void log_failure(const JobRow &row, core::Fate fate, const Ending &ending);

} // namespace backfill::queue
