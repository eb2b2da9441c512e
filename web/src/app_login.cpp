/* app_login.cpp - logins, and what a session is told of itself. */
#include "app.hpp"

#include "address.hpp"
#include "credentials.hpp"
#include "log.hpp"
#include "version.hpp"

#include <nlohmann/json.hpp>

namespace backfill::web
{

namespace
{

using Json = nlohmann::json;

/* Each opens a connection, which costs the server more than it costs the client. */
constexpr int kMostLoginsAtOnce = 16;
constexpr std::size_t kLongestName = 63;
/* Roles that may read this table see payloads and texts of errors. */
constexpr std::string_view kPayloads = "view job";

/* Which of the functions and views in $1 the role may use. Those that are not there it may not. */
constexpr std::string_view kFacts = R"(SELECT jsonb_build_object(
    'user', session_user, 'role', current_user, 'server', current_setting('server_version'),
    'extension', (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'backfill'),
    'may', (SELECT jsonb_object_agg(n.need, CASE WHEN s.oid IS NULL THEN false
        WHEN NOT has_schema_privilege(s.oid, 'USAGE') THEN false
        WHEN n.need LIKE 'view %' THEN EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = s.oid
            AND c.relname = substr(n.need, 6) AND has_table_privilege(c.oid, 'SELECT'))
        ELSE EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = s.oid AND p.proname = n.need
            AND has_function_privilege(p.oid, 'EXECUTE')) END)
        FROM unnest($1::text[]) n (need) LEFT JOIN pg_namespace s ON s.nspname = 'backfill')))";

SqlValues needs_array()
{
    std::string list = "{";
    for (const std::string_view need : all_needs())
        list.append("\"").append(need).append("\",");
    return {list.append("\"").append(kPayloads).append("\"}")};
}

bool may_use(const Route &route, const Json &may)
{
    for (const std::string_view need : route.needs)
        if (!may.value(std::string(need), false))
            return false;
    return true;
}

Reply too_many_tries(int seconds)
{
    Reply reply = problem(429, "too_many_logins", "too many failed logins",
                          "Try again in " + std::to_string(seconds) + " s.");
    reply.headers.emplace_back("Retry-After", std::to_string(seconds));
    return reply;
}

Reply wrong_login()
{
    return problem(401, "28P01", "the name or the password is wrong, or the role may not log in");
}

} // namespace

Reply busy()
{
    Reply reply = problem(503, "busy", "too many logins are in progress", "Try again.");
    reply.headers.emplace_back("Retry-After", "1");
    return reply;
}

/* Opens the session's first connection. Success costs no try, nor does a login that nothing has
 * judged. */
Task<std::optional<Reply>> App::check_login(SessionPtr session, const Client &client)
{
    if (session->user.empty() || session->user.size() > kLongestName ||
        session->password.text().empty())
        co_return wrong_login();
    if (logins_in_progress_ >= kMostLoginsAtOnce)
        co_return busy();
    const std::string address = counted_as(client.address).to_string();
    if (const int seconds = tries_.take(session->user, address, Clock::now()); seconds > 0)
        co_return too_many_tries(seconds);
    const Counted counted(logins_in_progress_);
    auto borrowed = co_await pool_.borrow(session, *session->database);
    if (const auto *error = std::get_if<SqlError>(&borrowed)) {
        const std::string line =
            "login as \"" + session->user + "\" from " + client.address.to_string();
        if (error->is_refused_login()) {
            log_line(line + " refused: " + error->message + (error->hint.empty() ? "" : ": ") +
                     error->hint);
            co_return wrong_login();
        }
        tries_.refund(session->user, address, Clock::now());
        co_return unreachable(session, *session->database, *error);
    }
    tries_.refund(session->user, address, Clock::now());
    co_return std::nullopt;
}

/* Under a new key, so that a key which was planted in the browser before is of no use. */
Task<Reply> App::log_in(Call &call, SqlValues &values)
{
    if (call.client.proxy_user)
        co_return problem(409, "proxy_login", "the proxy has logged this client in");
    const Database *database = values[2] ? find_database(*values[2]) : &databases_.front();
    if (database == nullptr)
        co_return problem(404, "no_database", "there is no database of this name");
    auto session = std::make_shared<Session>(*values[0], *values[1], database);
    wipe(*values[1]);
    session->secure = call.client.secure;
    auto refused = co_await check_login(session, call.client);
    if (refused) {
        sessions_.end(session);
        co_return std::move(*refused);
    }
    Reply reply = co_await describe_session(session, *database);
    const std::string key = reply.status == 200 ? sessions_.add(session) : std::string();
    if (key.empty()) {
        sessions_.end(session);
        if (reply.status != 200)
            co_return reply;
        co_return problem(503, "too_many_sessions", "there are too many sessions");
    }
    if (call.session)
        sessions_.end(call.session);
    log_line("role \"" + session->user + "\" logged in from " + call.client.address.to_string());
    reply.headers.emplace_back("Set-Cookie", set_cookie(key, session->secure));
    co_return reply;
}

Reply App::log_out(Call &call)
{
    Reply reply;
    reply.status = 204;
    if (call.session->by_proxy)
        return problem(409, "proxy_login", "log out at the proxy, which has logged you in");
    sessions_.end(call.session);
    reply.headers.emplace_back("Set-Cookie", set_cookie({}, call.client.secure));
    return reply;
}

/* facts: what the database says of the role. */
std::string App::session_json(const Session &session, const Database &database,
                              std::string_view facts) const
{
    const Json known = Json::parse(facts);
    Json rights = Json::object();
    for (const Route &route : all_routes())
        rights[std::string(route.id)] =
            may_use(route, known["may"]) && !(route.changes && options_.read_only);
    rights["payloads"] = known["may"].value(std::string(kPayloads), false);
    Json names = Json::array();
    for (const Database &each : databases_)
        names.push_back(each.name);
    const Json json = {
        {"user", known["user"]},
        {"role", known["role"]},
        {"database", database.name},
        {"databases", names},
        {"read_only", options_.read_only},
        {"proxy_login", session.by_proxy},
        {"rights", rights},
        {"versions",
         {{"web", kVersion}, {"extension", known["extension"]}, {"server", known["server"]}}},
        {"idle_timeout", options_.idle_timeout.count()}};
    return json.dump();
}

Task<Reply> App::describe_session(SessionPtr session, const Database &database)
{
    const SqlValues needs = needs_array();
    auto result = co_await run_statement(kFacts, needs, session, database);
    if (const auto *error = std::get_if<SqlError>(&result))
        co_return unreachable(session, database, *error);
    const SqlRows &rows = std::get<SqlRows>(result);
    co_return json_reply(200, session_json(*session, database, rows.front().front().value()));
}

/* Its key is the name and the password, which nothing but that client knows. */
Task<SessionPtr> App::basic_session(std::string_view authorization, const Client &client,
                                    std::optional<Reply> &refused)
{
    auto credentials = basic_credentials(authorization);
    if (!credentials) {
        refused = problem(401, "no_session", "log in by HTTP Basic, with a role and its password");
        refused->headers.emplace_back("WWW-Authenticate",
                                      "Basic realm=\"backfill\", charset=\"UTF-8\"");
        co_return nullptr;
    }
    const Secret key("basic:" + credentials->first + ":" + credentials->second);
    SessionPtr session = sessions_.find(key.text());
    if (session) {
        wipe(credentials->second);
        session->used = Clock::now();
        co_return session;
    }
    session =
        std::make_shared<Session>(credentials->first, credentials->second, &databases_.front());
    wipe(credentials->second);
    refused = co_await check_login(session, client);
    if (!refused && !sessions_.add_as(key.text(), session))
        refused = problem(503, "too_many_sessions", "there are too many sessions");
    if (refused)
        sessions_.end(session);
    co_return session;
}

} // namespace backfill::web
