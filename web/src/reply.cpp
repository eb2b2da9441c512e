/* reply.cpp - see reply.hpp. */
#include "reply.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <ctime>

namespace backfill::web
{

namespace
{

std::string iso_time()
{
    const auto now = std::chrono::system_clock::now();
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    const auto millis =
        std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() %
        1000;
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[64];
    const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(millis));
    return text;
}

/* Pages may load and ask nothing but what comes from here, and no script but that of the bundle. */
constexpr std::string_view kSecurityHeaders =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "X-Frame-Options: DENY\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Permissions-Policy: camera=(), geolocation=(), microphone=()\r\n";

} // namespace

Reply to_reply(const Problem &problem)
{
    nlohmann::json body = {{"error", problem.message},
                           {"code", problem.code},
                           {"timestamp", iso_time()},
                           {"detail", nullptr},
                           {"hint", nullptr}};
    if (!problem.detail.empty())
        body["detail"] = problem.detail;
    if (!problem.hint.empty())
        body["hint"] = problem.hint;
    return json_reply(problem.status,
                      body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Reply problem(int status, std::string_view code, std::string message, std::string hint)
{
    return to_reply(Problem{status, std::string(code), std::move(message), {}, std::move(hint)});
}

Reply json_reply(int status, std::string body)
{
    Reply reply;
    reply.status = status;
    reply.body = std::move(body);
    return reply;
}

std::string head_of(const Reply &reply, const Manner &manner)
{
    std::string head = manner.http_1_0 ? "HTTP/1.0 " : "HTTP/1.1 ";
    head += std::to_string(reply.status);
    head += ' ';
    head += reason_of(reply.status);
    head += "\r\n";
    bool cacheable = false;
    for (const auto &[name, value] : reply.headers) {
        head.append(name).append(": ").append(value).append("\r\n");
        cacheable = cacheable || name == "Cache-Control";
    }
    if (!cacheable)
        head += "Cache-Control: no-store\r\n";
    const bool has_content = reply.status != 204 && reply.status != 304;
    if (has_content)
        head.append("Content-Type: ").append(reply.content_type).append("\r\n");
    if (has_content && !manner.endless)
        head.append("Content-Length: ")
            .append(std::to_string(reply.content().size()))
            .append("\r\n");
    if (!manner.keep_alive || manner.endless)
        head += "Connection: close\r\n";
    else if (manner.http_1_0)
        head += "Connection: keep-alive\r\n";
    head += kSecurityHeaders;
    if (manner.secure)
        head += "Strict-Transport-Security: max-age=31536000\r\n";
    head += "\r\n";
    return head;
}

std::string_view reason_of(int status)
{
    static constexpr std::pair<int, std::string_view> kReasons[] = {
        {200, "OK"},
        {201, "Created"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
    };
    for (const auto &[number, reason] : kReasons)
        if (number == status)
            return reason;
    return "Unknown";
}

} // namespace backfill::web
