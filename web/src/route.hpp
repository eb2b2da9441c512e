/* route.hpp - one entry of the table of routes, which is the whole API: what a client may ask for,
 * which SQL answers it, and which rights that needs. */
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace backfill::web
{

enum class Method { get, post, put, patch, del };

/* What a value has to be. All are sent to the database as text. */
enum class Type { text, integer, bigint, number, boolean, timestamp, json, ids };

/* Where it stands: in the path, in the query, in the body, or in the body's object "filter". */
enum class From { path, query, body, filter };

struct Parameter {
    std::string_view name;
    Type type;
    From from;
    std::string_view summary = {};
    bool required = false;
};

struct Place {
    Method method;
    /* Below /api/v1; segments that begin with ":" are parameters. */
    std::string_view path;
};

/* Most routes are a statement; the others are functions of this program. */
enum class Kind { sql, login, logout, session, stream, openapi };

struct Route {
    std::string_view id;
    Kind kind = Kind::sql;
    /* The first is the one to use, the others are there for clients of other servers. */
    std::vector<Place> places;
    std::string_view summary = {};
    /* Their values are $1, $2 ... of the statement. */
    std::vector<Parameter> parameters = {};
    /* Returns one row: the JSON to answer with, and perhaps the status to use if that is NULL. */
    std::string_view sql = {};
    /* Run after it, with $1 alone; its JSON is the answer, or {} if there is none. A statement does
     * not see what its own functions have changed. */
    std::string_view then_sql = {};
    /* Functions of schema backfill that a role must be allowed to execute for `sql`, and views
     * ("view NAME") that it must be allowed to read. The database decides; pages ask what to offer.
     */
    std::vector<std::string_view> needs = {};
    bool changes = false;
    int success = 200;
    /* When the statement returns NULL or false, or no row. */
    int absent = 404;
    std::string_view absent_message = {};
    /* It may run this many times as long as others. */
    int times = 1;

    bool acts_on_many() const;
};

/* For calls that act on many objects. */
constexpr int kTimesForMany = 12;

/* How many objects a call may act on, and how many it does if it does not say. */
constexpr int kMostAtOnce = 10000;

/* The end of a statement that acts on at most $2 of the objects that it has chosen, which are those
 * in $1, or else the first that pass a filter. It chooses one more than it acts on, to see whether
 * there are more. It cannot choose more than 10000: then there may be. */
#define THERE_ARE_MORE                                                                             \
    "'more', (SELECT count(*) > $2::integer OR $1::bigint[] IS NULL AND count(*) = 10000 "         \
    "FROM chosen))"

const std::vector<Route> &all_routes();

/* Where the entries are written. */
std::vector<Route> program_routes();
std::vector<Route> overview_routes();
std::vector<Route> record_routes();
std::vector<Route> job_routes();
std::vector<Route> queue_routes();
std::vector<Route> dead_letter_routes();
std::vector<Route> schedule_routes();

std::string_view name_of(Method method);

} // namespace backfill::web
