/* database.cpp - see database.hpp. */
#include "database.hpp"

#include "request.hpp"
#include "secret.hpp"

#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <memory>
#include <stdexcept>

namespace backfill::web
{

namespace
{

std::string *find_option(ConnectionOptions &options, std::string_view keyword)
{
    for (auto &[name, value] : options)
        if (name == keyword)
            return &value;
    return nullptr;
}

void set_option(ConnectionOptions &options, std::string_view keyword, std::string_view value)
{
    if (std::string *present = find_option(options, keyword))
        *present = value;
    else
        options.emplace_back(keyword, value);
}

std::vector<std::string> split(std::string_view list)
{
    std::vector<std::string> items;
    for (;;) {
        const std::size_t comma = list.find(',');
        items.emplace_back(list.substr(0, comma));
        if (comma == std::string_view::npos)
            return items;
        list.remove_prefix(comma + 1);
    }
}

/* The names of one host's addresses; the host itself if it is an address, or the directory of a
 * socket. */
Task<std::vector<std::string>> addresses_of(std::string host, TimePoint deadline)
{
    if (host.empty() || host.front() == '/' || host.front() == '@')
        co_return std::vector<std::string>{std::string()};
    if (is_address(host))
        co_return std::vector<std::string>{host};
    auto executor = co_await asio::this_coro::executor;
    asio::ip::tcp::resolver resolver(executor);
    const Alarm alarm(executor, deadline, [&resolver] { resolver.cancel(); });
    ErrorCode error;
    auto found = co_await resolver.async_resolve(host, "0",
                                                 asio::redirect_error(asio::use_awaitable, error));
    std::vector<std::string> addresses;
    if (!error)
        for (const auto &entry : found)
            addresses.push_back(entry.endpoint().address().to_string());
    co_return addresses;
}

} // namespace

Database parse_database(std::string_view text)
{
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0)
        throw std::invalid_argument("a database is given as NAME=CONNINFO");
    Database database{std::string(text.substr(0, equals)), {}};
    if (!is_text(database.name))
        throw std::invalid_argument("the name of a database must be UTF-8");
    const std::string conninfo(text.substr(equals + 1));
    char *message = nullptr;
    const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption *)> options(
        PQconninfoParse(conninfo.c_str(), &message), PQconninfoFree);
    if (!options) {
        const std::string what = message == nullptr ? "out of memory" : message;
        PQfreemem(message);
        throw std::invalid_argument("the connection string of database \"" + database.name +
                                    "\" cannot be read: " + std::string(what, 0, what.find('\n')));
    }
    for (const PQconninfoOption *option = options.get(); option->keyword != nullptr; option++)
        if (option->val != nullptr)
            database.options.emplace_back(option->keyword, option->val);
    return database;
}

/* An empty host and port keep libpq's defaults, such as those of the environment. */
ConnectionOptions login_options(const Database &database, std::string_view user,
                                std::string_view password)
{
    ConnectionOptions options = database.options;
    if (!user.empty()) {
        set_option(options, "user", user);
        set_option(options, "password", password);
    }
    set_option(options, "application_name", "backfill-web");
    set_option(options, "client_encoding", "UTF8");
    /* It may ask other servers, and libpq waits for them. */
    if (find_option(options, "gssencmode") == nullptr)
        options.emplace_back("gssencmode", "disable");
    return options;
}

Task<std::variant<ConnectionOptions, SqlError>> resolve_hosts(ConnectionOptions options,
                                                              TimePoint deadline)
{
    const std::string *host = find_option(options, "host");
    if (host == nullptr || host->empty() || find_option(options, "hostaddr") != nullptr)
        co_return options;
    const std::vector<std::string> hosts = split(*host);
    const std::string *port = find_option(options, "port");
    std::vector<std::string> ports = split(port == nullptr ? std::string() : *port);
    if (ports.size() == 1)
        ports.resize(hosts.size(), ports.front());
    if (ports.size() != hosts.size())
        co_return options; /* libpq says what is wrong */
    std::string names;
    std::string addresses;
    std::string all_ports;
    for (std::size_t i = 0; i < hosts.size(); i++) {
        const std::vector<std::string> found = co_await addresses_of(hosts[i], deadline);
        for (const std::string &address : found) {
            const std::string comma = names.empty() && addresses.empty() ? "" : ",";
            names += comma + hosts[i];
            addresses += comma + address;
            all_ports += comma + ports[i];
        }
    }
    if (names.empty())
        co_return SqlError{"08001", "no address is known of host " + *host, {}, {}};
    set_option(options, "host", names);
    set_option(options, "hostaddr", addresses);
    set_option(options, "port", all_ports);
    co_return options;
}

} // namespace backfill::web
