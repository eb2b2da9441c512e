/* app_route.cpp - runs the statement of a route. */
#include "app.hpp"
#include "log.hpp"

namespace backfill::web
{

namespace
{

constexpr Seconds kComplaintInterval{10};
constexpr std::string_view kSetTimeout =
    "SELECT pg_catalog.set_config('statement_timeout', $1, false)";

SqlValues milliseconds(Seconds seconds)
{
    return {std::to_string(seconds.count() * 1000)};
}

/* The connection was lost, and if the statement changes things, before it could: a server that ends
 * a session by command rolls its transaction back before it says so. */
bool nothing_was_done(const SqlError &error, const Route &route)
{
    return route.changes ? error.sqlstate == "57P01" : error.is_disconnection();
}

/* What a statement has returned, as the reply that its route describes. */
Reply reply_of(const Route &route, const SqlRows &rows)
{
    const SqlValues none{std::nullopt};
    const SqlValues &row = rows.empty() ? none : rows.front();
    if (!row.front() || *row.front() == "f") {
        const int status = row.size() > 1 && row[1] ? std::stoi(*row[1]) : route.absent;
        return problem(status, status == 409 ? "conflict" : "not_found",
                       route.absent_message.empty() ? "there is no such object"
                                                    : std::string(route.absent_message));
    }
    Reply reply = json_reply(route.success, std::string());
    if (route.success != 204)
        reply.body = *row.front();
    return reply;
}

/* The object as it is after a change. The change is done, also if the object cannot be shown: the
 * role may not see it, or it has gone since. */
Reply reply_after_change(const Route &route, const SqlResult &after)
{
    const auto *rows = std::get_if<SqlRows>(&after);
    Reply reply = reply_of(route, rows == nullptr ? SqlRows() : *rows);
    return reply.status == route.success ? reply : json_reply(route.success, "{}");
}

} // namespace

/* Names of hosts are the operator's business. */
Reply App::unreachable(const SessionPtr &session, const Database &database, const SqlError &error)
{
    if (Clock::now() - last_complaint_ > kComplaintInterval) {
        last_complaint_ = Clock::now();
        log_line("database " + database.name + ", role " + session->user + ": " + error.message);
    }
    if (error.is_refused_login()) {
        if (&database != session->database)
            return problem(403, error.sqlstate,
                           "the role cannot log in to database " + database.name, error.hint);
        sessions_.end(session);
        return problem(401, error.sqlstate, "the role can no longer log in", error.hint);
    }
    if (error.sqlstate.starts_with("08"))
        return problem(503, error.sqlstate, "database " + database.name + " cannot be reached");
    return to_reply(to_problem(error));
}

/* A route that may take longer than others has its connection for itself meanwhile. */
Task<SqlResult> App::run_once(const Route &route, const SqlValues &values, Lease &lease)
{
    const TimePoint deadline = pool_.statement_deadline(route.times);
    if (route.times > 1) {
        const SqlValues longer = milliseconds(pool_.limits().statement * route.times);
        auto set = co_await lease->query(kSetTimeout, longer, deadline);
        if (std::holds_alternative<SqlError>(set))
            co_return set;
    }
    auto result = co_await lease->query(route.sql, values, deadline);
    if (route.times > 1 && lease->is_usable()) {
        const SqlValues usual = milliseconds(pool_.limits().statement);
        auto set = co_await lease->query(kSetTimeout, usual, deadline);
        if (std::holds_alternative<SqlError>(set))
            lease->give_up();
    }
    co_return result;
}

/* A connection that was lost since its last use is replaced by another one, if nothing can have
 * been changed by the first try. */
Task<Reply> App::run_route(const Route &route, const SqlValues &values, SessionPtr session,
                           const Database &database)
{
    for (;;) {
        auto borrowed = co_await pool_.borrow(session, database);
        if (const auto *error = std::get_if<SqlError>(&borrowed))
            co_return unreachable(session, database, *error);
        Lease &lease = std::get<Lease>(borrowed);
        auto result = co_await run_once(route, values, lease);
        if (const auto *error = std::get_if<SqlError>(&result)) {
            if (lease.is_used() && nothing_was_done(*error, route))
                continue;
            co_return to_reply(to_problem(*error));
        }
        Reply reply = reply_of(route, std::get<SqlRows>(result));
        if (reply.status != route.success || route.then_sql.empty())
            co_return reply;
        const SqlValues first{values.front()};
        auto after = co_await lease->query(route.then_sql, first, pool_.statement_deadline());
        co_return reply_after_change(route, after);
    }
}

/* The same for a statement that reads. */
Task<SqlResult> App::run_statement(std::string_view sql, const SqlValues &values,
                                   SessionPtr session, const Database &database,
                                   Pool::Patience patience)
{
    for (;;) {
        auto borrowed = co_await pool_.borrow(session, database, patience);
        if (const auto *error = std::get_if<SqlError>(&borrowed))
            co_return *error;
        Lease &lease = std::get<Lease>(borrowed);
        auto result = co_await lease->query(sql, values, pool_.statement_deadline());
        const auto *error = std::get_if<SqlError>(&result);
        if (error == nullptr || !error->is_disconnection() || !lease.is_used())
            co_return result;
    }
}

} // namespace backfill::web
