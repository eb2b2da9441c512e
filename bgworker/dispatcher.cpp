/* dispatcher.cpp - one per database: sees to it that ready jobs have executors, and that
 * external consumers hear of theirs.
 *
 * A pass looks which roles have ready jobs, wakes their idle executors or starts new
 * ones, and sets the timer to the next run_at. Passes happen when a commit asks for
 * one (wake.hpp), when the timer goes off, when a worker starts or ends, and now and
 * then for rows that nobody announced: restored, replicated, or released by COMMIT
 * PREPARED.
 *
 * It also ends leases when they run out, by the same timer, and tells consumers of jobs that
 * they can claim: NOTIFY, and a condition variable for sessions in wait_for_jobs(), at most
 * once per backfill.notify_interval. Before it looks for work, it charges jobs whose run has
 * ended its process, or the server (ledger.hpp). Producers only leave a flag (signal_consumers()),
 * which wakes the dispatcher once until it has looked. The dispatcher runs as the bootstrap
 * superuser and never runs a handler. */
#include "backfill/bgworker/ledger.hpp"
#include "backfill/bgworker/set_aside.hpp"
#include "backfill/bgworker/worker.hpp"
#include "backfill/clock.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/queue/batch.hpp"
#include "backfill/queue/claim.hpp"
#include "backfill/queue/config.hpp"
#include "backfill/queue/job_end.hpp"
#include "backfill/queue/lease.hpp"
#include "backfill/queue/lost_run.hpp"
#include "backfill/queue/next_job.hpp"
#include "backfill/queue/queue_gate.hpp"
#include "backfill/stats/events.hpp"

extern "C" {
PGDLLEXPORT void backfill_dispatcher_main(Datum argument);
}

namespace backfill::bgworker
{

namespace
{

constexpr int kMaxSweepFactor = 32;
constexpr int kOrphanBatch = 100;
constexpr int kHistoryBatch = 5000;
constexpr TimestampTz kHistoryPauseUs = 10000000;
constexpr int kLeaseBatch = 500;
/* How soon to try again to end a lease whose row somebody is changing. */
constexpr int kBusyLeaseMs = 100;
/* How soon to try again to charge a job whose row somebody is changing, and after an error. */
constexpr int kBusyChargeMs = 100;
constexpr int kFailedChargeMs = 1000;
/* With backfill.fake_now, how soon to look again at most. */
constexpr long kFakeClockMs = 100;
/* How many times as long as a sweep took, nobody sweeps again. */
constexpr int kSweepRest = 50;
/* A busy executor is asked to make room for another role only after this long. */
constexpr int kMinTenureMs = 200;

struct Executor {
    Oid role;
    BackgroundWorkerHandle *handle;
    Reservation reservation;
    bool seen_logged_in = false;
};

struct Memory {
    std::vector<Executor> executors;                 /* those that this process started */
    std::unordered_map<Oid, StartBackoff> backoff;   /* roles that executors could not log in as */
    std::unordered_map<Oid, std::string> role_names; /* of the last look, for messages */
    TimestampTz last_cleanup = 0;
    TimestampTz last_cleanup_clock = clock::kReal;  /* what backfill.fake_now was then */
    TimestampTz next_trim = 0;                      /* of the history */
    std::unordered_map<Oid, TimestampTz> served_at; /* when a role last had an executor */
    TimestampTz last_sweep = 0;
    TimestampTz sweep_time = 0; /* how long it took, in microseconds */
    int sweep_factor = 1;
    TimestampTz told_at = 0; /* when consumers were looked after last */
    bool tell_consumers = false;
    std::optional<TimestampTz> consumers_due; /* when a job becomes due for them */
    SlotShortage shortage;
    bool waits_for_slots = false; /* the last pass found no worker slot */
    bool version_reported = false;
    std::vector<ledger::Entry> charged; /* in the transaction in progress */
    TimestampTz no_charge_before = 0;
    bool look_for_lost_claims = true; /* until that is done and committed */
    bool lost_claims_left = true;
};

Memory &memory()
{
    static Memory instance;
    return instance;
}

/* What a role's executors have to do. */
struct RoleWork {
    Oid role;
    std::vector<std::string_view> tasks;
    int ready = 0;
};

struct Look {
    std::vector<RoleWork> roles;
    std::optional<TimestampTz> next_due;
    bool has_told = false; /* consumers, of jobs that they can claim */
};

void note_due(std::optional<TimestampTz> &earliest, std::optional<TimestampTz> due)
{
    if (due && (!earliest || *due < *earliest))
        earliest = due;
}

struct ExecutorCounts {
    int total = 0; /* in this database */
    int of_role = 0;
    int available = 0; /* of the role: idle or starting */
};

/* Calls visit(worker) for every executor of this database. Caller holds the lock. */
template <class Visit> void for_each_executor(Visit &&visit)
{
    for (int i = 0; i < shared().worker_count; i++) {
        WorkerSlot &worker = shared().workers[i];
        if (worker.kind == WorkerKind::kExecutor && worker.database == MyDatabaseId)
            visit(worker);
    }
}

ExecutorCounts count_executors(Oid role)
{
    ExecutorCounts counts;
    SharedLock lock(LW_SHARED);
    for_each_executor([&](const WorkerSlot &worker) {
        counts.total++;
        if (worker.role != role || worker.retire)
            return;
        counts.of_role++;
        if (worker.state != WorkerState::kBusy)
            counts.available++;
    });
    return counts;
}

/* --- Looking ------------------------------------------------------------------- */

std::vector<RoleWork> group_by_role(const queue::Config &config)
{
    std::vector<RoleWork> roles;
    for (const queue::Task &task : config.tasks()) {
        if (!task.has_handler() || !OidIsValid(task.run_as_oid))
            continue;
        auto role = std::find_if(roles.begin(), roles.end(), [&](const RoleWork &work) {
            return work.role == task.run_as_oid;
        });
        if (role == roles.end())
            role = roles.insert(roles.end(), RoleWork{task.run_as_oid, {}, 0});
        role->tasks.emplace_back(task.identifier);
    }
    return roles;
}

/* How many executors of the role could start a job now, at most `limit`; `reopens` becomes
 * the time when a queue whose rate is used up takes jobs again, if that is earlier. */
int count_startable(queue::JobTable &table, queue::NextJobs &next,
                    const queue::LatestSnapshot &snapshot, Oid role, int limit,
                    std::optional<TimestampTz> &reopens)
{
    std::unordered_map<std::string, int> room; /* how many more jobs a limited queue takes */
    /* An executor of the role looks into full queues itself before it rests, and asks to be told;
     * were we told, too, every commit of a busy serial queue would wake us. */
    const bool has_executors = count_executors(role).of_role > 0;
    int startable = 0;
    bool looking = true;
    while (looking) {
        looking = false;
        startable = 0;
        room.clear();
        next.read(snapshot, limit);
        while (const auto candidate = next.pop()) {
            const auto row = table.fetch(candidate->tid, snapshot.get());
            if (!row || set_aside::is_set_aside(set_aside::Kind::kJob, row->id()))
                continue;
            const std::string queue(row->text_or_empty(queue::Column::kQueueName));
            const queue::QueueLimit queue_limit = queue::queue_limit(queue);
            if (queue_limit.is_limited()) {
                const auto [entry, first] = room.emplace(
                    queue, queue_limit.concurrency > 0 ? queue_limit.concurrency : limit);
                const auto is_open = [&] {
                    return queue::is_queue_open(queue_limit, queue, table, !has_executors, reopens);
                };
                bool closed = first && !is_open();
                if (closed && has_executors) {
                    note_role_waits(MyDatabaseId, role);
                    closed = !is_open(); /* it may have got a free slot before that was known */
                }
                if (closed) {
                    next.exclude_queue(queue);
                    looking = true; /* the jobs behind the full queue count, too */
                    break;
                }
                if (entry->second == 0)
                    continue;
                entry->second--;
            }
            startable++;
        }
    }
    return startable;
}

TimestampTz next_telling()
{
    return memory().told_at + static_cast<TimestampTz>(guc::notify_interval_ms) * 1000;
}

/* Whether it is time to tell consumers of jobs, if there are any for them. */
bool is_time_to_tell(bool sweep)
{
    const std::optional<TimestampTz> &due = memory().consumers_due;
    memory().tell_consumers = memory().tell_consumers || sweep || (due && *due <= clock::now());
    if (GetCurrentTimestamp() < next_telling())
        return false; /* the flag stays up, and so producers do not wake us before */
    return take_consumers(MyDatabaseId) || memory().tell_consumers;
}

/* The tasks of jobs that the server does not run, by the channel of their consumers. */
std::unordered_map<std::string, std::vector<std::string>>
external_tasks(const queue::Config &config, queue::JobTable &table,
               const queue::LatestSnapshot &snapshot)
{
    std::unordered_map<std::string, std::vector<std::string>> channels;
    for (std::string &name : queue::tasks_with_jobs(table, snapshot)) {
        const queue::Task *task = config.find_task(name);
        if (task == nullptr)
            channels[std::string(queue::kDefaultChannel)].push_back(std::move(name));
        else if (!task->has_handler())
            channels[task->notify_channel].push_back(std::move(name));
    }
    return channels;
}

/* Notifies the channels that have jobs which can be claimed, if it is time for that, and finds
 * out when the next one becomes due. The notifications go out at the commit. */
void look_after_consumers(const queue::Config &config, queue::JobTable &table,
                          const queue::LatestSnapshot &snapshot, bool sweep, bool tell, Look &look)
{
    const TimestampTz now = clock::now();
    std::optional<TimestampTz> due;
    for (const auto &entry : external_tasks(config, table, snapshot)) {
        const std::string &channel = entry.first;
        const std::vector<std::string> &names = entry.second;
        queue::NextJobs next(table, {names.begin(), names.end()},
                             sweep ? queue::Reader::kSweep : queue::Reader::kWorker);
        if (tell && queue::is_any_claimable(table, next, snapshot, due)) {
            pg::call([&] { Async_Notify(channel.c_str(), ""); });
            look.has_told = true;
        }
        note_due(due, next.next_run_at(snapshot, now));
    }
    if (tell) {
        memory().told_at = GetCurrentTimestamp();
        memory().tell_consumers = false;
    }
    memory().consumers_due = due;
    note_due(look.next_due, due);
}

/* Makes jobs ready again, or dead letters, whose consumers were not heard of in time. Returns
 * when to look again. */
std::optional<TimestampTz> end_leases(bool sweep)
{
    const TimestampTz now = clock::now();
    const TimestampTz announced = take_lease_low(MyDatabaseId);
    const queue::leases::Expired expired =
        queue::leases::expire(sweep ? 0 : announced, now, kLeaseBatch);
    lower_lease_low(MyDatabaseId, expired.lowest);
    std::optional<TimestampTz> next = expired.next;
    if (expired.more)
        note_due(next, expired.jobs == 0 ? now + kBusyLeaseMs * 1000 : now);
    return next;
}

/* Releases the jobs of procedures whose executors are gone. Returns when to look again. */
std::optional<TimestampTz> release_lost_claims(bool sweep)
{
    bool &wanted = memory().look_for_lost_claims;
    wanted = take_lost_claims(MyDatabaseId) || sweep || wanted;
    memory().lost_claims_left = wanted && queue::leases::release_orphaned();
    if (!memory().lost_claims_left)
        return std::nullopt;
    return clock::now() + kBusyLeaseMs * 1000;
}

/* `sweep`: also for jobs that nobody announced. */
Look look_for_work(bool sweep)
{
    /* Before the snapshot: what is announced later is for the next time. */
    const bool tell = is_time_to_tell(sweep);
    const std::shared_ptr<const queue::Config> config = queue::config();
    Look look{group_by_role(*config), std::nullopt};
    const TimestampTz now = clock::now();
    const int limit = Max(guc::max_executors, 1);

    queue::JobTable table;
    queue::LatestSnapshot snapshot;
    snapshot.renew();
    if (const TimestampTz retry_at = set_aside::next_retry(set_aside::Kind::kJob))
        note_due(look.next_due, clock::of(retry_at));
    for (RoleWork &work : look.roles) {
        queue::NextJobs next(table, work.tasks,
                             sweep ? queue::Reader::kSweep : queue::Reader::kWorker);
        for (const std::string_view queue : queue::paused_queues())
            next.exclude_queue(queue);
        /* Before full queues are left out: nobody would tell us of what becomes due in one that
         * has room again by then. */
        note_due(look.next_due, next.next_run_at(snapshot, now));
        work.ready = count_startable(table, next, snapshot, work.role, limit, look.next_due);
        work.tasks.clear(); /* views into the configuration, which we let go */
        memory().role_names[work.role] = pg::role_name(work.role);
    }
    look_after_consumers(*config, table, snapshot, sweep, tell, look);
    snapshot.pop();
    table.close();
    return look;
}

/* The library and the SQL objects must be of one version. */
bool version_matches()
{
    const std::string installed = pg::call([]() -> const char * {
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
    const bool matches = installed == BACKFILL_VERSION;
    if (!matches && !memory().version_reported)
        pg::call([&] {
            ereport(LOG, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                          errmsg("backfill runs no jobs in database %u: the extension has version "
                                 "%s, the library %s",
                                 MyDatabaseId, installed.c_str(), BACKFILL_VERSION),
                          errhint("Run ALTER EXTENSION backfill UPDATE, or restart the server if "
                                  "its library is the older one.")));
        });
    memory().version_reported = !matches;
    return matches;
}

/* --- Executors ----------------------------------------------------------------- */

void wake_worker(WorkerSlot &worker)
{
    worker.woken = true;
    if (worker.latch != nullptr)
        SetLatch(worker.latch);
}

/* Returns whether an executor slept although there was work for it: a commit should
 * have woken it. */
bool wake_idle_executors(Oid role, int jobs)
{
    bool missed = false;
    SharedLock lock;
    for_each_executor([&](WorkerSlot &worker) {
        if (worker.role != role || worker.state != WorkerState::kIdle || jobs <= 0)
            return;
        jobs--;
        missed = missed || !worker.woken;
        wake_worker(worker);
    });
    return missed;
}

/* Outside of a transaction there is no catalog to ask: the configuration knows it. */
std::string role_for_message(Oid role)
{
    const auto found = memory().role_names.find(role);
    return found != memory().role_names.end() ? "\"" + found->second + "\""
                                              : "with oid " + std::to_string(role);
}

/* Forgets executors that have ended. One that never logged in puts its role on hold. */
void reap_executors()
{
    std::vector<Executor> alive;
    for (Executor &executor : memory().executors) {
        pid_t pid;
        const BgwHandleStatus status =
            pg::call([&] { return GetBackgroundWorkerPid(executor.handle, &pid); });
        const Reservation &place = executor.reservation;
        /* Once: that it could log in says nothing about those which try long after. */
        if (!executor.seen_logged_in && has_logged_in(place.slot, place.generation)) {
            executor.seen_logged_in = true;
            memory().backoff.erase(executor.role);
        }
        if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED) {
            alive.push_back(executor);
            continue;
        }
        pg::call([&] { pfree(executor.handle); });
        if (forget_worker(place.slot, place.generation)) {
            if (!executor.seen_logged_in)
                memory().backoff.erase(executor.role);
            continue;
        }
        if (memory().backoff[executor.role].note_failure(GetCurrentTimestamp())) {
            const std::string role = role_for_message(executor.role);
            pg::call([&] {
                ereport(WARNING,
                        (errmsg("backfill could not start an executor as role %s", role.c_str()),
                         errdetail("The jobs of its tasks wait; the message of the failed process "
                                   "says why."),
                         errhint("The role needs LOGIN, CONNECT on the database and a free "
                                 "connection.")));
            });
        }
    }
    memory().executors = std::move(alive);
}

/* For people to see; called when there are any, or have been. */
void publish_held_roles()
{
    static bool published = false;
    const TimestampTz now = GetCurrentTimestamp();
    HeldRole held[kMaxHeldRoles] = {};
    int count = 0;
    for (const auto &[role, backoff] : memory().backoff)
        if (count < kMaxHeldRoles && backoff.holds(now))
            held[count++] = {role, backoff.not_before()};
    if (count == 0 && !published)
        return;
    published = count > 0;
    SharedLock lock;
    if (DatabaseSlot *slot = find_database(MyDatabaseId, true))
        memcpy(slot->held, held, sizeof(held));
}

bool on_hold(Oid role)
{
    const auto found = memory().backoff.find(role);
    return found != memory().backoff.end() && found->second.holds(GetCurrentTimestamp());
}

/* The result of a pass. While there are no slots, a commit need not wake us for more
 * executors of a role that has one. */
void note_slots(bool exhausted)
{
    const TimestampTz now = GetCurrentTimestamp();
    if (exhausted && memory().shortage.note_failure(now))
        pg::call([] {
            ereport(WARNING,
                    (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                     errmsg("backfill could not start an executor: no background worker slot is "
                            "free"),
                     errdetail("Jobs run with fewer executors than backfill.max_executors allows."),
                     errhint("Raise max_worker_processes, or lower backfill.max_executors.")));
        });
    if (!exhausted && !memory().waits_for_slots)
        return;
    memory().waits_for_slots = exhausted;
    SharedLock lock;
    if (DatabaseSlot *slot = find_database(MyDatabaseId, true))
        slot->retry_at = exhausted ? now + StartBackoff::kFirstPauseUs : 0;
}

StartResult start_executor(Oid role)
{
    const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    Executor executor{role, nullptr, {-1, 0}};
    const StartResult result = start_worker(
        describe_worker("backfill executor", "backfill executor", "backfill_executor_main"),
        WorkerKind::kExecutor, MyDatabaseId, role, &executor.handle, &executor.reservation);
    MemoryContextSwitchTo(caller);
    if (result == StartResult::kStarted) {
        memory().executors.push_back(executor);
        memory().served_at[role] = GetCurrentTimestamp();
    }
    return result;
}

/* Asks an executor of another role to end: an idle one at once, else, if the role has no
 * executor at all, the busy one that has been there longest, after its batch. One at a
 * time. */
void make_room_for(Oid role, bool role_has_executor)
{
    const TimestampTz now = GetCurrentTimestamp();
    SharedLock lock;
    WorkerSlot *chosen = nullptr;
    bool retiring = false;
    for_each_executor([&](WorkerSlot &worker) {
        retiring = retiring || worker.retire;
        if (worker.role == role || worker.state == WorkerState::kStarting)
            return;
        if (worker.state == WorkerState::kIdle)
            chosen = &worker;
        else if (!role_has_executor &&
                 TimestampDifferenceExceeds(worker.started_at, now, kMinTenureMs) &&
                 (chosen == nullptr ||
                  (chosen->state != WorkerState::kIdle && worker.started_at < chosen->started_at)))
            chosen = &worker;
    });
    if (retiring || chosen == nullptr)
        return;
    chosen->retire = true;
    wake_worker(*chosen);
}

/* Ends executors beyond backfill.max_executors, which may have been lowered. */
void retire_surplus()
{
    SharedLock lock;
    int staying = 0;
    for_each_executor([&](WorkerSlot &worker) {
        if (worker.retire || ++staying <= guc::max_executors)
            return;
        worker.retire = true;
        wake_worker(worker);
    });
}

/* Roles without any executor come first, or roles with much to do would take every place
 * that becomes free; among these, the one that has been without for longest. */
void serve_idle_roles_first(std::vector<RoleWork> &roles)
{
    const TimestampTz now = GetCurrentTimestamp();
    std::unordered_map<Oid, int> executors;
    std::unordered_map<Oid, TimestampTz> &served_at = memory().served_at;
    for (const RoleWork &work : roles) {
        executors[work.role] = count_executors(work.role).of_role;
        if (executors[work.role] > 0)
            served_at[work.role] = now;
    }
    std::stable_sort(roles.begin(), roles.end(), [&](const RoleWork &a, const RoleWork &b) {
        if (executors[a.role] != executors[b.role])
            return executors[a.role] < executors[b.role];
        return served_at[a.role] < served_at[b.role];
    });
}

/* What a pass could not do for the roles' work. */
struct Shortage {
    bool missed = false;    /* an executor slept although there was work for it */
    bool exhausted = false; /* the server has no worker slot left */
    bool held = false;      /* a role with work cannot log in */
    bool no_place = false;  /* a role with work has no executor, until another makes room */
};

void provide_executors(const RoleWork &work, Shortage &shortage)
{
    if (work.ready == 0 || guc::max_executors == 0)
        return;
    if (on_hold(work.role)) {
        shortage.held = true;
        return;
    }
    shortage.missed = wake_idle_executors(work.role, work.ready) || shortage.missed;
    ExecutorCounts counts = count_executors(work.role);
    int needed = work.ready - counts.available;
    while (needed > 0 && counts.total < guc::max_executors && !shortage.exhausted) {
        shortage.exhausted = start_executor(work.role) == StartResult::kNoWorkerSlot;
        if (shortage.exhausted)
            break;
        counts.total++;
        counts.of_role++;
        needed--;
    }
    if (needed > 0 && (shortage.exhausted || counts.total >= guc::max_executors)) {
        make_room_for(work.role, counts.of_role > 0);
        shortage.no_place = shortage.no_place || counts.of_role == 0;
    }
}

/* --- The loop ------------------------------------------------------------------ */

void set_status(DatabaseStatus status, std::optional<TimestampTz> next_due)
{
    bool was_unknown = false;
    {
        SharedLock lock;
        if (DatabaseSlot *slot = find_database(MyDatabaseId, true)) {
            was_unknown = slot->status == DatabaseStatus::kUnknown;
            slot->status = status;
            slot->next_due = next_due.value_or(0);
        }
    }
    /* It looks into a few unknown databases at a time and can go on to the next now. */
    if (was_unknown)
        signal_launcher(InvalidOid);
}

/* Asked anew each time, for backfill.poll_interval may have changed. */
TimestampTz next_sweep()
{
    return memory().last_sweep +
           Max(static_cast<TimestampTz>(guc::poll_interval_ms) * 1000 * memory().sweep_factor,
               memory().sweep_time * kSweepRest);
}

/* From here on, whoever wakes us wants us to look again. */
void clear_woken()
{
    SharedLock lock;
    my_slot().woken = false;
}

long wait_time(const Look &look, const Shortage &shortage)
{
    if (was_called())
        return 0;
    const TimestampTz now = GetCurrentTimestamp();
    long wait_ms = TimestampDifferenceMilliseconds(now, next_sweep());
    if (look.next_due) {
        const long due_ms = TimestampDifferenceMilliseconds(clock::now(), *look.next_due) + 1;
        /* A clock that stands still does not come closer. */
        wait_ms = Min(wait_ms, clock::is_fake() ? Max(due_ms, kFakeClockMs) : due_ms);
    }
    if (memory().tell_consumers || consumers_announced(MyDatabaseId))
        wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(now, next_telling()) + 1);
    if (shortage.exhausted || shortage.held)
        wait_ms = Min(wait_ms, StartBackoff::kFirstPauseUs / 1000);
    if (shortage.no_place)
        wait_ms = Min(wait_ms, kMinTenureMs / 2);
    return Max(wait_ms, 1);
}

/* Runs body, which may have to wait for somebody's open transaction, but not for long: the
 * jobs of all others would wait with us. What it could not do is done another time, and the
 * result is false. */
template <class Body> bool without_waiting(const char *what, Body &&body)
{
    const auto error = pg::in_subtransaction([&] {
        const int nest_level = pg::call([] {
            const int level = NewGUCNestLevel();
            (void) set_config_option("lock_timeout", "100", PGC_USERSET, PGC_S_SESSION,
                                     GUC_ACTION_SAVE, true, 0, false);
            return level;
        });
        body();
        pg::call([&] { AtEOXact_GUC(false, nest_level); });
    });
    if (error)
        pg::call([&] {
            ereport(LOG, (errmsg("backfill could not %s: %s", what, error->message.c_str()),
                          errdetail("It tries again later.")));
        });
    return !error;
}

/* Stale leases, jobs without attempts, old dead letters: at the start and then every
 * backfill.dlq_processor_interval. */
void clean_up_when_due()
{
    const TimestampTz now = GetCurrentTimestamp();
    if (now - memory().last_cleanup <
            static_cast<int64>(guc::dlq_processor_interval_s) * USECS_PER_SEC &&
        memory().last_cleanup_clock == clock::fake)
        return;
    memory().last_cleanup = now;
    memory().last_cleanup_clock = clock::fake;
    (void) without_waiting("clean up", [] {
        (void) pg::execute_as_owner("SELECT 1::bigint FROM backfill.startup_cleanup()", {});
    });
}

/* Charges the jobs whose run was their process's last. Returns when to try again those that
 * could not be charged yet. */
std::optional<TimestampTz> charge_lost_runs()
{
    std::optional<TimestampTz> again;
    memory().charged.clear();
    const std::vector<ledger::Entry> charges = ledger::charges();
    const TimestampTz now = GetCurrentTimestamp();
    if (charges.empty())
        return again;
    const TimestampTz retry_at = clock::of(now) + kBusyChargeMs * 1000;
    if (now < memory().no_charge_before)
        return retry_at;
    for (const ledger::Entry &entry : charges) {
        queue::lost_run::Charged result = queue::lost_run::Charged::kLater;
        if (!without_waiting("charge a job for the end of its executor",
                             [&] { result = queue::lost_run::charge(entry); })) {
            memory().no_charge_before = now + kFailedChargeMs * 1000;
            again = retry_at;
        } else if (result == queue::lost_run::Charged::kYes)
            memory().charged.push_back(entry);
        else if (result == queue::lost_run::Charged::kNo)
            ledger::settle(entry);
        else
            again = retry_at;
    }
    return again;
}

/* After the commit. Should we not come to this, the charges are refused the next time, for the
 * jobs have changed. */
void settle_charges()
{
    for (const ledger::Entry &entry : memory().charged)
        ledger::settle(entry);
    memory().charged.clear();
}

/* Deletes a batch of the history that is no longer wanted. Returns whether to go on at once. */
bool trim_history_when_due()
{
    const TimestampTz now = GetCurrentTimestamp();
    if (now < memory().next_trim)
        return false;
    int trimmed = 0;
    (void) without_waiting("delete old history",
                           [&] { trimmed = queue::job_end::trim_history(kHistoryBatch); });
    const bool more = trimmed == kHistoryBatch;
    memory().next_trim = more ? now : now + kHistoryPauseUs;
    return more;
}

/* Sweeps become rarer while they find nothing. */
void note_sweep(TimestampTz start)
{
    const TimestampTz now = GetCurrentTimestamp();
    memory().last_sweep = now;
    memory().sweep_time = now - start;
    memory().sweep_factor = Min(memory().sweep_factor * 2, kMaxSweepFactor);
}

long dispatcher_iteration()
{
    pgstat_report_activity(STATE_RUNNING, "backfill: looking for jobs without an executor");
    clear_woken();
    if (!begin_extension_transaction()) {
        set_status(DatabaseStatus::kAbsent, std::nullopt);
        end_worker();
    }
    Look look;
    int orphans = 0;
    bool more_history = false;
    const TimestampTz start = GetCurrentTimestamp();
    const bool sweep = start >= next_sweep();
    if (version_matches()) {
        const std::optional<TimestampTz> charges = charge_lost_runs();
        const std::optional<TimestampTz> claims = release_lost_claims(sweep);
        clean_up_when_due();
        (void) without_waiting("move the jobs of missing roles to the dead letter queue",
                               [&] { orphans = queue::dead_letter_orphans(kOrphanBatch); });
        more_history = trim_history_when_due();
        const std::optional<TimestampTz> leases = end_leases(sweep);
        look = look_for_work(sweep);
        note_due(look.next_due, leases);
        note_due(look.next_due, charges);
        note_due(look.next_due, claims);
    }
    commit_transaction();
    settle_charges();
    memory().look_for_lost_claims = memory().lost_claims_left;
    if (look.has_told)
        wake_consumers();
    set_status(DatabaseStatus::kPresent, look.next_due);
    stats::note_poll(WorkerKind::kDispatcher,
                     std::any_of(look.roles.begin(), look.roles.end(),
                                 [](const RoleWork &work) { return work.ready > 0; }));

    reap_executors();
    retire_surplus();
    Shortage shortage;
    serve_idle_roles_first(look.roles);
    for (const RoleWork &work : look.roles)
        provide_executors(work, shortage);
    publish_held_roles();
    note_slots(shortage.exhausted);
    if (shortage.missed)
        memory().sweep_factor = 1;
    if (sweep)
        note_sweep(start);
    pgstat_report_activity(STATE_IDLE, nullptr);
    return orphans == kOrphanBatch || more_history ? 0 : wait_time(look, shortage);
}

} // namespace

} // namespace backfill::bgworker

void backfill_dispatcher_main(Datum argument)
{
    using namespace backfill::bgworker;

    attach_worker(argument);
    pgstat_report_appname("backfill dispatcher");
    worker_loop(dispatcher_iteration);
}
