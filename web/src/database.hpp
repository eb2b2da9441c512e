/* database.hpp - the databases that this program knows, and what libpq is told to reach one. */
#pragma once

#include "asio.hpp"
#include "pg_connection.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace backfill::web
{

struct Database {
    /* As in the page and in ?database=. */
    std::string name;
    /* The connection string, taken apart. */
    ConnectionOptions options;
};

/* From "NAME=CONNINFO"; throws std::invalid_argument that says what is wrong with it. */
Database parse_database(std::string_view text);

/* libpq's options for a login with a name and a password; without a name for the one that the
 * connection string has. */
ConnectionOptions login_options(const Database &database, std::string_view user,
                                std::string_view password);

/* The same options with addresses instead of names of hosts, found without blocking. If no name can
 * be resolved: an error. */
Task<std::variant<ConnectionOptions, SqlError>> resolve_hosts(ConnectionOptions options,
                                                              TimePoint deadline);

} // namespace backfill::web
