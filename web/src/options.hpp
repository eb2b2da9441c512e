/* options.hpp - the command line and the configuration file. */
#pragma once

#include "guard.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::web
{

struct Endpoint {
    boost::asio::ip::address address;
    std::uint16_t port;
};

struct Options {
    std::vector<Endpoint> listen;
    /* NAME=CONNINFO */
    std::vector<std::string> databases;
    bool read_only = false;
    std::string tls_cert;
    std::string tls_key;
    std::vector<std::string> allowed_hosts;
    std::vector<AddressRange> trusted_proxies;
    std::string proxy_user_header; /* empty: proxies name no roles */
    std::chrono::seconds idle_timeout{1800};
    std::chrono::seconds session_lifetime{12 * 3600};
    std::chrono::seconds login_check{300};
    std::chrono::seconds statement_timeout{5};
    std::size_t max_sessions = 1000;
    std::size_t max_sessions_per_role = 100;
    std::size_t max_connections = 4096;
    std::size_t max_connections_per_address = 256;
    std::size_t session_db_connections = 2;
    std::size_t max_db_connections = 100;
    std::size_t max_body = 1024 * 1024;

    /* What to do instead of serving. */
    enum class Instead { nothing, help, version, openapi } instead = Instead::nothing;
};

/* Throws std::invalid_argument that says what is wrong and what to do. */
Options parse_options(const std::vector<std::string> &arguments);

/* Lines "name = value" with the names of the options; "#" begins a comment line. */
void read_config(Options &options, std::string_view text, const std::string &file);

/* "127.0.0.1:8080", "[::1]:8080". */
Endpoint parse_endpoint(std::string_view text);

std::string help_text();

} // namespace backfill::web
