/* routes.hpp - finds the route of a request. */
#pragma once

#include "route.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::web
{

struct Match {
    const Route *route = nullptr;
    /* The values of the path's parameters, in their order. */
    std::vector<std::string> path_values;
    /* If there is a path but no route: the methods that it has. */
    std::vector<Method> allowed;
};

/* segments: the decoded path below /api/v1. */
Match find_route(std::string_view method, const std::vector<std::string> &segments);

/* The route with an id; it must exist. */
const Route &route_of(std::string_view id);

/* "GET, HEAD, POST": for the header Allow. */
std::string allow_header(const std::vector<Method> &methods);

/* "/jobs/:id" as "jobs" and ":id". */
std::vector<std::string_view> split_path(std::string_view path);

/* The functions and views that any route needs, each once. */
std::vector<std::string_view> all_needs();

} // namespace backfill::web
