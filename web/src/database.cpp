/* database.cpp - see database.hpp. */
#include "database.hpp"

#include "request.hpp"
#include "secret.hpp"

#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>

namespace backfill::web
{

namespace
{

constexpr std::string_view kImpossible = "?";

template <class Options> auto *find_option(Options &options, std::string_view keyword)
{
    for (auto &[name, value] : options)
        if (name == keyword)
            return &value;
    return static_cast<decltype(&options.front().second)>(nullptr);
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

using OptionList = std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption *)>;

[[noreturn]] void fail_to_read(const Database &database, const std::string &what)
{
    throw std::invalid_argument("the connection string of database \"" + database.name +
                                "\" cannot be read: " + what.substr(0, what.find('\n')));
}

ConnectionOptions given_in(const PQconninfoOption *options)
{
    ConnectionOptions given;
    for (; options->keyword != nullptr; options++)
        if (options->val != nullptr && *options->val != '\0')
            given.emplace_back(options->keyword, options->val);
    return given;
}

/* What libpq would use to connect. A value that it does not know makes it stop before it does so.
 */
struct Gathered {
    ConnectionOptions options;
    std::string stopped_by;
};
Gathered gather(ConnectionOptions options)
{
    set_option(options, "gssencmode", kImpossible);
    const PqArguments arguments(options);
    const std::unique_ptr<PGconn, void (*)(PGconn *)> connection(
        PQconnectStartParams(arguments.keywords(), arguments.values(), 0), PQfinish);
    const OptionList found(PQconninfo(connection.get()), PQconninfoFree);
    if (!found)
        throw std::bad_alloc();
    return {given_in(found.get()), PQerrorMessage(connection.get())};
}

/* libpq would look up a service in files, and the names of hosts that the service or the
 * environment add by asking a name server, each time that it connects, and wait for that. What it
 * makes up itself for a user and a database that are not given is left out. */
ConnectionOptions expand(const Database &database, const ConnectionOptions &given)
{
    ConnectionOptions asked = given;
    set_option(asked, "user", kImpossible);
    Gathered all = gather(asked);
    if (all.stopped_by.find("gssencmode") == std::string::npos)
        fail_to_read(database, all.stopped_by);
    const ConnectionOptions with_user = gather(given).options;
    ConnectionOptions expanded;
    for (auto &[keyword, value] : all.options) {
        const bool is_ours = keyword == "gssencmode" || keyword == "service" ||
                             keyword == "servicefile" || keyword == "user" ||
                             (keyword == "dbname" && value == kImpossible);
        if (!is_ours)
            expanded.emplace_back(keyword, std::move(value));
    }
    for (const auto &[keyword, value] : with_user)
        if (keyword == "user")
            expanded.emplace_back(keyword, value);
    for (const auto &[keyword, value] : given)
        if (keyword == "gssencmode")
            expanded.emplace_back(keyword, value);
    return expanded;
}

/* As libpq orders them: at random, if that is wanted; and with "prefer-standby" all servers are
 * asked whether they are one before any will do. */
std::vector<ConnectionOptions> in_order(std::vector<ConnectionOptions> attempts)
{
    const std::string *balance = find_option(attempts.front(), "load_balance_hosts");
    if (balance != nullptr && *balance == "random")
        std::shuffle(attempts.begin(), attempts.end(), std::random_device());
    const std::string *wanted = find_option(attempts.front(), "target_session_attrs");
    if (wanted == nullptr || *wanted != "prefer-standby")
        return attempts;
    std::vector<ConnectionOptions> again = attempts;
    for (ConnectionOptions &options : attempts)
        set_option(options, "target_session_attrs", "standby");
    for (ConnectionOptions &options : again)
        set_option(options, "target_session_attrs", "any");
    std::move(again.begin(), again.end(), std::back_inserter(attempts));
    return attempts;
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
    const OptionList options(PQconninfoParse(conninfo.c_str(), &message), PQconninfoFree);
    if (!options) {
        const std::string what = message == nullptr ? "out of memory" : message;
        PQfreemem(message);
        fail_to_read(database, what);
    }
    database.options = expand(database, given_in(options.get()));
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

Task<std::variant<std::vector<ConnectionOptions>, SqlError>>
attempts_of(const ConnectionOptions &options, TimePoint deadline)
{
    const auto value = [&](std::string_view keyword) {
        const std::string *found = find_option(options, keyword);
        return found == nullptr ? std::string() : *found;
    };
    const std::vector<std::string> hosts = split(value("host"));
    const std::vector<std::string> given_addresses = split(value("hostaddr"));
    std::vector<std::string> ports = split(value("port"));
    const std::size_t count = std::max(hosts.size(), given_addresses.size());
    if (ports.size() == 1)
        ports.resize(count, ports.front());
    std::vector<ConnectionOptions> attempts;
    for (std::size_t i = 0; i < count; i++) {
        const std::string host = i < hosts.size() ? hosts[i] : std::string();
        std::vector<std::string> addresses{given_addresses.size() == count ? given_addresses[i]
                                                                           : std::string()};
        if (addresses.front().empty())
            addresses = co_await addresses_of(host, deadline);
        for (const std::string &address : addresses) {
            attempts.push_back(options);
            set_option(attempts.back(), "host", host);
            set_option(attempts.back(), "hostaddr", address);
            set_option(attempts.back(), "port", i < ports.size() ? ports[i] : std::string());
        }
    }
    if (attempts.empty())
        co_return SqlError{"08001", "no address is known of host " + value("host"), {}, {}};
    co_return in_order(std::move(attempts));
}

TimePoint deadline_of_attempt(const ConnectionOptions &options, std::size_t attempts_left,
                              TimePoint now, TimePoint deadline)
{
    TimePoint end = now + (deadline - now) / static_cast<int>(attempts_left);
    for (const auto &[keyword, value] : options) {
        const int seconds = keyword == "connect_timeout" ? std::atoi(value.c_str()) : 0;
        if (seconds > 0)
            end = std::min(end, now + Seconds(seconds));
    }
    return end;
}

void wipe_passwords(std::vector<ConnectionOptions> &attempts)
{
    for (ConnectionOptions &options : attempts)
        if (std::string *password = find_option(options, "password"))
            wipe(*password);
}

} // namespace backfill::web
