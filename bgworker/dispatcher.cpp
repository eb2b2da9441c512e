/* dispatcher.cpp - one per database: sees to it that ready jobs have executors, and that
 * external consumers hear of theirs.
 *
 * A pass looks which roles have ready jobs, wakes their idle executors or starts new
 * ones, and sets the timer to the next run_at. Passes happen when a commit asks for
 * one (wake.hpp), when the timer goes off, when a worker starts or ends, and now and
 * then for rows that no commit announced: restored, replicated, or released by COMMIT
 * PREPARED.
 *
 * It also ends leases when they run out, by the same timer, and tells consumers of jobs that
 * they can claim: NOTIFY, and a condition variable for sessions in wait_for_jobs(), at most
 * once per backfill.notify_interval. Before it looks for work, it charges jobs whose run has
 * ended its process, or the server (ledger.hpp). Producers only leave a flag (signal_consumers()),
 * which wakes the dispatcher once until it has looked. The dispatcher runs as the bootstrap
 * superuser and never runs a handler.
 *
 * A pass is a sequence of steps, and none may keep the others from being taken: each has a
 * subtransaction, and what fails is set aside (set_aside.hpp), a lease or a charge by itself. They
 * share a transaction until its commit fails; then each has one of its own, until all succeed. What
 * is tried has a time limit, and what ends the process is tried more and more rarely
 * (run_ledger.hpp). No step waits long for a lock, and none sees the settings of the database, or
 * of the role (own_settings.hpp). */
#include "backfill/bgworker/executor_pool.hpp"
#include "backfill/bgworker/housekeeping.hpp"
#include "backfill/bgworker/own_settings.hpp"
#include "backfill/bgworker/sweep_timer.hpp"
#include "backfill/bgworker/ticker.hpp"
#include "backfill/bgworker/work_finder.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/settle/each_apart.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/stats/events.hpp"

extern "C" {
PGDLLEXPORT void backfill_dispatcher_main(Datum argument);
}

namespace backfill::bgworker
{

namespace
{

constexpr long kLongestWaitMs = 3600 * 1000;
/* How soon to look again whether a transaction that drops the extension is over. */
constexpr long kBeingDroppedMs = 100;
/* With backfill.fake_now, how soon to look again at most. */
constexpr long kFakeClockMs = 100;

void set_status(DatabaseStatus status, std::optional<TimestampTz> next_due)
{
    bool was_unknown = false;
    {
        const SharedLock lock;
        if (DatabaseSlot *slot = lock->find_or_add_database(MyDatabaseId)) {
            was_unknown = slot->status == DatabaseStatus::kUnknown;
            slot->status = status;
            slot->next_due = next_due.value_or(0);
        }
    }
    /* It looks into a few unknown databases at a time and can go on to the next now. */
    if (was_unknown)
        signal_launcher(InvalidOid);
}

/* From here on, a process that wakes us wants us to look again. */
void clear_woken()
{
    const SharedLock lock;
    my_slot(lock).woken = false;
}

/* Of the SQL objects. */
std::string installed_version()
{
    return pg::call([]() -> const char * {
        Relation extensions = table_open(ExtensionRelationId, AccessShareLock);
        ScanKeyData key;
        ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
                    CStringGetDatum("backfill"));
        SysScanDesc scan =
            systable_beginscan(extensions, ExtensionNameIndexId, true, nullptr, 1, &key);
        HeapTuple tuple = systable_getnext(scan);
        const char *version = "";
        if (HeapTupleIsValid(tuple)) {
            bool is_null;
            const Datum datum = heap_getattr(tuple, Anum_pg_extension_extversion,
                                             RelationGetDescr(extensions), &is_null);
            version = TextDatumGetCString(datum);
        }
        systable_endscan(scan);
        table_close(extensions, AccessShareLock);
        return version;
    });
}

void set_aside_step(int64 number, const char *name, const queue::Failed &failed)
{
    queue::set_aside_and_say(set_aside::Kind::kStep, {number, name}, name, failed.error,
                             failed.not_before);
}

/* Where code of users may run: triggers on our tables. It has a time limit, and all it has deferred
 * runs there, too, so that the commit has none of it. */
enum class UsersCode {
    kNone,
    kInThings, /* each thing that is done is an attempt (each_apart.hpp) */
    kInStep,   /* the step is */
};

class Dispatcher
{
  public:
    /* Returns how long to wait. */
    long iterate();

  private:
    struct Step {
        int64 number;     /* not 0; for the list of what is set aside */
        const char *name; /* completes "could not" */
        UsersCode users_code;
        void (*take)(Dispatcher &dispatcher, Pass &pass);
    };
    static const Step kSteps[];

    bool version_matches();
    long until_due(const Pass &pass, const Shortage &shortage) const;
    long until_next(long due_ms) const;

    static std::string describe_attempt(const ledger::Deed &deed);
    void set_deadly_aside();
    void follow_reloads();
    std::optional<queue::Failed> try_step(const Step &step, Pass &pass);
    void take_step(const Step &step, Pass &pass);
    void after_commit(const Pass &pass);
    void after_abort(Pass &pass);
    std::optional<core::ErrorInfo> finish_transaction(std::span<const Step> steps, Pass &pass);
    void take_steps_apart(Pass &pass);
    void take_steps(Pass &pass);
    long take_pass();

    Housekeeping housekeeping_;
    Ticker ticker_;
    WorkFinder work_finder_;
    ExecutorPool executors_;
    SweepTimer sweeps_;
    bool version_reported_ = false;
    bool steps_apart_ = false; /* each step has its own transaction */
    bool knows_deadly_ = false;
    int reloads_ = 0; /* those that were followed */
};

long dispatcher_iteration()
{
    static Dispatcher dispatcher;
    return dispatcher.iterate();
}

/* The library and the SQL objects must be of one version. */
bool Dispatcher::version_matches()
{
    const std::string installed = installed_version();
    const bool matches = installed == BACKFILL_VERSION;
    if (!matches && !version_reported_)
        pg::call([&] {
            ereport(LOG,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("backfill runs no jobs in database \"%s\": the extension has "
                            "version %s, the library %s",
                            get_database_name(MyDatabaseId), installed.c_str(), BACKFILL_VERSION),
                     errhint("Run ALTER EXTENSION backfill UPDATE, or restart the server if "
                             "its library is the older one.")));
        });
    version_reported_ = !matches;
    return matches;
}

/* How long until there is something to do other than the next sweep. */
long Dispatcher::until_due(const Pass &pass, const Shortage &shortage) const
{
    if (pass.more || was_called())
        return 0;
    const TimestampTz now = GetCurrentTimestamp();
    long wait_ms = kLongestWaitMs;
    if (pass.next_due) {
        const long due_ms = TimestampDifferenceMilliseconds(clock::now(), *pass.next_due) + 1;
        /* A clock that stands still does not come closer. */
        wait_ms = Min(wait_ms, clock::is_fake() ? Max(due_ms, kFakeClockMs) : due_ms);
    }
    if (const auto notify_at = work_finder_.next_notification())
        wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(now, *notify_at) + 1);
    if (shortage.exhausted || shortage.held)
        wait_ms = Min(wait_ms, StartBackoff::kFirstPauseUs / 1000);
    if (shortage.no_place)
        wait_ms = Min(wait_ms, kMinTenureMs / 2);
    return Max(wait_ms, 1);
}

/* How long until that or the next sweep. */
long Dispatcher::until_next(long due_ms) const
{
    const long sweep_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), sweeps_.next());
    return due_ms == 0 ? 0 : Max(Min(due_ms, sweep_ms), 1);
}

/* --- Steps of a pass ------------------------------------------------------------ */

const Dispatcher::Step Dispatcher::kSteps[] = {
    {1, "charge jobs for the ends of their executors", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.charge_lost_runs(pass); }},
    {2, "release the jobs of procedures whose executors are gone", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.release_lost_claims(pass); }},
    {3, "make dead letters of jobs without attempts", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.bury_exhausted_jobs(pass); }},
    {4, "delete old dead letters", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.delete_old_letters(pass); }},
    {11, "delete old marks of cancelled jobs", UsersCode::kInStep,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.delete_old_marks(pass); }},
    {5, "make dead letters of the jobs of missing roles", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.move_orphans(pass); }},
    {6, "delete old history", UsersCode::kInStep,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.trim_history_when_due(pass); }},
    {7, "end leases", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.end_leases(pass); }},
    {9, "enqueue what schedules say", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.ticker_.tick(pass); }},
    {8, "look for ready jobs", UsersCode::kNone,
     [](Dispatcher &us, Pass &pass) { us.work_finder_.look(pass); }},
    {10, "delete empty queues", UsersCode::kInThings,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.delete_empty_queues(pass); }},
    {12, "delete old rows of the audit log", UsersCode::kInStep,
     [](Dispatcher &us, Pass &pass) { us.housekeeping_.trim_audit(pass); }},
};

std::optional<queue::Failed> Dispatcher::try_step(const Step &step, Pass &pass)
{
    if (step.users_code == UsersCode::kInStep)
        return queue::try_apart(queue::Transaction::kOurs, set_aside::Kind::kStep, step.number,
                                [&] { step.take(*this, pass); });
    const ledger::Trying trying(set_aside::Kind::kStep, step.number);
    if (auto error = pg::in_subtransaction([&] { step.take(*this, pass); }))
        return queue::Failed{*std::move(error), 0};
    return std::nullopt;
}

void Dispatcher::take_step(const Step &step, Pass &pass)
{
    if (set_aside::is_set_aside(set_aside::Kind::kStep, step.number)) {
        pass.note_retry(set_aside::Kind::kStep);
        return;
    }
    if (const auto failed = try_step(step, pass)) {
        set_aside_step(step.number, step.name, *failed);
        pass.note_retry(set_aside::Kind::kStep);
    } else if (!steps_apart_)
        set_aside::clear(set_aside::Kind::kStep, step.number);
}

void Dispatcher::after_commit(const Pass &pass)
{
    housekeeping_.on_commit();
    if (pass.has_notified)
        wake_consumers();
}

void Dispatcher::after_abort(Pass &pass)
{
    housekeeping_.on_abort();
    ticker_.look_again();
    work_finder_.on_abort(pass);
    pass.has_notified = false;
}

/* Takes steps and ends the transaction. Returns the error of its commit. */
std::optional<core::ErrorInfo> Dispatcher::finish_transaction(std::span<const Step> steps,
                                                              Pass &pass)
{
    /* Of several steps it is a death of none of them in particular. */
    const ledger::Trying trying(set_aside::Kind::kStep,
                                steps.size() == 1 ? steps.front().number : 0);
    std::optional<core::ErrorInfo> error;
    housekeeping_.on_begin();
    for (const Step &step : steps)
        take_step(step, pass);
    try {
        commit_transaction();
    } catch (const pg::Error &raised) {
        error = pg::to_error_info(raised);
    }
    if (!error) {
        after_commit(pass);
        return error;
    }
    abort_transaction();
    after_abort(pass);
    return error;
}

/* The first transaction has begun. */
void Dispatcher::take_steps_apart(Pass &pass)
{
    bool all_succeeded = true;
    bool begun = true;
    for (const Step &step : kSteps) {
        if (!begun && try_begin_extension_transaction() != Extension::kPresent)
            return;
        begun = false;
        const auto error = finish_transaction(std::span(&step, 1), pass);
        if (error) {
            set_aside_step(step.number, step.name, {*error, 0});
            pass.note_retry(set_aside::Kind::kStep);
        } else if (!set_aside::is_set_aside(set_aside::Kind::kStep, step.number))
            set_aside::clear(set_aside::Kind::kStep, step.number);
        all_succeeded =
            all_succeeded && !error && !set_aside::find(set_aside::Kind::kStep, step.number);
    }
    steps_apart_ = !all_succeeded;
    if (all_succeeded)
        ledger::forget_deadly(set_aside::Kind::kStep, 0);
}

/* The transaction has begun; afterwards there is none. */
void Dispatcher::take_steps(Pass &pass)
{
    if (steps_apart_) {
        take_steps_apart(pass);
        return;
    }
    if (const auto error = finish_transaction(kSteps, pass)) {
        /* Whose fault it was, the next pass finds out. */
        steps_apart_ = true;
        pass.more = true;
    }
}

/* --- What has ended dispatchers before this one --------------------------------------- */

std::string Dispatcher::describe_attempt(const ledger::Deed &deed)
{
    if (deed.kind == set_aside::Kind::kStep)
        for (const Step &step : kSteps)
            if (step.number == deed.id)
                return step.name;
    return "settle " + std::string(set_aside::kind_name(deed.kind)) + " " + std::to_string(deed.id);
}

/* Once. What has ended the last dispatcher, or the server, must not end us at once, too, and not
 * together with others. */
void Dispatcher::set_deadly_aside()
{
    if (knows_deadly_)
        return;
    for (const ledger::Entry &entry : ledger::deadly()) {
        const ledger::Deed &deed = entry.deed;
        const std::string what = describe_attempt(deed);
        const bool is_step = deed.kind == set_aside::Kind::kStep;
        if (deed.id != 0)
            queue::set_aside_and_say(deed.kind, {deed.id, is_step ? std::string_view(what) : ""},
                                     what, ledger::describe_deaths(entry), deed.not_before);
        else if (is_step)
            steps_apart_ = true;
        else
            (void) set_aside::note_failure(deed.kind, 0, {}, ledger::describe_deaths(entry));
    }
    knows_deadly_ = true;
}

/* After a trouble has been mended, a reload tells of it: then all is tried at once. */
void Dispatcher::follow_reloads()
{
    if (std::exchange(reloads_, config_reloads()) == config_reloads())
        return;
    ledger::end_pauses();
    set_aside::retry_all();
    ticker_.look_again();
    sweeps_.note_work();
}

long Dispatcher::take_pass()
{
    Pass pass;
    const TimestampTz start = GetCurrentTimestamp();
    pass.sweep = start >= sweeps_.next();
    pass.other_version = !version_matches();
    if (pass.sweep)
        sweeps_.begin_sweep();
    if (pass.other_version)
        commit_transaction();
    else
        take_steps(pass);
    set_status(DatabaseStatus::kPresent, pass.next_due);
    const bool has_work = std::any_of(pass.roles.begin(), pass.roles.end(),
                                      [](const RoleWork &work) { return work.ready > 0; });
    stats::note_poll(WorkerKind::kDispatcher, has_work);

    executors_.reap();
    ExecutorPool::retire_surplus(pass.other_version ? 0 : guc::max_executors);
    const Shortage shortage = executors_.provide(pass.roles);
    if (shortage.missed)
        sweeps_.hurry();
    if (pass.sweep)
        sweeps_.note_sweep(start);
    const long due_ms = until_due(pass, shortage);
    if (pass.sweep && !has_work && !pass.has_notified && !pass.other_version)
        sweeps_.note_idle_until(GetCurrentTimestamp() + static_cast<int64>(due_ms) * 1000);
    else
        sweeps_.note_work();
    return until_next(due_ms);
}

long Dispatcher::iterate()
{
    set_deadly_aside();
    follow_reloads();
    /* A fresh process has the new settings of the server. */
    if (config_reloads() > 0 && own_settings::are_outdated())
        end_worker();
    if (!was_called() && sweeps_.may_rest())
        return until_next(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), sweeps_.rest()) +
                          1);
    pgstat_report_activity(STATE_RUNNING, "backfill: looking for jobs without an executor");
    clear_woken();
    long wait_ms = kBeingDroppedMs;
    const Extension found = try_begin_extension_transaction();
    if (found == Extension::kAbsent) {
        set_status(DatabaseStatus::kAbsent, std::nullopt);
        end_worker();
    }
    if (found == Extension::kPresent)
        wait_ms = take_pass();
    pgstat_report_activity(STATE_IDLE, nullptr);
    return wait_ms;
}

} // namespace

} // namespace backfill::bgworker

void backfill_dispatcher_main(Datum argument)
{
    using namespace backfill::bgworker;

    own_settings::remember_servers();
    attach_worker(argument);
    ledger::open_dispatcher_entry();
    own_settings::take();
    pgstat_report_appname("backfill dispatcher");
    worker_loop(dispatcher_iteration);
}
