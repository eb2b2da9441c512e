/* task_api.cpp - SQL functions about tasks, priorities and retry policies. */
#include "backfill/call/handler.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/core/priority.hpp"
#include "backfill/enqueue/enqueue.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/backoff.hpp"
#include "backfill/stats/counters.hpp"

using namespace backfill;

namespace
{

constexpr int kMaxPolicyName = 128;

pg::Param text_param(std::optional<std::string_view> value)
{
    return {TEXTOID, value ? pg::from_text(*value) : static_cast<Datum>(0), !value};
}

pg::Param int2_param(std::optional<int32> value)
{
    return {INT2OID, Int16GetDatum(static_cast<int16>(value.value_or(0))), !value};
}

/* --- register_task --------------------------------------------------------------- */

/* A function as the tables store it: by name, so that nothing dangles when it is dropped. */
struct FunctionName {
    std::string schema;
    std::string name;
    bool is_procedure;
    Oid owner;
};

/* Checks that a function can be `what`, a handler or a hook. Only a handler may be a procedure. */
FunctionName check_signature(Oid function, const std::string &what, bool procedures)
{
    struct Facts {
        const char *schema;
        const char *name;
        Oid owner;
        bool is_temporary;
        char kind;
        bool returns_set;
        bool takes_jsonb;
        bool is_trigger;
        bool has_out;
    };
    const Facts facts = pg::call([&] {
        HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
        if (!HeapTupleIsValid(tuple))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                            errmsg("function with oid %u does not exist", function)));
        const auto *form = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
        const Facts found = {get_namespace_name(form->pronamespace),
                             pstrdup(NameStr(form->proname)),
                             form->proowner,
                             isAnyTempNamespace(form->pronamespace),
                             form->prokind,
                             form->proretset,
                             form->pronargs == 1 && form->proargtypes.values[0] == JSONBOID,
                             form->prorettype == TRIGGEROID || form->prorettype == EVENT_TRIGGEROID,
                             !heap_attisnull(tuple, Anum_pg_proc_proallargtypes, nullptr)};
        ReleaseSysCache(tuple);
        return found;
    });
    const std::string shown = pg::call([&] { return format_procedure(function); });
    /* By that name there will be functions of other people, when this session is over. */
    if (facts.is_temporary)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, what + " " + shown + " is temporary",
             "It would be gone with this session.", "Create the function in a schema that stays.");
    const bool is_procedure = facts.kind == PROKIND_PROCEDURE;
    const std::string hint =
        "A " + what + " is a plain function " + (procedures ? "or procedure " : "") + "f(jsonb).";
    if (is_procedure && !procedures)
        fail(ERRCODE_FEATURE_NOT_SUPPORTED, what + " " + shown + " is a procedure",
             "It is called in the middle of a transaction.",
             "Write it as a function that returns void.");
    if (is_procedure && facts.has_out)
        fail(ERRCODE_WRONG_OBJECT_TYPE, what + " " + shown + " has output arguments", {},
             "A procedure that runs jobs is a plain p(jsonb).");
    if ((facts.kind != PROKIND_FUNCTION && !is_procedure) || facts.returns_set || facts.is_trigger)
        fail(ERRCODE_WRONG_OBJECT_TYPE, "function " + shown + " cannot be a " + what,
             "It is an aggregate, a window function, a trigger function, or returns a set.", hint);
    if (!facts.takes_jsonb)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, what + " " + shown + " must take one argument, jsonb",
             {}, hint);
    return {facts.schema, facts.name, is_procedure, facts.owner};
}

/* The role whose rights a `what`, a task or a hook, has. */
Oid check_run_as(std::optional<Oid> given, const std::string &what)
{
    const Oid caller = GetUserId();
    const Oid role = given.value_or(caller);
    const std::string name = pg::role_name(role);
    if (name.empty())
        fail(ERRCODE_UNDEFINED_OBJECT,
             "run_as role with oid " + std::to_string(role) + " does not exist");
    if (!pg::call([&] { return pg::may_act_as(caller, role); }))
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "permission denied to register a " + what + " that runs as role \"" + name + "\"",
             "Role \"" + pg::role_name(caller) + "\" is not a member of it.",
             "Register the " + what + " as that role, or have its membership granted to you.");
    return role;
}

/* Who owns the function can replace it at any time, and what it does then, it does as run_as. */
void warn_of_owner(const std::string &what, const FunctionName &function, Oid run_as)
{
    if (queue::is_trusted_owner(function.owner, run_as))
        return;
    const std::string owner = pg::role_name(function.owner);
    const std::string role = pg::role_name(run_as);
    pg::call([&] {
        ereport(WARNING,
                (errmsg("role \"%s\", which owns the function of this %s, may not act as role "
                        "\"%s\"",
                        owner.c_str(), what.c_str(), role.c_str()),
                 errdetail("It can replace the function, which then does with the rights of role "
                           "\"%s\" whatever it likes.",
                           role.c_str()),
                 errhint("Give the function another owner, or register it with another run_as, "
                         "unless the owner is to be trusted with these rights.")));
    });
}

/* Executors log in as the role that a task's jobs run as. */
void check_login(Oid role)
{
    const bool can_login = pg::call([&] {
        HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
        const bool login = HeapTupleIsValid(tuple) &&
                           reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcanlogin;
        if (HeapTupleIsValid(tuple))
            ReleaseSysCache(tuple);
        return login;
    });
    if (pg::kWorkersNeedLogin && !can_login)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "run_as role \"" + pg::role_name(role) + "\" cannot log in",
             "Before PostgreSQL 17 the workers that run its jobs must log in as the role.",
             "ALTER ROLE ... LOGIN (no password is needed), or choose another role.");
}

void check_keep_history(const Interval *keep_history)
{
    if (keep_history == nullptr)
        return;
    const double days = pg::approximate_days(*keep_history);
    if (days < 0 || days > static_cast<double>(core::kLongestDelayUs / USECS_PER_DAY) ||
        pg::to_microseconds(*keep_history) < 1)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "keep_history is out of range: " + pg::to_text(*keep_history),
             "It must be longer than 0 and not exceed 36500 days.");
}

void check_channel(std::optional<std::string_view> channel)
{
    if (channel && (channel->empty() || channel->size() >= NAMEDATALEN))
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "notify_channel must have between 1 and " +
                                                  std::to_string(NAMEDATALEN - 1) + " bytes: \"" +
                                                  pg::shortened(*channel) + "\"");
}

/* --- retry policies ---------------------------------------------------------------- */

int64 check_delay(const char *argument, const Interval &delay)
{
    /* Compared as a number of days: microseconds could overflow. */
    const double days = pg::approximate_days(delay);
    if (days < 0)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " must not be negative: " + pg::to_text(delay));
    if (days > static_cast<double>(core::kLongestDelayUs / USECS_PER_DAY))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             std::string(argument) + " is too long: " + pg::to_text(delay),
             "It must not exceed 36500 days.");
    return pg::to_microseconds(delay);
}

/* As PostgreSQL would show it: 1.5, NaN. */
std::string to_plain_text(double number)
{
    return pg::call(
        [&] { return DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(number))); });
}

void check_policy(const core::RetryPolicy &policy)
{
    queue::check_max_attempts(policy.max_attempts);
    if (!(policy.multiplier >= 1 && policy.multiplier <= 1000))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "multiplier is out of range: " + to_plain_text(policy.multiplier),
             "It must be between 1 and 1000.");
    if (!(policy.jitter_factor >= 0 && policy.jitter_factor <= 1))
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "jitter_factor is out of range: " + to_plain_text(policy.jitter_factor),
             "It must be between 0 and 1.");
}

Datum delay_datum(const core::RetryPolicy &policy, int attempt)
{
    if (attempt < 0)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "attempt must not be negative: " + std::to_string(attempt));
    return PointerGetDatum(pg::from_microseconds(queue::backoff_delay_us(policy, attempt)));
}

void add_policy(pg::ResultSet &result, std::string_view name, const core::RetryPolicy &policy,
                bool preset)
{
    const Datum values[] = {pg::from_text(name),
                            Int16GetDatum(static_cast<int16>(policy.max_attempts)),
                            PointerGetDatum(pg::from_microseconds(policy.initial_us)),
                            PointerGetDatum(pg::from_microseconds(policy.max_us)),
                            Float8GetDatum(policy.multiplier),
                            Float8GetDatum(policy.jitter_factor),
                            BoolGetDatum(preset)};
    const bool nulls[std::size(values)] = {};
    result.add(values, nulls);
}

} // namespace

BACKFILL_FUNCTION(backfill_register_task)
{
    const pg::Arguments arguments(fcinfo);
    const auto identifier = queue::require_text("task_identifier", arguments.text(0));
    const auto handler = arguments.oid(1);
    const auto queue_name = arguments.text(2);
    const auto priority = arguments.int4(3);
    const auto max_attempts = arguments.int4(4);
    const auto retry_policy = arguments.text(5);
    const Interval *timeout = arguments.interval(6);
    const auto channel = arguments.text(8);
    const Interval *keep_history = arguments.interval(9);

    pg::call([] { PreventCommandIfReadOnly("register_task()"); });
    queue::check_task_identifier(identifier);
    if (queue_name)
        queue::check_queue_name(*queue_name);
    if (priority)
        queue::check_priority(*priority);
    if (max_attempts)
        queue::check_max_attempts(*max_attempts);
    if (retry_policy)
        queue::check_retry_policy(*queue::config(), *retry_policy);
    (void) queue::check_timeout(timeout);
    check_channel(channel);
    check_keep_history(keep_history);
    const Oid run_as = check_run_as(arguments.oid(7), "task");
    check_login(run_as);
    std::optional<FunctionName> name;
    if (handler) {
        name = check_signature(*handler, "handler", true);
        queue::Task task;
        task.identifier = identifier;
        task.handler_schema = name->schema;
        task.handler_name = name->name;
        task.handler_argtypes = {"jsonb"};
        task.is_procedure = name->is_procedure;
        task.handler_owner = name->owner;
        task.handler_signature =
            queue::handler_signature(name->schema, name->name, task.handler_argtypes);
        (void) queue::check_handler(task, run_as);
        warn_of_owner("task", *name, run_as);
    }

    const pg::Param params[] = {
        text_param(identifier),
        text_param(name ? std::optional<std::string_view>(name->schema) : std::nullopt),
        text_param(name ? std::optional<std::string_view>(name->name) : std::nullopt),
        text_param(queue_name),
        int2_param(priority),
        int2_param(max_attempts),
        text_param(retry_policy),
        {INTERVALOID, PointerGetDatum(timeout), timeout == nullptr},
        {REGROLEOID, ObjectIdGetDatum(run_as), false},
        text_param(channel),
        {INTERVALOID, PointerGetDatum(keep_history), keep_history == nullptr},
        {BOOLOID, BoolGetDatum(name && name->is_procedure), false},
        {REGROLEOID, ObjectIdGetDatum(name ? name->owner : InvalidOid), !name},
    };
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.task (task_identifier, handler_schema, handler_name,"
        "   handler_argtypes, queue_name, priority, max_attempts, retry_policy, timeout, run_as,"
        "   notify_channel, keep_history, handler_is_procedure, handler_owner)"
        " VALUES ($1, $2, $3, CASE WHEN $3 IS NOT NULL THEN '{jsonb}'::text[] END,"
        "   $4, $5, $6, $7, $8, backfill._role_of($9), $10, $11, $12, backfill._role_of($13))"
        " ON CONFLICT (task_identifier) DO UPDATE SET"
        "   handler_schema = excluded.handler_schema, handler_name = excluded.handler_name,"
        "   handler_argtypes = excluded.handler_argtypes, queue_name = excluded.queue_name,"
        "   priority = excluded.priority, max_attempts = excluded.max_attempts,"
        "   retry_policy = excluded.retry_policy, timeout = excluded.timeout,"
        "   run_as = excluded.run_as, notify_channel = excluded.notify_channel,"
        "   keep_history = excluded.keep_history,"
        "   registered_at = pg_catalog.now(),"
        "   handler_is_procedure = excluded.handler_is_procedure,"
        "   handler_owner = excluded.handler_owner",
        params);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_owner_is_trusted)
{
    const pg::Arguments arguments(fcinfo);
    return BoolGetDatum(queue::is_trusted_owner(DatumGetObjectId(arguments.datum(0)),
                                                DatumGetObjectId(arguments.datum(1))));
}

BACKFILL_FUNCTION(backfill_unregister_task)
{
    const pg::Arguments arguments(fcinfo);
    const pg::Param identifier = text_param(arguments.text(0));
    const bool removed = pg::execute_as_owner("DELETE FROM backfill.task t"
                                              " WHERE t.task_identifier = $1",
                                              std::span(&identifier, 1))
                             .rows > 0;
    /* Should this be rolled back, its counters begin anew. */
    if (removed)
        stats::forget_task(*arguments.text(0));
    return BoolGetDatum(removed);
}

/* --- hooks ------------------------------------------------------------------------- */

namespace
{

/* The schemas that the session finds things in, as names. Temporary ones are left out. */
std::vector<std::string> search_path_schemas()
{
    std::vector<std::string> names;
    const List *const path = pg::call([] { return fetch_search_path(false); });
    const int count = pg::call([&] { return list_length(path); });
    for (int i = 0; i < count; i++) {
        const char *const name = pg::call([&]() -> const char * {
            const Oid schema = list_nth_oid(path, i);
            return isAnyTempNamespace(schema) ? nullptr : get_namespace_name(schema);
        });
        if (name != nullptr)
            names.emplace_back(name);
    }
    return names;
}

/* The search_path of a hook, which also runs in other people's sessions: their temporary
 * objects come last, or else they would hide the hook's own tables. */
std::string hook_search_path()
{
    std::string path;
    for (const std::string &schema : search_path_schemas())
        path += std::string(pg::call([&] { return quote_identifier(schema.c_str()); })) + ", ";
    return path + "pg_temp";
}

/* Removes the hook from the first of these schemas that has it. */
bool remove_hook(const pg::Arguments &arguments, std::span<const std::string> schemas,
                 std::string_view function)
{
    for (const std::string &schema : schemas) {
        const pg::Param params[] = {text_param(arguments.text(0)), text_param(schema),
                                    text_param(function), text_param(arguments.text(2))};
        if (pg::execute_as_owner("DELETE FROM backfill.hook h WHERE h.event = $1"
                                 " AND h.function_schema = $2 AND h.function_name = $3"
                                 " AND h.task_identifier IS NOT DISTINCT FROM $4",
                                 params)
                .rows > 0)
            return true;
    }
    return false;
}

} // namespace

BACKFILL_FUNCTION(backfill_register_hook)
{
    const pg::Arguments arguments(fcinfo);
    const auto event = queue::require_text("event", arguments.text(0));
    if (!core::hook_event_from_name(event)) {
        std::string known;
        for (const std::string_view name : core::kHookEventNames)
            known += (known.empty() ? "" : ", ") + std::string(name);
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "event \"" + std::string(event) + "\" is unknown", {},
             "Use one of: " + known + ".");
    }
    const auto function = arguments.oid(1);
    if (!function)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "function must not be null");
    const auto task = arguments.text(2);
    if (task)
        queue::check_task_identifier(*task);
    const FunctionName name = check_signature(*function, "hook", false);
    const Oid run_as = check_run_as(arguments.oid(3), "hook");
    queue::Task hook;
    hook.is_hook = true;
    hook.handler_schema = name.schema;
    hook.handler_name = name.name;
    hook.handler_argtypes = {"jsonb"};
    hook.handler_signature =
        queue::handler_signature(name.schema, name.name, hook.handler_argtypes);
    hook.handler_owner = name.owner;
    (void) queue::check_handler(hook, run_as);
    warn_of_owner("hook", name, run_as);
    const std::string search_path = hook_search_path();
    const pg::Param params[] = {text_param(event),
                                text_param(name.schema),
                                text_param(name.name),
                                text_param(task),
                                {REGROLEOID, ObjectIdGetDatum(run_as), false},
                                text_param(search_path),
                                {REGROLEOID, ObjectIdGetDatum(name.owner), false}};
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.hook (event, function_schema, function_name, task_identifier,"
        "   run_as, search_path, function_owner)"
        " VALUES ($1, $2, $3, $4, backfill._role_of($5), $6, backfill._role_of($7))"
        " ON CONFLICT (event, function_schema, function_name, task_identifier) DO UPDATE SET"
        "   run_as = excluded.run_as, search_path = excluded.search_path,"
        "   function_owner = excluded.function_owner",
        params);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_unregister_hook)
{
    const pg::Arguments arguments(fcinfo);
    const Oid function = arguments.oid(1).value_or(InvalidOid);
    struct Located {
        const char *schema;
        const char *name;
    };
    const Located name = pg::call([&] {
        return Located{get_namespace_name(get_func_namespace(function)), get_func_name(function)};
    });
    if (name.schema == nullptr || name.name == nullptr)
        return BoolGetDatum(false);
    const std::string schema = name.schema;
    return BoolGetDatum(remove_hook(arguments, std::span(&schema, 1), name.name));
}

/* By the name that backfill.hook and error messages have: the function may be gone. */
BACKFILL_FUNCTION(backfill_unregister_hook_by_name)
{
    const pg::Arguments arguments(fcinfo);
    std::string given(arguments.text(1).value_or(""));
    constexpr std::string_view kArguments = "(jsonb)";
    if (given.size() > kArguments.size() &&
        given.compare(given.size() - kArguments.size(), kArguments.size(), kArguments) == 0)
        given.resize(given.size() - kArguments.size());
    if (given.empty())
        return BoolGetDatum(false);
    struct Parsed {
        char *schema;
        char *name;
    };
    const Parsed parsed = pg::call([&] {
        Parsed result;
        DeconstructQualifiedName(pg::parse_qualified_name(given.c_str()), &result.schema,
                                 &result.name);
        return result;
    });
    const std::vector<std::string> schemas =
        parsed.schema != nullptr ? std::vector<std::string>{parsed.schema} : search_path_schemas();
    return BoolGetDatum(remove_hook(arguments, schemas, parsed.name));
}

BACKFILL_FUNCTION(backfill_priority)
{
    const auto name = *pg::Arguments(fcinfo).text(0);
    const auto priority = core::priority_from_name(name);
    if (!priority)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "priority \"" + std::string(name) + "\" is unknown",
             {}, "Use EMERGENCY, FAST_HIGH, FAST_DEFAULT, BULK_DEFAULT, BULK_LOW or BULK_LOWEST.");
    return Int16GetDatum(static_cast<int16>(*priority));
}

BACKFILL_FUNCTION(backfill_priority_band)
{
    return pg::from_text(core::priority_band(*pg::Arguments(fcinfo).int4(0)));
}

BACKFILL_FUNCTION(backfill_set_retry_policy)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = queue::require_text("policy_name", arguments.text(0));
    pg::call([] { PreventCommandIfReadOnly("set_retry_policy()"); });
    if (name.empty() || name.size() > kMaxPolicyName)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "policy_name must have between 1 and 128 bytes: \"" + pg::shortened(name) + "\"");

    core::RetryPolicy policy = queue::policy_of(*queue::config(), name);
    policy.max_attempts = arguments.int4(1).value_or(policy.max_attempts);
    if (arguments.interval(2) != nullptr)
        policy.initial_us = check_delay("initial_delay", *arguments.interval(2));
    if (arguments.interval(3) != nullptr)
        policy.max_us = check_delay("max_delay", *arguments.interval(3));
    policy.multiplier = arguments.float8(4).value_or(policy.multiplier);
    policy.jitter_factor = arguments.float8(5).value_or(policy.jitter_factor);
    check_policy(policy);
    if (policy.max_us < policy.initial_us)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "max_delay must not be shorter than initial_delay: " +
                 pg::to_text(*pg::from_microseconds(policy.max_us)),
             "initial_delay is " + pg::to_text(*pg::from_microseconds(policy.initial_us)) + ".",
             "An argument that is left out keeps the policy's present value, or that of preset "
             "default: give both.");

    const pg::Param params[] = {
        text_param(name),
        int2_param(policy.max_attempts),
        {INTERVALOID, PointerGetDatum(pg::from_microseconds(policy.initial_us)), false},
        {INTERVALOID, PointerGetDatum(pg::from_microseconds(policy.max_us)), false},
        {FLOAT8OID, Float8GetDatum(policy.multiplier), false},
        {FLOAT8OID, Float8GetDatum(policy.jitter_factor), false},
    };
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.retry_policy (policy_name, max_attempts, initial_delay, max_delay,"
        "   multiplier, jitter_factor)"
        " VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (policy_name) DO UPDATE SET"
        "   max_attempts = excluded.max_attempts, initial_delay = excluded.initial_delay,"
        "   max_delay = excluded.max_delay, multiplier = excluded.multiplier,"
        "   jitter_factor = excluded.jitter_factor",
        params);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_backoff_delay_policy)
{
    const pg::Arguments arguments(fcinfo);
    const auto name = *arguments.text(1);
    const auto current = queue::config();
    queue::check_retry_policy(*current, name);
    return delay_datum(queue::policy_of(*current, name), *arguments.int4(0));
}

BACKFILL_FUNCTION(backfill_backoff_delay)
{
    const pg::Arguments arguments(fcinfo);
    const core::RetryPolicy policy = {*arguments.int4(5),
                                      check_delay("initial_delay", *arguments.interval(1)),
                                      check_delay("max_delay", *arguments.interval(2)),
                                      *arguments.float8(3), *arguments.float8(4)};
    check_policy(policy);
    return delay_datum(policy, *arguments.int4(0));
}

BACKFILL_FUNCTION(backfill_retry_policies)
{
    const auto current = queue::config();
    pg::ResultSet result(fcinfo);
    for (const core::NamedPolicy &preset : core::preset_policies()) {
        const auto &changed = current->user_policies();
        const bool shadowed = std::any_of(changed.begin(), changed.end(), [&](const auto &policy) {
            return policy.first == preset.name;
        });
        if (!shadowed)
            add_policy(result, preset.name, preset.policy, true);
    }
    for (const auto &[name, policy] : current->user_policies())
        add_policy(result, name, policy, false);
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_config_changed)
{
    pg::call([&] {
        if (!CALLED_AS_TRIGGER(fcinfo))
            ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                            errmsg("_config_changed() must be called as a trigger")));
        CacheInvalidateRelcache(reinterpret_cast<TriggerData *>(fcinfo->context)->tg_relation);
    });
    /* Waiting jobs may have got a handler, a resumed queue, or a higher limit. */
    queue::wake::announce_dispatcher();
    return static_cast<Datum>(0);
}
