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

constexpr const char *kOtherHint =
    "Or set backfill.cron_clock to auto, so that the dispatcher sees to the schedules.";

/* With auto a minute that pg_cron has not dealt with by then is the dispatcher's. Longer than it
 * takes health() to see that pg_cron does not tick. */
constexpr int64 kPatienceUs = 2 * USECS_PER_MINUTE;

/* The database that pg_cron lives in; null if the server does not load it. */
const char *pg_cron_home()
{
    return pg::call([] {
        /* The configuration may have its settings all the same. */
        constexpr const char *kSetting = "cron.database_name";
        return (GetConfigOptionFlags(kSetting, true) & GUC_CUSTOM_PLACEHOLDER) != 0
                   ? nullptr
                   : GetConfigOption(kSetting, true, false);
    });
}

bool pg_cron_is_installed()
{
    return OidIsValid(pg::call([] { return get_extension_oid("pg_cron", true); }));
}

[[noreturn]] void no_clock(std::string detail, const std::string &hint)
{
    fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
         "backfill.cron_clock is pg_cron, which is not available in this database",
         std::move(detail), hint + " " + kOtherHint);
}

void require_pg_cron()
{
    const char *home = pg_cron_home();
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
    if (here != home)
        no_clock("pg_cron runs in database \"" + std::string(home) + "\" only.",
                 "Set cron.database_name to this database and restart the server.");
    if (!pg_cron_is_installed())
        no_clock("The server loads pg_cron, but the extension does not exist.",
                 "Run CREATE EXTENSION pg_cron.");
}

/* The server has loaded it, and it lives in this database. */
bool pg_cron_runs_here()
{
    const char *const home = pg_cron_home();
    return pg::call([&] {
        return home != nullptr && get_database_oid(home, true) == MyDatabaseId &&
               OidIsValid(get_extension_oid("pg_cron", true));
    });
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
                          errmsg("the clock of schedules does not work: %s", problem.c_str()),
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

void lock_schedules()
{
    /* Conflicts with itself and with nothing that a tick or a reader does. */
    const Oid table = pg::relation_oid("cron_schedule");
    pg::call([&] { LockRelationOid(table, ShareUpdateExclusiveLock); });
}

void start_clock()
{
    switch (guc::cron_clock) {
    case guc::kExternalClock:
        return;
    case guc::kPgCronClock:
        require_pg_cron();
        make_clock();
        break;
    case guc::kDispatcherClock:
        remove_clock();
        break;
    default:
        /* If the owner has no rights in pg_cron, the dispatcher ticks. */
        if (pg_cron_runs_here())
            (void) pg::in_subtransaction([] { make_clock(); });
    }
    warn_of_clock();
}

void stop_clock()
{
    if (guc::cron_clock != guc::kExternalClock)
        remove_clock();
}

std::optional<int64> patience()
{
    if (guc::cron_clock == guc::kExternalClock)
        return std::nullopt;
    if (guc::cron_clock == guc::kDispatcherClock)
        return 0;
    const bool may_tick = guc::cron_clock == guc::kAutoClock;
    const auto as_if_without_pg_cron = may_tick ? std::optional<int64>(0) : std::nullopt;
    if (!pg_cron_runs_here())
        return as_if_without_pg_cron;
    std::optional<int64> result;
    const auto error = pg::in_subtransaction([&] {
        if (select_clock("1", kHere) == 0) {
            lock_schedules();
            if (pg::execute_as_owner("SELECT 1 FROM backfill.cron_schedule s LIMIT 1", {},
                                     pg::Sees::kLatest)
                    .rows > 0)
                make_clock();
        }
        /* An operator that has paused the clock wants no ticks. */
        std::string is_active(kHere);
        is_active += " AND j.active";
        if (may_tick && select_clock("1", is_active) > 0)
            result = kPatienceUs;
    });
    /* Its tables are locked, or not for us: health() and schedule() say the same. */
    return error ? as_if_without_pg_cron : result;
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
