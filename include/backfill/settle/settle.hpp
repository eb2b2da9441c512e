/* settle.hpp - the one place where a job that was taken out of the table gets its fate, with all
 * that the table of fates (core/fate.hpp) says it entails: the row, the dead letter, the counters,
 * the history, sessions that await the job, the log, the hooks.
 *
 * It is part of the transaction that has taken the job. Success writes nothing: the claim has
 * deleted the row, the commit completes the job. */
#pragma once

#include "backfill/settle/ending.hpp"
#include "backfill/settle/take.hpp"

namespace backfill::queue
{

struct Settled {
    core::Fate fate;
    int64 letter = 0; /* the id of the dead letter that was written; 0: none was */
};

/* Also ends what forbade the job a further run. */
Settled settle(JobTable &table, const Config &config, TakenJob &job, const Ending &ending);

/* Settles a job that must not run: a newer job carries its key, or it was cancelled, or its key
 * removed or enqueued again, while it ran. Returns whether that was so. */
bool settle_if_unwanted(JobTable &table, const Config &config, TakenJob &job);

/* A job that has failed, of which nothing else can be recorded: charge_unsettled_job() in
 * batch.hpp. */
void charge_unsettled(JobTable &table, const Config &config, TakenJob &job,
                      const core::ErrorInfo &error);

} // namespace backfill::queue
