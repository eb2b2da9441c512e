/* pg_connection.cpp - see pg_connection.hpp. */
#include "pg_connection.hpp"

#include "database.hpp"

#include <boost/asio/posix/stream_descriptor.hpp>

#include <fcntl.h>
#include <poll.h>

namespace backfill::web
{

namespace
{

struct Clear {
    void operator()(PGresult *result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, Clear>;

std::string field_of(const PGresult *result, int field)
{
    const char *text = PQresultErrorField(result, field);
    return text == nullptr ? std::string() : std::string(text);
}

SqlError error_of(const PGresult *result)
{
    SqlError error{field_of(result, PG_DIAG_SQLSTATE), field_of(result, PG_DIAG_MESSAGE_PRIMARY),
                   field_of(result, PG_DIAG_MESSAGE_DETAIL),
                   field_of(result, PG_DIAG_MESSAGE_HINT)};
    /* libpq's own errors have neither. */
    if (error.sqlstate.empty())
        error.sqlstate = "08006";
    if (error.message.empty())
        error.message = PQresultErrorMessage(result);
    return error;
}

SqlRows rows_of(const PGresult *result)
{
    SqlRows rows(static_cast<std::size_t>(PQntuples(result)));
    for (int row = 0; row < PQntuples(result); row++) {
        SqlValues &values = rows[static_cast<std::size_t>(row)];
        for (int column = 0; column < PQnfields(result); column++) {
            if (PQgetisnull(result, row, column))
                values.emplace_back();
            else
                values.emplace_back(std::in_place, PQgetvalue(result, row, column),
                                    static_cast<std::size_t>(PQgetlength(result, row, column)));
        }
    }
    return rows;
}

/* What the server says to a connection that asks nothing comes as a notice, also that it ends. Its
 * end is seen a moment later only: what was asked meanwhile would be lost. */
void note_end(void *broken, const PGresult *notice)
{
    if (field_of(notice, PG_DIAG_SEVERITY_NONLOCALIZED) == "FATAL")
        *static_cast<bool *>(broken) = true;
}

} // namespace

SqlError PgConnection::lost(std::string_view sqlstate, std::string message)
{
    broken_ = true;
    return SqlError{std::string(sqlstate), std::move(message), {}, {}};
}

/* On a copy of the descriptor, because libpq closes its own one and opens another while it tries
 * hosts. */
Task<bool> PgConnection::wait(For what, TimePoint deadline)
{
    const int copy = fcntl(PQsocket(connection_.get()), F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        co_return false;
    asio::posix::stream_descriptor descriptor(executor_, copy);
    const Alarm alarm(executor_, deadline, [&descriptor] {
        ErrorCode ignored;
        descriptor.cancel(ignored);
    });
    const auto type = what == For::reading ? asio::posix::stream_descriptor::wait_read
                                           : asio::posix::stream_descriptor::wait_write;
    ErrorCode error;
    co_await descriptor.async_wait(type, asio::redirect_error(asio::use_awaitable, error));
    co_return !error;
}

/* libpq would try several hosts itself, but knows no time for each when it is used without
 * blocking. Like libpq, go on where there is no server, or it is just starting or ending, and
 * believe all others. */
Task<std::optional<SqlError>> PgConnection::open(const std::vector<ConnectionOptions> &attempts,
                                                 TimePoint deadline)
{
    std::optional<SqlError> failure;
    for (std::size_t i = 0; i < attempts.size(); i++) {
        const TimePoint end =
            deadline_of_attempt(attempts[i], attempts.size() - i, Clock::now(), deadline);
        failure = co_await try_to_open(attempts[i], end);
        if (!failure || !failure->is_disconnection())
            break;
    }
    co_return failure;
}

/* The verbose form of errors has the SQLSTATE, which libpq does not tell in another way. */
Task<std::optional<SqlError>> PgConnection::try_to_open(const ConnectionOptions &options,
                                                        TimePoint deadline)
{
    const PqArguments arguments(options);
    broken_ = false;
    connection_.reset(PQconnectStartParams(arguments.keywords(), arguments.values(), 0));
    if (!connection_)
        co_return lost("53200", "out of memory");
    PQsetErrorVerbosity(connection_.get(), PQERRORS_VERBOSE);
    PQsetNoticeReceiver(connection_.get(), note_end, &broken_);
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    while (PQstatus(connection_.get()) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
           state != PGRES_POLLING_FAILED) {
        const For what = state == PGRES_POLLING_READING ? For::reading : For::writing;
        const bool ready = co_await wait(what, deadline);
        if (!ready)
            co_return lost("08001", "the server does not answer");
        state = PQconnectPoll(connection_.get());
    }
    if (state != PGRES_POLLING_OK) {
        broken_ = true;
        co_return parse_connection_error(PQerrorMessage(connection_.get()));
    }
    PQsetnonblocking(connection_.get(), 1);
    co_return std::nullopt;
}

Task<bool> PgConnection::flush(TimePoint deadline)
{
    for (;;) {
        const int unsent = PQflush(connection_.get());
        if (unsent <= 0)
            co_return unsent == 0;
        const bool ready = co_await wait(For::writing, deadline);
        if (!ready)
            co_return false;
    }
}

Task<std::optional<SqlError>> PgConnection::send(std::string_view sql, const SqlValues &values,
                                                 TimePoint deadline)
{
    std::vector<const char *> texts;
    for (const auto &value : values)
        texts.push_back(value ? value->c_str() : nullptr);
    const std::string text(sql);
    const int sent =
        PQsendQueryParams(connection_.get(), text.c_str(), static_cast<int>(texts.size()), nullptr,
                          texts.data(), nullptr, nullptr, 0);
    if (sent != 1)
        co_return lost("08006", PQerrorMessage(connection_.get()));
    const bool flushed = co_await flush(deadline);
    if (!flushed)
        co_return lost("08006", "the connection was lost");
    co_return std::nullopt;
}

Task<SqlResult> PgConnection::query(std::string_view sql, const SqlValues &values,
                                    TimePoint deadline)
{
    auto failure = co_await send(sql, values, deadline);
    if (failure)
        co_return *failure;
    SqlResult outcome = SqlRows();
    for (;;) {
        while (PQisBusy(connection_.get()) == 1) {
            const bool ready = co_await wait(For::reading, deadline);
            if (!ready)
                co_return lost("08006", "the server does not answer");
            if (PQconsumeInput(connection_.get()) != 1)
                break;
        }
        const Result result(PQgetResult(connection_.get()));
        if (!result)
            break;
        if (PQresultStatus(result.get()) == PGRES_TUPLES_OK)
            outcome = rows_of(result.get());
        else if (PQresultStatus(result.get()) != PGRES_COMMAND_OK &&
                 std::holds_alternative<SqlRows>(outcome))
            outcome = error_of(result.get()); /* a later one only says that the connection ended */
    }
    if (PQstatus(connection_.get()) == CONNECTION_BAD)
        broken_ = true;
    co_return outcome;
}

bool PgConnection::is_usable()
{
    if (broken_ || !connection_ || PQstatus(connection_.get()) != CONNECTION_OK ||
        PQtransactionStatus(connection_.get()) != PQTRANS_IDLE)
        return false;
    /* To a connection that asks nothing the server says little: that a setting has changed, or why
     * it ends (note_end). */
    pollfd socket{PQsocket(connection_.get()), POLLIN, 0};
    while (poll(&socket, 1, 0) != 0)
        if (PQconsumeInput(connection_.get()) != 1 ||
            PQstatus(connection_.get()) != CONNECTION_OK || PQisBusy(connection_.get()) == 1)
            return false;
    return !broken_;
}

bool PgConnection::has_used_password() const
{
    return connection_ && PQconnectionUsedPassword(connection_.get()) == 1;
}

} // namespace backfill::web
