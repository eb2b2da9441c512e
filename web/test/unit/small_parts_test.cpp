/* small_parts_test.cpp - cookies, credentials, throttles, options, errors, figures. */
#include "address.hpp"
#include "clients.hpp"
#include "credentials.hpp"
#include "database.hpp"
#include "options.hpp"
#include "rates.hpp"
#include "session.hpp"
#include "sql_errors.hpp"
#include "throttle.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace backfill::web;
using namespace std::chrono_literals;

TEST_CASE("the session's key is found among other cookies")
{
    const std::string key(64, 'a');
    CHECK(session_key("a=b; backfill_session=" + key + "; c=d") == key);
    CHECK(session_key("backfill_session=" + key) == key);
    CHECK(session_key("xbackfill_session=" + key).empty());
    CHECK(session_key("backfill_session=" + key + "a").empty());
    CHECK(session_key("backfill_session=" + std::string(64, 'A')).empty());
    CHECK(session_key("backfill_session=; backfill_session=" + key) == key);
    CHECK(session_key("").empty());
    CHECK(session_key(";;;=;").empty());
}

TEST_CASE("the cookie is for this site and no script")
{
    CHECK(set_cookie("k", true) ==
          "__Host-backfill_session=k; Path=/; HttpOnly; SameSite=Strict; Secure");
    CHECK(set_cookie("k", false).find("Secure") == std::string::npos);
    CHECK(set_cookie("", false).find("Max-Age=0") != std::string::npos);
    const std::string key(64, 'a');
    const std::string secure = "__Host-backfill_session=" + key;
    CHECK(session_key(secure, true) == key);
    CHECK(session_key(secure, false).empty());
    CHECK(session_key("backfill_session=" + key, true).empty()); /* perhaps planted by plain HTTP */
}

TEST_CASE("credentials of HTTP Basic")
{
    const auto credentials = basic_credentials("Basic YWRtaW46c2U6Y3JldA==");
    REQUIRE(credentials);
    CHECK(credentials->first == "admin");
    CHECK(credentials->second == "se:cret");
    for (const char *header : {"", "Basic", "Basic !!!!",
                               "Basic YWRtaW4=", "Bearer YWRtaW46eA==", "Basic YWR", "Basic AAAA"})
        CHECK_MESSAGE(!basic_credentials(header), header);
}

TEST_CASE("tries come back with time, and are kept of not too many keys")
{
    Throttle throttle(3, 10s, 100);
    const auto now = Throttle::TimePoint(1000s);
    for (int i = 0; i < 3; i++)
        CHECK(throttle.take("a", now) == 0);
    CHECK(throttle.take("a", now) > 9);
    CHECK(throttle.take("b", now) == 0);
    CHECK(throttle.take("a", now + 11s) == 0);
    CHECK(throttle.take("a", now + 11s) > 0);
    throttle.refund("a", now + 11s);
    CHECK(throttle.take("a", now + 11s) == 0);
    for (int i = 0; i < 1000; i++)
        throttle.take(std::to_string(i), now);
    CHECK(throttle.size() <= 100);
    throttle.sweep(now + 60s);
    CHECK(throttle.size() == 0);
}

TEST_CASE("one address cannot keep a name out everywhere")
{
    LoginThrottle tries;
    const auto now = LoginThrottle::TimePoint(1000s);
    for (int i = 0; i < 10; i++)
        CHECK(tries.take("admin", "10.0.0.1", now) == 0);
    CHECK(tries.take("admin", "10.0.0.1", now) > 0);
    CHECK(tries.take("admin", "10.0.0.2", now) == 0);
    /* What was refused has cost the address nothing: ten are left of its twenty. */
    for (int i = 0; i < 10; i++)
        CHECK(tries.take("role" + std::to_string(i), "10.0.0.1", now) == 0);
    CHECK(tries.take("another", "10.0.0.1", now) > 0);
    /* Very many addresses together have an end, too. */
    int taken = 0;
    for (int i = 0; i < 2000; i++)
        taken += tries.take("admin", "address" + std::to_string(i), now) == 0 ? 1 : 0;
    CHECK(taken == 989);
    tries.sweep(now + 3600s);
    CHECK(tries.size() == 0);
}

TEST_CASE("sessions are found by their key only, and end")
{
    Sessions sessions({60s, 600s, 2});
    int ended = 0;
    sessions.on_end = [&](Session &) { ended++; };
    const Database database{"main", {}};
    const auto make = [&] { return std::make_shared<Session>("role", "secret", &database); };
    const auto first = make();
    const std::string key = sessions.add(first);
    REQUIRE(key.size() == 64);
    CHECK(sessions.find(key) == first);
    CHECK(!sessions.find(std::string(64, '0')));
    const std::string other = sessions.add(make());
    CHECK(other != key);
    CHECK(sessions.add(make()).empty()); /* no more than two */
    first->used = Clock::now() - 61s;
    CHECK(!sessions.find(key));
    CHECK(first->ended);
    const auto old = sessions.find(other);
    old->created = Clock::now() - 601s;
    old->used = Clock::now();
    sessions.sweep();
    CHECK(sessions.count() == 0);
    CHECK(ended == 2);
}

TEST_CASE("a role that has too many sessions loses its oldest one")
{
    Sessions sessions({60s, 600s, 100, 2});
    const Database database{"main", {}};
    const auto log_in = [&](const char *role) {
        return sessions.find(sessions.add(std::make_shared<Session>(role, "secret", &database)));
    };
    const auto first = log_in("greedy");
    const auto other = log_in("other");
    const auto second = log_in("greedy");
    first->used = Clock::now();
    second->used = first->used - 5s;
    const auto third = log_in("greedy");
    CHECK(second->ended);
    CHECK(!first->ended);
    CHECK(!other->ended);
    CHECK(sessions.count() == 3);
}

TEST_CASE("options of the command line and of a file are the same")
{
    const Options options = parse_options({"--listen", "0.0.0.0:80", "--listen=[::1]:8080",
                                           "--database", "main=host=/tmp dbname=x", "--read-only",
                                           "--idle-timeout=60", "--trusted-proxy", "10.0.0.0/8"});
    CHECK(options.listen.size() == 2);
    CHECK(options.listen[1].port == 8080);
    CHECK(options.read_only);
    CHECK(options.idle_timeout == 60s);
    Options file;
    read_config(file,
                "# a comment\n\nlisten = 127.0.0.1:81\r\ndatabase = a=host=h\ndatabase = "
                "b=host=h\nread-only\n",
                "f");
    CHECK(file.listen[0].port == 81);
    CHECK(file.databases.size() == 2);
    CHECK(file.databases[1] == "b=host=h");
    CHECK(file.read_only);
    for (const auto &wrong :
         std::vector<std::vector<std::string>>{{},
                                               {"--nothing"},
                                               {"main=x"},
                                               {"--listen"},
                                               {"--listen", "x:80"},
                                               {"--listen", "::1:80"},
                                               {"--listen", "1.2.3.4:99999"},
                                               {"--database", "a=", "--tls-cert", "c"},
                                               {"--idle-timeout", "0"},
                                               {"--idle-timeout", "1x"},
                                               {"--trusted-proxy", "10.0.0.0/33"},
                                               {"--database", "a=", "--proxy-user-header", "A"},
                                               {"--database", "a=", "--allowed-host", "https://x"},
                                               {"--database", "a=", "--allowed-host", ""},
                                               {"--proxy-user-header", "A: b"}})
        CHECK_THROWS_AS(parse_options(wrong), std::invalid_argument);
    CHECK_THROWS_WITH(read_config(file, "\nnothing = 1\n", "f"),
                      "f, line 2: there is no option \"nothing\"");
    for (const char *name : {"--listen", "--database", "--read-only", "--max-body", "--config"})
        CHECK(help_text().find(name) != std::string::npos);
}

TEST_CASE("SQLSTATEs become statuses")
{
    for (const auto &[sqlstate, status] : std::vector<std::pair<const char *, int>>{{"22P02", 400},
                                                                                    {"23505", 400},
                                                                                    {"42501", 403},
                                                                                    {"42704", 404},
                                                                                    {"42883", 503},
                                                                                    {"3F000", 503},
                                                                                    {"55000", 409},
                                                                                    {"40001", 409},
                                                                                    {"57014", 503},
                                                                                    {"57P01", 503},
                                                                                    {"08006", 503},
                                                                                    {"53300", 503},
                                                                                    {"25006", 403},
                                                                                    {"JB001", 429},
                                                                                    {"XX000", 500},
                                                                                    {"28P01", 401},
                                                                                    {"42P02", 400},
                                                                                    {"54001", 400},
                                                                                    {"P0001", 400}})
        CHECK_MESSAGE(http_status_of(sqlstate) == status, sqlstate);
}

TEST_CASE("rates follow from two overviews, and nothing from a server that was restarted")
{
    const auto overview = [](int enqueued, const char *counts) {
        return R"({"jobs":{"ready":{"count":7}},"counters":{"enqueued":")" +
               std::to_string(enqueued) +
               R"(","completed":"0","failed":"0"},"wait":{"bounds":[1,2,4],"counts":)" + counts +
               R"(},"run":{"bounds":[],"counts":[]}})";
    };
    Rates rates;
    const Figures first = rates.add(overview(100, "[0,0,0,0]"), 1000);
    CHECK(first.ready == 7);
    CHECK(!first.enqueued);
    const Figures second = rates.add(overview(150, "[0,100,0,0]"), 1500);
    CHECK(second.enqueued == doctest::Approx(100));
    CHECK(second.completed == doctest::Approx(0));
    CHECK(second.wait_p95 == doctest::Approx(1.95));
    CHECK(!second.run_p95);
    const Figures third = rates.add(overview(3, "[0,0,0,0]"), 2500);
    CHECK(!third.enqueued);
    CHECK(!third.wait_p95);
    CHECK(third.to_json() == "[2500,7.0,null,0.0,0.0,null,null]");
    CHECK(!rates.add(overview(5, "[0,0,0,0]"), 60000).enqueued); /* a pause */
    CHECK(rates.add("nonsense", 61000).to_json() == "[61000,null,null,null,null,null,null]");
}

TEST_CASE("a quantile beyond the last bound is that bound")
{
    CHECK(p95_between({{1, 2}, {0, 0, 0}}, {{1, 2}, {0, 0, 10}}) == 2);
    CHECK(!p95_between({{1}, {0, 0}}, {{1}, {0, 0}}));
    CHECK(!p95_between({}, {{1}, {5, 0}}));
}

TEST_CASE("a client that waits makes room for others")
{
    Clients clients(3, 2);
    const auto a = boost::asio::ip::make_address("10.0.0.1");
    const auto b = boost::asio::ip::make_address("10.0.0.2");
    std::vector<int> closed;
    const auto add = [&](const auto &address, int number) {
        return clients.add({address, [&closed, number] { closed.push_back(number); }});
    };
    add(a, 1);
    auto second = add(a, 2);
    clients.now(Clients::Doing::working, second);
    CHECK(clients.admit(a, false)); /* the first of a has to go */
    CHECK(closed == std::vector{1});
    CHECK(!clients.admit(a, false)); /* it is closed only once, and the second is worked for */
    add(b, 3);
    CHECK(clients.admit(b, false));
    CHECK(closed == std::vector{1, 3});
    clients.now(Clients::Doing::reading, second);
    clients.end_all();
    CHECK(closed.back() == 2);
}

TEST_CASE("the connection that has not got on for longest makes room, reading or sending")
{
    Clients clients(3, 3);
    std::vector<int> closed;
    const auto add = [&](int number) {
        return clients.add({boost::asio::ip::make_address("10.0.0.1"),
                            [&closed, number] { closed.push_back(number); }});
    };
    auto working = add(1);
    auto stalled = add(2);
    auto listener = add(3);
    clients.now(Clients::Doing::working, working);
    clients.now(Clients::Doing::sending, stalled);
    clients.now(Clients::Doing::sending, listener);
    const auto other = boost::asio::ip::make_address("10.0.0.2");
    CHECK(clients.admit(other, false));
    CHECK(closed == std::vector{2});
    CHECK(clients.admit(other, false));
    CHECK(closed == std::vector{2, 3});
    CHECK(!clients.admit(other, false));
    clients.end_all(); /* lets those finish that are sent a reply */
    CHECK(closed == std::vector{2, 3});
}

TEST_CASE("addresses of one network of IPv6 count as one, a proxy's is not limited")
{
    Clients clients(10, 2);
    int closed = 0;
    const auto address = [](const char *text) { return boost::asio::ip::make_address(text); };
    for (const char *text : {"2001:db8::1", "2001:db8::2:1"})
        clients.add({address(text), [&] { closed++; }});
    CHECK(clients.admit(address("2001:db8:0:1::1"), false));
    CHECK(closed == 0);
    CHECK(clients.admit(address("2001:db8::3"), true));
    CHECK(closed == 0);
    CHECK(clients.admit(address("2001:db8::3"), false));
    CHECK(closed == 1);
    CHECK(counted_as(address("::ffff:10.0.0.1")) == address("10.0.0.1"));
    CHECK(counted_as(address("10.0.0.1")) == address("10.0.0.1"));
}
