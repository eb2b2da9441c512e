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
    /* The connection string, taken apart, with what a service and the environment add. */
    ConnectionOptions options;
};

/* From "NAME=CONNINFO"; throws std::invalid_argument that says what is wrong with it. May wait for
 * files: it is for the start of the program. */
Database parse_database(std::string_view text);

/* libpq's options for a login with a name and a password; without a name for the one that the
 * connection string has. */
ConnectionOptions login_options(const Database &database, std::string_view user,
                                std::string_view password);

/* The same options for each address of each host, in the order in which they are to be tried; names
 * are resolved without blocking. If none can be: an error. */
Task<std::variant<std::vector<ConnectionOptions>, SqlError>>
attempts_of(const ConnectionOptions &options, TimePoint deadline);

/* How long an attempt may take of the time for all that are left: its share, or connect_timeout if
 * that is less. A host that does not answer must leave time for the next one. */
TimePoint deadline_of_attempt(const ConnectionOptions &options, std::size_t attempts_left,
                              TimePoint now, TimePoint deadline);

/* Overwrites the passwords in them. */
void wipe_passwords(std::vector<ConnectionOptions> &attempts);

} // namespace backfill::web
