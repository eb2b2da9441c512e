/* conversation.hpp - what happens on one connection: requests are read, one after the other, and
 * answered. Each step has its time, so that a slow client ends by itself. */
#pragma once

#include "app.hpp"
#include "clients.hpp"
#include "options.hpp"

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>

namespace backfill::web
{

struct Conversation {
    App &app;
    const Options &options;
    Clients &clients;
    Clients::Place place;
    /* Where the times are set; beneath TLS, if there is any. */
    boost::beast::tcp_stream &plain;
    asio::ip::address peer;
    bool by_tls;
};

using TlsStream = asio::ssl::stream<boost::beast::tcp_stream &>;

/* Returns when the connection is over. */
Task<> talk(boost::beast::tcp_stream &stream, Conversation &conversation);
Task<> talk(TlsStream &stream, Conversation &conversation);

} // namespace backfill::web
