/* progress_api.cpp - SQL functions by which a handler tells how far it is and what came of it, and
 * by which others wait for that. */
#include "backfill/call/run_job.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/pg/waiting.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/shmem/job_waiters.hpp"
#include "backfill/shmem/worker_slots.hpp"

#include <cmath>

using namespace backfill;

namespace
{

void require_job(const char *function)
{
    if (!queue::is_running_job())
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
             std::string(function) + " must be called by the handler of a job", {},
             "No job is running in this session.");
}

} // namespace

BACKFILL_FUNCTION(backfill_set_progress)
{
    const pg::Arguments arguments(fcinfo);
    require_job("set_progress()");
    const auto fraction = arguments.float8(0);
    if (fraction && !(*fraction >= 0 && *fraction <= 1))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "fraction is out of range: " + std::string(pg::call([&] {
                 return static_cast<const char *>(
                     DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(*fraction))));
             })),
             "It must be between 0 and 1.");
    const std::string message(pg::clipped(arguments.text(1).value_or(std::string_view()),
                                          bgworker::kMaxProgressMessage - 1));
    bgworker::publish_progress(fraction.value_or(-1), message.c_str());
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_set_result)
{
    const pg::Arguments arguments(fcinfo);
    require_job("set_result()");
    queue::said::set_result(arguments.is_null(0) ? std::nullopt
                                                 : std::optional(arguments.datum(0)));
    return static_cast<Datum>(0);
}

/* --- await_job --------------------------------------------------------------------------- */

namespace
{

/* How often a session that waits looks by itself. */
constexpr char kGone[] = "gone"; /* how it has ended is not known */
constexpr TimestampTz kLongestTellingUs = USECS_PER_SEC;
constexpr long kLongestNapMs = 5000;
constexpr double kLongestTimeoutDays = 24;

class WaiterPlace
{
  public:
    explicit WaiterPlace(int64 job_id) { bgworker::take_waiter_place(job_id); }
    ~WaiterPlace() { bgworker::leave_waiter_place(); }
    WaiterPlace(const WaiterPlace &) = delete;
    WaiterPlace &operator=(const WaiterPlace &) = delete;
};

struct Ending {
    std::string outcome;
    std::optional<Datum> result; /* in the caller's memory */
};

/* A role that may not enqueue jobs of the task may not know what comes of them; consumers, say,
 * which can call await_job(), but not enqueue(). */
bool may_see_result(std::string_view task)
{
    const pg::Param role = pg::oid_param(GetUserId());
    return queue::config()->may_enqueue(GetUserId(), task) &&
           pg::execute_as_owner("SELECT p.oid FROM pg_catalog.pg_proc p"
                                " WHERE p.proname = 'enqueue'"
                                "   AND p.pronamespace = 'backfill'::pg_catalog.regnamespace"
                                "   AND pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')",
                                std::span(&role, 1))
                   .rows > 0;
}

/* What the history knows of the job's end. */
std::optional<Ending> ending_in_history(const pg::Param &id, MemoryContext memory)
{
    const pg::TableRows rows = pg::query_as_owner("SELECT h.outcome, h.task_identifier, h.result"
                                                  "  FROM backfill.job_history h"
                                                  " WHERE h.job_id = $1 AND h.outcome <> 'retried'"
                                                  " ORDER BY h.finished_at DESC LIMIT 1",
                                                  std::span(&id, 1));
    if (rows.count == 0)
        return std::nullopt;
    const pg::TableRow &row = rows.rows[0];
    Ending ending{pg::to_string(row.values[0]), std::nullopt};
    if (!row.nulls[2] && may_see_result(pg::to_view(row.values[1])))
        ending.result = pg::call([&] {
            const MemoryContext caller = MemoryContextSwitchTo(memory);
            const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(row.values[2]));
            MemoryContextSwitchTo(caller);
            return copy;
        });
    return ending;
}

/* As far as is committed; nothing if the job waits or runs. */
std::optional<Ending> find_ending(int64 job_id, MemoryContext memory)
{
    const pg::Param id = pg::int8_param(job_id);
    if (pg::execute_as_owner("SELECT j.id FROM backfill.job j WHERE j.id = $1", std::span(&id, 1))
            .rows > 0)
        return std::nullopt;
    if (auto ending = ending_in_history(id, memory))
        return ending;
    if (const auto told = bgworker::told_job_end())
        return Ending{std::string(core::info(*told).outcome), std::nullopt};
    const bool dead =
        pg::execute_as_owner("SELECT d.id FROM backfill.dead_letter d WHERE d.original_job_id = $1",
                             std::span(&id, 1))
            .rows > 0;
    return Ending{dead ? std::string(core::info(core::Fate::kExhausted).outcome)
                       : std::string(kGone),
                  std::nullopt};
}

bool is_gone(const std::optional<Ending> &ending)
{
    return ending && ending->outcome == kGone;
}

/* Holds no snapshot while it sleeps. */
Ending await_ending(int64 job_id, TimestampTz deadline, MemoryContext memory)
{
    const WaiterPlace place(job_id);
    bool seen = false;           /* an earlier look has found the job */
    TimestampTz vanished_at = 0; /* and a later one nothing */
    TransactionId enqueuer = InvalidTransactionId;
    for (;;) {
        /* First, so that an end that comes while we look wakes us. */
        if (bgworker::available())
            pg::call([] {
                ConditionVariablePrepareToSleep(&bgworker::lock_free_state().job_waiters.ended);
            });
        auto ending = find_ending(job_id, memory);
        if (is_gone(ending)) {
            bgworker::watch_rollbacks();
            if (const auto inserting = queue::JobTable::find_inserting(job_id)) {
                ending.reset();
                enqueuer = TransactionIdIsValid(*inserting) ? *inserting : enqueuer;
            }
        }
        const bool was_rolled_back = is_gone(ending) && TransactionIdIsValid(enqueuer) &&
                                     !pg::call([&] { return TransactionIdDidCommit(enqueuer); });
        pg::call([] { SPI_commit(); });
        const TimestampTz now = GetCurrentTimestamp();
        /* Rows are gone a moment before their transaction tells how the job has ended. */
        const bool is_untold = is_gone(ending) && seen && !was_rolled_back && bgworker::available();
        if (is_untold && vanished_at == 0)
            vanished_at = now;
        if (ending && !(is_untold && now - vanished_at < kLongestTellingUs))
            return *ending;
        seen = seen || !ending;
        if (now >= deadline)
            return {"timeout", std::nullopt};
        const long longest = bgworker::available() ? kLongestNapMs : guc::poll_interval_ms;
        pg::nap(bgworker::available() ? &bgworker::lock_free_state().job_waiters.ended : nullptr,
                Min(TimestampDifferenceMilliseconds(now, deadline) + 1, is_untold ? 10 : longest));
    }
}

} // namespace

BACKFILL_FUNCTION(backfill_await_job)
{
    const pg::Arguments arguments(fcinfo);
    pg::require_top_level_call(fcinfo, "await_job()");
    const auto job_id = arguments.int8(0);
    if (!job_id)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "job_id must not be null");
    const Interval *timeout = arguments.interval(1);
    if (timeout == nullptr)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "timeout must not be null");
    const double days = pg::approximate_days(*timeout);
    if (days < 0 || days > kLongestTimeoutDays)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "timeout is out of range: " + pg::to_text(*timeout),
             "It must be between 0 and 24 days.");
    const TimestampTz deadline = GetCurrentTimestamp() + pg::to_microseconds(*timeout);

    const MemoryContext caller = CurrentMemoryContext;
    pg::call([] { SPI_connect_ext(SPI_OPT_NONATOMIC); });
    const Ending ending = await_ending(*job_id, deadline, caller);
    pg::call([] {
        if (bgworker::available())
            ConditionVariableCancelSleep();
        SPI_finish();
    });
    const Datum values[] = {pg::from_text(ending.outcome),
                            ending.result.value_or(static_cast<Datum>(0))};
    const bool nulls[] = {false, !ending.result.has_value()};
    return pg::make_row(fcinfo, values, nulls);
}
