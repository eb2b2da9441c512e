/* sql_errors.hpp - from an error of the database to one of HTTP. */
#pragma once

#include "reply.hpp"

#include <string>
#include <string_view>

namespace backfill::web
{

/* An error as the server or libpq reports it. */
struct SqlError {
    std::string sqlstate; /* 08xxx if there is no connection (any more) */
    std::string message;
    std::string detail;
    std::string hint;
    /* Nothing was asked: all connections that there may be are in use. */
    bool is_busy = false;

    /* The connection is gone, or was never there. */
    bool is_disconnection() const;
    /* The server does not let this role in, or not with this password. */
    bool is_refused_login() const { return sqlstate.starts_with("28"); }
};

int http_status_of(std::string_view sqlstate);

/* As clients of a session get it. */
Problem to_problem(const SqlError &error);

/* The error of a connection that was not made, from libpq's text of it in its verbose form. */
SqlError parse_connection_error(std::string_view text);

/* The error of SET ROLE. A role that is not there, or not the login's, is a refused login; that the
 * connection was lost, or the server is slow, is not. */
SqlError refused_role(const std::string &role, const SqlError &error);

} // namespace backfill::web
