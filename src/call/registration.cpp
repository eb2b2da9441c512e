/* registration.cpp - see registration.hpp. */
#include "backfill/call/registration.hpp"

#include "backfill/call/handler.hpp"

namespace backfill::queue
{

/* Checks that a function can be `what`, a handler or a hook. Only a handler may be a procedure. */
FunctionRef check_signature(Oid function, const std::string &what, bool procedures)
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
    /* By that name there will be another role's function, when this session is over. */
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
    FunctionRef checked{facts.schema, facts.name, {"jsonb"}, {}, facts.owner, is_procedure};
    checked.sign();
    return checked;
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

/* The owner of the function can replace it at any time, and what it does then, it does as run_as.
 */
void warn_of_owner(const std::string &what, const FunctionRef &function, Oid run_as)
{
    if (is_trusted_owner(function.owner, run_as))
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

} // namespace backfill::queue
