/* work_finder.hpp - looks which roles have ready jobs, and which channels of external consumers. */
#pragma once

#include "backfill/bgworker/dispatcher_state.hpp"

namespace backfill::bgworker
{

/* When consumers may be told of jobs again. */
TimestampTz next_telling();
void look_for_work(Pass &pass);

} // namespace backfill::bgworker
