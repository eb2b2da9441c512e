/* routes_test.cpp - the table of routes has no two entries for one thing, and its statements take
 * the parameters that it names. */
#include "openapi.hpp"
#include "routes.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <regex>
#include <set>
#include <string>

using namespace backfill::web;

namespace
{

/* The path with its parameters replaced by one name: two of the same cannot be told apart. */
std::string shape_of(const Place &place)
{
    std::string shape(name_of(place.method));
    for (const std::string_view segment : split_path(place.path))
        shape += segment.starts_with(':') ? "/:" : "/" + std::string(segment);
    return shape;
}

std::size_t path_parameters(std::string_view path)
{
    const auto segments = split_path(path);
    return static_cast<std::size_t>(
        std::count_if(segments.begin(), segments.end(),
                      [](std::string_view segment) { return segment.starts_with(':'); }));
}

const Route *found(std::string_view method, std::vector<std::string> segments)
{
    return find_route(method, segments).route;
}

} // namespace

TEST_CASE("ids are unique, and so are places")
{
    std::set<std::string_view> ids;
    std::set<std::string> shapes;
    for (const Route &route : all_routes()) {
        CHECK_MESSAGE(ids.insert(route.id).second, route.id);
        REQUIRE_MESSAGE(!route.places.empty(), route.id);
        for (const Place &place : route.places)
            CHECK_MESSAGE(shapes.insert(shape_of(place)).second, shape_of(place));
    }
}

TEST_CASE("every place is found as the route that it belongs to")
{
    for (const Route &route : all_routes()) {
        for (const Place &place : route.places) {
            std::vector<std::string> segments;
            for (const std::string_view segment : split_path(place.path))
                segments.push_back(segment.starts_with(':') ? "77" : std::string(segment));
            const Match match = find_route(name_of(place.method), segments);
            REQUIRE_MESSAGE(match.route != nullptr, place.path);
            CHECK_MESSAGE(match.route->id == route.id, place.path);
            CHECK(match.path_values.size() == path_parameters(place.path));
        }
    }
}

TEST_CASE("statements have a parameter for each value, and no more")
{
    for (const Route &route : all_routes()) {
        const auto in_path = static_cast<std::size_t>(
            std::count_if(route.parameters.begin(), route.parameters.end(),
                          [](const Parameter &p) { return p.from == From::path; }));
        for (const Place &place : route.places)
            CHECK_MESSAGE(path_parameters(place.path) == in_path, route.id);
        if (route.kind != Kind::sql)
            continue;
        const std::string sql(route.sql);
        for (std::size_t i = 1; i <= route.parameters.size(); i++) {
            const std::string number = "$" + std::to_string(i);
            const std::size_t at = sql.find(number);
            REQUIRE_MESSAGE(at != std::string::npos, route.id << " lacks " << number);
        }
        CHECK_MESSAGE(sql.find("$" + std::to_string(route.parameters.size() + 1)) ==
                          std::string::npos,
                      route.id);
        CHECK_MESSAGE(!route.needs.empty(), route.id);
        CHECK(route.then_sql.find("$2") == std::string_view::npos);
    }
}

TEST_CASE("only what reads is a GET, and only what changes is none")
{
    for (const Route &route : all_routes())
        if (route.kind == Kind::sql)
            for (const Place &place : route.places)
                CHECK_MESSAGE((place.method == Method::get) == !route.changes, route.id);
}

TEST_CASE("a word is meant rather than a parameter")
{
    CHECK(found("POST", {"jobs", "cancel"})->id == "jobs.cancel_many");
    CHECK(found("GET", {"dlq", "stats"})->id == "dlq.stats");
    CHECK(found("GET", {"dlq", "17"})->id == "dlq.get");
    CHECK(found("DELETE", {"jobs", "17", "cancel"})->id == "jobs.cancel");
    CHECK(found("HEAD", {"jobs"})->id == "jobs.list");
}

TEST_CASE("a path without the method says which methods there are")
{
    const Match match = find_route("PUT", {"jobs", "17"});
    CHECK(match.route == nullptr);
    CHECK(allow_header(match.allowed) == "DELETE, GET, HEAD, OPTIONS, PATCH");
    CHECK(find_route("GET", {"nothing"}).allowed.empty());
    CHECK(find_route("GET", {}).allowed.empty());
    /* A parameter's route does not lend its methods to a word's. */
    CHECK(find_route("DELETE", {"dlq", "stats"}).route == nullptr);
}

TEST_CASE("the description of the API has every place")
{
    const auto document = nlohmann::json::parse(openapi_document());
    CHECK(document["openapi"] == "3.1.0");
    std::size_t operations = 0;
    for (const auto &[path, methods] : document["paths"].items())
        operations += methods.size();
    std::size_t places = 0;
    std::set<std::string> ids;
    for (const Route &route : all_routes())
        places += route.places.size();
    CHECK(operations == places);
    for (const auto &[path, methods] : document["paths"].items())
        for (const auto &[method, operation] : methods.items())
            CHECK(ids.insert(operation["operationId"].get<std::string>()).second);
}

/* The server asks for the right to execute every function of a statement when it begins, whether
 * its branch is reached or not. */
TEST_CASE("a route needs all functions and views of its statement")
{
    static const std::regex pattern(R"((from|join)?\s*\bbackfill\.(\w+)(\s*\()?)",
                                    std::regex::icase);
    for (const Route &route : all_routes()) {
        const std::string sql(route.sql);
        for (std::sregex_iterator found(sql.begin(), sql.end(), pattern), end; found != end;
             ++found) {
            const bool is_function = (*found)[3].matched;
            const std::string need = (is_function ? "" : "view ") + (*found)[2].str();
            CHECK_MESSAGE(std::count(route.needs.begin(), route.needs.end(), need) == 1,
                          (std::string(route.id) + " needs " + need));
        }
    }
}

TEST_CASE("the description of the API is made once")
{
    CHECK(&openapi_document() == &openapi_document());
}
