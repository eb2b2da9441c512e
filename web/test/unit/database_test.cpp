/* database_test.cpp - connection strings, the hosts that are tried, and why a connection was not
 * made. */
#include "database.hpp"
#include "sql_errors.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

using namespace backfill::web;
using namespace std::chrono_literals;

TEST_CASE("a database is a name and a connection string")
{
    const Database database = parse_database("main=host=a,b port=1,2 user=u password='p w'");
    CHECK(database.name == "main");
    const auto options = login_options(database, "role", "secret");
    const auto value = [&](std::string_view keyword) -> std::string {
        for (const auto &[name, text] : options)
            if (name == keyword)
                return text;
        return "";
    };
    CHECK(value("user") == "role");
    CHECK(value("password") == "secret");
    CHECK(value("host") == "a,b");
    CHECK(value("application_name") == "backfill-web");
    for (const char *wrong : {"", "main", "=host=a", "main=nonsense=1", "main=host"})
        CHECK_THROWS_AS(parse_database(wrong), std::invalid_argument);
    CHECK_THROWS_AS(parse_database("main=host=a,b port=1,2,3"), std::invalid_argument);
}

namespace
{

/* Sets a variable of the environment as long as it lives. */
class Variable
{
  public:
    Variable(const char *name, const std::string &value) : name_(name)
    {
        if (const char *before = std::getenv(name))
            before_ = before;
        setenv(name, value.c_str(), 1);
    }
    ~Variable()
    {
        if (before_)
            setenv(name_, before_->c_str(), 1);
        else
            unsetenv(name_);
    }

  private:
    const char *name_;
    std::optional<std::string> before_;
};

std::string value_in(const ConnectionOptions &options, std::string_view keyword)
{
    for (const auto &[name, value] : options)
        if (name == keyword)
            return value;
    return "";
}

/* The hosts, ports and wanted servers of all attempts, in their order. */
std::string attempts_in(const std::string &conninfo)
{
    boost::asio::io_context io;
    const auto options = login_options(parse_database("main=" + conninfo), "role", "secret");
    std::string text;
    boost::asio::co_spawn(
        io,
        [&]() -> Task<> {
            auto attempts = co_await attempts_of(options, Clock::now() + 10s);
            for (const auto &attempt : std::get<std::vector<ConnectionOptions>>(attempts))
                text += value_in(attempt, "host") + "=" + value_in(attempt, "hostaddr") + ":" +
                        value_in(attempt, "port") + value_in(attempt, "target_session_attrs") + " ";
        },
        [](std::exception_ptr) {});
    io.run();
    return text;
}

} // namespace

TEST_CASE("a service and the environment are read at the start")
{
    const std::string file = "backfill_web_test_service." + std::to_string(getpid());
    std::ofstream(file) << "[queue]\nhost=10.0.0.1,10.0.0.2\nuser=app\ndbname=app\n";
    const Variable services("PGSERVICEFILE", file);
    const Variable port("PGPORT", "7777");
    const Variable no_database("PGDATABASE", ""); /* as libpq reads it: none */
    const Database database = parse_database("main=service=queue connect_timeout=3");
    std::remove(file.c_str());
    CHECK(value_in(database.options, "host") == "10.0.0.1,10.0.0.2");
    CHECK(value_in(database.options, "port") == "7777");
    CHECK(value_in(database.options, "user") == "app");
    CHECK(value_in(database.options, "dbname") == "app");
    CHECK(value_in(database.options, "connect_timeout") == "3");
    CHECK(value_in(database.options, "service").empty());
    CHECK(value_in(database.options, "gssencmode").empty());
    CHECK_THROWS_AS(parse_database("main=service=queue"), std::invalid_argument); /* it is gone */
    const Variable host("PGHOST", "10.0.0.3");
    CHECK(value_in(parse_database("main=gssencmode=prefer").options, "host") == "10.0.0.3");
    CHECK(value_in(parse_database("main=gssencmode=prefer").options, "gssencmode") == "prefer");
    /* libpq takes the user's name for a database that is not named. */
    CHECK(value_in(parse_database("main=user=app").options, "dbname").empty());
}

TEST_CASE("hosts are tried one after the other, each in its time")
{
    CHECK(attempts_in("host=10.0.0.1,/tmp,10.0.0.2 port=1,2,3") ==
          "10.0.0.1=10.0.0.1:1any /tmp=:2any 10.0.0.2=10.0.0.2:3any ");
    CHECK(attempts_in("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=5") ==
          "a=10.0.0.1:5any b=10.0.0.2:5any ");
    CHECK(attempts_in("host=10.0.0.1,10.0.0.2 port=5 target_session_attrs=prefer-standby") ==
          "10.0.0.1=10.0.0.1:5standby 10.0.0.2=10.0.0.2:5standby "
          "10.0.0.1=10.0.0.1:5any 10.0.0.2=10.0.0.2:5any ");
    const TimePoint now{};
    CHECK(deadline_of_attempt({}, 4, now, now + 10s) == now + 2500ms);
    CHECK(deadline_of_attempt({}, 1, now, now + 10s) == now + 10s);
    CHECK(deadline_of_attempt({{"connect_timeout", "2"}}, 1, now, now + 10s) == now + 2s);
    CHECK(deadline_of_attempt({{"connect_timeout", "60"}}, 2, now, now + 10s) == now + 5s);
    CHECK(deadline_of_attempt({{"connect_timeout", "0"}}, 2, now, now + 10s) == now + 5s);
}

TEST_CASE("the SQLSTATE of a failed connection is in libpq's text")
{
    const auto error = parse_connection_error(
        "connection to server at \"h\" (1.2.3.4), port 5432 failed: FATAL:  28P01: password "
        "authentication failed for user \"x: y\"\nLOCATION:  auth_failed, auth.c:338\n");
    CHECK(error.sqlstate == "28P01");
    CHECK(error.message == "password authentication failed for user \"x: y\"");
    CHECK(error.is_refused_login());
    const auto away =
        parse_connection_error("connection to server failed: Connection refused\n\tIs it?");
    CHECK(away.sqlstate == "08001");
    CHECK(away.is_disconnection());
    CHECK(parse_connection_error("").sqlstate == "08001");
    CHECK(parse_connection_error("x:  ").sqlstate == "08001");
}

TEST_CASE("a server that judged the login is heard among hosts that are away")
{
    const std::string refused =
        "connection to server at \"localhost\" (::1), port 5432 failed: Connection refused\n"
        "\tIs the server running on that host and accepting TCP/IP connections?\n";
    const std::string wrong = "connection to server at \"localhost\" (127.0.0.1), port 5432 "
                              "failed: FATAL:  28P01: password authentication failed\n"
                              "LOCATION:  auth_failed, auth.c:338\n";
    const std::string starting = "connection to server at \"c\", port 5432 failed: FATAL:  57P03: "
                                 "the database system is starting up\n";
    CHECK(parse_connection_error(refused + wrong).sqlstate == "28P01");
    CHECK(parse_connection_error(refused + wrong).message == "password authentication failed");
    CHECK(parse_connection_error(refused + starting).sqlstate == "57P03");
    CHECK(parse_connection_error(refused + refused).sqlstate == "08001");
    CHECK(parse_connection_error(starting + refused + wrong).sqlstate == "28P01");
    /* A name of a role cannot say anything else. */
    CHECK(parse_connection_error("FATAL:  28P01: password authentication failed for user \"a\n"
                                 "FATAL:  57P03: b\"\n")
              .sqlstate == "28P01");
}

TEST_CASE("only a role that may not be used is a refused login")
{
    for (const char *sqlstate : {"22023", "42501", "42704"})
        CHECK(refused_role("r", {sqlstate, "m", {}, {}}).is_refused_login());
    for (const char *sqlstate : {"57014", "57P01", "08006", "53300", "XX000"})
        CHECK(refused_role("r", {sqlstate, "m", {}, {}}).sqlstate == sqlstate);
}
