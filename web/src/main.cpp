/* main.cpp - the program backfill-web: options, signals, and the loop. */
#include "app.hpp"
#include "log.hpp"
#include "openapi.hpp"
#include "options.hpp"
#include "server.hpp"
#include "version.hpp"

#include <boost/asio/signal_set.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <sys/resource.h>

namespace
{

using namespace backfill::web;

/* What requests may still take when the program is told to end. */
constexpr std::chrono::milliseconds kCheckTime{20};
constexpr int kMostChecks = 75;
/* For descriptors that are no connections: listeners, libraries, files. */
constexpr std::size_t kOtherDescriptors = 64;

/* Exit codes: what failed. */
constexpr int kFailed = 1;
constexpr int kWrongUse = 2;

/* A client takes one descriptor, a connection to a database two while it waits. */
void raise_descriptors(const Options &options)
{
    const rlim_t wanted =
        options.max_connections + 2 * options.max_db_connections + kOtherDescriptors;
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = std::min(wanted, limit.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
        log_line(
            "only " + std::to_string(limit.rlim_cur) +
            " files may be open, too few for --max-connections: raise the limit (LimitNOFILE)");
}

/* Lets requests finish; then nothing is left that keeps the loop running. What takes too long would
 * refer to what is about to be destroyed. */
void end_soon(asio::steady_timer &timer, const Server &server, const App &app, int checks)
{
    timer.expires_after(kCheckTime);
    timer.async_wait([&timer, &server, &app, checks](const ErrorCode &) {
        if (server.is_quiet() && app.is_quiet())
            return;
        if (checks == 0)
            std::_Exit(EXIT_SUCCESS);
        end_soon(timer, server, app, checks - 1);
    });
}

void follow_signals(asio::signal_set &signals, asio::steady_timer &timer, Server &server, App &app)
{
    signals.async_wait([&](const ErrorCode &error, int signal) {
        if (error)
            return;
        if (signal == SIGHUP) {
            server.reload_tls();
            follow_signals(signals, timer, server, app);
            return;
        }
        log_line("ending");
        server.stop();
        app.stop();
        end_soon(timer, server, app, kMostChecks);
    });
}

int serve(const Options &options)
{
    std::vector<Database> databases;
    for (const std::string &text : options.databases) {
        databases.push_back(parse_database(text));
        for (std::size_t i = 0; i + 1 < databases.size(); i++)
            if (databases[i].name == databases.back().name)
                throw std::invalid_argument("two databases have the name \"" + databases[i].name +
                                            "\"");
    }
    raise_descriptors(options);
    std::signal(SIGPIPE, SIG_IGN);
    asio::io_context io(1);
    App app(io, options, std::move(databases));
    Server server(io, options, app);
    server.listen();
    app.start();
    asio::signal_set signals(io, SIGINT, SIGTERM, SIGHUP);
    asio::steady_timer timer(io);
    follow_signals(signals, timer, server, app);
    io.run();
    return EXIT_SUCCESS;
}

int run(const std::vector<std::string> &arguments)
{
    const Options options = parse_options(arguments);
    switch (options.instead) {
    case Options::Instead::help:
        std::fputs(help_text().c_str(), stdout);
        return EXIT_SUCCESS;
    case Options::Instead::version:
        std::printf("backfill-web %s\n", std::string(kVersion).c_str());
        return EXIT_SUCCESS;
    case Options::Instead::openapi:
        std::fputs(openapi_document().c_str(), stdout);
        return EXIT_SUCCESS;
    default:
        return serve(options);
    }
}

} // namespace

int main(int argc, char **argv)
{
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::invalid_argument &error) {
        log_line(error.what());
        return kWrongUse;
    } catch (const std::exception &error) {
        log_line(error.what());
        return kFailed;
    }
}
