/* conversation.cpp - see conversation.hpp. */
#include "conversation.hpp"

#include "events.hpp"
#include "log.hpp"

#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>

#include <algorithm>
#include <array>
#include <exception>

namespace backfill::web
{

namespace
{

using boost::beast::flat_buffer;

constexpr Seconds kFirstRequestTime{10};
constexpr Seconds kIdleTime{60};
constexpr Seconds kHeaderTime{10};
constexpr Seconds kBodyTime{30};
constexpr Seconds kReplyTime{60};
/* Listeners of events hear something at least this often. */
constexpr Seconds kKeepAlive{15};
constexpr Seconds kEventTime{20};
/* What is still read from a client whose request was refused, so that it can read why. */
constexpr Seconds kLingerTime{2};
constexpr std::size_t kMostLingered = 256 * 1024;
constexpr std::size_t kReadSize = 4096;
/* Bytes on the way to the parser: at most a header, or what stands around a chunk of a body. The
 * body itself does not stay there. */
constexpr std::size_t kMostBuffered = 2 * kMostHeaderBytes;

template <class Stream>
Task<bool> send(Stream &stream, std::string_view head, std::string_view body)
{
    const std::array<asio::const_buffer, 2> buffers{asio::buffer(head.data(), head.size()),
                                                    asio::buffer(body.data(), body.size())};
    ErrorCode error;
    co_await asio::async_write(stream, buffers, asio::redirect_error(asio::use_awaitable, error));
    co_return !error;
}

template <class Stream>
Task<bool> send_reply(Stream &stream, Conversation &conversation, const Reply &reply, Manner manner)
{
    manner.keep_alive = manner.keep_alive && !reply.close && !conversation.place->is_last;
    const bool has_body = !manner.head_only && reply.status != 204 && reply.status != 304;
    const std::string head = head_of(reply, manner);
    conversation.clients.now(Clients::Doing::sending, conversation.place);
    conversation.plain.expires_after(kReplyTime);
    const bool sent = co_await send(stream, head, has_body ? reply.content() : std::string_view());
    co_return sent &&manner.keep_alive;
}

/* Whatever a listener sends, the end of its connection among it, ends its events: else one that has
 * gone would count until the next of them. */
void close_when_heard(boost::asio::ip::tcp::socket &socket, const EventQueuePtr &events)
{
    socket.async_wait(boost::asio::ip::tcp::socket::wait_read,
                      [queue = std::weak_ptr(events)](const ErrorCode &error) {
                          if (const EventQueuePtr listening = queue.lock(); listening && !error)
                              listening->close();
                      });
}

/* Until the listener goes, or the queue ends. */
template <class Stream>
Task<> send_events(Stream &stream, Conversation &conversation, const Reply &reply, Manner manner)
{
    manner.endless = true;
    conversation.clients.now(Clients::Doing::sending, conversation.place);
    conversation.plain.expires_after(kEventTime);
    const std::string head = head_of(reply, manner);
    bool sent = co_await send(stream, head, std::string_view());
    close_when_heard(conversation.plain.socket(), reply.events);
    while (sent) {
        const EventQueue::Text text = co_await reply.events->next(Clock::now() + kKeepAlive);
        if (!text && reply.events->is_closed())
            break;
        conversation.plain.expires_after(kEventTime);
        sent = co_await send(stream, text ? std::string_view(*text) : std::string_view(": \n\n"),
                             std::string_view());
        conversation.clients.now(Clients::Doing::sending, conversation.place);
    }
    reply.events->close();
}

/* An error of the program must not end it. */
Task<Reply> answer_safely(Conversation &conversation, App::Call &call, Request &request)
{
    conversation.plain.expires_never();
    conversation.clients.now(Clients::Doing::working, conversation.place);
    try {
        Reply reply = co_await conversation.app.answer(call, request);
        co_return reply;
    } catch (const std::exception &error) {
        log_line(std::string("internal error: ") + error.what());
    }
    co_return problem(500, "internal", "an internal error; the log of the program has more");
}

/* Waits for the first byte of a request, then for its header. */
template <class Stream>
Task<ErrorCode> read_head(Stream &stream, Conversation &conversation, flat_buffer &buffer,
                          Parser &parser, bool is_first)
{
    ErrorCode error;
    if (buffer.size() == 0) {
        conversation.plain.expires_after(is_first ? kFirstRequestTime : kIdleTime);
        const std::size_t read = co_await stream.async_read_some(
            buffer.prepare(kReadSize), asio::redirect_error(asio::use_awaitable, error));
        if (error)
            co_return error;
        buffer.commit(read);
    }
    conversation.plain.expires_after(kHeaderTime);
    co_await http::async_read_header(stream, buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
    co_return error;
}

/* Whether the client is worth an answer: it may be gone, or have been too slow. */
bool deserves_reply(const ErrorCode &error)
{
    static const ErrorCode of_http = http::error::bad_method;
    return error.category() == of_http.category() && error != http::error::end_of_stream &&
           error != http::error::partial_message;
}

template <class Stream>
Task<ErrorCode> read_body(Stream &stream, Conversation &conversation, flat_buffer &buffer,
                          Parser &parser)
{
    ErrorCode error;
    conversation.plain.expires_after(kBodyTime);
    if (header_of(parser.get(), "Expect") == "100-continue") {
        const bool sent =
            co_await send(stream, "HTTP/1.1 100 Continue\r\n\r\n", std::string_view());
        if (!sent)
            co_return asio::error::broken_pipe;
    }
    co_await http::async_read(stream, buffer, parser,
                              asio::redirect_error(asio::use_awaitable, error));
    co_return error;
}

/* It may have held a password. */
void wipe_all(flat_buffer &buffer)
{
    if (buffer.size() > 0 || buffer.capacity() == 0)
        return;
    const auto area = buffer.prepare(buffer.capacity());
    OPENSSL_cleanse(area.data(), area.size());
}

/* Reads the body and answers; false when the connection is to end. */
template <class Stream>
Task<bool> answer_call(Stream &stream, Conversation &conversation, flat_buffer &buffer,
                       Parser &parser, App::Call &call, Manner manner)
{
    parser.body_limit(call.most_body);
    const std::size_t headers = headers_of(parser.get());
    const ErrorCode error = co_await read_body(stream, conversation, buffer, parser);
    if (error) {
        if (deserves_reply(error))
            co_await send_reply(stream, conversation, reply_to_parse_error(error), Manner());
        co_return false;
    }
    Request request = parser.release();
    auto answer = refuse_trailers(request, headers);
    if (!answer)
        answer = co_await answer_safely(conversation, call, request);
    const Reply &reply = *answer;
    wipe(request.body());
    wipe_all(buffer);
    if (reply.events) {
        co_await send_events(stream, conversation, reply, manner);
        co_return false;
    }
    const bool goes_on = co_await send_reply(stream, conversation, reply, manner);
    co_return goes_on;
}

/* One request and its reply; false when the connection is to end. */
template <class Stream>
Task<bool> converse_once(Stream &stream, Conversation &conversation, flat_buffer &buffer,
                         bool is_first)
{
    App &app = conversation.app;
    Parser parser;
    parser.header_limit(kMostHeaderBytes);
    parser.body_limit(conversation.options.max_body);
    const ErrorCode error = co_await read_head(stream, conversation, buffer, parser, is_first);
    if (error) {
        if (deserves_reply(error))
            co_await send_reply(stream, conversation, reply_to_parse_error(error), Manner());
        co_return false;
    }
    const Request &head = parser.get();
    const Client client = app.client_of(head, conversation.peer, conversation.by_tls);
    const Manner manner = manner_of(head, client.secure);
    auto examined = app.examine(head, client);
    bool goes_on = false;
    if (auto *refused = std::get_if<Reply>(&examined)) {
        refused->close = refused->close || announces_body(head);
        goes_on = co_await send_reply(stream, conversation, *refused, manner);
    } else {
        goes_on = co_await answer_call(stream, conversation, buffer, parser,
                                       std::get<App::Call>(examined), manner);
    }
    co_return goes_on;
}

/* A connection that is closed while the client still sends would take the reply with it. */
Task<> linger(Conversation &conversation)
{
    ErrorCode error;
    conversation.plain.socket().shutdown(asio::socket_base::shutdown_send, error);
    conversation.plain.expires_after(kLingerTime);
    std::array<char, kReadSize> bytes;
    for (std::size_t read = 0; !error && read < kMostLingered;)
        read += co_await conversation.plain.async_read_some(
            asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
}

template <class Stream> Task<> talk_on(Stream &stream, Conversation &conversation)
{
    flat_buffer buffer(kMostBuffered);
    bool is_first = true;
    bool goes_on = true;
    while (goes_on && !conversation.place->is_last) {
        goes_on = co_await converse_once(stream, conversation, buffer, is_first);
        conversation.clients.now(Clients::Doing::reading, conversation.place);
        is_first = false;
    }
    co_await linger(conversation);
}

} // namespace

Task<> talk(boost::beast::tcp_stream &stream, Conversation &conversation)
{
    return talk_on(stream, conversation);
}

Task<> talk(TlsStream &stream, Conversation &conversation)
{
    return talk_on(stream, conversation);
}

} // namespace backfill::web
