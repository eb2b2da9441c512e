/* fate.hpp - what becomes of a job that was taken out of the table: the one place that says what
 * each fate entails. settle() (settle/settle.hpp) goes by it, and ARCHITECTURE.md prints it. */
#pragma once

#include "backfill/core/hook_event.hpp"
#include "backfill/core/job_counter.hpp"

namespace backfill::core
{

enum class Fate {
    kCompleted,   /* its handler has returned, or its consumer says so */
    kRetried,     /* the run has failed; a later one may succeed */
    kFreeRetried, /* the same, and the error was not the job's fault */
    kSnoozed,     /* its handler, consumer or a hook wants it to run later */
    kReleased,    /* it was not run, or not to its end */
    kReplaced,    /* a producer's job takes its place: its key and its id */
    kExhausted,   /* the run has failed, and was the last one */
    kPermanent,   /* the run has failed by an error that would come again */
    kDiscarded,   /* its handler wants no further run */
    kBuried,      /* an operator wants no further run */
    kCancelled,   /* cancel_job(), or an operator ends it without a run */
    kSuperseded,  /* it has lost its key, to a newer job or by remove_job() */
    kCount
};
inline constexpr std::size_t kFateCount = static_cast<std::size_t>(Fate::kCount);

/* Where the job's row is afterwards. */
enum class RowAfter {
    kGone,
    kBack,     /* in the table again, with its id */
    kReplaced, /* the caller inserts another one with its id */
};

/* What the run costs the job. */
enum class Cost { kNothing, kAttempt, kFreeRetry };

/* What becomes of its dead letter: the one that it was requeued from, or that has its key. */
enum class LetterAfter { kAsItWas, kWritten, kForgotten };

struct FateInfo {
    Fate fate;
    std::string_view name;
    RowAfter row = RowAfter::kGone;
    Cost cost = Cost::kNothing;
    LetterAfter letter = LetterAfter::kAsItWas;
    /* What the run counts as, if there was one, besides its start. */
    std::optional<counted::JobCounter> run = std::nullopt;
    /* What the job counts as. */
    std::array<std::optional<counted::JobCounter>, 2> counters = {};
    /* Its outcome in the history, and for sessions that await its end; empty: none. */
    std::string_view outcome = {};
    /* The hook that watches this; job_fail is told of each run that fails, whatever follows. */
    std::optional<HookEvent> hook = std::nullopt;
    /* What the log says of a job whose run has failed: "job 1 failed ...". */
    std::string_view log = {};

    /* Something else than the job has ended it: what forbade it a further run is over with it, and
     * its dead letter goes, too, if an operator wanted it. */
    bool is_drop = false;
    /* A failure or a consumer's word brings it about: a job that should be dropped, because it was
     * cancelled or has lost its key meanwhile, gets that fate instead. */
    bool yields_to_drop = false;

    constexpr bool is_end() const { return row == RowAfter::kGone; }
};

inline constexpr std::string_view kIsDeadLetter = "for good and is in the dead letter queue";

inline constexpr std::array<FateInfo, kFateCount> kFates = {{
    {.fate = Fate::kCompleted,
     .name = "completed",
     .letter = LetterAfter::kForgotten,
     .run = counted::kCompleted,
     .outcome = "completed",
     .hook = HookEvent::kJobComplete},
    {.fate = Fate::kRetried,
     .name = "retried",
     .row = RowAfter::kBack,
     .cost = Cost::kAttempt,
     .run = counted::kFailedRetryable,
     .counters = {counted::kRetriesAttempted},
     .outcome = "retried",
     .log = "and will be retried",
     .yields_to_drop = true},
    {.fate = Fate::kFreeRetried,
     .name = "retried at no cost",
     .row = RowAfter::kBack,
     .cost = Cost::kFreeRetry,
     .run = counted::kFailedRetryable,
     .counters = {counted::kRetriesAttempted},
     .outcome = "retried",
     .log = "and will be retried at no cost",
     .yields_to_drop = true},
    {.fate = Fate::kSnoozed,
     .name = "snoozed",
     .row = RowAfter::kBack,
     .run = counted::kSnoozed,
     .yields_to_drop = true},
    {.fate = Fate::kReleased,
     .name = "released",
     .row = RowAfter::kBack,
     .run = counted::kSnoozed,
     .yields_to_drop = true},
    {.fate = Fate::kReplaced,
     .name = "replaced",
     .row = RowAfter::kReplaced,
     .counters = {counted::kDroppedSuperseded}},
    {.fate = Fate::kExhausted,
     .name = "exhausted",
     .cost = Cost::kAttempt,
     .letter = LetterAfter::kWritten,
     .run = counted::kFailedRetryable,
     .counters = {counted::kDlqAddedMaxAttempts, counted::kRetriesExhausted},
     .outcome = "dead",
     .hook = HookEvent::kJobPermanentlyFail,
     .log = kIsDeadLetter,
     .yields_to_drop = true},
    {.fate = Fate::kPermanent,
     .name = "permanent",
     .cost = Cost::kAttempt,
     .letter = LetterAfter::kWritten,
     .run = counted::kFailedPermanent,
     .counters = {counted::kDlqAddedPermanent},
     .outcome = "dead",
     .hook = HookEvent::kJobPermanentlyFail,
     .log = kIsDeadLetter,
     .yields_to_drop = true},
    {.fate = Fate::kDiscarded,
     .name = "discarded",
     .cost = Cost::kAttempt,
     .letter = LetterAfter::kWritten,
     .run = counted::kFailedPermanent,
     .counters = {counted::kDlqAddedPermanent},
     .outcome = "discarded",
     .hook = HookEvent::kJobPermanentlyFail,
     .log = kIsDeadLetter},
    {.fate = Fate::kBuried,
     .name = "buried",
     .letter = LetterAfter::kWritten,
     .counters = {counted::kDlqAddedManual},
     .outcome = "dead"},
    {.fate = Fate::kCancelled,
     .name = "cancelled",
     .run = counted::kFailedPermanent,
     .counters = {counted::kDroppedCancelled},
     .outcome = "cancelled",
     .log = "and was cancelled",
     .is_drop = true},
    {.fate = Fate::kSuperseded,
     .name = "superseded",
     .counters = {counted::kDroppedSuperseded},
     .outcome = "superseded",
     .log = "and is superseded by a newer job with its key",
     .is_drop = true},
}};

constexpr const FateInfo &info(Fate fate)
{
    return kFates[static_cast<std::size_t>(fate)];
}

} // namespace backfill::core
