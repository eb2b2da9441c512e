/* request_path_test.cpp - what happens to bytes until they are the values of a statement. */
#include "request_path.hpp"

#include <doctest/doctest.h>

using namespace backfill::web;

namespace
{

Guard guard()
{
    return Guard({"queue.example"}, {*parse_range("10.0.0.0/8"), *parse_range("::1")},
                 "X-Forwarded-User");
}

Understood go(const std::string &bytes)
{
    return understand_bytes(bytes, guard());
}

/* 0: it was not refused. */
int status_of(const std::string &bytes)
{
    const Understood result = go(bytes);
    return result.refused ? result.refused->status : 0;
}

std::string get(const std::string &target, const std::string &headers = "")
{
    return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n";
}

std::string with_body(const std::string &start, const std::string &body,
                      const std::string &headers = "Content-Type: application/json\r\n")
{
    return start + " HTTP/1.1\r\nHost: localhost:8080\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

std::string post_job(const std::string &body)
{
    return with_body("POST /api/v1/jobs", body);
}

std::string error_of(const std::string &bytes)
{
    const Understood result = go(bytes);
    return result.refused ? result.refused->body : "";
}

} // namespace

TEST_CASE("values come in the order of the table")
{
    const auto list = go(get("/api/v1/jobs?state=ready&limit=5&task_identifier=a%20b"));
    REQUIRE(list.route != nullptr);
    CHECK(list.route->id == "jobs.list");
    CHECK(list.values[0] == "a b");
    CHECK(!list.values[1]);
    CHECK(list.values[3] == "ready");
    CHECK(list.values[9] == "5");

    const auto job = go(post_job(
        R"({"task_identifier":"t","payload":null,"priority":-5,"timeout":1.5,"run_at":"2030-01-02T03:04:05Z"})"));
    CHECK(!job.refused);
    CHECK(job.values[0] == "t");
    CHECK(job.values[1] == "null"); /* a payload may be null */
    CHECK(!job.values[2]);
    CHECK(job.values[3] == "-5");
    CHECK(job.values[4] == "2030-01-02T03:04:05Z");
    CHECK(job.values[9] == "1.5");
}

TEST_CASE("a wrong value is refused with the name of its field")
{
    CHECK(status_of(get("/api/v1/jobs?limit=5x")) == 400);
    CHECK(error_of(get("/api/v1/jobs?limit=99999999999")).find("\\\"limit\\\"") !=
          std::string::npos);
    CHECK(status_of(get("/api/v1/jobs/9223372036854775808")) == 400);
    CHECK(status_of(get("/api/v1/jobs/9223372036854775807")) == 0);
    CHECK(status_of(get("/api/v1/jobs/-1")) == 0);
    CHECK(status_of(get("/api/v1/jobs/1%20OR%201=1")) == 400);
    CHECK(status_of(get("/api/v1/jobs?unknown=1")) == 400);
    CHECK(status_of(get("/api/v1/dlq?failed_after=yesterday")) == 400);
    CHECK(status_of(get("/api/v1/dlq?failed_after=2030-01-01")) == 0);
    for (const char *time :
         {"2030-01-01", "2030-01-02T03:04Z", "2030-01-02 03:04:05.678901 +02",
          "2030-01-02T03:04:05-0330", "2030-01-02T03:04:05+05:30", "012345-01-01"})
        CHECK_MESSAGE(convert_text(Type::timestamp, time).value, std::string(time));
    for (const char *time :
         {"", "now", "2030", "2030-1-1", "2030-01-01T", "2030-01-01T03",
          "2030-01-01T03:04:", "2030-01-01T03:04:05.", "2030-01-01T03:04Zx", "2030-01-01T03:04+1",
          "2030-01-01x", "2030-01-01T03:04+02:0", "infinity", "2030-01-01 03:04 Europe/Berlin"})
        CHECK_MESSAGE(!convert_text(Type::timestamp, time).value, std::string(time));
    for (const char *body :
         {R"({})", R"({"task_identifier":5})", R"({"task_identifier":"t","priority":"5"})",
          R"({"task_identifier":"t","priority":1.5})", R"({"task_identifier":"t","x":1})",
          R"({"task_identifier":"a\u0000b"})", R"({"task_identifier":"t","run_at":"infinity"})",
          R"({"task_identifier":["t"]})", R"({"task_identifier":"t","priority":3000000000})"})
        CHECK_MESSAGE(status_of(post_job(body)) == 422, body);
    CHECK(status_of(post_job("{")) == 400);
    CHECK(status_of(post_job("[]")) == 400);
}

TEST_CASE("calls that act on many need ids or a filter, and a limit")
{
    const auto cancel = [](const std::string &body) {
        return with_body("POST /api/v1/jobs/cancel", body);
    };
    CHECK(status_of(cancel("{}")) == 422);
    CHECK(status_of(cancel(R"({"ids":["1"],"filter":{}})")) == 422);
    CHECK(status_of(cancel(R"({"filter":{"nothing":1}})")) == 422);
    CHECK(status_of(cancel(R"({"filter":"all"})")) == 422);
    CHECK(status_of(cancel(R"({"ids":["1 OR 1"]})")) == 422);
    CHECK(status_of(cancel(R"({"ids":[1.5]})")) == 422);
    CHECK(status_of(cancel(R"({"filter":{},"max":10001})")) == 422);
    CHECK(status_of(cancel(R"({"filter":{},"max":0})")) == 422);
    CHECK(go(cancel(R"({"ids":["1",2]})")).values[0] == "{1,2}");
    CHECK(go(cancel(R"({"filter":{}})")).values[1] == "10000");
    const auto filtered = go(cancel(R"({"filter":{"payload":{"a":1.0}},"max":7})"));
    CHECK(!filtered.values[0]);
    CHECK(filtered.values[1] == "7");
    CHECK(filtered.values[8] == R"({"a":1.0})");
    std::string ids = "[\"1\"";
    for (int i = 0; i < kMostAtOnce; i++)
        ids += ",\"1\"";
    CHECK(status_of(cancel("{\"ids\":" + ids + "]}")) == 422);
}

TEST_CASE("requests that could be read in two ways end the connection")
{
    const std::string start = "POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n"
                              "Content-Type: application/json\r\n";
    const std::string chunk = "2\r\n{}\r\n0\r\n\r\n";
    CHECK(status_of(start + "Transfer-Encoding: chunked\r\n\r\n" + chunk) == 422);
    for (const char *headers :
         {"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
          "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "Transfer-Encoding: xchunked\r\n",
          "Transfer-Encoding: chunked, identity\r\n", "Transfer-Encoding: identity\r\n",
          "Transfer-Encoding: gzip, chunked\r\n",
          "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
          "Content-Length: 2\r\nContent-Length: 3\r\n", "Content-Length: +2\r\n",
          "Content-Length: -2\r\n", "Content-Length: 2, 2\r\n", "Content-Length: 0x2\r\n",
          "Content-Length : 2\r\n", "Content-Length:\r\n 2\r\nHost: other\r\n"}) {
        const Understood result = go(start + headers + "\r\n" + chunk);
        REQUIRE_MESSAGE(result.refused, std::string(headers));
        CHECK_MESSAGE(result.refused->status == 400, std::string(headers));
        CHECK_MESSAGE(result.refused->close, std::string(headers));
    }
    CHECK(status_of("POST /api/v1/jobs HTTP/1.0\r\nHost: localhost\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n" +
                    chunk) == 400);
}

TEST_CASE("a host that is not known is refused, an address is not")
{
    const auto host = [](const std::string &name) {
        return status_of("GET /api/v1/openapi.json HTTP/1.1\r\nHost: " + name + "\r\n\r\n");
    };
    for (const char *name : {"localhost", "LOCALHOST:99", "queue.example", "127.0.0.1:8080",
                             "[::1]:80", "192.168.1.5", "queue.example."})
        CHECK_MESSAGE(host(name) == 0, name);
    for (const char *name :
         {"evil.example", "localhost.evil.example", "queue.example.evil.example"})
        CHECK_MESSAGE(host(name) == 421, name);
    for (const char *name : {"", "localhost:80x", "local host", "a@localhost:b", "[::1"})
        CHECK_MESSAGE(host(name) >= 400, name);
    CHECK(status_of("GET / HTTP/1.1\r\n\r\n") == 400);
    CHECK(status_of("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n") == 400);
    CHECK(status_of("GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n") == 0);
}

TEST_CASE("pages of other sites may neither change nor read")
{
    const std::string json = "Content-Type: application/json\r\n";
    const auto post = [&](const std::string &headers) {
        return status_of(with_body("POST /api/v1/jobs/5/cancel", "", headers));
    };
    CHECK(post("") == 0);
    CHECK(post("Origin: http://localhost:8080\r\n") == 0);
    CHECK(post("Origin: http://localhost\r\n") == 403); /* another port */
    CHECK(post("Origin: http://evil.example\r\n") == 403);
    CHECK(post("Origin: null\r\n") == 403);
    CHECK(post("Sec-Fetch-Site: same-origin\r\n") == 0);
    CHECK(post("Sec-Fetch-Site: cross-site\r\n") == 403);
    CHECK(post("Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:8080\r\n") == 403);
    CHECK(status_of(get("/api/v1/jobs", "Sec-Fetch-Site: cross-site\r\n")) == 403);
    CHECK(status_of(get("/jobs/5", "Sec-Fetch-Site: cross-site\r\n")) ==
          0); /* a link to the page */
}

TEST_CASE("bodies are JSON, and have a place")
{
    for (const char *type : {"text/plain", "application/x-www-form-urlencoded",
                             "multipart/form-data", "application/jsonp", ""})
        CHECK_MESSAGE(status_of(with_body("POST /api/v1/jobs", R"({"task_identifier":"t"})",
                                          "Content-Type: " + std::string(type) + "\r\n")) == 415,
                      type);
    CHECK(status_of(with_body("POST /api/v1/jobs", R"({"task_identifier":"t"})",
                              "Content-Type: Application/JSON; charset=utf-8\r\n")) == 0);
    CHECK(status_of(with_body("GET /api/v1/jobs", "{}")) == 400);
    CHECK(status_of(with_body("GET /", "{}")) == 400);
}

TEST_CASE("methods that are not possible say which are")
{
    CHECK(status_of("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n") == 405);
    CHECK(status_of("TRACE /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n") == 405);
    CHECK(status_of("OPTIONS /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n") == 204);
    CHECK(status_of("GET /api/v1/none HTTP/1.1\r\nHost: localhost\r\n\r\n") == 404);
    CHECK(status_of("GET /api/v2/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n") == 404);
    CHECK(status_of("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n") == 400);
    CHECK(status_of("BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n") >= 400);
}

TEST_CASE("only a proxy is believed")
{
    const auto client = [](const char *peer, const std::string &headers) {
        Parser parser;
        parser.eager(true);
        boost::system::error_code error;
        const std::string bytes = get("/", headers);
        parser.put(boost::asio::buffer(bytes), error);
        REQUIRE(parser.is_header_done());
        return guard().client_of(parser.get(), boost::asio::ip::make_address(peer), false);
    };
    const std::string all = "X-Forwarded-User: admin\r\nX-Forwarded-Proto: https\r\n"
                            "X-Forwarded-For: 1.2.3.4, 5.6.7.8, 10.9.9.9\r\n";
    const Client stranger = client("192.168.0.1", all);
    CHECK(!stranger.proxy_user);
    CHECK(!stranger.secure);
    CHECK(stranger.address.to_string() == "192.168.0.1");
    for (const char *peer : {"10.1.2.3", "::ffff:10.1.2.3", "::1"}) {
        const Client known = client(peer, all);
        CHECK(known.proxy_user == "admin");
        CHECK(known.secure);
        CHECK(known.address.to_string() == "5.6.7.8");
    }
    CHECK(!client("10.1.2.3", all + "X-Forwarded-User: other\r\n").proxy_user);
    CHECK(client("10.1.2.3", "X-Forwarded-For: nonsense\r\n").address.to_string() == "10.1.2.3");
    CHECK(!client("11.1.2.3", all).proxy_user);
    /* A proxy that adds a line of its own to the client's. */
    const Client twice =
        client("10.1.2.3", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
                           "X-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: http\r\n");
    CHECK(twice.address.to_string() == "5.6.7.8");
    CHECK(!twice.secure);
}

TEST_CASE("a proxy names a role only in the header that it was given")
{
    Parser parser;
    boost::system::error_code error;
    const std::string bytes = get("/", "X-Forwarded-User: admin\r\n");
    parser.put(boost::asio::buffer(bytes), error);
    REQUIRE(parser.is_header_done());
    const Guard without({}, {*parse_range("10.0.0.0/8")}, "");
    CHECK(!without.client_of(parser.get(), boost::asio::ip::make_address("10.1.2.3"), false)
               .proxy_user);
}

TEST_CASE("an empty text is a filter for what has none, and other empty values are left out")
{
    const auto list = go(get("/api/v1/dlq?sqlstate=&queue_name=&limit=&failed_after="));
    REQUIRE(!list.refused);
    CHECK(list.values[1] == "");
    CHECK(list.values[2] == "");
    CHECK(!list.values[0]);
    CHECK(!list.values[3]);
    const auto many =
        go(with_body("POST /api/v1/dlq/delete", R"({"filter":{"sqlstate":"","queue_name":""}})"));
    REQUIRE(!many.refused);
    CHECK(many.values[3] == "");
    CHECK(many.values[4] == "");
}

TEST_CASE("headers after the body are refused")
{
    const auto post = [](const std::string &trailer) {
        return status_of("POST /api/v1/jobs/5/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                         "application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" +
                         trailer + "\r\n");
    };
    CHECK(post("") == 0);
    CHECK(post("X-Forwarded-User: admin\r\n") == 400);
    CHECK(post("Cookie: a=b\r\n") == 400);
}

TEST_CASE("headers and bodies have limits")
{
    CHECK(status_of(get("/", "X: " + std::string(20000, 'x') + "\r\n")) == 431);
    CHECK(status_of(get("/" + std::string(20000, 'x'))) == 431);
    CHECK(status_of("POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                    "1099511627776\r\n\r\n") == 413);
}

TEST_CASE("a name of dots only has a slash before it")
{
    const auto name = [](const std::string &segment) {
        const auto found = go(get("/api/v1/queues/" + segment));
        REQUIRE(found.route != nullptr);
        return found.values[0].value();
    };
    CHECK(name("%2F.") == ".");
    CHECK(name("%2F..") == "..");
    CHECK(name("%2F%2F..") == "/..");
    CHECK(name("%2Fx") == "/x");
    CHECK(name("%2F...") == "/...");
    CHECK(name("%2F") == "/");
    CHECK(name("a%2F..") == "a/..");
}
