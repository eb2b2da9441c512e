/* serial_queues.cpp - see serial_queues.hpp. */
#include "backfill/config/serial_queues.hpp"

#include "backfill/pg/table.hpp"
#include "backfill/shmem/worker_slots.hpp"

#include <map>

namespace backfill::queue
{

namespace
{

/* What a row is made for. */
struct Wish {
    /* The role that needs the queue to be serial; none: only a new one is. */
    Oid serial_for = InvalidOid;
};

/* Rows that this transaction has to make. Sorted, so that two transactions that make the same ones
 * do not wait for each other. What a savepoint that was rolled back has asked for is made, too: it
 * goes away again. */
std::map<std::string, Wish> &unwritten()
{
    static std::map<std::string, Wish> instance;
    return instance;
}

/* It may have to wait for another transaction that makes the same row, or has locked it. */
void write_if_new(std::string_view queue_name)
{
    const pg::Param name = pg::text_param(queue_name);
    (void) pg::execute_as_owner("INSERT INTO backfill.queue (queue_name, concurrency, automatic)"
                                " VALUES ($1, 1, true) ON CONFLICT (queue_name) DO NOTHING",
                                std::span(&name, 1), pg::Sees::kLatest);
}

/* What an administrator has set, perhaps just now, is not for every producer to change. A role
 * that may call set_queue() may set limits anyway. */
void write_serial(std::string_view queue_name, Oid role)
{
    const pg::Param params[] = {pg::text_param(queue_name), pg::oid_param(role)};
    const pg::StatementResult made = pg::execute_as_owner(
        "INSERT INTO backfill.queue AS q (queue_name, concurrency, automatic)"
        " VALUES ($1, 1, true)"
        " ON CONFLICT (queue_name) DO UPDATE SET concurrency = 1"
        " WHERE q.concurrency IS DISTINCT FROM 1"
        "   AND ((q.concurrency IS NULL AND q.rate_limit IS NULL AND q.max_depth IS NULL)"
        "        OR pg_catalog.has_function_privilege($2,"
        "          'backfill.set_queue(text, integer, integer, interval, integer)', 'EXECUTE'))",
        params, pg::Sees::kLatest);
    /* A row that is there stays as it is from now on: the statement has locked it. */
    if (made.rows == 0 && latest_limit(queue_name).value_or(QueueLimit{}).concurrency != 1)
        fail(ERRCODE_INSUFFICIENT_PRIVILEGE,
             "permission denied to make queue " + pg::in_quotes(queue_name) + " serial",
             "It has limits that were set with backfill.set_queue().",
             "Use another queue, or let an administrator make this one serial.");
}

void write(std::string_view queue_name, Wish wish)
{
    if (OidIsValid(wish.serial_for))
        write_serial(queue_name, wish.serial_for);
    else
        write_if_new(queue_name);
}

/* A worker's transaction holds other jobs, which must not wait at its commit for what a user's
 * transaction does with the queue's row; a handler that waits has a time limit. */
void write_in_time(std::string_view queue_name, Wish wish)
{
    if (bgworker::my_slot_number() >= 0)
        return write(queue_name, wish);
    Wish &all = unwritten()[std::string(queue_name)];
    if (OidIsValid(wish.serial_for))
        all = wish;
}

/* With users' triggers on the table: those of the transaction have been fired already. */
void write_with_triggers()
{
    write_serial_queues();
    pg::call([] { AfterTriggerFireDeferred(); });
}

/* Raises by longjmp, as PostgreSQL allows there, and throws nothing. */
void write_before_commit(XactEvent event, void *) noexcept
{
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
    case XACT_EVENT_PRE_PREPARE:
        if (!unwritten().empty())
            pg::boundary([] { write_with_triggers(); });
        break;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE:
        unwritten().clear();
        break;
    default:
        break;
    }
}

/* Waits for a session that is just deleting the queue, which has or has not seen our job. */
template <class Condition> bool holds_for_good(std::string_view queue_name, Condition condition)
{
    if (!condition())
        return false;
    wait_for_deletion(queue_name);
    return condition();
}

} // namespace

/* Again at the commit: a savepoint may be rolled back in which it was done, but what the
 * transaction has configured afterwards counts. */
void write_serial_queues()
{
    for (auto &[queue_name, wish] : unwritten()) {
        write(queue_name, wish);
        wish = {};
    }
}

void make_new_queue_serial(std::string_view queue_name)
{
    if (queue_name == "fast" || queue_name == kDefaultQueue)
        return;
    if (!holds_for_good(queue_name, [&] { return is_configured(queue_name); }))
        write_in_time(queue_name, {});
}

void configure_new_queue_serial(std::string_view queue_name)
{
    if (queue_name == "fast" || queue_name == kDefaultQueue)
        return;
    const pg::Param name = pg::text_param(queue_name);
    (void) pg::execute_as_owner("INSERT INTO backfill.queue AS q (queue_name, concurrency)"
                                " VALUES ($1, 1) ON CONFLICT (queue_name) DO UPDATE"
                                " SET automatic = false WHERE q.automatic",
                                std::span(&name, 1), pg::Sees::kLatest);
}

void make_queue_serial(std::string_view queue_name)
{
    if (queue_name == "fast" || queue_name == kDefaultQueue)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "queue " + pg::in_quotes(queue_name) + " cannot be made serial",
             "Jobs of every kind share it.", "Choose a queue name of your own.");
    if (holds_for_good(queue_name, [&] {
            return is_configured(queue_name) && queue_limit(queue_name).concurrency == 1;
        }))
        return;
    if (latest_limit(queue_name))
        write_serial(queue_name, GetUserId());
    else
        write_in_time(queue_name, {GetUserId()});
}

void init_serial_queues()
{
    RegisterXactCallback(write_before_commit, nullptr);
}

} // namespace backfill::queue
