/* session.hpp - sessions: a role that has logged in, and its connections while it uses them. */
#pragma once

#include "asio.hpp"
#include "database.hpp"
#include "secret.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::web
{

/* A connection that waits for its next use. */
struct IdleConnection {
    std::unique_ptr<PgConnection> connection;
    const Database *database;
    TimePoint opened;
    TimePoint since;
};

struct Session {
    Session(std::string name, const std::string &secret, const Database *home)
        : user(std::move(name)), password(secret), database(home)
    {
    }

    /* The role that logged in; of a session of a trusted proxy the one that its header names. */
    std::string user;
    Secret password;
    /* Where it has logged in; other databases are asked for by name. */
    const Database *database;
    bool by_proxy = false;
    /* It logged in by TLS, so its cookie counts there only. */
    bool secure = false;
    TimePoint created = Clock::now();
    TimePoint used = created;
    /* When a database has let it in for the last time. */
    std::map<const Database *, TimePoint> checked = {};
    bool ended = false;

    /* Those below belong to the pool. */
    std::vector<IdleConnection> idle;
    std::size_t connections = 0; /* idle ones and those in use */
    std::size_t waiting = 0;
};
using SessionPtr = std::shared_ptr<Session>;

struct SessionLimits {
    Seconds idle{1800};
    Seconds lifetime{12 * 3600};
    std::size_t most = 1000;
    std::size_t most_of_role = 100;
};

/* Sessions by a key that only their clients know. The table is ordered by a hash of it, so that the
 * time of a search tells nothing of the keys that are there. */
class Sessions
{
  public:
    explicit Sessions(SessionLimits limits) : limits_(limits) {}

    /* What is called when one ends. */
    std::function<void(Session &)> on_end;

    /* A new key of 256 random bits; empty if there are too many sessions already. If its role has
     * too many, the one goes that was not used for longest. */
    std::string add(const SessionPtr &session);
    /* Under a key of the caller's, such as the credentials that came with a request. */
    bool add_as(std::string_view key, const SessionPtr &session);
    /* Nothing if there is none, or its time is over. */
    SessionPtr find(std::string_view key);
    /* From now on it is not found; what it has begun may finish. */
    void end(const SessionPtr &session);
    /* Ends those whose time is over. */
    void sweep();
    void end_all();

    std::size_t count() const { return sessions_.size(); }
    bool is_over(const Session &session) const;
    template <class F> void each(F f)
    {
        for (const auto &[key, session] : sessions_)
            f(session);
    }

  private:
    SessionLimits limits_;
    std::map<std::string, SessionPtr, std::less<>> sessions_;

    void finish(Session &session);
    void make_room_for(const std::string &user);
};

} // namespace backfill::web
