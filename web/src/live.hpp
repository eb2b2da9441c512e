/* live.hpp - what happens in a database, sent to all that listen. One sampler asks the database
 * once a second while there are listeners, by the connection of one of their sessions. */
#pragma once

#include "asio.hpp"
#include "database.hpp"
#include "events.hpp"
#include "pool.hpp"
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
                                              const Database &, Pool::Patience)>;
    /* What clients are told of an error; ends the session if its role cannot log in any more. */
    using Explain =
        std::function<std::string(const SessionPtr &, const Database &, const SqlError &)>;

    /* Whether it is time that the server checks the session's login again. */
    using IsCheckDue = std::function<bool(const Session &, const Database &)>;

    Live(asio::io_context &io, const Database &database, Run run, Explain explain,
         IsCheckDue is_check_due);

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
    IsCheckDue is_check_due_;
    asio::steady_timer timer_;
    std::vector<Listener> listeners_;
    Rates rates_;
    std::deque<std::string> points_; /* Figures as JSON */
    EventQueue::Text backlog_;       /* the same as an event, until the next one */
    std::int64_t last_ms_ = 0;
    EventQueue::Text last_health_[2]; /* by reads_errors */
    bool sampling_ = false;
    bool stopping_ = false;
    bool gone_ = false;
    std::size_t turn_ = 0;     /* of the listener whose session asks */
    std::size_t failures_ = 0; /* turns without a sample, since the last one */

    class Sampling;
    EventQueue::Text backlog();
    void drop_ended();
    void drop_listeners_of(const Session &session, std::string_view event);
    void send_all(const EventQueue::Text &text);
    Task<> sample_loop();
    Task<SessionPtr> sample();
    Task<> check_logins();
    void note_sample(const std::string &overview);
    void note_error(const SessionPtr &session, const SqlError &error);
    Task<> check_rights(SessionPtr session);
    std::vector<SessionPtr> sessions_that(bool read_errors) const;
    Task<SqlResult> ask(std::string_view sql, const SqlValues &values, SessionPtr session);
    Task<> send_health();
    void note_health(const SqlRows &rows, bool reads_errors);
};

} // namespace backfill::web
