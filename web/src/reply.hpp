/* reply.hpp - what a request is answered with, and how it is written. */
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace backfill::web
{

class EventQueue;

struct Reply {
    int status = 200;
    std::string_view content_type = "application/json";
    std::string body;
    /* Instead of a body: bytes that are part of the program. */
    std::string_view fixed_body;
    /* Besides those that every reply has. */
    std::vector<std::pair<std::string_view, std::string>> headers;
    /* Nothing more is read from this connection. */
    bool close = false;
    /* The body has no end: what comes in here is sent. */
    std::shared_ptr<EventQueue> events = nullptr;

    std::string_view content() const { return fixed_body.empty() ? body : fixed_body; }
};

/* An error as clients get it. `code` is the SQLSTATE, or a short word. */
struct Problem {
    int status;
    std::string code;
    std::string message;
    std::string detail;
    std::string hint;
};

Reply to_reply(const Problem &problem);
Reply problem(int status, std::string_view code, std::string message, std::string hint = {});
Reply json_reply(int status, std::string body);

/* What becomes of a reply on the way: that depends on the request. */
struct Manner {
    bool http_1_0 = false;
    bool keep_alive = true;
    bool head_only = false;
    /* The client came by TLS, here or at a proxy that is trusted. */
    bool secure = false;
    /* The body is sent in pieces until the connection ends: events. */
    bool endless = false;
};

/* The status line and all headers, with the empty line after them. */
std::string head_of(const Reply &reply, const Manner &manner);

std::string_view reason_of(int status);

} // namespace backfill::web
