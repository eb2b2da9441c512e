/* request.hpp - a request of HTTP, how it is read, and what is refused before any route sees it.
 * Nothing here knows sockets: request_path.hpp goes the whole way from bytes to values. */
#pragma once

#include "reply.hpp"

#include <boost/beast/http.hpp>
#include <boost/version.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace backfill::web
{

namespace http = boost::beast::http;
using Request = http::request<http::string_body>;

/* Refuses a header that comes after the body, which nothing has looked at. Before Boost 1.90 it
 * becomes one of the request's (see refuse_trailers()); later ones may drop it. */
class Parser final : public http::request_parser<http::string_body>
{
#if BOOST_VERSION >= 109000
    void on_trailer_field_impl(http::field, boost::beast::string_view, boost::beast::string_view,
                               boost::system::error_code &error) override
    {
        error = http::error::bad_field;
    }
#endif
};

constexpr std::uint32_t kMostHeaderBytes = 16 * 1024;
/* Of a request that does not belong to a session. */
constexpr std::size_t kMostLoginBytes = 16 * 1024;

inline std::string_view view(boost::beast::string_view text)
{
    return {text.data(), text.size()};
}

/* A header's value; empty if it is not there. */
std::string_view header_of(const Request &request, std::string_view name);

/* The values of all headers of a name in their order, as one list. */
std::string list_of(const Request &request, std::string_view name);

/* How often a header is there. */
std::size_t count_of(const Request &request, std::string_view name);

/* What of an unread request is against HTTP, or could be read in another way by a proxy: then the
 * connection must end. */
std::optional<Reply> refuse_framing(const Request &request);

/* How many headers there are. */
std::size_t headers_of(const Request &request);

/* Of a request that has been read, when it had that many headers before its body. What came after a
 * body in chunks stands among them now, but has not been looked at by anything. */
std::optional<Reply> refuse_trailers(const Request &request, std::size_t headers);

/* The answer to bytes that are no request. */
Reply reply_to_parse_error(const boost::system::error_code &error);

/* Whether it has a body, by its headers. */
bool announces_body(const Request &request);

/* How the reply has to look. */
Manner manner_of(const Request &request, bool secure);

/* The host of an authority, such as the header Host: without the port, in lower case. */
std::string host_of(std::string_view authority);

/* An address as in a URL, or without brackets: 127.0.0.1, ::1, [::1]. */
bool is_address(std::string_view host);

} // namespace backfill::web
