/* options.cpp - see options.hpp. */
#include "options.hpp"

#include "url.hpp"

#include <charconv>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>

namespace backfill::web
{

namespace
{

[[noreturn]] void fail(const std::string &what)
{
    throw std::invalid_argument(what);
}

std::size_t parse_number(const std::string &name, std::string_view text, std::size_t least,
                         std::size_t most)
{
    std::size_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < least || number > most)
        fail("--" + name + " must be a number between " + std::to_string(least) + " and " +
             std::to_string(most) + ", not \"" + std::string(text) + "\"");
    return number;
}

struct Option {
    std::string_view name;
    std::string_view value; /* what the help calls it; empty: it has none */
    std::string_view help;
    std::function<void(Options &, const std::string &)> set;
};

Option number_option(std::string_view name, std::string_view help, std::size_t Options::*member,
                     std::size_t least, std::size_t most)
{
    return {name, "N", help, [=](Options &options, const std::string &value) {
                options.*member = parse_number(std::string(name), value, least, most);
            }};
}

Option seconds_option(std::string_view name, std::string_view help,
                      std::chrono::seconds Options::*member, std::size_t least, std::size_t most)
{
    return {name, "SECONDS", help, [=](Options &options, const std::string &value) {
                options.*member =
                    std::chrono::seconds(parse_number(std::string(name), value, least, most));
            }};
}

void add_host(Options &options, const std::string &value)
{
    const std::string host = host_of(value);
    if (host.empty() || host.find_first_of("/ ") != std::string::npos)
        fail("--allowed-host must be the name of a host, such as queue.example.com, not \"" +
             value + "\"");
    options.allowed_hosts.push_back(host);
}

void add_proxy(Options &options, const std::string &value)
{
    const auto range = parse_range(value);
    if (!range)
        fail("--trusted-proxy must be an address, perhaps with /bits, not \"" + value + "\"");
    options.trusted_proxies.push_back(*range);
}

void set_user_header(Options &options, const std::string &value)
{
    if (value.empty() ||
        value.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-") != std::string::npos)
        fail("--proxy-user-header must be the name of a header, not \"" + value + "\"");
    options.proxy_user_header = value;
}

void set_read_only(Options &options, const std::string &value)
{
    if (!value.empty() && value != "on" && value != "off")
        fail("read-only must be on or off, not \"" + value + "\"");
    options.read_only = value != "off";
}

void read_config_file(Options &options, const std::string &file)
{
    std::ifstream in(file);
    if (!in)
        fail("cannot read the configuration file " + file);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    read_config(options, text, file);
}

std::vector<Option> address_options()
{
    return {
        {"listen", "ADDRESS:PORT", "where to listen; several times; 127.0.0.1:8080 if left out",
         [](Options &o, const std::string &v) { o.listen.push_back(parse_endpoint(v)); }},
        {"database", "NAME=CONNINFO",
         "a database, by libpq's connection string; several times: the page has a switch",
         [](Options &o, const std::string &v) { o.databases.push_back(v); }},
        {"read-only", "", "change nothing, whatever the role may do", set_read_only},
        {"tls-cert", "FILE", "certificate with its chain, PEM; read again at SIGHUP",
         [](Options &o, const std::string &v) { o.tls_cert = v; }},
        {"tls-key", "FILE", "its key, PEM",
         [](Options &o, const std::string &v) { o.tls_key = v; }},
        {"allowed-host", "NAME",
         "a host name that browsers use for this program; several times; localhost and addresses "
         "always are",
         add_host},
        {"trusted-proxy", "ADDRESS[/BITS]", "believe the headers of a proxy there; several times",
         add_proxy},
        {"proxy-user-header", "NAME",
         "the header in which it names the role of a user that it has logged in", set_user_header},
        {"config", "FILE", "read options from a file, lines of name = value", read_config_file},
    };
}

std::vector<Option> limit_options()
{
    return {
        seconds_option("idle-timeout", "end a session that was not used for this long (1800)",
                       &Options::idle_timeout, 10, 31536000),
        seconds_option("session-lifetime", "end every session after this time (43200)",
                       &Options::session_lifetime, 10, 31536000),
        seconds_option("login-check",
                       "ask the server at least this often whether a session's role may still log "
                       "in (300)",
                       &Options::login_check, 1, 3600),
        seconds_option("statement-timeout", "longest time of a statement (5)",
                       &Options::statement_timeout, 1, 3600),
        number_option("max-sessions", "most sessions (1000)", &Options::max_sessions, 1, 1000000),
        number_option("max-sessions-per-role",
                      "most of one role; when it has more, the one ends that was not used for "
                      "longest (100)",
                      &Options::max_sessions_per_role, 1, 1000000),
        number_option("max-connections", "most connections of clients (4096)",
                      &Options::max_connections, 1, 1000000),
        number_option("max-connections-per-address",
                      "most of one address, or of one network of IPv6 with 64 bits (256)",
                      &Options::max_connections_per_address, 1, 1000000),
        number_option("session-db-connections", "most connections to databases of a session (2)",
                      &Options::session_db_connections, 1, 100),
        number_option("max-db-connections", "most connections to databases in all (100)",
                      &Options::max_db_connections, 1, 10000),
        number_option("max-body", "most bytes of a request's body (1048576)", &Options::max_body,
                      1024, 1 << 30),
    };
}

std::vector<Option> other_options()
{
    using Instead = Options::Instead;
    return {
        {"openapi", "", "print the description of the API, and end",
         [](Options &o, const std::string &) { o.instead = Instead::openapi; }},
        {"help", "", "print this, and end",
         [](Options &o, const std::string &) { o.instead = Instead::help; }},
        {"version", "", "print the version, and end",
         [](Options &o, const std::string &) { o.instead = Instead::version; }},
    };
}

const std::vector<Option> &all_options()
{
    static const std::vector<Option> all = [] {
        std::vector<Option> made;
        for (const auto part : {address_options, limit_options, other_options}) {
            const std::vector<Option> options = part();
            made.insert(made.end(), options.begin(), options.end());
        }
        return made;
    }();
    return all;
}

const Option *find_option(std::string_view name)
{
    for (const Option &option : all_options())
        if (option.name == name)
            return &option;
    return nullptr;
}

/* What belongs together, once all is known. */
void check(const Options &options)
{
    if (options.tls_cert.empty() != options.tls_key.empty())
        fail("--tls-cert and --tls-key belong together");
    if (!options.proxy_user_header.empty() && options.trusted_proxies.empty())
        fail("--proxy-user-header needs --trusted-proxy: a header of other clients means nothing");
    if (options.databases.empty())
        fail("no database is given; for example: --database main='host=/var/run/postgresql "
             "dbname=postgres'");
}

} // namespace

Options parse_options(const std::vector<std::string> &arguments)
{
    Options options;
    for (std::size_t i = 0; i < arguments.size(); i++) {
        const std::string &argument = arguments[i];
        if (!argument.starts_with("--"))
            fail("\"" + argument + "\" is no option; see --help");
        const std::size_t equals = argument.find('=');
        const std::string name = argument.substr(0, equals).substr(2);
        const Option *option = find_option(name);
        if (option == nullptr)
            fail("there is no option --" + name + "; see --help");
        std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
        if (equals == std::string::npos && !option->value.empty()) {
            if (++i == arguments.size())
                fail(argument + " needs a value: " + std::string(option->value));
            value = arguments[i];
        }
        option->set(options, value);
    }
    if (options.instead != Options::Instead::nothing)
        return options;
    if (options.listen.empty())
        options.listen.push_back(parse_endpoint("127.0.0.1:8080"));
    check(options);
    return options;
}

void read_config(Options &options, std::string_view text, const std::string &file)
{
    int number = 0;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        number++;
        if (line.ends_with('\r'))
            line.remove_suffix(1);
        line = trim(line);
        if (line.empty() || line.front() == '#')
            continue;
        const std::size_t equals = line.find('=');
        const Option *option = find_option(trim(line.substr(0, equals)));
        const std::string where = file + ", line " + std::to_string(number) + ": ";
        if (option == nullptr || option->name == "config")
            fail(where + "there is no option \"" + std::string(trim(line.substr(0, equals))) +
                 "\"");
        if (equals == std::string_view::npos && !option->value.empty())
            fail(where + "a value is missing: " + std::string(option->value));
        const std::string value(equals == std::string_view::npos ? std::string_view()
                                                                 : trim(line.substr(equals + 1)));
        try {
            option->set(options, value);
        } catch (const std::invalid_argument &error) {
            fail(where + error.what());
        }
    }
}

Endpoint parse_endpoint(std::string_view text)
{
    const std::size_t colon = text.rfind(':');
    const std::string wrong =
        "--listen must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080, not \"" +
        std::string(text) + "\"";
    if (colon == std::string_view::npos)
        fail(wrong);
    std::string_view host = text.substr(0, colon);
    const bool bracketed = host.starts_with('[') && host.ends_with(']');
    if (bracketed)
        host = host.substr(1, host.size() - 2);
    if (host == "localhost")
        host = "127.0.0.1";
    boost::system::error_code error;
    const auto address = boost::asio::ip::make_address(std::string(host), error);
    std::uint16_t port = 0;
    const std::string_view digits = text.substr(colon + 1);
    const auto [end, bad] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error || address.is_v6() != bracketed || bad != std::errc() ||
        end != digits.data() + digits.size())
        fail(wrong);
    return {address, port};
}

std::string help_text()
{
    std::string text =
        "backfill-web: the dashboard and the HTTP API of backfill, the job queue inside "
        "PostgreSQL\n\n"
        "  backfill-web --database NAME=CONNINFO [OPTION ...]\n\n"
        "Users log in as roles of the database: pg_hba.conf must ask those for a password. What a\n"
        "role may not do there, it may not do here. Example:\n\n"
        "  backfill-web --database main='host=db1 dbname=app' --listen 127.0.0.1:8080\n\n"
        "Options:\n";
    for (const Option &option : all_options()) {
        std::string left = "  --" + std::string(option.name);
        if (!option.value.empty())
            left += " " + std::string(option.value);
        if (left.size() < 32)
            left.resize(32, ' ');
        else
            left += "\n" + std::string(32, ' ');
        text += left + std::string(option.help) + "\n";
    }
    return text;
}

} // namespace backfill::web
