/* app.cpp - see app.hpp. */
#include "app.hpp"

#include "assets.hpp"
#include "credentials.hpp"
#include "log.hpp"
#include "openapi.hpp"

#include <algorithm>
#include <charconv>
#include <strings.h>

namespace backfill::web
{

namespace
{

constexpr Seconds kTidyInterval{5};

SessionLimits session_limits(const Options &options)
{
    return {options.idle_timeout, options.session_lifetime, options.max_sessions,
            options.max_sessions_per_role};
}

PoolLimits pool_limits(const Options &options)
{
    PoolLimits limits;
    limits.of_session = options.session_db_connections;
    limits.in_all = options.max_db_connections;
    limits.statement = options.statement_timeout;
    limits.longest_use = options.login_check;
    limits.read_only = options.read_only;
    return limits;
}

Reply openapi_reply()
{
    Reply reply;
    reply.fixed_body = openapi_document();
    return reply;
}

Reply no_session()
{
    return problem(401, "no_session", "there is no session", "Log in by POST /api/v1/login.");
}

/* More than that of a client that has not logged in. A body in chunks is limited while it is read.
 */
std::optional<Reply> refuse_length(const Request &request, std::size_t most)
{
    const std::string_view length = header_of(request, "Content-Length");
    std::size_t bytes = 0;
    std::from_chars(length.data(), length.data() + length.size(), bytes);
    if (bytes <= most)
        return {};
    return problem(413, "too_large", "the body is too large");
}

/* Requests that a page makes by itself, not because of its user, do not keep the session alive. A
 * browser opens a stream again by itself, too, and sends no header of ours then. */
bool is_of_user(const Route &route, const Request &request)
{
    return route.kind != Kind::stream && count_of(request, "Backfill-Background") == 0;
}

} // namespace

App::App(asio::io_context &io, const Options &options, std::vector<Database> databases)
    : io_(io), options_(options), databases_(std::move(databases)),
      guard_(options.allowed_hosts, options.trusted_proxies, options.proxy_user_header),
      sessions_(session_limits(options)), pool_(io.get_executor(), pool_limits(options), sessions_),
      tidy_timer_(io)
{
    const auto run = [this](std::string_view sql, const SqlValues &values, SessionPtr session,
                            const Database &database, Pool::Patience patience) {
        return run_statement(sql, values, std::move(session), database, patience);
    };
    const auto is_check_due = [this](const Session &session, const Database &database) {
        return pool_.is_check_due(session, database);
    };
    const auto explain = [this](const SessionPtr &session, const Database &database,
                                const SqlError &error) {
        return error.is_disconnection() || error.is_refused_login()
                   ? unreachable(session, database, error).body
                   : to_reply(to_problem(error)).body;
    };
    for (const Database &database : databases_)
        live_.emplace_back(io_, database, run, explain, is_check_due);
}

const Database *App::find_database(std::string_view name) const
{
    for (const Database &database : databases_)
        if (database.name == name)
            return &database;
    return nullptr;
}

/* A name that comes again has its session: a proxy sends no cookie of ours. "none" is not a role
 * but would be taken for RESET ROLE. */
SessionPtr App::proxy_session(const std::string &user)
{
    if (user.empty() || user.size() > 63 || !is_text(user) || strcasecmp(user.c_str(), "none") == 0)
        return nullptr;
    const std::string key = "proxy:" + user;
    SessionPtr session = sessions_.find(key);
    if (!session) {
        session = std::make_shared<Session>(user, std::string(), &databases_.front());
        session->by_proxy = true;
        if (!sessions_.add_as(key, session))
            return nullptr;
    }
    return session;
}

SessionPtr App::session_of(const Request &request, const Client &client)
{
    if (client.proxy_user)
        return proxy_session(*client.proxy_user);
    const std::string_view key = session_key(header_of(request, "Cookie"), client.secure);
    SessionPtr session = key.empty() ? nullptr : sessions_.find(key);
    if (session && session->secure && !client.secure)
        return nullptr;
    return session;
}

std::variant<App::Call, Reply> App::examine(const Request &head, const Client &client)
{
    if (auto reply = refuse_framing(head))
        return std::move(*reply);
    auto asked = understand(head, guard_);
    if (auto *reply = std::get_if<Reply>(&asked))
        return std::move(*reply);
    Call call{client, std::get<Asked>(std::move(asked)), nullptr, options_.max_body};
    if (call.asked.what == Asked::What::api || call.asked.what == Asked::What::metrics)
        call.session = session_of(head, client);
    const Route *route = call.asked.match.route;
    if (route == nullptr)
        return call;
    if (route->kind == Kind::login) {
        call.most_body = std::min(kMostLoginBytes, options_.max_body);
        if (auto reply = refuse_length(head, call.most_body))
            return std::move(*reply);
        return call;
    }
    if (route->kind != Kind::openapi && !call.session)
        return no_session();
    if (route->changes && options_.read_only)
        return problem(403, "read_only", "this program was started to change nothing");
    return call;
}

Task<Reply> App::answer(Call &call, Request &request)
{
    switch (call.asked.what) {
    case Asked::What::healthz: {
        Reply reply;
        reply.content_type = "text/plain; charset=utf-8";
        reply.body = "ok\n";
        co_return reply;
    }
    case Asked::What::metrics: {
        Reply reply = co_await answer_metrics(call, request);
        co_return reply;
    }
    case Asked::What::api: {
        Reply reply = co_await answer_api(call, request);
        co_return reply;
    }
    default:
        break;
    }
    const auto &segments = call.asked.target.segments;
    if (segments.size() == 2 && call.asked.what == Asked::What::asset)
        co_return named_asset_reply(request, segments[1]);
    if (segments.size() == 1 && find_asset(segments[0]) != nullptr)
        co_return named_asset_reply(request, segments[0]);
    if (call.asked.what == Asked::What::asset)
        co_return problem(404, "not_found", "there is no such file");
    co_return page_reply(request);
}

Task<Reply> App::answer_api(Call &call, Request &request)
{
    const Route &route = *call.asked.match.route;
    if (route.kind == Kind::openapi)
        co_return openapi_reply();
    auto bound =
        bind_values(route, call.asked.match.path_values, call.asked.target, request.body());
    wipe(request.body());
    if (const auto *wrong = std::get_if<Problem>(&bound))
        co_return to_reply(*wrong);
    SqlValues &values = std::get<SqlValues>(bound);
    if (route.kind == Kind::login) {
        Reply reply = co_await log_in(call, values);
        co_return reply;
    }
    const auto name = call.asked.target.find("database");
    const Database *database = name ? find_database(*name) : call.session->database;
    if (database == nullptr)
        co_return problem(404, "no_database", "there is no database of this name");
    if (is_of_user(route, request))
        call.session->used = Clock::now();
    if (route.kind == Kind::logout)
        co_return log_out(call);
    if (route.kind == Kind::session) {
        Reply reply = co_await describe_session(call.session, *database);
        co_return reply;
    }
    if (route.kind == Kind::stream) {
        if (request.method() != http::verb::get)
            co_return json_reply(200, std::string());
        Reply reply = co_await answer_stream(call.session, *database);
        co_return reply;
    }
    Reply reply = co_await run_route(route, values, call.session, *database);
    co_return reply;
}

Task<Reply> App::answer_stream(SessionPtr session, const Database &database)
{
    for (Live &live : live_) {
        if (!live.is_of(database))
            continue;
        auto listening = co_await live.listen(session);
        if (const auto *error = std::get_if<SqlError>(&listening))
            co_return error->is_disconnection() || error->is_refused_login()
                ? unreachable(session, database, *error)
                : to_reply(to_problem(*error));
        Reply reply;
        reply.content_type = "text/event-stream; charset=utf-8";
        /* nginx would collect them otherwise. */
        reply.headers.emplace_back("X-Accel-Buffering", "no");
        reply.events = std::get<EventQueuePtr>(std::move(listening));
        co_return reply;
    }
    co_return problem(404, "no_database", "there is no database of this name");
}

Task<Reply> App::answer_metrics(Call &call, Request &request)
{
    std::optional<Reply> refused;
    SessionPtr session = call.session;
    if (!session)
        session = co_await basic_session(header_of(request, "Authorization"), call.client, refused);
    if (refused)
        co_return std::move(*refused);
    const Database &database = databases_.front();
    auto result = co_await run_statement("SELECT backfill.prometheus_metrics()", SqlValues(),
                                         session, database);
    if (const auto *error = std::get_if<SqlError>(&result))
        co_return error->is_disconnection() || error->is_refused_login()
            ? unreachable(session, database, *error)
            : to_reply(to_problem(*error));
    const SqlRows &rows = std::get<SqlRows>(result);
    Reply reply;
    reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (!rows.empty() && rows.front().front())
        reply.body = *rows.front().front();
    co_return reply;
}

void App::start()
{
    spawn(io_.get_executor(), tidy_up());
}

void App::stop()
{
    stopping_ = true;
    tidy_timer_.cancel();
    for (Live &live : live_)
        live.stop();
    sessions_.end_all();
}

bool App::is_quiet() const
{
    const bool sampling = std::any_of(live_.begin(), live_.end(),
                                      [](const Live &live) { return live.is_sampling(); });
    return pool_.connections() == 0 && !sampling;
}

Task<> App::tidy_up()
{
    while (!stopping_) {
        pool_.sweep();
        tries_.sweep(Clock::now());
        tidy_timer_.expires_after(kTidyInterval);
        ErrorCode ignored;
        co_await tidy_timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

} // namespace backfill::web
