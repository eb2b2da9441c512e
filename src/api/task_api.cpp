/* task_api.cpp - SQL functions that register tasks. */
#include "backfill/audit/audit.hpp"
#include "backfill/call/handler.hpp"
#include "backfill/call/registration.hpp"
#include "backfill/enqueue/job_spec.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/stats/counters.hpp"

using namespace backfill;

namespace
{

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

/* The arguments of register_task(). */
struct Registration {
    std::string_view task_identifier;
    std::optional<Oid> handler;
    std::optional<std::string_view> queue_name;
    std::optional<int32> priority;
    std::optional<int32> max_attempts;
    std::optional<std::string_view> retry_policy;
    const Interval *timeout;
    std::optional<Oid> run_as;
    std::optional<std::string_view> notify_channel;
    const Interval *keep_history;
    bool savepoint_per_job;
};

Registration read_registration(const pg::Arguments &arguments)
{
    return {queue::require_text("task_identifier", arguments.text(0)),
            arguments.oid(1),
            arguments.text(2),
            arguments.int4(3),
            arguments.int4(4),
            arguments.text(5),
            arguments.interval(6),
            arguments.oid(7),
            arguments.text(8),
            arguments.interval(9),
            !arguments.is_null(10) && DatumGetBool(arguments.datum(10))};
}

void check_settings(const Registration &given)
{
    queue::check_task_identifier(given.task_identifier);
    if (given.queue_name)
        queue::check_queue_name(*given.queue_name);
    if (given.priority)
        queue::check_priority(*given.priority);
    if (given.max_attempts)
        queue::check_max_attempts(*given.max_attempts);
    if (given.retry_policy)
        queue::check_retry_policy(*queue::config(), *given.retry_policy);
    (void) queue::check_timeout(given.timeout);
    check_channel(given.notify_channel);
    check_keep_history(given.keep_history);
}

audit::Change task_change(std::string_view task_identifier)
{
    const pg::Param param = pg::text_param(task_identifier);
    return {audit::kind::kTask, task_identifier,
            "SELECT pg_catalog.to_jsonb(t) - '{task_identifier,registered_at}'::text[]"
            "  FROM backfill.task t WHERE t.task_identifier = $1 FOR UPDATE",
            std::span(&param, 1)};
}

queue::FunctionRef check_handler(std::string_view task_identifier, Oid handler, Oid run_as)
{
    queue::Task task;
    task.identifier = task_identifier;
    task.handler = queue::check_signature(handler, "handler", true);
    (void) queue::check_function(task, run_as);
    queue::warn_of_owner("task", task.handler, run_as);
    return task.handler;
}

void save_task(const Registration &given, Oid run_as,
               const std::optional<queue::FunctionRef> &handler)
{
    std::optional<std::string_view> schema;
    std::optional<std::string_view> name;
    std::optional<Oid> owner;
    if (handler) {
        schema = handler->schema;
        name = handler->name;
        owner = handler->owner;
    }
    const pg::Param params[] = {
        pg::text_param(given.task_identifier),
        pg::text_param(schema),
        pg::text_param(name),
        pg::text_param(given.queue_name),
        pg::int2_param(given.priority),
        pg::int2_param(given.max_attempts),
        pg::text_param(given.retry_policy),
        pg::interval_param(given.timeout),
        pg::role_param(run_as),
        pg::text_param(given.notify_channel),
        pg::interval_param(given.keep_history),
        pg::bool_param(handler && handler->is_procedure),
        pg::role_param(owner),
        pg::bool_param(given.savepoint_per_job),
    };
    (void) pg::execute_as_owner(
        "INSERT INTO backfill.task (task_identifier, handler_schema, handler_name,"
        "   handler_argtypes, queue_name, priority, max_attempts, retry_policy, timeout, run_as,"
        "   notify_channel, keep_history, handler_is_procedure, handler_owner,"
        "   savepoint_per_job)"
        " VALUES ($1, $2, $3, CASE WHEN $3 IS NOT NULL THEN '{jsonb}'::text[] END,"
        "   $4, $5, $6, $7, $8, backfill._role_of($9), $10, $11, $12, backfill._role_of($13), $14)"
        " ON CONFLICT (task_identifier) DO UPDATE SET"
        "   handler_schema = excluded.handler_schema, handler_name = excluded.handler_name,"
        "   handler_argtypes = excluded.handler_argtypes, queue_name = excluded.queue_name,"
        "   priority = excluded.priority, max_attempts = excluded.max_attempts,"
        "   retry_policy = excluded.retry_policy, timeout = excluded.timeout,"
        "   run_as = excluded.run_as, notify_channel = excluded.notify_channel,"
        "   keep_history = excluded.keep_history,"
        "   registered_at = pg_catalog.now(),"
        "   handler_is_procedure = excluded.handler_is_procedure,"
        "   handler_owner = excluded.handler_owner,"
        "   savepoint_per_job = excluded.savepoint_per_job",
        params);
}

} // namespace

BACKFILL_FUNCTION(backfill_register_task)
{
    const Registration given = read_registration(pg::Arguments(fcinfo));
    pg::prevent_if_read_only("register_task()");
    check_settings(given);
    const Oid run_as = queue::check_run_as(given.run_as, "task");
    check_login(run_as);
    std::optional<queue::FunctionRef> handler;
    if (given.handler)
        handler = check_handler(given.task_identifier, *given.handler, run_as);
    const audit::Change change = task_change(given.task_identifier);
    save_task(given, run_as, handler);
    change.note(fcinfo);
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
    const auto name = arguments.text(0);
    const audit::Change change = task_change(name.value_or(std::string_view()));
    const pg::Param identifier = pg::text_param(name);
    const bool removed = pg::execute_as_owner("DELETE FROM backfill.task t"
                                              " WHERE t.task_identifier = $1",
                                              std::span(&identifier, 1))
                             .rows > 0;
    /* Should this be rolled back, its counters begin anew. */
    if (removed) {
        stats::forget_task(*name);
        change.note(fcinfo);
    }
    return BoolGetDatum(removed);
}
