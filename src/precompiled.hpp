/* precompiled.hpp - what every file but those of src/core begins with; see the Makefile. Two thirds of the
 * files need the job row and the shared state, so that reading them once is a tenth of the build. */
#include "backfill/config/config.hpp"
#include "backfill/pg/own_table.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/table/job_table.hpp"
