/* hook_api.cpp - SQL functions that register hooks. */
#include "backfill/audit/audit.hpp"
#include "backfill/call/handler.hpp"
#include "backfill/call/registration.hpp"
#include "backfill/core/hook_event.hpp"
#include "backfill/enqueue/job_spec.hpp"
#include "backfill/pg/table.hpp"

using namespace backfill;

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

/* The search_path of a hook, which also runs in sessions of other roles: their temporary
 * objects come last, or else they would hide the hook's own tables. */
std::string hook_search_path()
{
    std::string path;
    for (const std::string &schema : search_path_schemas())
        path += std::string(pg::call([&] { return quote_identifier(schema.c_str()); })) + ", ";
    return path + "pg_temp";
}

audit::Change hook_change(std::string_view event, std::string_view schema,
                          std::string_view function, std::optional<std::string_view> task)
{
    const pg::Param params[] = {pg::text_param(event), pg::text_param(schema),
                                pg::text_param(function), pg::text_param(task)};
    return {audit::kind::kHook,
            std::string(event) + " " + std::string(schema) + "." + std::string(function),
            "SELECT pg_catalog.to_jsonb(h) - 'id' FROM backfill.hook h WHERE h.event = $1"
            "   AND h.function_schema = $2 AND h.function_name = $3"
            "   AND h.task_identifier IS NOT DISTINCT FROM $4 FOR UPDATE",
            params};
}

/* Removes the hook from the first of these schemas that has it. */
bool remove_hook(FunctionCallInfo fcinfo, std::span<const std::string> schemas,
                 std::string_view function)
{
    const pg::Arguments arguments(fcinfo);
    for (const std::string &schema : schemas) {
        const pg::Param params[] = {pg::text_param(arguments.text(0)), pg::text_param(schema),
                                    pg::text_param(function), pg::text_param(arguments.text(2))};
        const audit::Change change = hook_change(arguments.text(0).value_or(std::string_view()),
                                                 schema, function, arguments.text(2));
        if (pg::execute_as_owner("DELETE FROM backfill.hook h WHERE h.event = $1"
                                 " AND h.function_schema = $2 AND h.function_name = $3"
                                 " AND h.task_identifier IS NOT DISTINCT FROM $4",
                                 params)
                .rows > 0) {
            change.note(fcinfo);
            return true;
        }
    }
    return false;
}

void check_event(std::string_view event)
{
    if (core::hook_event_from_name(event))
        return;
    std::string known;
    for (const std::string_view name : core::kHookEventNames)
        known += (known.empty() ? "" : ", ") + std::string(name);
    fail(ERRCODE_INVALID_PARAMETER_VALUE, "event \"" + std::string(event) + "\" is unknown", {},
         "Use one of: " + known + ".");
}

void check_hook(const queue::FunctionRef &function, Oid run_as)
{
    queue::Hook hook;
    hook.function = function;
    (void) queue::check_function(hook, run_as);
    queue::warn_of_owner("hook", function, run_as);
}

} // namespace

BACKFILL_FUNCTION(backfill_register_hook)
{
    const pg::Arguments arguments(fcinfo);
    const auto event = queue::require_text("event", arguments.text(0));
    check_event(event);
    const auto function = arguments.oid(1);
    if (!function)
        fail(ERRCODE_NULL_VALUE_NOT_ALLOWED, "function must not be null");
    const auto task = arguments.text(2);
    if (task)
        queue::check_task_identifier(*task);
    const queue::FunctionRef name = queue::check_signature(*function, "hook", false);
    const Oid run_as = queue::check_run_as(arguments.oid(3), "hook");
    check_hook(name, run_as);
    const std::string search_path = hook_search_path();
    const pg::Param params[] = {
        pg::text_param(event),      pg::text_param(name.schema), pg::text_param(name.name),
        pg::text_param(task),       pg::role_param(run_as),      pg::text_param(search_path),
        pg::role_param(name.owner),
    };
    const audit::Change change = hook_change(event, name.schema, name.name, task);
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.hook (event, function_schema, function_name, task_identifier,"
        "   run_as, search_path, function_owner)"
        " VALUES ($1, $2, $3, $4, backfill._role_of($5), $6, backfill._role_of($7))"
        " ON CONFLICT (event, function_schema, function_name, task_identifier) DO UPDATE SET"
        "   run_as = excluded.run_as, search_path = excluded.search_path,"
        "   function_owner = excluded.function_owner",
        params);
    change.note(fcinfo);
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
    return BoolGetDatum(remove_hook(fcinfo, std::span(&schema, 1), name.name));
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
    return BoolGetDatum(remove_hook(fcinfo, schemas, parsed.name));
}
