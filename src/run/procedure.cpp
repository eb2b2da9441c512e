/* procedure.cpp - see procedure.hpp.
 *
 * The CALL goes the whole way of a statement that a client sends, through a portal: only so may a
 * procedure end the transaction that it is called in. */
#include "backfill/run/procedure.hpp"

#include "backfill/call/handler.hpp"
#include "backfill/call/hooks.hpp"
#include "backfill/call/job_context.hpp"
#include "backfill/call/run_limit.hpp"
#include "backfill/clock.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/pg/lock_wait.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/crash_charge.hpp"

namespace backfill::queue
{

namespace
{

/* Of the one claim that the process has: its row, and what runs it. */
MemoryContext procedure_memory = nullptr;

/* CALL schema.name($1), planned. The trees are in the current memory context, which must
 * outlive the transaction. */
struct Call {
    const char *text;
    ParamListInfo arguments;
    List *plans;
};

Call prepare_call(const char *schema, const char *name, Datum payload)
{
    Call call{"CALL of a job's procedure", makeParamList(1), NIL};
    call.arguments->params[0].value = payload;
    call.arguments->params[0].isnull = false;
    call.arguments->params[0].pflags = PARAM_FLAG_CONST;
    call.arguments->params[0].ptype = JSONBOID;

    ParamRef *argument = makeNode(ParamRef);
    argument->number = 1;
    argument->location = -1;
    CallStmt *statement = makeNode(CallStmt);
    statement->funccall =
        makeFuncCall(list_make2(makeString(pstrdup(schema)), makeString(pstrdup(name))),
                     list_make1(argument), COERCE_EXPLICIT_CALL, -1);
    RawStmt *raw = makeNode(RawStmt);
    raw->stmt = reinterpret_cast<Node *>(statement);
    const Oid types[] = {JSONBOID};
    List *queries = pg_analyze_and_rewrite_fixedparams(raw, call.text, types, 1, nullptr);
    call.plans = pg_plan_queries(queries, call.text, 0, call.arguments);
    return call;
}

/* As exec_simple_query() does it. Procedures may end the transaction several times in here. */
void execute_call(const Call &call, MemoryContext memory)
{
    QueryCompletion completion;
    InitializeQueryCompletion(&completion);
    DestReceiver *nowhere = CreateDestReceiver(DestNone);
    Portal portal = CreatePortal("", true, true);
    portal->visible = false;
    PortalDefineQuery(portal, nullptr, call.text, CMDTAG_CALL, call.plans, nullptr);
    PortalStart(portal, call.arguments, 0, InvalidSnapshot);
    MemoryContextSwitchTo(memory);
    pg::run_portal(portal, nowhere, &completion);
    nowhere->rDestroy(nowhere);
    PortalDrop(portal, false);
    MemoryContextSwitchTo(memory);
}

void call_procedure(const ProcedureClaim &claim)
{
    pg::call([&] {
        const Task &task = claim.task;
        /* The snapshot of the analysis must be gone before the procedure may commit. */
        PushActiveSnapshot(GetTransactionSnapshot());
        const Call call = prepare_call(task.handler.schema.c_str(), task.handler.name.c_str(),
                                       claim.row.get(Column::kPayload));
        PopActiveSnapshot();
        execute_call(call, claim.memory);
    });
}

bool ask_hooks(const ProcedureClaim &claim, core::HookEvent event)
{
    if (!hooks::any(*claim.config, event))
        return true;
    pg::call([] { PushActiveSnapshot(GetTransactionSnapshot()); });
    const bool go_on = may_go_on(*claim.config, event, claim.row);
    pg::call([] { PopActiveSnapshot(); });
    return go_on;
}

/* Begins a transaction for body, in which it may begin others, and commits the last. Returns the
 * error that ended it, if one did. */
template <class Body>
std::optional<core::ErrorInfo> in_transactions(MemoryContext memory, JobContext &job, Body &&body)
{
    std::optional<core::ErrorInfo> error;
    const JobContextScope context(&job);
    try {
        pg::call([&] {
            SetCurrentStatementStartTimestamp();
            StartTransactionCommand();
            MemoryContextSwitchTo(memory);
        });
        body();
        pg::call([&] {
            CommitTransactionCommand();
            MemoryContextSwitchTo(memory);
        });
    } catch (const pg::Error &raised) {
        error = pg::to_error_info(raised);
    } catch (const Failure &raised) {
        error = pg::to_error_info(raised);
    } catch (const core::ErrorInfo &raised) {
        error = raised;
    }
    if (error)
        pg::call([&] {
            AbortCurrentTransaction();
            /* A portal that has seen a commit is not its last transaction's to drop; loops over
             * queries have pinned theirs. */
            PortalErrorCleanup();
            PortalHashTableDeleteAll();
            MemoryContextSwitchTo(memory);
        });
    return error;
}

/* Takes the job's row out of the table, if it is still the claim's. */
std::optional<TakenJob> take_claimed(JobTable &table, const ProcedureClaim &claim)
{
    pg::LockWaitLimit limit; /* a session may have locked the row */
    limit.enter("500");
    for (;;) {
        const std::vector<FoundJob> rows = table.find_by_id(claim.row.id());
        const auto found = std::find_if(rows.begin(), rows.end(), [&](const FoundJob &job) {
            return job.row.is_in_executor() &&
                   DatumGetInt64(job.row.get(Column::kClaimToken)) == claim.token();
        });
        if (found == rows.end()) {
            limit.leave();
            return std::nullopt;
        }
        Take taken = take(table, *found, Wait::kYes);
        if (!taken.job)
            continue;
        limit.leave();
        return std::move(taken.job);
    }
}

} // namespace

ProcedureClaim claim_for_procedure(JobTable &table, TakenJob &job, std::optional<int> lease_permit,
                                   std::shared_ptr<const Config> config, const Task &task)
{
    JobRow row = job.row;
    row.set(Column::kLeaseExpiresAt, TimestampTzGetDatum(DT_NOEND));
    row.set(Column::kClaimToken, Int64GetDatum(JobTable::next_claim_token()));
    row.set(Column::kWorker, pg::from_text("executor " + std::to_string(MyProcPid)));
    if (lease_permit)
        row.set(Column::kLeasePermit, Int32GetDatum(*lease_permit));
    put_back(table, *config, job, row);

    const MemoryContext memory = pg::call([] {
        if (procedure_memory == nullptr)
            procedure_memory = AllocSetContextCreate(TopMemoryContext, "backfill procedure",
                                                     ALLOCSET_DEFAULT_SIZES);
        MemoryContextReset(procedure_memory);
        return procedure_memory;
    });
    return {table.detach(row, memory), std::move(config), task, memory};
}

ProcedureRun run_procedure(const ProcedureClaim &claim)
{
    const std::string queue(claim.row.text_or_empty(Column::kQueueName));
    JobContext job = describe(claim.row, claim.task, queue);
    RunLimit limit(claim.row, claim.task);
    ProcedureRun run;
    run.started = GetCurrentTimestamp();
    run.result.started_at = run.started;
    {
        const RunningMark mark(claim.row);
        const lost_run::InLedger in_ledger(claim.row, run.started);
        run.result.error = in_transactions(claim.memory, job, [&] {
            limit.begin();
            if (ask_hooks(claim, core::HookEvent::kBeforeJobRun)) {
                (void) check_function(claim.task, GetUserId());
                call_procedure(claim);
                (void) ask_hooks(claim, core::HookEvent::kAfterJobRun);
            }
            limit.check();
        });
        limit.end();
        in_ledger.check_end();
    }
    if (run.result.error)
        limit.explain(run.result);
    run.result.verdict = said::verdict();
    /* The process may run other jobs before the outcome is recorded. */
    if (const auto result = said::result())
        run.result.result = pg::call([&] {
            const MemoryContext caller = MemoryContextSwitchTo(claim.memory);
            const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(*result));
            MemoryContextSwitchTo(caller);
            return copy;
        });
    run.ended = GetCurrentTimestamp();
    return run;
}

void charge_unsettled_run(const ProcedureClaim &claim, const core::ErrorInfo &error)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    LatestSnapshot snapshot;
    snapshot.renew();
    if (auto job = take_claimed(table, claim))
        charge_unsettled(table, *current, *job, error);
    snapshot.pop();
    table.close();
}

void record_outcome(const ProcedureClaim &claim, const ProcedureRun &run)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    LatestSnapshot snapshot; /* changes of our tables may need one */
    snapshot.renew();
    if (auto job = take_claimed(table, claim))
        (void) settle(table, *current, *job,
                      ending::after_run(*current, job->row, run.result, run.started, run.ended));
    snapshot.pop();
    table.close();
}

} // namespace backfill::queue
