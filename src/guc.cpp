/* guc.cpp - definitions of the settings, each group in alphabetical order. */
#include "backfill/guc.hpp"

#include "backfill/clock.hpp"
#include "backfill/pg/pg.hpp"

#include <climits>

extern "C" {
#include "utils/varlena.h"
}

namespace backfill::guc
{

namespace
{

/* The values of synchronous_commit, and one for leaving it alone. */
const config_enum_entry synchronous_commit_options[] = {
    {"default", 0, false},      {"off", 1, false}, {"local", 2, false},
    {"remote_write", 3, false}, {"on", 4, false},  {"remote_apply", 5, false},
    {nullptr, 0, false},
};

} // namespace

int ageing_interval_ms = 0;
int audit_retention_s = 90 * SECS_PER_DAY;
int batch_time_ms = 5;
int bulk_queue_concurrency = 5;
int cron_clock = kAutoClock;
char *databases = nullptr;
int dlq_processor_interval_s = 60;
int dlq_retention_s = 0;
int executor_idle_timeout_s = 60;
int executor_max_jobs = 100000;
int executor_synchronous_commit = 0;
char *fake_now = nullptr;
int fast_queue_concurrency = 10;
char *headers = nullptr;
int headers_assignments = 0;
double hint_faults = 0;
double undo_faults = 0;
int max_executors = 4;
int max_free_retries = 20;
int metrics_idle_time = 3600 * 1000;
int metrics_max_label_sets = 1000;
int notify_interval_ms = 50;
int poll_interval_ms = 200;
int random_seed = -1;
int random_seed_assignments = 0;
int reserved_urgent_executors = 0;
int savepoint_per_job = kSavepointsAuto;

bool is_listed(const char *database_name)
{
    List *names = NIL;
    char *copy = pstrdup(databases);
    if (strcmp(copy, "*") == 0)
        return true;
    if (!SplitGUCList(copy, ',', &names))
        return false;
    ListCell *cell;
    foreach (cell, names)
        if (strcmp(static_cast<char *>(lfirst(cell)), database_name) == 0)
            return true;
    return false;
}

const char *executor_synchronous_commit_name()
{
    for (const config_enum_entry &option : synchronous_commit_options)
        if (option.name != nullptr && option.val == executor_synchronous_commit && option.val != 0)
            return option.name;
    return nullptr;
}

namespace
{

void on_random_seed_assigned(int, void *) noexcept
{
    random_seed_assignments++;
}

/* A list that cannot be read is refused. One that is in the configuration file when the server
 * starts would be replaced by the default, all databases: it stays, and names none. */
bool check_databases(char **value, void **, GucSource)
{
    List *names = NIL;
    char *const copy = pstrdup(*value);
    const bool readable = SplitGUCList(copy, ',', &names);
    list_free(names);
    pfree(copy);
    if (readable)
        return true;
    if (process_shared_preload_libraries_in_progress) {
        ereport(WARNING,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("invalid value for parameter \"backfill.databases\": \"%s\"", *value),
                 errdetail("It is not a list of names, so backfill runs jobs in no database."),
                 errhint("Separate the names by commas, and put double quotes around those with "
                         "spaces, commas or quotes.")));
        return true;
    }
    GUC_check_errdetail("It must be a list of database names, separated by commas; names with "
                        "spaces, commas or quotes need double quotes.");
    return false;
}

/* How deeply arrays and objects are nested in a JSON text, its errors aside. */
int depth_of(const char *json)
{
    int depth = 0;
    int deepest = 0;
    bool in_string = false;
    for (const char *c = json; *c != '\0'; c++) {
        if (in_string && *c == '\\' && c[1] != '\0')
            c++;
        else if (*c == '"')
            in_string = !in_string;
        else if (!in_string && (*c == '{' || *c == '['))
            deepest = std::max(deepest, ++depth);
        else if (!in_string && (*c == '}' || *c == ']'))
            depth--;
    }
    return deepest;
}

/* Only the syntax, because the postmaster may read the value from a file: what else jsonb demands
 * needs a database, and is said when a job is enqueued. The parser recurses, and in the postmaster
 * an error of its would end the server. */
bool check_headers_setting(char **value, void **, GucSource)
{
    constexpr int kDeepest = 100;
    const char *const text = *value;
    if (text == nullptr || text[0] == '\0')
        return true;
    if (depth_of(text) > kDeepest) {
        GUC_check_errdetail("It is nested more than %d levels deep.", kDeepest);
        return false;
    }
    if (text[strspn(text, " \t\n\r")] == '{' && pg::is_json(text))
        return true;
    GUC_check_errdetail("It must be a JSON object.");
    GUC_check_errhint("For example {\"traceparent\": \"00-...\"}; empty: what is enqueued has the "
                      "headers of the job that runs, if one does.");
    return false;
}

void on_headers_assigned(const char *, void *) noexcept
{
    headers_assignments++;
}

const config_enum_entry kCronClocks[] = {
    {"auto", kAutoClock, false},
    {"pg_cron", kPgCronClock, false},
    {"dispatcher", kDispatcherClock, false},
    {"external", kExternalClock, false},
    {nullptr, 0, false},
};

const config_enum_entry kSavepointOptions[] = {
    {"auto", kSavepointsAuto, false},
    {"on", kSavepointsOn, false},
    {"off", kSavepointsOff, false},
    {nullptr, 0, false},
};

/* A setting's default is the value that its variable begins with. */

/* What executors run, and how many of them. */
void define_executor_settings()
{
    DefineCustomIntVariable(
        "backfill.batch_time", "How long an executor collects fast jobs into one transaction.",
        "0 runs every job in a transaction of its own.", &batch_time_ms, batch_time_ms, 0, 1000,
        PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("backfill.databases", "Databases whose jobs this server runs.",
                               "A comma-separated list, or * for every database that has the "
                               "extension.",
                               &databases, "*", PGC_SIGHUP, GUC_LIST_INPUT, check_databases,
                               nullptr, nullptr);
    DefineCustomIntVariable("backfill.executor_idle_timeout",
                            "How long an executor without work stays.", nullptr,
                            &executor_idle_timeout_s, executor_idle_timeout_s, 1, 86400, PGC_SIGHUP,
                            GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.executor_max_jobs",
                            "How many jobs an executor runs before a fresh process takes over.",
                            "A fresh process forgets what languages such as PL/Perl keep in "
                            "global variables. 0 means no limit.",
                            &executor_max_jobs, executor_max_jobs, 0, INT_MAX, PGC_SIGHUP, 0,
                            nullptr, nullptr, nullptr);
    DefineCustomEnumVariable(
        "backfill.executor_synchronous_commit", "What executors set synchronous_commit to.",
        "\"off\" is safe for jobs: should the server lose the last moments, it loses effect and "
        "completion together, and the job runs again. \"default\" leaves it to the server's, "
        "the database's or the role's setting.",
        &executor_synchronous_commit, executor_synchronous_commit, synchronous_commit_options,
        PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.max_executors", "How many executors may run in one database.",
                            "0 holds all jobs. Each takes one of max_worker_processes.",
                            &max_executors, max_executors, 0, 1024, PGC_SIGHUP, 0, nullptr, nullptr,
                            nullptr);
    DefineCustomIntVariable("backfill.poll_interval",
                            "How soon to look for jobs that no commit announced.",
                            "Restored or replicated rows, for example. While nothing is found the "
                            "interval grows up to 32 times.",
                            &poll_interval_ms, poll_interval_ms, 10, 3600 * 1000, PGC_SIGHUP,
                            GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.reserved_urgent_executors",
                            "How many of the executors run only jobs of priority -1 and below.",
                            "So that slow bulk jobs never make an urgent one wait for an executor.",
                            &reserved_urgent_executors, reserved_urgent_executors, 0, 1024,
                            PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable(
        "backfill.savepoint_per_job", "Whether executors run each job in a savepoint of its own.",
        "\"auto\": not the jobs of tasks that hardly ever fail; should one fail, the other jobs of "
        "its transaction are run again.",
        &savepoint_per_job, savepoint_per_job, kSavepointOptions, PGC_SIGHUP, 0, nullptr, nullptr,
        nullptr);
}

/* When jobs start, are retried, announced and forgotten. */
void define_job_settings()
{
    DefineCustomIntVariable(
        "backfill.ageing_interval", "How long a job waits until it counts as one priority better.",
        "So that a starving bulk job gets its turn. 0 turns ageing off.", &ageing_interval_ms,
        ageing_interval_ms, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.audit_retention",
                            "How long it is kept what administrators have done.",
                            "0 keeps it for ever.", &audit_retention_s, audit_retention_s, 0,
                            INT_MAX, PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "backfill.bulk_queue_concurrency", "How many jobs of queue \"bulk\" run at once.",
        "A row in backfill.queue overrides it.", &bulk_queue_concurrency, bulk_queue_concurrency, 1,
        INT_MAX / 2, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("backfill.cron_clock", "What enqueues the jobs of schedules in time.",
                             "\"dispatcher\": the dispatcher; \"pg_cron\": pg_cron, which calls "
                             "backfill.cron_tick() every minute; \"auto\": pg_cron if it runs in "
                             "the database, else the dispatcher; \"external\": something else, "
                             "which you set up.",
                             &cron_clock, cron_clock, kCronClocks, PGC_SIGHUP, 0, nullptr, nullptr,
                             nullptr);
    DefineCustomIntVariable("backfill.dlq_processor_interval",
                            "How often dead letters are looked after.",
                            "Jobs without attempts left become dead letters, and old letters are "
                            "deleted.",
                            &dlq_processor_interval_s, dlq_processor_interval_s, 1, 86400,
                            PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.dlq_retention", "How long dead letters are kept.",
                            "0 keeps them for ever.", &dlq_retention_s, dlq_retention_s, 0, INT_MAX,
                            PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "backfill.fast_queue_concurrency", "How many jobs of queue \"fast\" run at once.",
        "A row in backfill.queue overrides it.", &fast_queue_concurrency, fast_queue_concurrency, 1,
        INT_MAX / 2, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.max_free_retries",
                            "How often a job is retried without costing an attempt.",
                            "After serialization failures, deadlocks and lock timeouts; then they "
                            "cost attempts.",
                            &max_free_retries, max_free_retries, 0, PG_INT16_MAX, PGC_SIGHUP, 0,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable("backfill.notify_interval",
                            "How often, at most, consumers of a channel are notified of jobs.",
                            "The first job after a pause is announced at once.",
                            &notify_interval_ms, notify_interval_ms, 1, 3600 * 1000, PGC_SIGHUP,
                            GUC_UNIT_MS, nullptr, nullptr, nullptr);
}

/* What a session says about the jobs that it enqueues. */
void define_producer_settings()
{
    DefineCustomStringVariable(
        "backfill.headers", "Headers of the jobs that are enqueued, a JSON object.",
        "For a call that is given none. Empty: those of the job that enqueues, if one does; {}: "
        "none.",
        &headers, "", PGC_USERSET, 0, check_headers_setting, on_headers_assigned, nullptr);
}

void define_metric_settings()
{
    DefineCustomIntVariable("backfill.metrics_idle_time",
                            "How long label sets of metrics that count nothing are kept.",
                            "Then one for which there is no room takes it, and what was counted "
                            "moves to \"other\".",
                            &metrics_idle_time, metrics_idle_time, 0, INT_MAX, PGC_SIGHUP,
                            GUC_UNIT_MS, nullptr, nullptr, nullptr);
    /* It sizes shared memory, and after the start of the server it may not be defined. */
    if (process_shared_preload_libraries_in_progress)
        DefineCustomIntVariable("backfill.metrics_max_label_sets",
                                "How many combinations of task, queue and priority band are "
                                "counted separately.",
                                "Those beyond it are counted together, as \"other\". Each takes "
                                "about 1.5 kB of shared memory.",
                                &metrics_max_label_sets, metrics_max_label_sets, 0, 1000000,
                                PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
}

void define_test_settings()
{
    DefineCustomStringVariable(
        "backfill.fake_now", "A time at which the queue's clock stands still in tests.",
        "What is ready, retries, schedules, leases, rates and retention follow it. Empty: the real "
        "time.",
        &fake_now, "", PGC_SUSET, GUC_NOT_IN_SAMPLE, clock::check_fake_now, clock::assign_fake_now,
        nullptr);
    DefineCustomRealVariable(
        "backfill.hint_faults", "How likely a hint in shared memory is mishandled in tests.",
        "Lost, repeated or wrong; no job may suffer more than a delay.", &hint_faults, hint_faults,
        0, 1, PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
    DefineCustomIntVariable(
        "backfill.random_seed", "Makes the jitter of retries repeatable in tests.",
        "-1 seeds every process from a strong source.", &random_seed, random_seed, -1, INT_MAX,
        PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, on_random_seed_assigned, nullptr);
    DefineCustomRealVariable(
        "backfill.undo_faults",
        "How likely in tests a job without a savepoint is undone although it has succeeded.",
        "With it go all jobs of its transaction; they run again, with savepoints.", &undo_faults,
        undo_faults, 0, 1, PGC_SIGHUP, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
}

} // namespace

void define()
{
    define_executor_settings();
    define_job_settings();
    define_producer_settings();
    define_metric_settings();
    define_test_settings();
    MarkGUCPrefixReserved("backfill");
}

} // namespace backfill::guc
