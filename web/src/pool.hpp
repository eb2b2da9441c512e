/* pool.hpp - the connections of all sessions, and how many there may be. A connection is opened for
 * a request and stays for a while for the next one of the same session; no other session ever gets
 * it. */
#pragma once

#include "asio.hpp"
#include "session.hpp"

#include <cstddef>
#include <memory>
#include <utility>
#include <variant>

namespace backfill::web
{

struct PoolLimits {
    std::size_t of_session = 2;
    std::size_t in_all = 100;
    Seconds unused{30};
    /* The server checks a login only when a connection is opened. So that it is checked now and
     * then, a connection that is in use all the time is replaced. */
    Seconds longest_use{300};
    Seconds statement{5};
    bool read_only = false;
};

class Pool;

/* A connection in use; it goes back when this is destroyed. */
class Lease
{
  public:
    Lease(Pool &pool, SessionPtr session, IdleConnection connection)
        : pool_(&pool), session_(std::move(session)), held_(std::move(connection))
    {
    }
    Lease(Lease &&other) noexcept = default;
    Lease &operator=(Lease &&) = delete;
    ~Lease();

    PgConnection &operator*() const { return *held_.connection; }
    PgConnection *operator->() const { return held_.connection.get(); }
    /* It was not opened for this use, so it may be from before a restart of the server. */
    bool is_used() const { return held_.since != held_.opened; }

  private:
    Pool *pool_;
    SessionPtr session_;
    IdleConnection held_;
};

class Pool
{
  public:
    Pool(asio::any_io_executor executor, PoolLimits limits, Sessions &sessions);

    /* A connection of the session to a database, as soon as there may be one, or only if there may
     * be one now. */
    enum class Patience { waits, goes };
    Task<std::variant<Lease, SqlError>> borrow(SessionPtr session, const Database &database,
                                               Patience patience = Patience::waits);

    /* Closes what has not been used for a while, and what belonged to sessions that have ended. */
    void sweep();

    const PoolLimits &limits() const { return limits_; }
    std::size_t connections() const { return connections_; }
    /* When a statement must have ended that may take that many times as long as others. */
    TimePoint statement_deadline(int times = 1) const;
    /* Whether the database has not been asked for long whether the session may log in. */
    bool is_check_due(const Session &session, const Database &database) const;

  private:
    friend class Lease;
    asio::any_io_executor executor_;
    PoolLimits limits_;
    Sessions &sessions_;
    std::size_t connections_ = 0;
    Bell returned_;

    bool make_room(Session &session);
    std::unique_ptr<PgConnection> take_idle(Session &session, const Database &database,
                                            IdleConnection &found);
    void forget(Session &session, IdleConnection connection);
    void give_back(const SessionPtr &session, IdleConnection connection);
    Task<std::optional<SqlError>> open(PgConnection &connection, Session &session,
                                       const Database &database);
    Task<std::optional<SqlError>> prepare(PgConnection &connection, const Session &session,
                                          TimePoint deadline);
};

} // namespace backfill::web
