/* sql_errors.cpp - see sql_errors.hpp. */
#include "sql_errors.hpp"

#include <algorithm>
#include <cctype>
#include <optional>

namespace backfill::web
{

namespace
{

struct Mapping {
    std::string_view prefix;
    int status;
};

/* The first that fits. */
constexpr Mapping kMappings[] = {
    {"08", 503},    /* no connection */
    {"22", 400},    /* a value that is not possible */
    {"23", 400},    /* a constraint */
    {"25006", 403}, /* the transaction is read-only */
    {"28", 401},    /* login */
    {"3D000", 503}, /* there is no such database */
    {"3F000", 503}, /* no schema backfill */
    {"40", 409},    /* serialization failure, deadlock */
    {"42501", 403}, /* no right */
    {"42704", 404}, /* an object that does not exist */
    {"42883", 503}, /* a function that this extension does not have */
    {"42P01", 503}, /* a view */
    {"42703", 503}, /* a column */
    {"42", 400},    /* names and types in arguments */
    {"0A", 400},    /* not supported */
    {"53", 503},    /* no memory, disk, connections */
    {"54", 400},    /* nested too deep, too large */
    {"55", 409},    /* the object is not in a state for that */
    {"57", 503},    /* timeout, shutdown */
    {"58", 503},    /* the operating system's errors */
    {"JB001", 429}, /* the queue is full */
    {"P0", 400},    /* raised by a function */
};

std::string hint_for(std::string_view sqlstate)
{
    if (sqlstate == "3F000")
        return "Run CREATE EXTENSION backfill in this database.";
    if (sqlstate == "42883" || sqlstate == "42P01" || sqlstate == "42703")
        return "The extension in this database is of another version than this program: run ALTER "
               "EXTENSION backfill UPDATE.";
    if (sqlstate == "57014")
        return "Narrow the filter, or raise --statement-timeout.";
    return {};
}

bool is_sqlstate(std::string_view text)
{
    return text.size() == 5 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
               return std::isdigit(c) || (c >= 'A' && c <= 'Z');
           });
}

/* A line 'severity:  SQLSTATE: message', the severity in the server's language, perhaps after
 * 'connection to server at ... failed: '. What libpq itself says has no SQLSTATE. */
std::optional<SqlError> parse_line(std::string_view line)
{
    for (std::size_t at = line.find(":  "); at != std::string_view::npos;
         at = line.find(":  ", at + 1)) {
        const std::string_view code = line.substr(std::min(at + 3, line.size()), 5);
        if (is_sqlstate(code) && line.substr(at + 8, 2) == ": ")
            return SqlError{std::string(code), std::string(line.substr(at + 10)), {}, {}};
    }
    return {};
}

} // namespace

bool SqlError::is_disconnection() const
{
    return sqlstate.starts_with("08") || sqlstate == "57P01" || sqlstate == "57P02" ||
           sqlstate == "57P03" || sqlstate == "57P05";
}

int http_status_of(std::string_view sqlstate)
{
    for (const Mapping &mapping : kMappings)
        if (sqlstate.starts_with(mapping.prefix))
            return mapping.status;
    return 500;
}

Problem to_problem(const SqlError &error)
{
    Problem result{http_status_of(error.sqlstate), error.sqlstate, error.message, error.detail,
                   error.hint};
    if (error.is_disconnection())
        result.message = "the database is away: " + error.message;
    if (error.sqlstate == "57014")
        result.message = "the database took too long, and the statement was cancelled";
    if (const std::string hint = hint_for(error.sqlstate); !hint.empty())
        result.hint = hint;
    return result;
}

/* libpq writes one text after the other for what it has tried, such as with and without TLS. A
 * server that has judged the login has the last word, otherwise the last that has said anything. */
SqlError parse_connection_error(std::string_view text)
{
    SqlError error{"08001", std::string(text.substr(0, text.find('\n'))), {}, {}};
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        auto found = parse_line(line);
        if (found && !error.is_refused_login())
            error = std::move(*found);
    }
    return error;
}

SqlError refused_role(const std::string &role, const SqlError &error)
{
    /* 22023 and 42704: it does not exist; 42501: it may not be used. */
    if (error.sqlstate != "22023" && error.sqlstate != "42704" && error.sqlstate != "42501")
        return error;
    return {"28000", "cannot act as role \"" + role + "\": " + error.message, {}, {}};
}

} // namespace backfill::web
