/* pool.cpp - see pool.hpp. */
#include "pool.hpp"

#include <algorithm>

namespace backfill::web
{

namespace
{

constexpr Seconds kConnectTime{10};
constexpr Seconds kWaitTime{10};
/* More requests of one session than that do not wait, but fail. */
constexpr std::size_t kMostWaiting = 64;
/* What the server's cancelling of a statement may take besides its time. */
constexpr Seconds kGrace{5};

constexpr std::string_view kSettings =
    "SELECT pg_catalog.set_config('search_path', 'pg_catalog', false), "
    "pg_catalog.set_config('statement_timeout', $1, false), "
    "pg_catalog.set_config('lock_timeout', $2, false), "
    "pg_catalog.set_config('idle_in_transaction_session_timeout', '10s', false), "
    "pg_catalog.set_config('default_transaction_isolation', 'read committed', false), "
    "pg_catalog.set_config('default_transaction_read_only', $3, false), "
    "pg_catalog.set_config('TimeZone', 'UTC', false), "
    "pg_catalog.set_config('DateStyle', 'ISO', false), "
    "pg_catalog.set_config('IntervalStyle', 'iso_8601', false), "
    "pg_catalog.set_config('extra_float_digits', '1', false)";

} // namespace

Lease::~Lease()
{
    if (held_.connection)
        pool_->give_back(session_, std::move(held_));
}

Pool::Pool(asio::any_io_executor executor, PoolLimits limits, Sessions &sessions)
    : executor_(std::move(executor)), limits_(limits), sessions_(sessions), returned_(executor_)
{
    sessions_.on_end = [this](Session &session) {
        while (!session.idle.empty()) {
            IdleConnection idle = std::move(session.idle.back());
            session.idle.pop_back();
            forget(session, std::move(idle));
        }
        returned_.ring();
    };
}

TimePoint Pool::statement_deadline(int times) const
{
    return Clock::now() + limits_.statement * times + kGrace;
}

bool Pool::is_check_due(const Session &session, const Database &database) const
{
    const auto checked = session.checked.find(&database);
    return checked == session.checked.end() || Clock::now() - checked->second > limits_.longest_use;
}

void Pool::forget(Session &session, IdleConnection connection)
{
    connection.connection.reset();
    session.connections--;
    connections_--;
}

void Pool::give_back(const SessionPtr &session, IdleConnection connection)
{
    connection.since = Clock::now();
    if (session->ended || !connection.connection->is_usable())
        forget(*session, std::move(connection));
    else
        session->idle.push_back(std::move(connection));
    returned_.ring();
}

/* Of the session's own connections to other databases, or else of any session's, the one that has
 * been idle for longest makes room. */
bool Pool::make_room(Session &session)
{
    if (session.connections >= limits_.of_session) {
        if (session.idle.empty())
            return false;
        IdleConnection oldest = std::move(session.idle.front());
        session.idle.erase(session.idle.begin());
        forget(session, std::move(oldest));
    }
    if (connections_ < limits_.in_all)
        return true;
    SessionPtr longest;
    sessions_.each([&](const SessionPtr &other) {
        if (!other->idle.empty() &&
            (!longest || other->idle.front().since < longest->idle.front().since))
            longest = other;
    });
    if (!longest)
        return false;
    IdleConnection oldest = std::move(longest->idle.front());
    longest->idle.erase(longest->idle.begin());
    forget(*longest, std::move(oldest));
    return true;
}

std::unique_ptr<PgConnection> Pool::take_idle(Session &session, const Database &database,
                                              IdleConnection &found)
{
    for (auto i = session.idle.size(); i-- > 0;) {
        if (session.idle[i].database != &database)
            continue;
        found = std::move(session.idle[i]);
        session.idle.erase(session.idle.begin() + static_cast<std::ptrdiff_t>(i));
        if (Clock::now() - found.opened < limits_.longest_use && found.connection->is_usable())
            return std::move(found.connection);
        forget(session, std::move(found));
    }
    return nullptr;
}

/* All that wait are woken when a connection comes back, in the order of their coming. */
Task<std::variant<Lease, SqlError>> Pool::borrow(SessionPtr session, const Database &database,
                                                 Patience patience)
{
    const TimePoint deadline = Clock::now() + kWaitTime;
    for (;;) {
        if (session->ended)
            co_return SqlError{"28000", "the session has ended", {}, {}};
        IdleConnection held{nullptr, &database, {}, {}};
        if (auto idle = take_idle(*session, database, held)) {
            held.connection = std::move(idle);
            co_return Lease(*this, session, std::move(held));
        }
        if (make_room(*session))
            break;
        if (patience == Patience::goes || session->waiting >= kMostWaiting ||
            Clock::now() >= deadline)
            co_return SqlError{"53300", "too many requests at once", {}, {}, true};
        const Counted counted(session->waiting);
        co_await returned_.wait(deadline);
    }
    const TimePoint now = Clock::now();
    IdleConnection held{std::make_unique<PgConnection>(executor_), &database, now, now};
    session->connections++;
    connections_++;
    Lease lease(*this, session, std::move(held));
    auto failure = co_await open(*lease, *session, database);
    if (failure)
        co_return *failure;
    co_return std::move(lease);
}

Task<std::optional<SqlError>> Pool::open(PgConnection &connection, Session &session,
                                         const Database &database)
{
    const TimePoint deadline = Clock::now() + kConnectTime;
    const std::string_view user = session.by_proxy ? std::string_view() : session.user;
    std::vector<ConnectionOptions> options;
    options.push_back(login_options(database, user, session.password.text()));
    auto attempts = co_await attempts_of(options.front(), deadline);
    wipe_passwords(options);
    if (const auto *error = std::get_if<SqlError>(&attempts))
        co_return *error;
    auto &known = std::get<std::vector<ConnectionOptions>>(attempts);
    auto failure = co_await connection.open(known, deadline);
    wipe_passwords(known);
    if (failure)
        co_return failure;
    if (!session.by_proxy && !connection.has_used_password())
        co_return SqlError{
            "28000",
            "the server did not ask for the password",
            {},
            "pg_hba.conf lets this role in without one (trust, peer, cert), so any password would "
            "do: use scram-sha-256 for the connections of this program."};
    failure = co_await prepare(connection, session, deadline);
    if (!failure)
        session.checked[&database] = Clock::now();
    co_return failure;
}

Task<std::optional<SqlError>> Pool::prepare(PgConnection &connection, const Session &session,
                                            TimePoint deadline)
{
    const long milliseconds = static_cast<long>(limits_.statement.count()) * 1000;
    const SqlValues settings{std::to_string(milliseconds), std::to_string(milliseconds * 3 / 5),
                             limits_.read_only ? "on" : "off"};
    auto set = co_await connection.query(kSettings, settings, deadline);
    if (const auto *error = std::get_if<SqlError>(&set))
        co_return *error;
    if (!session.by_proxy)
        co_return std::nullopt;
    const SqlValues role{session.user};
    auto acting = co_await connection.query("SELECT pg_catalog.set_config('role', $1, false)", role,
                                            deadline);
    if (const auto *error = std::get_if<SqlError>(&acting))
        co_return refused_role(session.user, *error);
    auto current = co_await connection.query("SELECT current_user::text", SqlValues(), deadline);
    if (const auto *error = std::get_if<SqlError>(&current))
        co_return *error;
    const SqlRows &rows = std::get<SqlRows>(current);
    if (rows.size() != 1 || rows.front().front() != session.user)
        co_return SqlError{"28000", "cannot act as role \"" + session.user + "\"", {}, {}};
    co_return std::nullopt;
}

void Pool::sweep()
{
    sessions_.sweep();
    const TimePoint now = Clock::now();
    sessions_.each([&](const SessionPtr &session) {
        for (auto i = session->idle.size(); i-- > 0;) {
            if (now - session->idle[i].since < limits_.unused &&
                session->idle[i].connection->is_usable())
                continue;
            IdleConnection unused = std::move(session->idle[i]);
            session->idle.erase(session->idle.begin() + static_cast<std::ptrdiff_t>(i));
            forget(*session, std::move(unused));
        }
    });
}

} // namespace backfill::web
