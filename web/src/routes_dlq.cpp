/* routes_dlq.cpp - the routes that show dead letters and act on them. */
#include "route.hpp"

/* A row d of the view dlq, as list_dlq() shows it. */
#define LETTER_OF_ROW                                                                              \
    "to_jsonb(d) || jsonb_build_object('id', d.id::text, 'original_job_id', "                      \
    "d.original_job_id::text, 'payload_size', pg_column_size(d.payload), 'waiting', "              \
    "coalesce(backfill.job_details(d.original_job_id) ->> 'state' IN "                             \
    "('scheduled', 'ready', 'running', 'leased'), false))"
/* The letters that a call acts on: those in $1, or those that pass the filter $3 ... $9. */
#define CHOSEN_LETTERS                                                                             \
    "WITH chosen AS MATERIALIZED (SELECT c.i FROM (SELECT i FROM unnest($1::bigint[]) i "          \
    "UNION ALL SELECT f FROM backfill.find_dlq_ids(task_identifier => $3, queue_name => $4, "      \
    "sqlstate => $5, failed_after => $6::timestamptz, failed_before => $7::timestamptz, "          \
    "job_key => $8, search => $9, max_letters => least($2::integer + 1, 10000)) f "                \
    "WHERE $1::bigint[] IS NULL) c) "

namespace backfill::web
{

namespace
{

constexpr Parameter kLetterId{"id", Type::bigint, From::path, "the dead letter's id", true};
constexpr std::string_view kOneLetter =
    "SELECT " LETTER_OF_ROW " FROM backfill.dlq d WHERE d.id = $1::bigint";

std::vector<Parameter> letter_filter(From from)
{
    return {{"task_identifier", Type::text, from, "of this task"},
            {"queue_name", Type::text, from, "of this queue"},
            {"sqlstate", Type::text, from, "whose last error has this SQLSTATE"},
            {"failed_after", Type::timestamp, from, "not before this time"},
            {"failed_before", Type::timestamp, from, "before this time"},
            {"job_key", Type::text, from, "with this key"},
            {"search", Type::text, from, "part of the failure's reason"}};
}

std::vector<Parameter> many_parameters()
{
    std::vector<Parameter> all = letter_filter(From::filter);
    all.insert(all.begin(), {{"ids", Type::ids, From::body, "these letters; or else filter"},
                             {"max", Type::integer, From::body, "act on at most this many"}});
    return all;
}

/* With an offset it is the crate's route, which pages by it. */
Route dlq_list()
{
    std::vector<Parameter> parameters = letter_filter(From::query);
    parameters.insert(parameters.end(),
                      {{"cursor", Type::text, From::query, "next of the page before"},
                       {"limit", Type::integer, From::query, "most entries of a page"},
                       {"offset", Type::integer, From::query,
                        "leave out this many; with it, only task_identifier, queue_name and the "
                        "times filter"}});
    return {
        .id = "dlq.list",
        .places = {{Method::get, "/dlq"}},
        .summary = "Dead letters, newest first",
        .parameters = std::move(parameters),
        .sql =
            "SELECT CASE WHEN $10::integer IS NULL THEN backfill.list_dlq(task_identifier => $1, "
            "queue_name => $2, sqlstate => $3, failed_after => $4::timestamptz, failed_before => "
            "$5::timestamptz, "
            "job_key => $6, search => $7, cursor => $8, \"limit\" => coalesce($9::integer, 50)) "
            "ELSE (SELECT jsonb_build_object('letters', coalesce(jsonb_agg(l.letter ORDER BY "
            "l.failed_at DESC, l.id DESC), '[]'), "
            "'next', NULL, 'cut_off', false) FROM (SELECT d.failed_at, d.id, " LETTER_OF_ROW
            " AS letter FROM backfill.dlq d WHERE ($1::text IS NULL OR d.task_identifier = $1) "
            "AND ($2::text IS NULL OR coalesce(d.queue_name, '') = $2) AND ($4::timestamptz IS "
            "NULL OR "
            "d.failed_at >= $4::timestamptz) "
            "AND ($5::timestamptz IS NULL OR d.failed_at < $5::timestamptz) ORDER BY d.failed_at "
            "DESC, d.id DESC "
            "LIMIT least(coalesce($9::integer, 50), 500) OFFSET $10::integer) l) END",
        .needs = {"list_dlq", "job_details", "view dlq"}};
}

Route requeue_many()
{
    std::vector<Parameter> parameters = many_parameters();
    parameters.push_back({"notes", Type::text, From::body, "a note for the letters"});
    return {.id = "dlq.requeue_many",
            .places = {{Method::post, "/dlq/requeue"}},
            .summary = "Run the given dead letters again, or those that pass a filter",
            .parameters = std::move(parameters),
            .sql = CHOSEN_LETTERS
            "SELECT jsonb_build_object('affected', (SELECT count(*) FROM "
            "backfill.requeue_dlq_jobs(dlq_ids => "
            "ARRAY(SELECT i FROM chosen LIMIT $2::integer), notes => $10)), " THERE_ARE_MORE,
            .needs = {"requeue_dlq_jobs", "find_dlq_ids"},
            .changes = true,
            .times = kTimesForMany};
}

Route delete_many()
{
    return {.id = "dlq.delete_many",
            .places = {{Method::post, "/dlq/delete"}},
            .summary = "Delete the given dead letters, or those that pass a filter",
            .parameters = many_parameters(),
            .sql = CHOSEN_LETTERS
            "SELECT jsonb_build_object('affected', backfill.delete_dlq_jobs(dlq_ids => "
            "ARRAY(SELECT i FROM chosen LIMIT $2::integer)), " THERE_ARE_MORE,
            .needs = {"delete_dlq_jobs", "find_dlq_ids"},
            .changes = true,
            .times = kTimesForMany};
}

Route cleanup()
{
    return {.id = "dlq.cleanup",
            .places = {{Method::post, "/dlq/cleanup"}},
            .summary = "Delete old dead letters; at least one condition",
            .parameters = {{"older_than", Type::number, From::body, "failed this many seconds ago"},
                           {"task_identifier", Type::text, From::body, "of this task"},
                           {"queue_name", Type::text, From::body, "of this queue"}},
            .sql = "SELECT jsonb_build_object('deleted', backfill.cleanup_dlq(older_than => "
                   "make_interval(secs => $1::float8), "
                   "task_identifier => $2, queue_name => $3))",
            .needs = {"cleanup_dlq"},
            .changes = true,
            .times = kTimesForMany};
}

} // namespace

std::vector<Route> dead_letter_routes()
{
    return {
        dlq_list(),
        {.id = "dlq.groups",
         .places = {{Method::get, "/dlq/groups"}},
         .summary = "Dead letters by task and SQLSTATE, the largest group first",
         .parameters = {{"failed_after", Type::timestamp, From::query, "not before this time"},
                        {"failed_before", Type::timestamp, From::query, "before this time"}},
         .sql = "SELECT backfill.dlq_groups(failed_after => $1::timestamptz, failed_before => "
                "$2::timestamptz)",
         .needs = {"dlq_groups"}},
        {.id = "dlq.stats",
         .places = {{Method::get, "/dlq/stats"}},
         .summary = "Figures of all dead letters",
         .sql = "SELECT to_jsonb(s) FROM backfill.dlq_stats() s",
         .needs = {"dlq_stats"}},
        {.id = "dlq.get",
         .places = {{Method::get, "/dlq/:id"}},
         .summary = "One dead letter",
         .parameters = {kLetterId},
         .sql = kOneLetter,
         .needs = {"view dlq", "job_details"},
         .absent_message = "there is no such dead letter"},
        {.id = "dlq.requeue",
         .places = {{Method::post, "/dlq/:id/requeue"}},
         .summary = "Run a dead letter's job again",
         .parameters = {kLetterId,
                        {"payload", Type::json, From::body, "a corrected payload"},
                        {"notes", Type::text, From::body, "a note for the letter"}},
         .sql = "SELECT jsonb_build_object('job_id', backfill.requeue_dlq_job($1::bigint, "
                "$2::jsonb, $3)::text)",
         .needs = {"requeue_dlq_job"},
         .changes = true},
        {.id = "dlq.update",
         .places = {{Method::patch, "/dlq/:id"}},
         .summary = "Correct a dead letter's payload or notes",
         .parameters = {kLetterId,
                        {"payload", Type::json, From::body, "a corrected payload"},
                        {"notes", Type::text, From::body, "a note for the letter"}},
         .sql = "SELECT backfill.update_dlq_job($1::bigint, $2::jsonb, $3)",
         .then_sql = kOneLetter,
         .needs = {"update_dlq_job"},
         .changes = true,
         .absent_message = "there is no such dead letter"},
        {.id = "dlq.delete",
         .places = {{Method::del, "/dlq/:id"}},
         .summary = "Delete a dead letter",
         .parameters = {kLetterId},
         .sql = "SELECT backfill.delete_dlq_job($1::bigint)",
         .needs = {"delete_dlq_job"},
         .changes = true,
         .success = 204,
         .absent_message = "there is no such dead letter"},
        requeue_many(),
        delete_many(),
        cleanup(),
    };
}

} // namespace backfill::web
