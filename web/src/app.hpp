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
#include <vector>

namespace backfill::web
{

class App
{
  public:
    using Address = asio::ip::address;

    App(asio::io_context &io, const Options &options, std::vector<Database> databases);

    /* Looks at a request whose body has not been read. What is refused now does not cost the memory
     * of a body. */
    std::optional<Reply> refuse_unread(const Request &request, const Address &peer, bool by_tls);

    Task<Reply> answer(const Request &request, const Address &peer, bool by_tls);

    void start();
    /* Ends all sessions. */
    void stop();
    /* Whether no connection to a database is left. */
    bool is_quiet() const;

    static bool is_login(const Request &request);

    /* Whether the client came by TLS, here or at a proxy. */
    bool is_secure(const Request &request, const Address &peer, bool by_tls) const;

  private:
    asio::io_context &io_;
    const Options &options_;
    std::vector<Database> databases_;
    Guard guard_;
    Sessions sessions_;
    Pool pool_;
    Throttle tries_of_address_;
    Throttle tries_of_name_;
    int logins_in_progress_ = 0;
    TimePoint last_complaint_{};
    asio::steady_timer tidy_timer_;
    bool stopping_ = false;
    std::list<Live> live_; /* of each database, in the same order */

    /* Ends what has not been used for a while, again and again. */
    Task<> tidy_up();

    /* What a request has been found to be. */
    struct Call {
        const Request &request;
        Client client;
        Asked asked;
        SessionPtr session;
    };

    SessionPtr session_of(const Request &request, const Client &client);
    SessionPtr proxy_session(const std::string &user);
    const Database *find_database(std::string_view name) const;
    Task<Reply> answer_api(Call &call);
    Task<Reply> answer_metrics(Call &call);
    Task<Reply> answer_stream(SessionPtr session, const Database &database);

    /* app_route.cpp */
    Task<Reply> run_route(const Route &route, const SqlValues &values, SessionPtr session,
                          const Database &database);
    Task<SqlResult> run_once(const Route &route, const SqlValues &values, Lease &lease);
    Task<SqlResult> run_statement(std::string_view sql, const SqlValues &values, SessionPtr session,
                                  const Database &database);
    Reply unreachable(const SessionPtr &session, const Database &database, const SqlError &error);

    /* app_login.cpp */
    Task<Reply> log_in(Call &call, const SqlValues &values);
    Task<std::optional<Reply>> check_login(SessionPtr session, const Client &client);
    Reply log_out(Call &call);
    Task<Reply> describe_session(SessionPtr session, const Database &database);
    std::string session_json(const Session &session, const Database &database,
                             std::string_view facts) const;
    Task<SessionPtr> basic_session(std::string_view authorization, const Client &client,
                                   std::optional<Reply> &refused);
};

} // namespace backfill::web
