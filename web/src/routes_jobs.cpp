/* routes_jobs.cpp - the routes that show jobs and act on them. */
#include "route.hpp"

/* A row j of the view jobs, as list_jobs() shows it. */
#define JOB_OF_ROW                                                                                 \
    "to_jsonb(j) || jsonb_build_object('id', j.id::text, "                                         \
    "'timeout', extract(epoch FROM j.timeout)::float8)"
/* The status if a statement has acted on nothing: the job is there, so it does not wait, or it is
 * gone. */
#define GONE_OR_NOT_WAITING                                                                        \
    "CASE WHEN EXISTS (SELECT FROM backfill.get_job($1::bigint)) THEN 409 ELSE 404 END"
/* The jobs that a call acts on: those in $1, or those that pass the filter $3 ... $9. */
#define CHOSEN_JOBS                                                                                \
    "WITH chosen AS MATERIALIZED (SELECT c.i FROM (SELECT i FROM unnest($1::bigint[]) i "          \
    "UNION ALL SELECT f FROM backfill.find_job_ids(task_identifier => $3, queue_name => $4, "      \
    "job_key => $5, state => $6, min_priority => $7::integer, max_priority => $8::integer, "       \
    "payload => $9::jsonb, max_jobs => least($2::integer + 1, 10000)) f WHERE $1::bigint[] IS "    \
    "NULL) c), "                                                                                   \
    "acted AS MATERIALIZED (SELECT i FROM chosen LIMIT $2::integer) "

namespace backfill::web
{

namespace
{

constexpr Parameter kJobId{"id", Type::bigint, From::path, "the job's id", true};
constexpr Parameter kIds{"ids", Type::ids, From::body, "these jobs; or else filter"};
constexpr Parameter kMax{"max", Type::integer, From::body, "act on at most this many"};

std::vector<Parameter> job_filter(From from)
{
    return {{"task_identifier", Type::text, from, "of this task"},
            {"queue_name", Type::text, from, "of this queue"},
            {"job_key", Type::text, from, "with this key"},
            {"state", Type::text, from, "scheduled, ready, running or leased"},
            {"min_priority", Type::integer, from, "of this priority or a larger number"},
            {"max_priority", Type::integer, from, "of this priority or a smaller number"},
            {"payload", Type::json, from, "whose payload contains this JSON"}};
}

std::vector<Parameter> joined(std::vector<Parameter> first, const std::vector<Parameter> &second)
{
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

Route jobs_list()
{
    return {
        .id = "jobs.list",
        .places = {{Method::get, "/jobs"}},
        .summary = "Jobs that wait or run, newest first",
        .parameters = joined(
            job_filter(From::query),
            {{"id", Type::bigint, From::query, "this job"},
             {"cursor", Type::text, From::query, "next of the page before"},
             {"limit", Type::integer, From::query, "most entries of a page, 50 if left out"}}),
        .sql =
            R"(SELECT CASE WHEN $8::bigint IS NULL THEN backfill.list_jobs(task_identifier => $1, queue_name => $2,
                job_key => $3, state => $4, min_priority => $5::integer, max_priority => $6::integer, payload => $7::jsonb,
                cursor => $9, "limit" => coalesce($10::integer, 50))
                ELSE (SELECT jsonb_build_object('jobs', coalesce(jsonb_agg(d.job) FILTER (WHERE d.job IS NOT NULL), '[]'), 'next', NULL,
                'cut_off', false, 'total', jsonb_build_object('count', count(d.job), 'capped', false))
                FROM (SELECT nullif(backfill.job_details($8::bigint) -> 'job', 'null') AS job) d) END)",
        .needs = {"list_jobs", "job_details"}};
}

Route jobs_enqueue()
{
    return {
        .id = "jobs.enqueue",
        .places = {{Method::post, "/jobs"}},
        .summary = "Enqueue a job",
        .parameters = {{"task_identifier", Type::text, From::body, "the task", true},
                       {"payload", Type::json, From::body, "any JSON, {} if left out"},
                       {"queue_name", Type::text, From::body, "the queue"},
                       {"priority", Type::integer, From::body, "smaller runs first"},
                       {"run_at", Type::timestamp, From::body, "not before this time"},
                       {"max_attempts", Type::integer, From::body, "most attempts"},
                       {"job_key", Type::text, From::body, "a name for the job"},
                       {"job_key_mode", Type::text, From::body,
                        "replace, preserve_run_at or unsafe_dedupe"},
                       {"retry_policy", Type::text, From::body, "name of the retry policy"},
                       {"timeout", Type::number, From::body, "seconds that it may run"},
                       {"headers", Type::json, From::body,
                        "an object of what goes beside the payload"}},
        .sql =
            R"(SELECT jsonb_build_object('id', backfill.enqueue(task_identifier => $1, payload => coalesce($2::jsonb, '{}'),
                queue_name => $3, priority => $4::integer, run_at => $5::timestamptz, max_attempts => $6::integer,
                job_key => $7, job_key_mode => coalesce($8, 'replace'), retry_policy => $9,
                timeout => make_interval(secs => $10::float8), headers => $11::jsonb)::text))",
        .needs = {"enqueue"},
        .changes = true,
        .success = 201};
}

Route jobs_update()
{
    return {.id = "jobs.update",
            .places = {{Method::patch, "/jobs/:id"}},
            .summary = "Change a waiting job; what is left out stays",
            .parameters = {kJobId,
                           {"payload", Type::json, From::body, "another payload"},
                           {"queue_name", Type::text, From::body, "another queue"},
                           {"priority", Type::integer, From::body, "another priority"},
                           {"run_at", Type::timestamp, From::body, "another time"},
                           {"max_attempts", Type::integer, From::body, "most attempts"},
                           {"timeout", Type::number, From::body, "seconds that it may run"},
                           {"retry_policy", Type::text, From::body, "name of the retry policy"},
                           {"headers", Type::json, From::body, "what goes beside the payload"}},
            .sql = "SELECT (SELECT " JOB_OF_ROW
                   " FROM backfill.update_job(job_id => $1::bigint, payload => $2::jsonb, "
                   "queue_name => $3, priority => $4::integer, run_at => $5::timestamptz, "
                   "max_attempts => $6::integer, "
                   "timeout => make_interval(secs => $7::float8), retry_policy => $8, headers => "
                   "$9::jsonb) j), " GONE_OR_NOT_WAITING,
            .needs = {"update_job", "get_job"},
            .changes = true,
            .absent_message = "the job does not wait"};
}

Route jobs_reschedule()
{
    return {.id = "jobs.reschedule",
            .places = {{Method::post, "/jobs/:id/reschedule"}},
            .summary = "Change when and how a waiting job runs",
            .parameters = {kJobId,
                           {"run_at", Type::timestamp, From::body, "not before this time"},
                           {"priority", Type::integer, From::body, "smaller runs first"},
                           {"attempts", Type::integer, From::body, "failed attempts so far"},
                           {"max_attempts", Type::integer, From::body, "most attempts"}},
            .sql = "SELECT (SELECT " JOB_OF_ROW
                   " FROM backfill.reschedule_jobs(ARRAY[$1::bigint], run_at => $2::timestamptz, "
                   "priority => $3::integer, attempts => $4::integer, max_attempts => $5::integer) "
                   "j), " GONE_OR_NOT_WAITING,
            .needs = {"reschedule_jobs", "get_job"},
            .changes = true,
            .absent_message = "the job does not wait"};
}

Route jobs_run_now()
{
    return {.id = "jobs.run_now",
            .places = {{Method::post, "/jobs/:id/run"}},
            .summary = "Make a waiting job ready now",
            .parameters = {kJobId},
            .sql = "SELECT (SELECT " JOB_OF_ROW " FROM backfill.reschedule_jobs(ARRAY[$1::bigint], "
                   "run_at => now()) j), " GONE_OR_NOT_WAITING,
            .needs = {"reschedule_jobs", "get_job"},
            .changes = true,
            .absent_message = "the job does not wait"};
}

Route jobs_cancel_many()
{
    return {.id = "jobs.cancel_many",
            .places = {{Method::post, "/jobs/cancel"}},
            .summary = "Cancel the given jobs, or those that pass a filter",
            .parameters = joined({kIds, kMax}, job_filter(From::filter)),
            .sql = CHOSEN_JOBS "SELECT jsonb_build_object('affected', (SELECT count(*) FILTER "
                               "(WHERE backfill.cancel_job(i)) FROM acted), " THERE_ARE_MORE,
            .needs = {"cancel_job", "find_job_ids"},
            .changes = true,
            .times = kTimesForMany};
}

Route jobs_reschedule_many()
{
    return {.id = "jobs.reschedule_many",
            .places = {{Method::post, "/jobs/reschedule"}},
            .summary = "Reschedule the given jobs, or those that pass a filter",
            .parameters = joined(joined({kIds, kMax}, job_filter(From::filter)),
                                 {{"run_at", Type::timestamp, From::body, "not before this time"},
                                  {"priority", Type::integer, From::body, "smaller runs first"},
                                  {"attempts", Type::integer, From::body, "failed attempts so far"},
                                  {"max_attempts", Type::integer, From::body, "most attempts"}}),
            .sql = CHOSEN_JOBS
            "SELECT jsonb_build_object('affected', (SELECT count(*) FROM backfill.reschedule_jobs("
            "ARRAY(SELECT i FROM acted), run_at => $10::timestamptz, priority => $11::integer, "
            "attempts => $12::integer, max_attempts => $13::integer)), " THERE_ARE_MORE,
            .needs = {"reschedule_jobs", "find_job_ids"},
            .changes = true,
            .times = kTimesForMany};
}

} // namespace

std::vector<Route> job_routes()
{
    return {
        jobs_list(),
        {.id = "jobs.get",
         .places = {{Method::get, "/jobs/:id"}},
         .summary = "All that is known of a job, also after its end",
         .parameters = {kJobId},
         .sql = "SELECT backfill.job_details($1::bigint)",
         .needs = {"job_details"},
         .absent_message = "nothing is known of this job"},
        jobs_enqueue(),
        jobs_update(),
        {.id = "jobs.cancel",
         .places = {{Method::post, "/jobs/:id/cancel"},
                    {Method::del, "/jobs/:id/cancel"},
                    {Method::del, "/jobs/:id"}},
         .summary = "Cancel a job that waits or runs",
         .parameters = {kJobId},
         .sql =
             R"(SELECT CASE WHEN backfill.cancel_job($1::bigint) THEN '{"cancelled": true}' END)",
         .needs = {"cancel_job"},
         .changes = true,
         .absent_message = "there is no such job that waits or runs"},
        jobs_reschedule(),
        jobs_run_now(),
        jobs_cancel_many(),
        jobs_reschedule_many(),
    };
}

} // namespace backfill::web
