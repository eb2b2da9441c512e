/* live.hpp - what happens in a database, sent to all that listen. One sampler asks the database
 * once a second while there are listeners, by the connection of one of their sessions. */
#pragma once

#include "asio.hpp"
#include "database.hpp"
#include "events.hpp"
#include "rates.hpp"
#include "session.hpp"

#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace backfill::web
{

class Live
{
  public:
    /* Runs a statement that reads, as a session's role. */
    using Run = std::function<Task<SqlResult>(std::string_view, const SqlValues &, SessionPtr,
                                              const Database &)>;
    /* What clients are told of an error; ends the session if its role cannot log in any more. */
    using Explain =
        std::function<std::string(const SessionPtr &, const Database &, const SqlError &)>;

    Live(asio::io_context &io, const Database &database, Run run, Explain explain);

    /* The events for a session from now on, the last hour first; an error if its role may not see
     * them. */
    Task<std::variant<EventQueuePtr, SqlError>> listen(SessionPtr session);

    void stop();
    bool is_of(const Database &database) const { return &database == &database_; }
    bool is_sampling() const { return sampling_; }

  private:
    struct Listener {
        SessionPtr session;
        EventQueuePtr queue;
        bool reads_errors; /* health() shows texts of errors to roles that may read payloads */
    };

    asio::io_context &io_;
    const Database &database_;
    Run run_;
    Explain explain_;
    asio::steady_timer timer_;
    std::vector<Listener> listeners_;
    Rates rates_;
    std::deque<std::string> points_; /* Figures as JSON */
    std::int64_t last_ms_ = 0;
    EventQueue::Text last_health_[2]; /* by reads_errors */
    bool sampling_ = false;
    bool stopping_ = false;
    bool gone_ = false;

    EventQueue::Text backlog() const;
    SessionPtr choose(std::size_t turn) const;
    void drop_ended();
    void drop_listeners_of(const Session &session, std::string_view event);
    void send_all(const EventQueue::Text &text);
    Task<> sample_loop();
    Task<bool> sample(SessionPtr session);
    void note_sample(const std::string &overview);
    void note_error(const SessionPtr &session, const SqlError &error);
    Task<> check_rights(SessionPtr session);
    Task<> send_health();
};

} // namespace backfill::web
