/* said.hpp - what the handler that runs in this process has said about its job: its verdict, by
 * snooze() or discard(), and its result, by set_result().
 *
 * It is part of the transaction, as everything else that a handler does: what was said in a
 * subtransaction that is rolled back was not said, and what was said before counts again. The last
 * word counts. A procedure keeps at a COMMIT what it has said, and at a ROLLBACK what it had said
 * up to the last COMMIT. */
#pragma once

#include "backfill/core/fate.hpp"
#include "backfill/pg/guard.hpp"

namespace backfill::queue
{

/* What a handler decided about its job before it returned. */
struct Verdict {
    /* kCompleted, also of a job that a hook skips, kSnoozed or kDiscarded */
    core::Fate fate = core::Fate::kCompleted;
    int64 delay_us = 0; /* kSnoozed: how long until it runs again */
    std::string reason; /* kDiscarded: why there should be no further run */
};

namespace said
{

/* A job begins: nothing has been said. */
void begin() noexcept;
/* Its handler has ended. What it has said is there until this transaction ends, or the next job
 * begins; then its memory is given back. */
void end() noexcept;

void set_verdict(const Verdict &verdict);
Verdict verdict();
/* jsonb, which is copied; or that there is none. */
void set_result(std::optional<Datum> result);
std::optional<Datum> result();

/* Registers callbacks; once per process, from _PG_init. */
void init();

} // namespace said

} // namespace backfill::queue
