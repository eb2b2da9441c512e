/* server.hpp - sockets: listens, accepts, and runs the conversation of each connection. */
#pragma once

#include "app.hpp"
#include "clients.hpp"
#include "options.hpp"
#include "tls.hpp"

#include <boost/asio/ip/tcp.hpp>

#include <list>
#include <memory>

namespace backfill::web
{

class Server
{
  public:
    Server(asio::io_context &io, const Options &options, App &app);

    /* Throws if an address cannot be listened on. */
    void listen();
    /* Reads certificate and key again; if they cannot be used, the old ones stay. */
    void reload_tls();
    /* Accepts no more, and lets requests finish. */
    void stop();
    bool is_quiet() const { return clients_.count() == 0; }

  private:
    asio::io_context &io_;
    const Options &options_;
    App &app_;
    Clients clients_;
    std::shared_ptr<asio::ssl::context> tls_;
    std::list<asio::ip::tcp::acceptor> acceptors_;
    bool stopping_ = false;

    Task<> accept(asio::ip::tcp::acceptor &acceptor);
    bool try_to_admit(asio::ip::tcp::socket socket);
    Task<> run(asio::ip::tcp::socket socket, std::shared_ptr<asio::ssl::context> tls);
};

} // namespace backfill::web
