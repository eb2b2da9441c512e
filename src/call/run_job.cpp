/* run_job.cpp - see run_job.hpp. */
#include "backfill/call/run_job.hpp"

#include "backfill/call/deferred_events.hpp"
#include "backfill/call/handler.hpp"
#include "backfill/call/hooks.hpp"
#include "backfill/call/job_context.hpp"
#include "backfill/call/run_limit.hpp"
#include "backfill/core/sqlstates.hpp"
#include "backfill/pg/advisory_lock.hpp"
#include "backfill/pg/subtransaction.hpp"

namespace backfill::queue
{

namespace
{

using core::sqlstate::kQueryCanceled;

/* A handler that returns jsonb has a result, unless it has called set_result(). */
void keep_returned(const FmgrInfo *handler, Datum returned, bool is_null)
{
    if (!is_null && !said::result() &&
        pg::call([&] { return get_func_rettype(handler->fn_oid) == JSONBOID; }))
        said::set_result(returned);
}

void call_handler(FmgrInfo *handler, Datum payload, JobContext &job, bool keep_result)
{
    bool is_null = true;
    const Datum returned = pg::call([&] {
        const int nest_level = NewGUCNestLevel();
        Oid user;
        int security;
        GetUserIdAndSecContext(&user, &security);
        if (user != GetSessionUserId())
            SetUserIdAndSecContext(user, security | SECURITY_LOCAL_USERID_CHANGE);

        ErrorContextCallback context;
        context.previous = error_context_stack;
        context.callback = add_job_context;
        context.arg = &job;
        error_context_stack = &context;

        /* A SQL-language function that returns void yields NULL: so no
         * FunctionCall1(), which would call that an error. */
        LOCAL_FCINFO(fcinfo, 1);
        PgStat_FunctionCallUsage usage;
        InitFunctionCallInfoData(*fcinfo, handler, 1, InvalidOid, nullptr, nullptr);
        fcinfo->args[0].value = payload;
        fcinfo->args[0].isnull = false;
        PushActiveSnapshot(GetTransactionSnapshot());
        pgstat_init_function_usage(fcinfo, &usage);
        const Datum value = FunctionCallInvoke(fcinfo);
        is_null = fcinfo->isnull;
        pgstat_end_function_usage(&usage, true);
        PopActiveSnapshot();

        error_context_stack = context.previous;
        AtEOXact_GUC(false, nest_level);
        SetUserIdAndSecContext(user, security);
        return value;
    });
    if (keep_result)
        keep_returned(handler, returned, is_null);
}

/* What the end of a subtransaction does besides: the next job sees the effects. */
template <class Run> std::optional<core::ErrorInfo> run_in_transaction(const Run &run)
{
    const MemoryContext memory = CurrentMemoryContext;
    auto error = pg::error_of(run);
    MemoryContextSwitchTo(memory);
    if (!error)
        pg::call([] { CommandCounterIncrement(); });
    return error;
}

} // namespace

void clean_session(bool may_hold_locks)
{
    pg::call([&] {
        PortalHashTableDeleteAll();
        DropAllPreparedStatements();
        if (may_hold_locks)
            LockReleaseSession(USER_LOCKMETHOD);
        ResetSequenceCaches();
        /* A cancel that arrived too late for its job must not hit the next one. */
        QueryCancelPending = false;
    });
    if ((MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0)
        mark_session_dirty();
}

bool may_go_on(const Config &config, core::HookEvent event, const JobRow &row)
{
    if (!hooks::any(config, event))
        return true;
    const hooks::Decision decision = hooks::decide(config, event, row);
    switch (decision.action) {
    case hooks::Decision::Action::kFail:
        fail(hooks::kErrorRefused, decision.reason, decision.refused_by);
    case hooks::Decision::Action::kRetry:
        said::set_verdict({core::Fate::kSnoozed, decision.delay_us, {}});
        return false;
    case hooks::Decision::Action::kSkip:
        return false;
    default:
        return true;
    }
}

RunResult run_job(const Config &config, const JobRow &row, const Task &task, SessionKind session,
                  Undo undo)
{
    const std::string queue(row.text_or_empty(Column::kQueueName));
    JobContext job = describe(row, task, queue);
    RunLimit limit(row, task);
    RunResult result;
    /* One that was held before, and is taken once more, is held to the end of the batch anyway. */
    const pg::LockWatch locks;
    result.started_at = GetCurrentTimestamp();
    {
        const RunningMark mark(row);
        const auto run = [&] {
            limit.begin();
            if (may_go_on(config, core::HookEvent::kBeforeJobRun, row)) {
                FmgrInfo *const handler = find_handler(task, GetUserId());
                call_handler(handler, row.get(Column::kPayload), job, task.keep_history_us > 0);
                (void) may_go_on(config, core::HookEvent::kAfterJobRun, row);
                if (deferred::all_ours())
                    deferred::try_pending();
            }
            limit.check();
            limit.end();
        };
        result.error = undo == Undo::kJob ? pg::in_subtransaction(run) : run_in_transaction(run);
        limit.end();
    }
    if (result.error)
        limit.explain(result);
    if (result.error && !result.cancelled && !result.given_back && !limit.timed_out() &&
        result.error->sqlstate == kQueryCanceled && session == SessionKind::kUser)
        /* The user wants the statement to end, not the job to fail. */
        fail(ERRCODE_QUERY_CANCELED, result.error->message);
    if (result.error && undo == Undo::kTransaction)
        return result; /* nothing can be done before the abort */
    if (session == SessionKind::kExecutor)
        clean_session(locks.has_new());
    result.verdict = said::verdict();
    result.result = said::result();
    return result;
}

} // namespace backfill::queue
