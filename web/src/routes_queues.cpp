/* routes_queues.cpp - the routes that show queues and change their limits. */
#include "route.hpp"

namespace backfill::web
{

namespace
{

constexpr Parameter kQueueName{"name", Type::text, From::path, "the queue's name", true};
constexpr std::string_view kDetails = "SELECT backfill.queue_details($1)";

} // namespace

std::vector<Route> queue_routes()
{
    return {
        {.id = "queues.list",
         .places = {{Method::get, "/queues"}},
         .summary = "Queues by name",
         .parameters = {{"search", Type::text, From::query, "part of the name"},
                        {"cursor", Type::text, From::query, "next of the page before"},
                        {"limit", Type::integer, From::query, "most entries of a page"}},
         .sql =
             R"(SELECT backfill.list_queues(search => $1, cursor => $2, "limit" => coalesce($3::integer, 50)))",
         .needs = {"list_queues"}},
        {.id = "queues.get",
         .places = {{Method::get, "/queues/:name"}, {Method::get, "/queues/:name/stats"}},
         .summary = "One queue",
         .parameters = {kQueueName},
         .sql = kDetails,
         .needs = {"queue_details"},
         .absent_message = "there is no such queue"},
        {.id = "queues.set",
         .places = {{Method::put, "/queues/:name"}},
         .summary = "Set all limits of a queue; what is left out is not limited",
         .parameters = {kQueueName,
                        {"concurrency", Type::integer, From::body, "jobs that run at once"},
                        {"rate_limit", Type::integer, From::body, "jobs that start per period"},
                        {"rate_period", Type::number, From::body, "the period in seconds, 1"},
                        {"max_depth", Type::integer, From::body, "jobs that wait or run"}},
         .sql =
             R"(SELECT true FROM (SELECT backfill.set_queue(queue_name => $1, concurrency => $2::integer,
                rate_limit => $3::integer, rate_period => make_interval(secs => coalesce($4::float8, 1)),
                max_depth => $5::integer)) s)",
         .then_sql = kDetails,
         .needs = {"set_queue"},
         .changes = true},
        {.id = "queues.pause",
         .places = {{Method::post, "/queues/:name/pause"}},
         .summary = "Start no more jobs of a queue",
         .parameters = {kQueueName},
         .sql = "SELECT true FROM (SELECT backfill.pause_queue($1)) s",
         .then_sql = kDetails,
         .needs = {"pause_queue"},
         .changes = true},
        {.id = "queues.resume",
         .places = {{Method::post, "/queues/:name/resume"}},
         .summary = "Run the jobs of a paused queue again",
         .parameters = {kQueueName},
         .sql = "SELECT true FROM (SELECT backfill.resume_queue($1)) s",
         .then_sql = kDetails,
         .needs = {"resume_queue"},
         .changes = true},
        {.id = "queues.delete",
         .places = {{Method::del, "/queues/:name"}},
         .summary = "Forget the limits of a queue that has no jobs",
         .parameters = {kQueueName},
         .sql = "SELECT backfill.delete_queue($1)",
         .needs = {"delete_queue"},
         .changes = true,
         .success = 204,
         .absent_message = "the queue has no limits that could be forgotten"},
    };
}

} // namespace backfill::web
