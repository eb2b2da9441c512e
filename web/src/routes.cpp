/* routes.cpp - see routes.hpp. */
#include "routes.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace backfill::web
{

namespace
{

bool path_matches(const std::vector<std::string_view> &pattern,
                  const std::vector<std::string> &segments)
{
    return std::equal(pattern.begin(), pattern.end(), segments.begin(), segments.end(),
                      [](std::string_view wanted, const std::string &segment) {
                          return wanted.starts_with(':') || wanted == segment;
                      });
}

/* How many segments are words: "/jobs/cancel" is meant rather than "/jobs/:id". */
std::ptrdiff_t words_in(const std::vector<std::string_view> &pattern)
{
    return std::count_if(pattern.begin(), pattern.end(),
                         [](std::string_view segment) { return !segment.starts_with(':'); });
}

/* A segment "." or ".." would be a step in the path, so clients put a slash before such a name, and
 * one more before a name that has slashes there itself. */
std::string name_in(const std::string &segment)
{
    const std::size_t slashes = segment.find_first_not_of('/');
    if (slashes == 0 || slashes == std::string::npos)
        return segment;
    const std::string rest = segment.substr(slashes);
    return rest == "." || rest == ".." ? segment.substr(1) : segment;
}

std::vector<std::string> values_in(const std::vector<std::string_view> &pattern,
                                   const std::vector<std::string> &segments)
{
    std::vector<std::string> values;
    for (std::size_t i = 0; i < pattern.size(); i++)
        if (pattern[i].starts_with(':'))
            values.push_back(name_in(segments[i]));
    return values;
}

struct Entry {
    const Route *route;
    Method method;
    std::vector<std::string_view> pattern;
};

const std::vector<Entry> &entries()
{
    static const std::vector<Entry> all = [] {
        std::vector<Entry> made;
        for (const Route &route : all_routes())
            for (const Place &place : route.places)
                made.push_back({&route, place.method, split_path(place.path)});
        std::stable_sort(made.begin(), made.end(), [](const Entry &a, const Entry &b) {
            return words_in(a.pattern) > words_in(b.pattern);
        });
        return made;
    }();
    return all;
}

} // namespace

bool Route::acts_on_many() const
{
    return std::any_of(parameters.begin(), parameters.end(),
                       [](const Parameter &parameter) { return parameter.from == From::filter; });
}

const std::vector<Route> &all_routes()
{
    static const std::vector<Route> all = [] {
        std::vector<Route> made;
        for (const auto part : {program_routes, overview_routes, record_routes, job_routes,
                                queue_routes, dead_letter_routes, schedule_routes}) {
            const std::vector<Route> routes = part();
            made.insert(made.end(), routes.begin(), routes.end());
        }
        return made;
    }();
    return all;
}

Match find_route(std::string_view method, const std::vector<std::string> &segments)
{
    Match match;
    if (method == "HEAD")
        method = "GET";
    std::ptrdiff_t words = -1;
    for (const Entry &entry : entries()) {
        if (!path_matches(entry.pattern, segments))
            continue;
        /* The entries with the most words are first; only those of the same path count. */
        if (words >= 0 && words_in(entry.pattern) < words)
            break;
        words = words_in(entry.pattern);
        match.allowed.push_back(entry.method);
        if (name_of(entry.method) == method) {
            match.route = entry.route;
            match.path_values = values_in(entry.pattern, segments);
        }
    }
    return match;
}

const Route &route_of(std::string_view id)
{
    for (const Route &route : all_routes())
        if (route.id == id)
            return route;
    throw std::logic_error("there is no route " + std::string(id));
}

std::string allow_header(const std::vector<Method> &methods)
{
    std::set<std::string_view> names{"OPTIONS"};
    for (const Method method : methods) {
        names.insert(name_of(method));
        if (method == Method::get)
            names.insert("HEAD");
    }
    std::string list;
    for (const std::string_view name : names)
        list.append(list.empty() ? "" : ", ").append(name);
    return list;
}

std::vector<std::string_view> split_path(std::string_view path)
{
    std::vector<std::string_view> segments;
    while (!path.empty()) {
        path.remove_prefix(1);
        segments.push_back(path.substr(0, path.find('/')));
        path.remove_prefix(segments.back().size());
    }
    return segments;
}

std::vector<std::string_view> all_needs()
{
    std::set<std::string_view> needs;
    for (const Route &route : all_routes())
        needs.insert(route.needs.begin(), route.needs.end());
    return {needs.begin(), needs.end()};
}

std::string_view name_of(Method method)
{
    switch (method) {
    case Method::get:
        return "GET";
    case Method::post:
        return "POST";
    case Method::put:
        return "PUT";
    case Method::patch:
        return "PATCH";
    default:
        return "DELETE";
    }
}

} // namespace backfill::web
