/* routes_overview.cpp - the routes of this program itself, and those that show the state of a
 * database. */
#include "route.hpp"

namespace backfill::web
{

std::vector<Route> program_routes()
{
    return {
        {.id = "login",
         .kind = Kind::login,
         .places = {{Method::post, "/login"}},
         .summary = "Log in as a role of the database; sets the session's cookie",
         .parameters = {{"user", Type::text, From::body, "name of the role", true},
                        {"password", Type::text, From::body, "its password", true},
                        {"database", Type::text, From::body,
                         "name that this program knows the database by; left out: the first"}}},
        {.id = "logout",
         .kind = Kind::logout,
         .places = {{Method::post, "/logout"}},
         .summary = "End the session",
         .success = 204},
        {.id = "session",
         .kind = Kind::session,
         .places = {{Method::get, "/session"}},
         .summary = "The session's role, what it may do, and the versions of all parts"},
        {.id = "stream",
         .kind = Kind::stream,
         .places = {{Method::get, "/stream"}},
         .summary = "Server-Sent Events: backlog, then sample each second and health every ten",
         .needs = {"overview"}},
        {.id = "openapi",
         .kind = Kind::openapi,
         .places = {{Method::get, "/openapi.json"}},
         .summary = "This description of the API"},
    };
}

std::vector<Route> overview_routes()
{
    return {
        {.id = "overview",
         .places = {{Method::get, "/overview"}, {Method::get, "/status"}},
         .summary = "Counts, bands, queues, workers and histograms in one call",
         .sql = "SELECT backfill.overview()",
         .needs = {"overview"}},
        {.id = "health",
         .places = {{Method::get, "/health"}},
         .summary = "What an operator must know, check by check",
         .sql =
             R"(SELECT jsonb_build_object('status', coalesce(max(h.status) FILTER (WHERE h.status = 'critical'),
                max(h.status) FILTER (WHERE h.status = 'warning'), 'ok'), 'checks', coalesce(jsonb_agg(
                jsonb_build_object('check', h.check_name, 'status', h.status, 'detail', h.detail, 'hint', h.hint)), '[]'))
                FROM backfill.health() h)",
         .needs = {"health"}},
        {.id = "workers.list",
         .places = {{Method::get, "/workers"}},
         .summary = "The background workers and what they do",
         .sql =
             R"(SELECT jsonb_build_object('workers', coalesce(jsonb_agg(to_jsonb(w) || jsonb_build_object(
                'job_id', w.job_id::text, 'jobs_done', w.jobs_done::text, 'jobs_failed', w.jobs_failed::text)
                ORDER BY w.kind, w.started_at, w.pid), '[]')) FROM backfill.workers w)",
         .needs = {"view workers"}},
    };
}

std::vector<Route> task_routes()
{
    return {
        {.id = "tasks.list",
         .places = {{Method::get, "/tasks"}},
         .summary = "Tasks, with their jobs and what is wrong with them",
         .parameters = {{"search", Type::text, From::query, "part of the name"},
                        {"problem_only", Type::boolean, From::query, "only those with a problem"},
                        {"cursor", Type::text, From::query, "next of the page before"},
                        {"limit", Type::integer, From::query, "most entries of a page"}},
         .sql =
             R"(SELECT backfill.list_tasks(search => $1, problem_only => coalesce($2::boolean, false), cursor => $3,
                "limit" => coalesce($4::integer, 50)))",
         .needs = {"list_tasks"}},
        {.id = "tasks.delete",
         .places = {{Method::del, "/tasks/:name"}},
         .summary = "Unregister a task; its waiting jobs stay and wait",
         .parameters = {{"name", Type::text, From::path, "the task's identifier", true}},
         .sql = "SELECT backfill.unregister_task($1)",
         .needs = {"unregister_task"},
         .changes = true,
         .success = 204,
         .absent_message = "there is no such task"},
        {.id = "retry_policies.list",
         .places = {{Method::get, "/retry-policies"}},
         .summary = "Retry policies; delays in seconds",
         .sql =
             R"(SELECT jsonb_build_object('retry_policies', coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object(
                'initial_delay', extract(epoch FROM p.initial_delay)::float8,
                'max_delay', extract(epoch FROM p.max_delay)::float8) ORDER BY p.policy_name), '[]'))
                FROM backfill.retry_policies p)",
         .needs = {"view retry_policies"}},
    };
}

std::vector<Route> log_routes()
{
    return {
        {.id = "history.list",
         .places = {{Method::get, "/history"}},
         .summary = "Jobs that have ended, newest first",
         .parameters = {{"task_identifier", Type::text, From::query, "of this task"},
                        {"queue_name", Type::text, From::query, "of this queue"},
                        {"outcome", Type::text, From::query, "with this outcome"},
                        {"job_key", Type::text, From::query, "with this key"},
                        {"finished_after", Type::timestamp, From::query, "not before this time"},
                        {"finished_before", Type::timestamp, From::query, "before this time"},
                        {"cursor", Type::text, From::query, "next of the page before"},
                        {"limit", Type::integer, From::query, "most entries of a page"}},
         .sql =
             R"(SELECT backfill.list_history(task_identifier => $1, queue_name => $2, outcome => $3, job_key => $4,
                finished_after => $5::timestamptz, finished_before => $6::timestamptz, cursor => $7,
                "limit" => coalesce($8::integer, 50)))",
         .needs = {"list_history"}},
        {.id = "audit.list",
         .places = {{Method::get, "/audit"}},
         .summary = "Which role did what, newest first",
         .parameters = {{"actor", Type::text, From::query, "by this role"},
                        {"action", Type::text, From::query, "this action"},
                        {"object", Type::text, From::query, "on this object"},
                        {"after", Type::timestamp, From::query, "not before this time"},
                        {"before", Type::timestamp, From::query, "before this time"},
                        {"cursor", Type::text, From::query, "next of the page before"},
                        {"limit", Type::integer, From::query, "most entries of a page"}},
         .sql =
             R"(SELECT backfill.list_audit(actor => $1, action => $2, object => $3, after => $4::timestamptz,
                before => $5::timestamptz, cursor => $6, "limit" => coalesce($7::integer, 50)))",
         .needs = {"list_audit"}},
    };
}

} // namespace backfill::web
