/* utility_hook.cpp - see utility_hook.hpp. */
#include "backfill/pg_hooks/utility_hook.hpp"

#include "backfill/call/deferred_events.hpp"
#include "backfill/call/hooks.hpp"
#include "backfill/call/run_job.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/cron/pg_cron.hpp"
#include "backfill/pg_hooks/extension_update.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/stats/counters.hpp"

namespace backfill::hooks
{

namespace
{

constexpr int kStopTimeoutMs = 5000;

ProcessUtility_hook_type previous_utility_hook = nullptr;

DefElem *find_option(List *options, const char *name)
{
    ListCell *cell;
    foreach (cell, options) {
        auto *option = static_cast<DefElem *>(lfirst(cell));
        if (strcmp(option->defname, name) == 0 && option->arg != nullptr)
            return option;
    }
    return nullptr;
}

/* The template of a CREATE DATABASE. */
const char *template_name(const CreatedbStmt *statement)
{
    DefElem *const option = find_option(statement->options, "template");
    return option != nullptr ? defGetString(option) : "template1";
}

/* The database that a command needs without connections, if it is such a command. */
const char *database_to_quiesce(Node *statement)
{
    switch (nodeTag(statement)) {
    case T_DropdbStmt:
        return castNode(DropdbStmt, statement)->dbname;
    case T_CreatedbStmt:
        return template_name(castNode(CreatedbStmt, statement));
    case T_RenameStmt: {
        const auto *rename = castNode(RenameStmt, statement);
        return rename->renameType == OBJECT_DATABASE ? rename->subname : nullptr;
    }
    case T_AlterDatabaseStmt: {
        /* Only SET TABLESPACE moves files. */
        const auto *alter = castNode(AlterDatabaseStmt, statement);
        return find_option(alter->options, "tablespace") != nullptr ? alter->dbname : nullptr;
    }
    default:
        return nullptr;
    }
}

bool may_create_databases(Oid role)
{
    if (superuser_arg(role))
        return true;
    HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
    if (!HeapTupleIsValid(tuple))
        return false;
    const bool may = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcreatedb;
    ReleaseSysCache(tuple);
    return may;
}

/* What a command needs to know of the database that it wants for itself. */
struct DatabaseFacts {
    bool is_template;
    int encoding;
    Oid tablespace;
};

DatabaseFacts facts_of(Oid database)
{
    DatabaseFacts facts{};
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    if (!HeapTupleIsValid(tuple))
        return facts;
    const auto *row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
    facts = {row->datistemplate, row->encoding, row->dattablespace};
    ReleaseSysCache(tuple);
    return facts;
}

bool creation_fails(const CreatedbStmt *statement, const DatabaseFacts &source)
{
    if (!may_create_databases(GetUserId()) || OidIsValid(get_database_oid(statement->dbname, true)))
        return true;
    DefElem *const tablespace = find_option(statement->options, "tablespace");
    if (tablespace != nullptr && !OidIsValid(get_tablespace_oid(defGetString(tablespace), true)))
        return true;
    DefElem *const owner = find_option(statement->options, "owner");
    if (owner != nullptr && !OidIsValid(get_role_oid(defGetString(owner), true)))
        return true;
    DefElem *const encoding = find_option(statement->options, "encoding");
    return encoding != nullptr && !IsA(encoding->arg, Integer) &&
           pg_valid_server_encoding(defGetString(encoding)) != source.encoding;
}

/* Whether a command fails, or is done, before PostgreSQL looks for other sessions in the database:
 * then none there must be disturbed. Those that are likely; of others the workers come back. */
bool ends_at_once(Node *statement, ProcessUtilityContext context, Oid database)
{
    if (!IsA(statement, RenameStmt) && IsInTransactionBlock(context == PROCESS_UTILITY_TOPLEVEL))
        return true;
    const DatabaseFacts facts = facts_of(database);
    switch (nodeTag(statement)) {
    case T_DropdbStmt:
        return facts.is_template;
    case T_CreatedbStmt:
        return creation_fails(castNode(CreatedbStmt, statement), facts);
    case T_RenameStmt:
        return !may_create_databases(GetUserId()) ||
               OidIsValid(get_database_oid(castNode(RenameStmt, statement)->newname, true));
    case T_AlterDatabaseStmt: {
        DefElem *const option =
            find_option(castNode(AlterDatabaseStmt, statement)->options, "tablespace");
        const Oid target = get_tablespace_oid(defGetString(option), true);
        return !OidIsValid(target) || target == GLOBALTABLESPACE_OID || target == facts.tablespace;
    }
    default:
        return false;
    }
}

/* A role without the rights to it is refused by the command itself. */
bool updates_extension(Node *statement)
{
    return IsA(statement, AlterExtensionStmt) &&
           strcmp(castNode(AlterExtensionStmt, statement)->extname, "backfill") == 0 && superuser();
}

bool drops_extension(Node *statement)
{
    if (!IsA(statement, DropStmt) || castNode(DropStmt, statement)->removeType != OBJECT_EXTENSION)
        return false;
    ListCell *cell;
    foreach (cell, castNode(DropStmt, statement)->objects)
        if (strcmp(strVal(lfirst(cell)), "backfill") == 0)
            return true;
    return false;
}

/* DROP OWNED BY the extension's owner drops the extension, too. */
bool drops_owner(Node *statement, Oid extension)
{
    if (!IsA(statement, DropOwnedStmt))
        return false;
    ListCell *cell;
    foreach (cell, roleSpecsToIds(castNode(DropOwnedStmt, statement)->roles))
        if (pg::owns_extension(extension, lfirst_oid(cell)) &&
            has_privs_of_role(GetUserId(), lfirst_oid(cell)))
            return true;
    return false;
}

/* Reject non-owners here. PostgreSQL locks the extension before it checks the owner: it would wait
 * for running jobs, and every worker behind it, only to refuse in the end. */
void refuse_unless_owner(Oid extension)
{
    if (!pg::owns_extension(extension, GetUserId()))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_EXTENSION, "backfill");
}

/* The database whose workers must go before the command; InvalidOid for most. A role
 * that may not run the command must not disturb any session. */
Oid database_to_stop(Node *statement, ProcessUtilityContext context)
{
    if (drops_extension(statement) || IsA(statement, DropOwnedStmt)) {
        const Oid extension = get_extension_oid("backfill", true);
        if (!OidIsValid(extension))
            return InvalidOid;
        if (drops_extension(statement)) {
            refuse_unless_owner(extension);
            return MyDatabaseId;
        }
        return drops_owner(statement, extension) ? MyDatabaseId : InvalidOid;
    }
    const char *name = database_to_quiesce(statement);
    if (name == nullptr)
        return InvalidOid;
    const Oid database = get_database_oid(name, true);
    return OidIsValid(database) && database != MyDatabaseId &&
                   pg::owns_database(database, GetUserId()) &&
                   !ends_at_once(statement, context, database)
               ? database
               : InvalidOid;
}

/* What a job does to its session beyond its transaction. */
bool dirties_session(Node *statement)
{
    return IsA(statement, ConstraintsSetStmt) || IsA(statement, LoadStmt) ||
           IsA(statement, DeclareCursorStmt);
}

/* They reach what others have deferred in the transaction: it would fire now, with the rights of
 * the hook, or of the SECURITY DEFINER function that runs the job. */
void refuse_to_set_constraints()
{
    if (queue::hooks::is_calling())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("a hook must not use SET CONSTRAINTS"),
                        errdetail("It would change the transaction in which the hook is called."),
                        errhint("Declare the constraint INITIALLY IMMEDIATE.")));
    if (queue::is_running_job() && !queue::deferred::all_ours() && GetUserId() != GetOuterUserId())
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("a job must not use SET CONSTRAINTS here"),
                 errdetail("Deferred triggers of the session were pending when a function with "
                           "other rights called process_available_jobs()."),
                 errhint("Call that function in a transaction of its own.")));
}

void call_next(PlannedStmt *planned, const char *query, bool read_only_tree,
               ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
               DestReceiver *destination, QueryCompletion *completion)
{
    if (previous_utility_hook != nullptr)
        previous_utility_hook(planned, query, read_only_tree, context, params, environment,
                              destination, completion);
    else
        standard_ProcessUtility(planned, query, read_only_tree, context, params, environment,
                                destination, completion);
}

/* After the command, because some of these commit in the middle. Should the process exit instead,
 * the abort of its transaction is still to come. */
void let_workers_back(int, Datum database) noexcept
{
    bgworker::allow_workers(DatumGetObjectId(database));
    queue::wake::announce_databases();
}

/* Plain C inside: no C++ object is alive while the command runs. */
void on_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
                ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
                DestReceiver *destination, QueryCompletion *completion)
{
    Node *const statement = planned->utilityStmt;
    if (queue::is_running_job() && dirties_session(statement))
        queue::mark_session_dirty();
    if (IsA(statement, ConstraintsSetStmt))
        refuse_to_set_constraints();

    if (IsA(statement, CreatedbStmt))
        queue::wake::announce_databases();
    if (IsA(statement, AlterExtensionStmt))
        queue::wake::announce_dispatcher(); /* it looks whether the versions are the same */
    const Oid stopped = bgworker::available() ? database_to_stop(statement, context) : InvalidOid;
    if (!OidIsValid(stopped)) {
        const bool updated = updates_extension(statement);
        pg::TableRows holders{};
        if (updated)
            holders = pg::boundary([] { return bundle_holders(); });
        call_next(planned, query, read_only_tree, context, params, environment, destination,
                  completion);
        if (updated)
            pg::boundary([&] { grant_bundles(holders); });
        return;
    }
    /* Not PG_FINALLY, which a session that is terminated passes by. */
    PG_ENSURE_ERROR_CLEANUP(let_workers_back, ObjectIdGetDatum(stopped));
    {
        bgworker::stop_workers(stopped, kStopTimeoutMs);
        if (stopped == MyDatabaseId) /* the extension is dropped */
            pg::boundary([] { queue::stop_clock_for_drop(); });
        call_next(planned, query, read_only_tree, context, params, environment, destination,
                  completion);
        if (IsA(statement, DropdbStmt))
            stats::forget_database(stopped);
        if (IsA(statement, DropdbStmt) || stopped == MyDatabaseId)
            bgworker::set_aside::forget_database(stopped);
    }
    PG_END_ENSURE_ERROR_CLEANUP(let_workers_back, ObjectIdGetDatum(stopped));
    let_workers_back(0, ObjectIdGetDatum(stopped));
}

} // namespace

void install_utility_hook()
{
    previous_utility_hook = ProcessUtility_hook;
    ProcessUtility_hook = on_utility;
}

} // namespace backfill::hooks
