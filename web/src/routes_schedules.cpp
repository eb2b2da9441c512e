/* routes_schedules.cpp - the routes that show schedules and change them. */
#include "route.hpp"

namespace backfill::web
{

namespace
{

constexpr Parameter kScheduleName{"name", Type::text, From::path, "the schedule's name", true};

Route schedules_set()
{
    return {
        .id = "schedules.set",
        .places = {{Method::put, "/schedules/:name"}},
        .summary = "Make or replace a schedule",
        .parameters =
            {kScheduleName,
             {"cron", Type::text, From::body, "minute, hour, day, month, day of the week", true},
             {"task_identifier", Type::text, From::body, "the task", true},
             {"payload", Type::json, From::body, "any JSON, {} if left out"},
             {"queue_name", Type::text, From::body, "the queue"},
             {"priority", Type::integer, From::body, "smaller runs first"},
             {"max_attempts", Type::integer, From::body, "most attempts"},
             {"job_key", Type::text, From::body, "a name for the jobs"},
             {"job_key_mode", Type::text, From::body, "replace, preserve_run_at or unsafe_dedupe"},
             {"retry_policy", Type::text, From::body, "name of the retry policy"},
             {"timeout", Type::number, From::body, "seconds that a job may run"},
             {"time_zone", Type::text, From::body, "whose clock is meant, UTC if left out"},
             {"fill", Type::number, From::body, "seconds of missed runs that are made up for"},
             {"max_catchup", Type::integer, From::body, "most jobs made up for at once"},
             {"catchup", Type::text, From::body, "all or latest"}},
        .sql =
            R"(SELECT true FROM (SELECT backfill.schedule(name => $1, cron => $2, task_identifier => $3,
                payload => coalesce($4::jsonb, '{}'), queue_name => $5, priority => $6::integer, max_attempts => $7::integer,
                job_key => $8, job_key_mode => coalesce($9, 'replace'), retry_policy => $10,
                timeout => make_interval(secs => $11::float8), time_zone => coalesce($12, 'UTC'),
                fill => make_interval(secs => coalesce($13::float8, 0)), max_catchup => coalesce($14::integer, 1000),
                catchup => coalesce($15, 'all'))) s)",
        .then_sql = "SELECT s FROM jsonb_array_elements(backfill.list_schedules() -> 'schedules') "
                    "s WHERE s ->> 'name' = $1",
        .needs = {"schedule"},
        .changes = true};
}

Route schedules_run()
{
    return {
        .id = "schedules.run",
        .places = {{Method::post, "/schedules/:name/run"}},
        .summary = "Enqueue the job of a schedule now",
        .parameters = {kScheduleName},
        .sql =
            R"(SELECT jsonb_build_object('id', backfill.enqueue(task_identifier => s.task_identifier, payload => s.payload,
                queue_name => s.queue_name, priority => s.priority, max_attempts => s.max_attempts, job_key => s.job_key,
                job_key_mode => s.job_key_mode, retry_policy => s.retry_policy, timeout => s.timeout)::text)
                FROM backfill.schedules s WHERE s.name = $1)",
        .needs = {"enqueue", "schedule", "view schedules"},
        .changes = true,
        .success = 201,
        .absent_message = "there is no such schedule"};
}

Route cron_preview()
{
    return {
        .id = "cron.preview",
        .places = {{Method::get, "/cron/next"}},
        .summary = "When a cron expression is due next",
        .parameters = {{"cron", Type::text, From::query, "the expression", true},
                       {"time_zone", Type::text, From::query, "whose clock is meant, UTC"},
                       {"count", Type::integer, From::query, "how many times, 5; at most 100"}},
        .sql =
            R"(WITH RECURSIVE due (i, at) AS (SELECT 1, backfill.cron_next($1, coalesce($2, 'UTC'))
                UNION ALL SELECT i + 1, backfill.cron_next($1, coalesce($2, 'UTC'), at) FROM due
                WHERE i < least(coalesce($3::integer, 5), 100) AND at IS NOT NULL)
                SELECT jsonb_build_object('next', coalesce(jsonb_agg(at ORDER BY i) FILTER (WHERE at IS NOT NULL), '[]'))
                FROM due)",
        .needs = {"cron_next"}};
}

} // namespace

std::vector<Route> schedule_routes()
{
    return {
        {.id = "schedules.list",
         .places = {{Method::get, "/schedules"}},
         .summary = "Schedules, with their next five runs",
         .sql = "SELECT backfill.list_schedules()",
         .needs = {"list_schedules"}},
        schedules_set(),
        {.id = "schedules.delete",
         .places = {{Method::del, "/schedules/:name"}},
         .summary = "Remove a schedule; jobs that it has enqueued stay",
         .parameters = {kScheduleName},
         .sql = "SELECT backfill.unschedule($1)",
         .needs = {"unschedule"},
         .changes = true,
         .success = 204,
         .absent_message = "there is no such schedule"},
        schedules_run(),
        cron_preview(),
    };
}

} // namespace backfill::web
