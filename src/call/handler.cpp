/* handler.cpp - see handler.hpp. */
#include "backfill/call/handler.hpp"

#include "backfill/pg/invalidation_flag.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

pg::InvalidationFlag outdated;
MemoryContext handler_memory = nullptr;

std::unordered_map<std::string, FmgrInfo *> &cache()
{
    static std::unordered_map<std::string, FmgrInfo *> handlers;
    return handlers;
}

struct FoundFunction {
    Oid oid;
    Oid owner;
    char kind;
    bool returns_set;
    bool schema_usable;
    bool executable;
};

FoundFunction look_up(const FunctionRef &function, Oid role)
{
    const char *const schema = function.schema.c_str();
    const char *const name = function.name.c_str();
    const std::vector<std::string> &argtypes = function.argtypes;
    return pg::call([&] {
        FoundFunction found{};
        Oid types[FUNC_MAX_ARGS];
        int count = 0;
        const Oid schema_oid = get_namespace_oid(schema, true);
        if (!OidIsValid(schema_oid) || argtypes.size() > FUNC_MAX_ARGS)
            return found;
        for (const std::string &type : argtypes) {
            int32 modifier;
            /* Not by the session's search_path, in which it may mean another type. */
            if (type == "jsonb") {
                types[count++] = JSONBOID;
                continue;
            }
#if PG_VERSION_NUM >= 160000
            parseTypeString(type.c_str(), &types[count], &modifier, nullptr);
#else
            parseTypeString(type.c_str(), &types[count], &modifier, true);
#endif
            if (!OidIsValid(types[count++]))
                return found;
        }
        HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name),
                                          PointerGetDatum(buildoidvector(types, count)),
                                          ObjectIdGetDatum(schema_oid));
        if (!HeapTupleIsValid(tuple))
            return found;
        const auto *row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
        found.oid = row->oid;
        found.owner = row->proowner;
        found.kind = row->prokind;
        found.returns_set = row->proretset;
        found.schema_usable = pg::may_use_schema(schema_oid, role);
        found.executable = pg::may_execute_function(row->oid, role);
        ReleaseSysCache(tuple);
        return found;
    });
}

/* What messages say of a function, by what calls it. */
struct Texts {
    std::string what;
    const char *if_missing;
    const char *if_denied;
    const char *kind_detail; /* of a procedure where a function is wanted */
    const char *kind_hint;
};

constexpr char kNotAFunction[] =
    "It is a procedure, an aggregate, a window function, or returns a set.";
constexpr char kUseAFunction[] = "Use a plain function.";

Oid check(const FunctionRef &function, Oid role, const Texts &texts)
{
    const FoundFunction found = look_up(function, role);
    const bool is_procedure = found.kind == PROKIND_PROCEDURE;
    if (!OidIsValid(found.oid))
        fail(ERRCODE_UNDEFINED_FUNCTION, texts.what + " does not exist", {}, texts.if_missing);
    if (function.is_procedure && !is_procedure)
        fail(ERRCODE_WRONG_OBJECT_TYPE, texts.what + " is not a procedure any more", {},
             "Register the task again.");
    if (!function.is_procedure && (found.kind != PROKIND_FUNCTION || found.returns_set))
        fail(ERRCODE_WRONG_OBJECT_TYPE, texts.what + " cannot be called",
             is_procedure ? texts.kind_detail : kNotAFunction,
             is_procedure ? texts.kind_hint : kUseAFunction);
    if (!found.schema_usable || !found.executable)
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "role \"" + pg::role_name(role) + "\" may not execute " + texts.what,
             found.schema_usable ? "It lacks EXECUTE on the function."
                                 : "It lacks USAGE on the function's schema.",
             texts.if_denied);
    if (found.owner != function.owner && !is_trusted_owner(found.owner, role))
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             texts.what + " belongs to role \"" + pg::role_name(found.owner) +
                 "\" now, which may not act as role \"" + pg::role_name(role) + "\"",
             "It had another owner when it was registered.",
             "See what the function does, and register it again, or change its owner.");
    return found.oid;
}

} // namespace

Oid check_function(const Task &task, Oid role)
{
    return check(task.handler, role,
                 {"handler " + task.handler.signature + " of task \"" + task.identifier + "\"",
                  "Create the function again, or register the task with another handler; then "
                  "requeue the job with backfill.requeue_dlq_job().",
                  "Grant it, or register the task with another run_as role.",
                  "It has become a procedure.", "Register the task again."});
}

Oid check_function(const Hook &hook, Oid role)
{
    return check(hook.function, role,
                 {"hook " + hook.function.signature,
                  "Create the function again, or call backfill.unregister_hook().",
                  "Grant it, register the hook with another run_as role, or call "
                  "backfill.unregister_hook().",
                  kNotAFunction, kUseAFunction});
}

bool is_trusted_owner(Oid owner, Oid role)
{
    return pg::call([&] { return pg::may_act_as(owner, role); }) || owner == pg::extension_owner();
}

FmgrInfo *find_handler(const Task &task, Oid role)
{
    if (outdated.is_set()) {
        cache().clear();
        pg::call([] { MemoryContextReset(handler_memory); });
        outdated.clear();
    }
    /* A process runs jobs as one role, but a user may SET ROLE between two calls. */
    const std::string key = task.handler.signature + ' ' + std::to_string(role) + ' ' +
                            std::to_string(task.handler.owner);
    const auto cached = cache().find(key);
    if (cached != cache().end())
        return cached->second;

    const Oid function = check_function(task, role);
    FmgrInfo *handler = pg::call([&] {
        auto *info =
            static_cast<FmgrInfo *>(MemoryContextAllocZero(handler_memory, sizeof(FmgrInfo)));
        fmgr_info_cxt(function, info, handler_memory);
        return info;
    });
    cache().emplace(key, handler);
    return handler;
}

void init_handlers()
{
    handler_memory =
        AllocSetContextCreate(TopMemoryContext, "backfill handlers", ALLOCSET_DEFAULT_SIZES);
    outdated.register_for_catalog(PROCOID);
    outdated.register_for_catalog(NAMESPACEOID);
    outdated.register_for_catalog(AUTHMEMROLEMEM);
    outdated.register_for_catalog(AUTHOID);
}

} // namespace backfill::queue
