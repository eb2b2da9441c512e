/* app.hpp - answers requests. server.hpp brings them from the sockets. */
#pragma once

#include "guard.hpp"
#include "live.hpp"
#include "options.hpp"
#include "pool.hpp"
#include "request_path.hpp"
#include "session.hpp"
#include "throttle.hpp"

#include <boost/asio/io_context.hpp>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace backfill::web
{

class App
{
  public:
    using Address = asio::ip::address;

    App(asio::io_context &io, const Options &options, std::vector<Database> databases);

    Client client_of(const Request &head, const Address &peer, bool by_tls) const
    {
        return guard_.client_of(head, peer, by_tls);
    }
    bool is_proxy(const Address &peer) const { return guard_.is_proxy(peer); }

    /* What a request has been found to be by its head, which alone decides that. */
    struct Call {
        Client client;
        Asked asked;
        SessionPtr session;
        std::size_t most_body;
    };

    /* Looks at a request whose body has not been read. What is refused now does not cost the memory
     * of a body. */
    std::variant<Call, Reply> examine(const Request &head, const Client &client);

    /* The request of a call, with its body. */
    Task<Reply> answer(Call &call, Request &request);

    void start();
    /* Ends all sessions. */
    void stop();
    /* Whether no connection to a database is left. */
    bool is_quiet() const;

  private:
    asio::io_context &io_;
    const Options &options_;
    std::vector<Database> databases_;
    Guard guard_;
    Sessions sessions_;
    Pool pool_;
    LoginThrottle tries_;
    int logins_in_progress_ = 0;
    TimePoint last_complaint_{};
    asio::steady_timer tidy_timer_;
    bool stopping_ = false;
    std::list<Live> live_; /* of each database, in the same order */

    /* Ends what has not been used for a while, again and again. */
    Task<> tidy_up();

    SessionPtr session_of(const Request &request, const Client &client);
    SessionPtr proxy_session(const std::string &user);
    const Database *find_database(std::string_view name) const;
    Task<Reply> answer_api(Call &call, Request &request);
    Task<Reply> answer_metrics(Call &call, Request &request);
    Task<Reply> answer_stream(SessionPtr session, const Database &database);

    /* app_route.cpp */
    Task<Reply> run_route(const Route &route, const SqlValues &values, SessionPtr session,
                          const Database &database);
    Task<SqlResult> run_once(const Route &route, const SqlValues &values, Lease &lease);
    Task<SqlResult> run_statement(std::string_view sql, const SqlValues &values, SessionPtr session,
                                  const Database &database,
                                  Pool::Patience patience = Pool::Patience::waits);
    Reply unreachable(const SessionPtr &session, const Database &database, const SqlError &error);

    /* app_login.cpp */
    Task<Reply> log_in(Call &call, SqlValues &values);
    Task<std::optional<Reply>> check_login(SessionPtr session, const Client &client);
    Reply log_out(Call &call);
    Task<Reply> describe_session(SessionPtr session, const Database &database);
    std::string session_json(const Session &session, const Database &database,
                             std::string_view facts) const;
    Task<SessionPtr> basic_session(std::string_view authorization, const Client &client,
                                   std::optional<Reply> &refused);
};

} // namespace backfill::web
