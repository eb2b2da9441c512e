/* hooks.cpp - see hooks.hpp. */
#include "backfill/call/hooks.hpp"

#include "backfill/call/deferred_events.hpp"
#include "backfill/call/handler.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/owner_scope.hpp"
#include "backfill/pg/subtransaction.hpp"

namespace backfill::queue::hooks
{

namespace
{

/* In a session whose rights its role does not have a hook must leave nothing behind that
 * would act later with those rights: deferred triggers, temporary tables, cursors. */
int restrictions_of(Oid role)
{
    return pg::call([&] {
        return pg::may_act_as(role, GetSessionUserId()) && pg::may_act_as(role, GetUserId())
                   ? 0
                   : SECURITY_RESTRICTED_OPERATION;
    });
}

/* Notices whether temporary objects are used meanwhile. PostgreSQL refuses a restricted hook
 * temporary tables, but not a domain pg_temp.text, which the session's own statements would
 * find before the real text. */
class TemporaryObjects
{
  public:
    TemporaryObjects() : before_(MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE)
    {
        MyXactFlags &= ~XACT_FLAGS_ACCESSEDTEMPNAMESPACE;
    }
    ~TemporaryObjects() { MyXactFlags |= before_; }
    TemporaryObjects(const TemporaryObjects &) = delete;
    TemporaryObjects &operator=(const TemporaryObjects &) = delete;
    static bool used() { return (MyXactFlags & XACT_FLAGS_ACCESSEDTEMPNAMESPACE) != 0; }

  private:
    int before_;
};

bool calling = false;

/* For the time of a scope a hook is being called. */
class CallingMark
{
  public:
    CallingMark() : before_(calling) { calling = true; }
    ~CallingMark() { calling = before_; }
    CallingMark(const CallingMark &) = delete;
    CallingMark &operator=(const CallingMark &) = delete;

  private:
    bool before_;
};

/* Calls one hook, as its role; its result, or nothing for SQL NULL. */
std::optional<Datum> call_hook(const Hook &hook, Datum event)
{
    const Oid role = hook.run_as_oid;
    if (!OidIsValid(role))
        fail(ERRCODE_UNDEFINED_OBJECT,
             "role \"" + hook.run_as + "\" of hook " + hook.function.signature + " does not exist",
             "The hook runs as this role.",
             "Register the hook again, or call backfill.unregister_hook().");
    const Oid function = check_function(hook, role);
    const char *const search_path = hook.search_path.c_str();
    const int restrictions = restrictions_of(role);
    const TemporaryObjects temporary_objects;
    const CallingMark mark;
    bool is_null = true;
    const Datum result = pg::call([&] {
        pg::RoleScope as_role(role, search_path, restrictions);
        FmgrInfo info;
        LOCAL_FCINFO(fcinfo, 1);
        fmgr_info(function, &info);
        InitFunctionCallInfoData(*fcinfo, &info, 1, InvalidOid, nullptr, nullptr);
        fcinfo->args[0].value = event;
        fcinfo->args[0].isnull = false;
        PushActiveSnapshot(GetTransactionSnapshot());
        const Datum value = FunctionCallInvoke(fcinfo);
        is_null = fcinfo->isnull || get_func_rettype(function) != JSONBOID;
        PopActiveSnapshot();
        as_role.leave();
        return value;
    });
    if (restrictions != 0 && TemporaryObjects::used())
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "hook " + hook.function.signature + " must not use temporary objects",
             "It runs in a session whose rights its role, \"" + hook.run_as + "\", does not have.",
             "Use ordinary tables.");
    return is_null ? std::nullopt : std::optional(result);
}

Datum make_event(core::HookEvent event, const JobRow *row, const core::ErrorInfo *error)
{
    pg::JsonbObject object;
    object.add_text("event", core::hook_event_name(event));
    if (row != nullptr)
        object.add_jsonb("job", describe(*row));
    if (error != nullptr)
        object.add_jsonb("error", pg::error_to_jsonb(*error));
    object.add_integer("pid", MyProcPid);
    return object.finish();
}

[[noreturn]] void bad_answer(const Hook &hook, const std::string &what)
{
    fail(ERRCODE_INVALID_PARAMETER_VALUE,
         "hook " + hook.function.signature + " returned an unknown " + what, {},
         "It must return NULL or a JSON object with action continue, skip, fail (with reason) or "
         "retry (with delay).");
}

Decision read_answer(const Hook &hook, Datum answer)
{
    Decision decision;
    if (pg::to_json_text(answer) == "null")
        return decision;
    if (!pg::is_object(answer))
        bad_answer(hook, "action: " + pg::to_json_text(answer));
    const std::string action = pg::get_text(answer, "action").value_or("continue");
    if (action == "continue") {
        decision.payload = pg::get_jsonb(answer, "payload");
    } else if (action == "skip") {
        decision.action = Decision::Action::kSkip;
    } else if (action == "fail") {
        decision.action = Decision::Action::kFail;
        decision.reason = pg::get_text(answer, "reason").value_or("refused by a hook");
        decision.refused_by = "Hook " + hook.function.signature + " refused the job.";
    } else if (action == "retry") {
        decision.action = Decision::Action::kRetry;
        const std::string delay = pg::get_text(answer, "delay").value_or("1 minute");
        const auto delay_us = pg::parse_delay(delay);
        if (!delay_us || *delay_us < 0)
            bad_answer(hook, "delay: " + delay);
        decision.delay_us = *delay_us;
    } else {
        bad_answer(hook, "action: \"" + action + "\"");
    }
    return decision;
}

/* A hook of one task is not called where there is none. */
bool is_wanted(const Hook &hook, std::string_view task_identifier)
{
    return hook.task_identifier.empty() || hook.task_identifier == task_identifier;
}

/* Calls the watching hooks of an event. make is called for each, inside its subtransaction. */
template <class MakeEvent>
void watch(const Config &config, core::HookEvent event, std::string_view task_identifier,
           const char *unaffected, const MakeEvent &make)
{
    for (const Hook &hook : config.hooks(event)) {
        if (!is_wanted(hook, task_identifier))
            continue;
        const deferred::Trial trial;
        const auto failure = pg::in_subtransaction([&] {
            (void) call_hook(hook, make());
            trial.run();
        });
        if (failure)
            pg::call([&] {
                ereport(WARNING, (errmsg("hook %s failed: %s", hook.function.signature.c_str(),
                                         failure->message.c_str()),
                                  errdetail("The %s is not affected.", unaffected)));
            });
    }
}

} // namespace

bool is_calling() noexcept
{
    return calling;
}

Datum describe(const JobRow &row)
{
    pg::JsonbObject job;
    job.add_integer("id", row.id());
    job.add_text("task_identifier", row.task_identifier());
    job.add_jsonb("payload", row.get(Column::kPayload));
    if (!row.is_null(Column::kHeaders))
        job.add_jsonb("headers", row.get(Column::kHeaders));
    job.add_text("queue_name", row.text_or_empty(Column::kQueueName));
    job.add_integer("priority", row.priority());
    job.add_timestamp("run_at", DatumGetTimestampTz(row.get(Column::kRunAt)));
    job.add_integer("attempt", row.attempts() + 1);
    job.add_integer("max_attempts", row.max_attempts());
    job.add_text("job_key", row.text_or_empty(Column::kJobKey));
    job.add_timestamp("created_at", DatumGetTimestampTz(row.get(Column::kCreatedAt)));
    return job.finish();
}

Decision decide(const Config &config, core::HookEvent event, const JobRow &row,
                const core::ErrorInfo *error)
{
    JobRow seen = row;
    std::optional<Datum> payload;
    for (const Hook &hook : config.hooks(event)) {
        if (!is_wanted(hook, row.task_identifier()))
            continue;
        const auto answer = call_hook(hook, make_event(event, &seen, error));
        if (!answer)
            continue;
        Decision decision = read_answer(hook, *answer);
        if (decision.action != Decision::Action::kContinue) {
            decision.payload = payload;
            return decision;
        }
        if (decision.payload) {
            payload = decision.payload;
            seen.set(Column::kPayload, *payload);
        }
    }
    Decision decision;
    decision.payload = payload;
    return decision;
}

void notify(const Config &config, core::HookEvent event, const JobRow *row,
            const core::ErrorInfo *error)
{
    watch(config, event, row == nullptr ? std::string_view() : row->task_identifier(), "job",
          [&] { return make_event(event, row, error); });
}

void notify_tick(const Config &config, std::string_view task_identifier, Datum schedule)
{
    watch(config, core::HookEvent::kCronTick, task_identifier, "schedule", [&] {
        pg::JsonbObject object;
        object.add_text("event", core::hook_event_name(core::HookEvent::kCronTick));
        object.add_jsonb("schedule", schedule);
        object.add_integer("pid", MyProcPid);
        return object.finish();
    });
}

} // namespace backfill::queue::hooks
