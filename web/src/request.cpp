/* request.cpp - see request.hpp. */
#include "request.hpp"

#include "url.hpp"

#include <boost/asio/ip/address.hpp>

#include <algorithm>
#include <cctype>
#include <iterator>

namespace backfill::web
{

namespace
{

bool has_token(std::string_view list, std::string_view token)
{
    while (!list.empty()) {
        const std::string_view item = list.substr(0, list.find(','));
        list.remove_prefix(std::min(list.size(), item.size() + 1));
        if (lower(trim(item)) == token)
            return true;
    }
    return false;
}

Reply refused(int status, std::string_view code, std::string message)
{
    Reply reply = problem(status, code, std::move(message));
    reply.close = true;
    return reply;
}

} // namespace

std::string_view header_of(const Request &request, std::string_view name)
{
    const auto field = request.find(boost::beast::string_view(name.data(), name.size()));
    return field == request.end() ? std::string_view() : view(field->value());
}

std::string list_of(const Request &request, std::string_view name)
{
    std::string list;
    const auto [first, last] =
        request.equal_range(boost::beast::string_view(name.data(), name.size()));
    for (auto field = first; field != last; ++field)
        list.append(field == first ? "" : ",").append(view(field->value()));
    return list;
}

std::size_t count_of(const Request &request, std::string_view name)
{
    return request.count(boost::beast::string_view(name.data(), name.size()));
}

/* Beast refuses a body of two lengths, and two framings in one request. Codings other than
 * "chunked" it takes for no body at all. */
std::optional<Reply> refuse_framing(const Request &request)
{
    const std::size_t codings = count_of(request, "Transfer-Encoding");
    if (codings > 1 ||
        (codings == 1 && lower(trim(header_of(request, "Transfer-Encoding"))) != "chunked"))
        return refused(400, "bad_request", "only the transfer coding chunked is known here");
    if (codings == 1 && (request.version() < 11 || count_of(request, "Content-Length") > 0))
        return refused(400, "bad_request", "the length of the body is not clear");
    if (count_of(request, "Content-Length") > 1)
        return refused(400, "bad_request", "the length of the body is given twice");
    const std::string_view length = header_of(request, "Content-Length");
    if (length.find_first_not_of("0123456789") != std::string_view::npos)
        return refused(400, "bad_request", "the length of the body is no number");
    if (request.version() != 10 && request.version() != 11)
        return refused(400, "bad_request", "only HTTP/1.0 and HTTP/1.1 are spoken here");
    if (count_of(request, "Host") > 1 ||
        (request.version() == 11 && count_of(request, "Host") == 0))
        return refused(400, "bad_host", "the request must name one host");
    return {};
}

std::size_t headers_of(const Request &request)
{
    return static_cast<std::size_t>(std::distance(request.begin(), request.end()));
}

std::optional<Reply> refuse_trailers(const Request &request, std::size_t headers)
{
    if (headers_of(request) == headers)
        return {};
    return refused(400, "bad_request", "headers after the body are not known here");
}

Reply reply_to_parse_error(const boost::system::error_code &error)
{
    if (error == http::error::body_limit)
        return refused(413, "too_large", "the body is too large");
    if (error == http::error::header_limit)
        return refused(431, "too_large", "the header is too large");
    return refused(400, "bad_request", "the request cannot be read: " + error.message());
}

bool announces_body(const Request &request)
{
    if (count_of(request, "Transfer-Encoding") > 0)
        return true;
    const std::string_view length = header_of(request, "Content-Length");
    return !length.empty() && length.find_first_not_of('0') != std::string_view::npos;
}

Manner manner_of(const Request &request, bool secure)
{
    Manner manner;
    const std::string_view connection = header_of(request, "Connection");
    manner.http_1_0 = request.version() == 10;
    manner.keep_alive =
        manner.http_1_0 ? has_token(connection, "keep-alive") : !has_token(connection, "close");
    manner.head_only = request.method() == http::verb::head;
    manner.secure = secure;
    return manner;
}

std::string host_of(std::string_view authority)
{
    std::string_view host = authority;
    if (host.starts_with('[')) {
        const std::size_t end = host.find(']');
        if (end == std::string_view::npos)
            return {};
        host = host.substr(0, end + 1);
    } else {
        host = host.substr(0, host.find(':'));
    }
    const std::string_view port = authority.substr(host.size());
    if (!port.empty() &&
        (port.front() != ':' || !std::all_of(port.begin() + 1, port.end(),
                                             [](unsigned char c) { return std::isdigit(c); })))
        return {};
    if (host.ends_with('.'))
        host.remove_suffix(1);
    return lower(host);
}

bool is_address(std::string_view host)
{
    if (host.starts_with('[') && host.ends_with(']'))
        host = host.substr(1, host.size() - 2);
    boost::system::error_code error;
    boost::asio::ip::make_address(std::string(host), error);
    return !error;
}

} // namespace backfill::web
