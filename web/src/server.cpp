/* server.cpp - see server.hpp. */
#include "server.hpp"

#include "conversation.hpp"
#include "log.hpp"

#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/tcp_stream.hpp>

#include <stdexcept>

namespace backfill::web
{

using boost::asio::ip::tcp;

namespace
{

constexpr Seconds kHandshakeTime{10};
/* When there are no descriptors left. */
constexpr std::chrono::milliseconds kAcceptPause{100};

std::string to_text(const Endpoint &endpoint)
{
    const std::string address = endpoint.address.to_string();
    return (endpoint.address.is_v6() ? "[" + address + "]" : address) + ":" +
           std::to_string(endpoint.port);
}

tcp::acceptor open_acceptor(asio::io_context &io, const Endpoint &wanted)
{
    tcp::acceptor acceptor(io);
    const tcp::endpoint endpoint(wanted.address, wanted.port);
    ErrorCode error;
    acceptor.open(endpoint.protocol(), error);
    if (!error)
        acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error && endpoint.address().is_v6())
        acceptor.set_option(asio::ip::v6_only(true), error);
    if (!error)
        acceptor.bind(endpoint, error);
    if (!error)
        acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error)
        throw std::runtime_error("cannot listen on " + to_text(wanted) + ": " + error.message());
    return acceptor;
}

/* Keeps a connection in the table as long as its coroutine runs. */
class Registration
{
  public:
    Registration(Clients &clients, ClientConnection connection)
        : clients_(clients), place_(clients.add(std::move(connection)))
    {
    }
    ~Registration() { clients_.remove(place_); }
    Registration(const Registration &) = delete;
    Registration &operator=(const Registration &) = delete;
    Clients::Place place() const { return place_; }

  private:
    Clients &clients_;
    Clients::Place place_;
};

} // namespace

Server::Server(asio::io_context &io, const Options &options, App &app)
    : io_(io), options_(options), app_(app),
      clients_(options.max_connections, options.max_connections_per_address)
{
}

void Server::listen()
{
    if (!options_.tls_cert.empty())
        tls_ = make_tls(options_.tls_cert, options_.tls_key);
    for (const Endpoint &endpoint : options_.listen)
        acceptors_.push_back(open_acceptor(io_, endpoint));
    for (tcp::acceptor &acceptor : acceptors_) {
        const tcp::endpoint bound = acceptor.local_endpoint();
        log_line("listening on " + std::string(tls_ ? "https://" : "http://") +
                 to_text({bound.address(), bound.port()}));
        spawn(io_.get_executor(), accept(acceptor));
    }
}

void Server::reload_tls()
{
    if (!tls_)
        return;
    try {
        tls_ = make_tls(options_.tls_cert, options_.tls_key);
        log_line("certificate and key were read again");
    } catch (const std::invalid_argument &error) {
        log_line(std::string(error.what()) + "; those from before stay");
    }
}

void Server::stop()
{
    stopping_ = true;
    for (tcp::acceptor &acceptor : acceptors_) {
        ErrorCode ignored;
        acceptor.close(ignored);
    }
    clients_.end_all();
}

Task<> Server::accept(tcp::acceptor &acceptor)
{
    asio::steady_timer pause(io_);
    while (!stopping_) {
        ErrorCode error;
        tcp::socket socket =
            co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (stopping_)
            break;
        if (!error && try_to_admit(std::move(socket)))
            continue;
        pause.expires_after(kAcceptPause);
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
}

/* False if there is no memory for one more now; the program goes on. */
bool Server::try_to_admit(tcp::socket socket)
{
    try {
        ErrorCode error;
        const tcp::endpoint peer = socket.remote_endpoint(error);
        if (error || !clients_.admit(peer.address(), app_.is_proxy(peer.address())))
            return true;
        socket.set_option(tcp::no_delay(true), error);
        spawn(io_.get_executor(), run(std::move(socket), tls_));
        return true;
    } catch (const std::exception &error) {
        log_line(std::string("internal error: ") + error.what());
        return false;
    }
}

Task<> Server::run(tcp::socket socket, std::shared_ptr<asio::ssl::context> tls)
{
    ErrorCode error;
    const tcp::endpoint peer = socket.remote_endpoint(error);
    if (error)
        co_return;
    boost::beast::tcp_stream plain(std::move(socket));
    const auto close = [&plain] {
        ErrorCode ignored;
        plain.socket().close(ignored);
    };
    const Registration registration(clients_,
                                    {peer.address(), close, Clients::Doing::reading, stopping_});
    Conversation conversation{app_,  options_,       clients_,      registration.place(),
                              plain, peer.address(), tls != nullptr};
    if (!tls) {
        co_await talk(plain, conversation);
        co_return;
    }
    asio::ssl::stream<boost::beast::tcp_stream &> secure(plain, *tls);
    plain.expires_after(kHandshakeTime);
    co_await secure.async_handshake(asio::ssl::stream_base::server,
                                    asio::redirect_error(asio::use_awaitable, error));
    if (!error)
        co_await talk(secure, conversation);
}

} // namespace backfill::web
