/* public_job.hpp - a job as SQL functions return it: a row of the view backfill.jobs, the one type
 * for that, with nothing in it that the caller may not see (job_rights.hpp). */
#pragma once

#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

/* What the view calls state. kGone: the row shows NULL. */
enum class JobState { kScheduled, kReady, kRunning, kLeased, kDead, kGone };

/* The state of a row of backfill.job, by its times and its lease. That a function runs the job
 * stands in no column: then it is kReady. */
JobState state_of(const JobRow &row);

/* Ready for pg::make_row() and pg::ResultSet::add(), also if the view has got further columns. */
struct PublicJob {
    Datum values[MaxTupleAttributeNumber];
    bool nulls[MaxTupleAttributeNumber];
};
PublicJob public_job(const JobRow &row, JobState state);

} // namespace backfill::queue
