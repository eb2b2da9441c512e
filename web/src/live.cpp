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
/* After this number of samples come the health checks, and whether the listeners still may listen.
 */
constexpr int kSamplesPerHealth = 10;
constexpr std::size_t kMostPoints = 3600;
constexpr std::int64_t kGapMs = 5000;
constexpr std::size_t kMostOfSession = 16;
/* How many sessions are tried for one sample, while those before are busy with requests of their
 * own. */
constexpr std::size_t kMostTries = 8;
/* How many turns must fail until the database is called away, if it has not said so itself. */
constexpr std::size_t kMostFailures = 3;
/* How many sessions log in again between two samples, when it is time that they do. */
constexpr std::size_t kLoginsPerSample = 4;

/* Of the roles in $1: which may call overview(), and read texts of errors; and whether there is the
 * extension. Any role may ask that of any other. A role that is missing has been dropped. */
constexpr std::string_view kListeners =
    "SELECT r.rolname, EXISTS (SELECT FROM pg_proc p JOIN pg_namespace s ON s.oid = p.pronamespace "
    "WHERE s.nspname = 'backfill' AND p.proname = 'overview' "
    "AND has_schema_privilege(r.oid, s.oid, 'USAGE') AND has_function_privilege(r.oid, p.oid, "
    "'EXECUTE')), "
    "coalesce((SELECT has_table_privilege(r.oid, c.oid, 'SELECT') FROM pg_class c "
    "JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'backfill' AND c.relname = "
    "'job'), false), pg_catalog.to_regnamespace('backfill') IS NOT NULL "
    "FROM pg_roles r WHERE r.rolname = ANY ($1::name[])";

SqlError not_allowed()
{
    return {"42501", "the role may not call backfill.overview()", {}, {}};
}

SqlError no_extension()
{
    return {"3F000", "schema \"backfill\" does not exist", {}, {}};
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

Live::Live(asio::io_context &io, const Database &database, Run run, Explain explain,
           IsCheckDue is_check_due)
    : io_(io), database_(database), run_(std::move(run)), explain_(std::move(explain)),
      is_check_due_(std::move(is_check_due)), timer_(io)
{
}

void Live::stop()
{
    stopping_ = true;
    for (const Listener &listener : listeners_)
        listener.queue->close();
    timer_.cancel();
}

/* One text for all that come between two samples. */
EventQueue::Text Live::backlog()
{
    if (backlog_)
        return backlog_;
    std::string data = "{\"points\": [";
    for (const std::string &point : points_) {
        if (data.back() != '[')
            data += ',';
        data += point;
    }
    backlog_ = event("backlog", data + "]}");
    return backlog_;
}

Task<std::variant<EventQueuePtr, SqlError>> Live::listen(SessionPtr session)
{
    drop_ended();
    const auto own =
        std::count_if(listeners_.begin(), listeners_.end(),
                      [&](const Listener &listener) { return listener.session == session; });
    if (static_cast<std::size_t>(own) >= kMostOfSession)
        co_return SqlError{"53300", "the session has too many streams", {}, {}};
    const SqlValues roles{quoted_array({session->user})};
    auto result = co_await run_(kListeners, roles, session, database_, Pool::Patience::waits);
    if (const auto *error = std::get_if<SqlError>(&result))
        co_return *error;
    const SqlRows &rows = std::get<SqlRows>(result);
    if (!rows.empty() && rows.front()[3] != "t")
        co_return no_extension();
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
        spawn(io_.get_executor(), sample_loop());
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

/* However sampling ends, listeners must not wait for what does not come. */
class Live::Sampling
{
  public:
    explicit Sampling(Live &live) : live_(live) {}
    ~Sampling()
    {
        for (const Listener &listener : live_.listeners_)
            listener.queue->close();
        live_.last_health_[0] = live_.last_health_[1] = nullptr;
        live_.sampling_ = false;
    }
    Sampling(const Sampling &) = delete;
    Sampling &operator=(const Sampling &) = delete;

  private:
    Live &live_;
};

Task<> Live::sample_loop()
{
    const Sampling sampling(*this);
    TimePoint next = Clock::now();
    int until_health = 0;
    for (drop_ended(); !listeners_.empty() && !stopping_; drop_ended()) {
        const SessionPtr session = co_await sample();
        if (session && until_health-- <= 0 && !listeners_.empty()) {
            until_health = kSamplesPerHealth - 1;
            co_await check_rights(session);
            co_await send_health();
        }
        if (session)
            co_await check_logins();
        next = std::max(next + kInterval, Clock::now());
        timer_.expires_at(next);
        ErrorCode ignored;
        if (!stopping_)
            co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

/* A session that is busy with requests of its own must not stop the figures of all. */
Task<SqlResult> Live::ask(std::string_view sql, const SqlValues &values, SessionPtr session)
{
    return run_(sql, values, std::move(session), database_, Pool::Patience::goes);
}

/* The session that the sample was taken with; nothing if there was none. A session whose
 * connections are all in use makes the next one's turn, at once; one that fails in another way when
 * it is time for the next sample. */
Task<SessionPtr> Live::sample()
{
    const std::size_t tries = std::min(listeners_.size(), kMostTries);
    for (std::size_t i = 0; i < tries && !listeners_.empty(); i++) {
        const SessionPtr session = listeners_[turn_ % listeners_.size()].session;
        const SqlValues none;
        auto result = co_await ask(route_of("overview").sql, none, session);
        const auto *rows = std::get_if<SqlRows>(&result);
        if (rows != nullptr && !rows->empty() && rows->front().front()) {
            note_sample(*rows->front().front());
            co_return session;
        }
        turn_++;
        if (rows != nullptr)
            break;
        const auto &error = std::get<SqlError>(result);
        if (!error.is_busy) {
            note_error(session, error);
            break;
        }
    }
    co_return nullptr;
}

/* That a role was dropped, its password changed, or its login forbidden, is seen when a connection
 * is opened. A session that only listens opens none, so it is made to. */
Task<> Live::check_logins()
{
    std::vector<SessionPtr> due;
    for (const Listener &listener : listeners_)
        if (due.size() < kLoginsPerSample && is_check_due_(*listener.session, database_) &&
            std::find(due.begin(), due.end(), listener.session) == due.end())
            due.push_back(listener.session);
    for (const SessionPtr &session : due) {
        const SqlValues none;
        auto result = co_await ask("SELECT 1", none, session);
        const auto *error = std::get_if<SqlError>(&result);
        if (error != nullptr && error->is_refused_login())
            note_error(session, *error);
    }
}

void Live::note_sample(const std::string &overview)
{
    const std::int64_t now = now_ms();
    gone_ = false;
    failures_ = 0;
    backlog_ = nullptr;
    if (last_ms_ != 0 && now - last_ms_ > kGapMs)
        points_.push_back(gap_point(now - 1));
    last_ms_ = now;
    const Figures figures = rates_.add(overview, now);
    points_.push_back(figures.to_json());
    while (points_.size() > kMostPoints)
        points_.pop_front();
    send_all(event("sample", with_figures(overview, figures)));
}

/* Each outage is told once. What a role may not do concerns its own sessions only, and so may other
 * errors, until it is seen that other sessions have them, too. */
void Live::note_error(const SessionPtr &session, const SqlError &error)
{
    const std::string data = explain_(session, database_, error);
    if (error.is_refused_login() || error.sqlstate == "42501") {
        drop_listeners_of(*session, data);
        return;
    }
    failures_++;
    if (gone_ ||
        (!error.is_disconnection() && failures_ < std::min(listeners_.size(), kMostFailures)))
        return;
    send_all(event("gone", data));
    gone_ = true;
}

Task<> Live::check_rights(SessionPtr session)
{
    std::set<std::string> names;
    for (const Listener &listener : listeners_)
        names.insert(listener.session->user);
    const SqlValues roles{quoted_array(names)};
    auto result = co_await ask(kListeners, roles, session);
    const auto *rows = std::get_if<SqlRows>(&result);
    if (rows == nullptr)
        co_return;
    std::set<std::string> may_listen;
    std::set<std::string> may_read;
    const bool is_there = rows->empty() || rows->front()[3] == "t";
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
        const SqlError reason = is_there ? not_allowed() : no_extension();
        listener.queue->push(event("gone", explain_(listener.session, database_, reason)));
        listener.queue->close();
    }
    drop_ended();
}

std::vector<SessionPtr> Live::sessions_that(bool read_errors) const
{
    std::vector<SessionPtr> sessions;
    for (const Listener &listener : listeners_)
        if (listener.reads_errors == read_errors && sessions.size() < kMostTries)
            sessions.push_back(listener.session);
    return sessions;
}

Task<> Live::send_health()
{
    for (const bool reads_errors : {false, true}) {
        const std::vector<SessionPtr> askers = sessions_that(reads_errors);
        for (const SessionPtr &session : askers) {
            const SqlValues none;
            auto result = co_await ask(route_of("health").sql, none, session);
            const auto *error = std::get_if<SqlError>(&result);
            if (error != nullptr && error->is_busy)
                continue;
            if (error == nullptr)
                note_health(std::get<SqlRows>(result), reads_errors);
            break;
        }
    }
}

void Live::note_health(const SqlRows &rows, bool reads_errors)
{
    if (rows.empty() || !rows.front().front())
        return;
    last_health_[reads_errors] = event("health", *rows.front().front());
    for (const Listener &listener : listeners_)
        if (listener.reads_errors == reads_errors)
            listener.queue->push(last_health_[reads_errors]);
}

} // namespace backfill::web
