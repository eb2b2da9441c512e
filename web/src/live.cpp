/* live.cpp - see live.hpp. */
#include "live.hpp"

#include "reply.hpp"
#include "routes.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <set>

namespace backfill::web
{

namespace
{

using Json = nlohmann::json;

constexpr Seconds kInterval{1};
/* After this number of samples come the health checks, and whether the listeners still may listen. */
constexpr int kSamplesPerHealth = 10;
constexpr std::size_t kMostPoints = 3600;
constexpr std::int64_t kGapMs = 5000;

/* Of the roles in $1: which may call overview(), and read texts of errors. Any role may ask that of
 * any other. A role that is missing has been dropped. */
constexpr std::string_view kListeners =
    "SELECT r.rolname, EXISTS (SELECT FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace "
    "WHERE s.nspname = 'backfill' AND p.proname = 'overview' "
    "AND has_schema_privilege(r.oid, s.oid, 'USAGE') AND has_function_privilege(r.oid, p.oid, "
    "'EXECUTE')), "
    "coalesce((SELECT has_table_privilege(r.oid, c.oid, 'SELECT') FROM pg_class c "
    "JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'backfill' AND c.relname = "
    "'job'), false) "
    "FROM pg_roles r WHERE r.rolname = ANY ($1::name[])";

SqlError not_allowed()
{
    return {"42501", "the role may not call backfill.overview()", {}, {}};
}

std::int64_t now_ms()
{
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

std::string session_has_ended()
{
    return to_reply(Problem{401, "no_session", "the session has ended", {}, {}}).body;
}

EventQueue::Text event(std::string_view name, std::string_view data)
{
    std::string text = "event: ";
    text.append(name).append("\ndata: ").append(data).append("\n\n");
    return std::make_shared<const std::string>(std::move(text));
}

std::string quoted_array(const std::set<std::string> &names)
{
    std::string list = "{";
    for (const std::string &name : names) {
        list += list.size() == 1 ? "\"" : ",\"";
        for (const char c : name) {
            if (c == '"' || c == '\\')
                list += '\\';
            list += c;
        }
        list += '"';
    }
    return list + "}";
}

std::string gap_point(std::int64_t at_ms)
{
    Figures nothing;
    nothing.at_ms = at_ms;
    return nothing.to_json();
}

Json or_null(const std::optional<double> &value)
{
    return value ? Json(*value) : Json(nullptr);
}

/* The overview as the database wrote it, with what follows from those before it. */
std::string with_figures(const std::string &overview, const Figures &figures)
{
    const Json more = {{"rates",
                        {{"enqueued", or_null(figures.enqueued)},
                         {"completed", or_null(figures.completed)},
                         {"failed", or_null(figures.failed)}}},
                       {"wait_p95", or_null(figures.wait_p95)},
                       {"run_p95", or_null(figures.run_p95)}};
    const std::size_t end = overview.rfind('}');
    if (end == std::string::npos)
        return overview;
    return overview.substr(0, end) + ", " + more.dump().substr(1);
}

} // namespace

Live::Live(asio::io_context &io, const Database &database, Run run, Explain explain)
    : io_(io), database_(database), run_(std::move(run)), explain_(std::move(explain)), timer_(io)
{
}

void Live::stop()
{
    stopping_ = true;
    for (const Listener &listener : listeners_)
        listener.queue->close();
    timer_.cancel();
}

EventQueue::Text Live::backlog() const
{
    std::string data = "{\"points\": [";
    for (const std::string &point : points_) {
        if (data.back() != '[')
            data += ',';
        data += point;
    }
    return event("backlog", data + "]}");
}

Task<std::variant<EventQueuePtr, SqlError>> Live::listen(SessionPtr session)
{
    const SqlValues roles{quoted_array({session->user})};
    auto result = co_await run_(kListeners, roles, session, database_);
    if (const auto *error = std::get_if<SqlError>(&result))
        co_return *error;
    const SqlRows &rows = std::get<SqlRows>(result);
    if (rows.empty() || rows.front()[1] != "t")
        co_return not_allowed();
    const bool reads_errors = rows.front()[2] == "t";
    auto queue = std::make_shared<EventQueue>(io_.get_executor());
    queue->push(backlog());
    if (sampling_ && last_health_[reads_errors])
        queue->push(last_health_[reads_errors]);
    listeners_.push_back({session, queue, reads_errors});
    if (!sampling_ && !stopping_) {
        sampling_ = true;
        asio::co_spawn(io_, sample_loop(), asio::detached);
    }
    co_return queue;
}

void Live::drop_ended()
{
    std::erase_if(listeners_, [](const Listener &listener) {
        if (listener.session->ended) {
            listener.queue->push(event("gone", session_has_ended()));
            listener.queue->close();
        }
        return listener.queue->is_closed();
    });
}

void Live::drop_listeners_of(const Session &session, std::string_view data)
{
    for (const Listener &listener : listeners_)
        if (listener.session.get() == &session) {
            listener.queue->push(event("gone", data));
            listener.queue->close();
        }
    drop_ended();
}

void Live::send_all(const EventQueue::Text &text)
{
    for (const Listener &listener : listeners_)
        listener.queue->push(text);
}

/* A session whose connections are all in use makes the others' turn. */
SessionPtr Live::choose(std::size_t turn) const
{
    return listeners_[turn % listeners_.size()].session;
}

Task<> Live::sample_loop()
{
    TimePoint next = Clock::now();
    std::size_t turn = 0;
    int until_health = 0;
    for (drop_ended(); !listeners_.empty() && !stopping_; drop_ended()) {
        const SessionPtr session = choose(turn);
        const bool done = co_await sample(session);
        drop_ended();
        if (!done)
            turn++;
        else if (until_health-- <= 0 && !listeners_.empty()) {
            until_health = kSamplesPerHealth - 1;
            co_await check_rights(session);
            co_await send_health();
        }
        next = std::max(next + kInterval, Clock::now());
        timer_.expires_at(next);
        ErrorCode ignored;
        if (!stopping_)
            co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    last_health_[0] = last_health_[1] = nullptr;
    sampling_ = false;
}

Task<bool> Live::sample(SessionPtr session)
{
    const SqlValues none;
    auto result = co_await run_(route_of("overview").sql, none, session, database_);
    if (const auto *error = std::get_if<SqlError>(&result)) {
        note_error(session, *error);
        co_return false;
    }
    const SqlRows &rows = std::get<SqlRows>(result);
    if (rows.empty() || rows.front().empty() || !rows.front().front())
        co_return false;
    note_sample(*rows.front().front());
    co_return true;
}

void Live::note_sample(const std::string &overview)
{
    const std::int64_t now = now_ms();
    gone_ = false;
    if (last_ms_ != 0 && now - last_ms_ > kGapMs)
        points_.push_back(gap_point(now - 1));
    last_ms_ = now;
    const Figures figures = rates_.add(overview, now);
    points_.push_back(figures.to_json());
    while (points_.size() > kMostPoints)
        points_.pop_front();
    send_all(event("sample", with_figures(overview, figures)));
}

/* Each outage is told once. What a role may not do concerns its own sessions only. */
void Live::note_error(const SessionPtr &session, const SqlError &error)
{
    const std::string data = explain_(session, database_, error);
    if (error.is_refused_login() || error.sqlstate == "42501") {
        drop_listeners_of(*session, data);
        return;
    }
    if (!gone_)
        send_all(event("gone", data));
    gone_ = true;
}

Task<> Live::check_rights(SessionPtr session)
{
    std::set<std::string> names;
    for (const Listener &listener : listeners_)
        names.insert(listener.session->user);
    const SqlValues roles{quoted_array(names)};
    auto result = co_await run_(kListeners, roles, session, database_);
    const auto *rows = std::get_if<SqlRows>(&result);
    if (rows == nullptr)
        co_return;
    std::set<std::string> may_listen;
    std::set<std::string> may_read;
    for (const SqlValues &row : *rows) {
        if (row[1] == "t")
            may_listen.insert(row[0].value());
        if (row[2] == "t")
            may_read.insert(row[0].value());
    }
    for (Listener &listener : listeners_) {
        listener.reads_errors = may_read.contains(listener.session->user);
        /* A role that has come since the question is not in the answer. */
        if (may_listen.contains(listener.session->user) || !names.contains(listener.session->user))
            continue;
        listener.queue->push(event("gone", explain_(listener.session, database_, not_allowed())));
        listener.queue->close();
    }
    drop_ended();
}

Task<> Live::send_health()
{
    for (const bool reads_errors : {false, true}) {
        const auto asker =
            std::find_if(listeners_.begin(), listeners_.end(), [&](const Listener &listener) {
                return listener.reads_errors == reads_errors;
            });
        if (asker == listeners_.end())
            continue;
        const SessionPtr session = asker->session;
        const SqlValues none;
        auto result = co_await run_(route_of("health").sql, none, session, database_);
        const auto *rows = std::get_if<SqlRows>(&result);
        if (rows == nullptr || rows->empty() || !rows->front().front())
            continue;
        last_health_[reads_errors] = event("health", *rows->front().front());
        for (const Listener &listener : listeners_)
            if (listener.reads_errors == reads_errors)
                listener.queue->push(last_health_[reads_errors]);
    }
}

} // namespace backfill::web
