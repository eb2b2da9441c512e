/* pg_cron.cpp - see pg_cron.hpp. */
#include "backfill/cron/pg_cron.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/datum.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::queue
{

namespace
{

/* Jobs of the extension's owner, as which all this runs; other roles may have such jobs, too. */
constexpr const char *kHere =
    "j.database = pg_catalog.current_database() AND j.username = CURRENT_USER";
/* The role was renamed or dropped, and pg_cron cannot log in as it. */
constexpr const char *kOrphaned =
    "j.database = pg_catalog.current_database()"
    " AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = j.username)";
constexpr const char *kNowhere =
    "NOT EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = j.database)"
    " AND j.username = CURRENT_USER";

/* Selects something about our job in pg_cron's table, and says how many there are. */
uint64 select_clock(const std::string &what, const std::string &where)
{
    const std::string sql = "SELECT " + what +
                            " FROM cron.job j WHERE j.jobname = 'backfill.cron_tick()'"
                            " AND j.command = 'SELECT backfill.cron_tick()' AND " +
                            where;
    return pg::execute_as_owner(sql.c_str(), {}).rows;
}

constexpr const char *kExternalHint =
    "Or have something else call backfill.cron_tick() every minute, and set "
    "backfill.cron_clock to external.";

bool external_clock()
{
    return guc::cron_clock == guc::kExternalClock;
}

bool pg_cron_is_installed()
{
    return OidIsValid(pg::call([] { return get_extension_oid("pg_cron", true); }));
}

[[noreturn]] void no_clock(std::string detail, const std::string &hint)
{
    fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
         "schedules need pg_cron, which is not available in this database", std::move(detail),
         hint + " " + kExternalHint);
}

void require_pg_cron()
{
    const char *home = pg::call([] { return GetConfigOption("cron.database_name", true, false); });
    if (home == nullptr)
        no_clock("The server does not load pg_cron.",
                 "Install pg_cron, add it to shared_preload_libraries, set cron.database_name to "
                 "this database, restart the server and run CREATE EXTENSION pg_cron.");
    const std::string here =
        pg::call([] { return static_cast<const char *>(get_database_name(MyDatabaseId)); });
    const bool home_exists = pg::call([&] { return OidIsValid(get_database_oid(home, true)); });
    if (!home_exists)
        no_clock("It is set up for database \"" + std::string(home) + "\", which does not exist.",
                 "Set cron.database_name to this database, if it was renamed, and restart the "
                 "server.");
    if (here != home) {
        const std::string job = "backfill " + here;
        const std::string name = pg::call([&] { return quote_literal_cstr(job.c_str()); });
        const std::string literal = pg::call([&] { return quote_literal_cstr(here.c_str()); });
        const std::string identifier = pg::call([&] { return quote_identifier(here.c_str()); });
        no_clock("pg_cron runs in database \"" + std::string(home) + "\" only.",
                 "In that database run SELECT cron.schedule_in_database(" + name +
                     ", '* * * * *', 'SELECT backfill.cron_tick()', " + literal +
                     "), then ALTER DATABASE " + identifier +
                     " SET backfill.cron_clock = 'external', and connect again.");
    }
    if (!pg_cron_is_installed())
        no_clock("The server loads pg_cron, but the extension does not exist.",
                 "Run CREATE EXTENSION pg_cron.");
}

void remove_clock()
{
    if (!pg_cron_is_installed())
        return;
    (void) select_clock("cron.unschedule(j.jobid)", kHere);
    (void) select_clock("cron.unschedule(j.jobid)", kOrphaned);
}

/* The caller of schedule() counts on the clock; health() says the same. */
void warn_of_clock()
{
    const pg::TableRows rows =
        pg::query_as_owner("SELECT c.problem, c.hint FROM backfill._clock_problem() c", {});
    if (rows.count == 0 || rows.rows[0].nulls[0])
        return;
    const std::string problem = pg::to_string(rows.rows[0].values[0]);
    const std::string hint = pg::to_string(rows.rows[0].values[1]);
    pg::call([&] {
        ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                          errmsg("schedules are not followed: %s", problem.c_str()),
                          errhint("%s", hint.c_str())));
    });
}

void make_clock()
{
    (void) select_clock("cron.unschedule(j.jobid)", kOrphaned);
    if (select_clock("1", kHere) > 0)
        return;
    /* The database was renamed, or comes from a dump of another one: the job moves along. */
    const char *const move =
        "cron.alter_job(j.jobid, database := pg_catalog.current_database()::text)";
    std::string first_nowhere(kNowhere);
    first_nowhere += " ORDER BY j.jobid LIMIT 1";
    if (select_clock(move, first_nowhere) == 0)
        (void) pg::execute_as_owner("SELECT cron.schedule('backfill.cron_tick()', '* * * * *',"
                                    "   'SELECT backfill.cron_tick()')",
                                    {});
}

} // namespace

void start_clock()
{
    if (external_clock())
        return;
    require_pg_cron();
    make_clock();
    warn_of_clock();
}

void stop_clock()
{
    if (!external_clock())
        remove_clock();
}

void stop_clock_for_drop()
{
    const auto error = pg::in_subtransaction([] { remove_clock(); });
    if (error)
        pg::call([&] {
            ereport(WARNING,
                    (errmsg("could not stop the clock of schedules: %s", error->message.c_str()),
                     errhint("Remove the job \"backfill.cron_tick()\" with "
                             "cron.unschedule().")));
        });
}

} // namespace backfill::queue
