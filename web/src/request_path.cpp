/* request_path.cpp - see request_path.hpp. */
#include "request_path.hpp"

#include <boost/asio/buffer.hpp>

namespace backfill::web
{

namespace
{

bool is_reading(http::verb verb)
{
    return verb == http::verb::get || verb == http::verb::head;
}

Reply method_not_allowed(const std::vector<Method> &methods)
{
    Reply reply = problem(405, "method_not_allowed", "this method is not possible here");
    reply.headers.emplace_back("Allow", allow_header(methods));
    return reply;
}

Reply options_reply(const std::vector<Method> &methods)
{
    Reply reply;
    reply.status = 204;
    reply.headers.emplace_back("Allow", allow_header(methods));
    return reply;
}

/* The API's part of understand(). */
std::optional<Reply> refuse_api_call(const Request &request, const Guard &guard, Asked &asked)
{
    const auto &segments = asked.target.segments;
    asked.match = find_route(view(request.method_string()), {segments.begin() + 2, segments.end()});
    if (asked.match.allowed.empty())
        return problem(404, "not_found", "there is no such route",
                       "See /api/v1/openapi.json for those that there are.");
    if (request.method() == http::verb::options)
        return options_reply(asked.match.allowed);
    if (asked.match.route == nullptr)
        return method_not_allowed(asked.match.allowed);
    if (auto reply = guard.refuse_site(request, !is_reading(request.method())))
        return reply;
    if (is_reading(request.method()) && announces_body(request))
        return problem(400, "bad_request", "a request that only reads has no body");
    if (announces_body(request) && !is_json(header_of(request, "Content-Type")))
        return problem(415, "not_json", "the body must be of content type application/json");
    return {};
}

} // namespace

std::variant<Asked, Reply> understand(const Request &request, const Guard &guard)
{
    auto target = parse_target(view(request.target()));
    if (!target)
        return problem(400, "bad_request", "the target of the request cannot be read");
    Asked asked{Asked::What::page, std::move(*target), {}};
    const auto &segments = asked.target.segments;
    const auto is = [&](std::string_view name) {
        return segments.size() == 1 && segments[0] == name;
    };
    if (is("healthz"))
        asked.what = Asked::What::healthz;
    else if (is("metrics"))
        asked.what = Asked::What::metrics;
    else if (segments.size() >= 2 && segments[0] == "api" && segments[1] == "v1")
        asked.what = Asked::What::api;
    else if (!segments.empty() && segments[0] == "api")
        return problem(404, "not_found", "the API begins with /api/v1");
    else if (!segments.empty() && segments[0] == "assets")
        asked.what = Asked::What::asset;
    if (asked.what != Asked::What::healthz)
        if (auto reply = guard.refuse_host(request))
            return std::move(*reply);
    if (asked.what == Asked::What::api) {
        if (auto reply = refuse_api_call(request, guard, asked))
            return std::move(*reply);
        return asked;
    }
    if (request.method() == http::verb::options)
        return options_reply({Method::get});
    if (!is_reading(request.method()))
        return method_not_allowed({Method::get});
    if (announces_body(request))
        return problem(400, "bad_request", "a request that only reads has no body");
    return asked;
}

Understood understand_bytes(std::string_view bytes, const Guard &guard)
{
    Understood result;
    Parser parser;
    parser.header_limit(kMostHeaderBytes);
    parser.body_limit(1 << 20);
    boost::system::error_code error;
    std::size_t headers = 0;
    while (!bytes.empty() && !parser.is_done() && !error) {
        const std::size_t taken =
            parser.put(boost::asio::buffer(bytes.data(), bytes.size()), error);
        bytes.remove_prefix(taken);
        if (parser.is_header_done() && !parser.eager()) {
            headers = headers_of(parser.get());
            parser.eager(true);
        }
        if (taken == 0)
            break;
    }
    if (error && error != http::error::need_more) {
        result.refused = reply_to_parse_error(error);
        return result;
    }
    if (!parser.is_done()) {
        result.refused = problem(408, "timeout", "the request is not complete");
        return result;
    }
    const Request request = parser.release();
    result.refused = refuse_framing(request);
    if (!result.refused)
        result.refused = refuse_trailers(request, headers);
    if (result.refused)
        return result;
    auto asked = understand(request, guard);
    if (auto *reply = std::get_if<Reply>(&asked)) {
        result.refused = std::move(*reply);
        return result;
    }
    const Asked &what = std::get<Asked>(asked);
    result.route = what.match.route;
    if (result.route == nullptr)
        return result;
    auto values = bind_values(*result.route, what.match.path_values, what.target, request.body());
    if (const auto *wrong = std::get_if<Problem>(&values))
        result.refused = to_reply(*wrong);
    else
        result.values = std::get<SqlValues>(std::move(values));
    return result;
}

} // namespace backfill::web
