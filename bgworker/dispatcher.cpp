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
 * superuser and never runs a handler.
 *
 * A pass is a sequence of steps, and none may keep the others from being taken: each has a
 * subtransaction, and what fails is set aside (set_aside.hpp), a lease or a charge by itself. They
 * share a transaction until its commit fails; then each has one of its own, until all succeed. No
 * step waits long for a lock, and none sees the settings of the database, or of the role
 * (own_settings.hpp). */
#include "backfill/bgworker/own_settings.hpp"
#include "backfill/bgworker/worker.hpp"
#include "backfill/clock.hpp"
#include "backfill/config/config.hpp"
#include "backfill/consumers/claim.hpp"
#include "backfill/consumers/lease.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/dequeue/queue_gate.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/run/batch.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/settle/each_apart.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/signals.hpp"
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
/* How soon to try again to charge a job whose row somebody is changing. */
constexpr int kBusyChargeMs = 100;
/* How soon to look again whether a transaction that drops the extension is over. */
constexpr long kBeingDroppedMs = 100;
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
    TimestampTz next_trim = 0;                       /* of the history */
    std::unordered_map<Oid, TimestampTz> served_at;  /* when a role last had an executor */
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
    bool look_for_lost_claims = true;   /* until that is done and committed */
    bool lost_claims_left = true;
    bool all_leases = true; /* look at all of them, until that is done and committed */
    bool all_leases_left = true;
    bool apart = false; /* each step has its own transaction */
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

/* What a pass of the dispatcher has found. */
struct Pass {
    bool sweep = false; /* also for jobs that nobody announced */
    bool more = false;  /* there is something to do at once */
    bool other_version = false;
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

/* Whether an executor would not run the job now: it is set aside, or to be charged first. */
bool is_passed_over(const queue::JobRow &row)
{
    return set_aside::is_set_aside(set_aside::Kind::kJob, row.id()) ||
           ledger::awaits_charge(queue::lost_run::run_of(row));
}

/* At most so many. */
int count_passed_over()
{
    return static_cast<int>(set_aside::copy_entries().size() + ledger::charges().size());
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
    /* What executors pass over must not hide what is behind it. */
    const int hidden = count_passed_over();
    int startable = 0;
    bool looking = true;
    while (looking) {
        looking = false;
        startable = 0;
        room.clear();
        next.read(snapshot, limit + hidden);
        while (const auto candidate = startable < limit ? next.pop() : std::nullopt) {
            const auto row = table.fetch(candidate->tid, snapshot.get());
            if (!row || is_passed_over(*row))
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
                          const queue::LatestSnapshot &snapshot, bool tell, Pass &pass)
{
    const TimestampTz now = clock::now();
    std::optional<TimestampTz> due;
    for (const auto &entry : external_tasks(config, table, snapshot)) {
        const std::string &channel = entry.first;
        const std::vector<std::string> &names = entry.second;
        queue::NextJobs next(table, {names.begin(), names.end()},
                             pass.sweep ? queue::Reader::kSweep : queue::Reader::kWorker);
        if (tell && queue::is_any_claimable(table, next, snapshot, due)) {
            pg::call([&] { Async_Notify(channel.c_str(), ""); });
            pass.has_told = true;
        }
        note_due(due, next.next_run_at(snapshot, now));
    }
    if (tell) {
        memory().told_at = GetCurrentTimestamp();
        memory().tell_consumers = false;
    }
    memory().consumers_due = due;
    note_due(pass.next_due, due);
}

/* The moment when something of a kind that is set aside is to be tried again. */
void note_retry(Pass &pass, set_aside::Kind kind)
{
    const TimestampTz at = set_aside::next_retry(kind);
    note_due(pass.next_due, at == 0 ? clock::now() : clock::of(at));
}

void note_soon(Pass &pass, int ms)
{
    note_due(pass.next_due, clock::now() + static_cast<TimestampTz>(ms) * 1000);
}

/* Makes jobs ready again, or dead letters, whose consumers were not heard of in time. */
void end_leases(Pass &pass)
{
    const TimestampTz announced = take_lease_low(MyDatabaseId);
    const bool all = pass.sweep || memory().all_leases;
    memory().all_leases = true; /* should we not come to the commit */
    const queue::leases::Expired expired = queue::leases::expire(
        all ? 0 : announced, clock::now(), kLeaseBatch, queue::Transaction::kOurs);
    lower_lease_low(MyDatabaseId, expired.lowest);
    memory().all_leases_left = false;
    note_due(pass.next_due, expired.next);
    if (expired.more)
        note_due(pass.next_due, clock::now());
    if (expired.busy)
        note_soon(pass, kBusyLeaseMs);
    if (expired.aside)
        note_retry(pass, set_aside::Kind::kLease);
}

/* Releases the jobs of procedures whose executors are gone. */
void release_lost_claims(Pass &pass)
{
    bool &wanted = memory().look_for_lost_claims;
    wanted = take_lost_claims(MyDatabaseId) || pass.sweep || wanted;
    if (wanted)
        memory().lost_claims_left = queue::leases::release_orphaned(queue::Transaction::kOurs);
    if (wanted && memory().lost_claims_left)
        note_soon(pass, kBusyLeaseMs);
}

void look_for_work(Pass &pass)
{
    /* Before the snapshot: what is announced later is for the next time. */
    const bool tell = is_time_to_tell(pass.sweep);
    const bool tell_again = memory().tell_consumers;
    memory().tell_consumers = memory().tell_consumers || tell; /* should this fail */
    const std::shared_ptr<const queue::Config> config = queue::config();
    pass.roles = group_by_role(*config);
    const TimestampTz now = clock::now();
    const int limit = Max(guc::max_executors, 1);

    queue::JobTable table;
    queue::LatestSnapshot snapshot;
    snapshot.renew();
    for (RoleWork &work : pass.roles) {
        queue::NextJobs next(table, work.tasks,
                             pass.sweep ? queue::Reader::kSweep : queue::Reader::kWorker);
        for (const std::string_view queue : queue::paused_queues())
            next.exclude_queue(queue);
        /* Before full queues are left out: nobody would tell us of what becomes due in one that
         * has room again by then. */
        note_due(pass.next_due, next.next_run_at(snapshot, now));
        work.ready = count_startable(table, next, snapshot, work.role, limit, pass.next_due);
        work.tasks.clear(); /* views into the configuration, which we let go */
        memory().role_names[work.role] = pg::role_name(work.role);
    }
    if (set_aside::next_retry(set_aside::Kind::kJob) != 0)
        note_retry(pass, set_aside::Kind::kJob);
    memory().tell_consumers = tell_again;
    look_after_consumers(*config, table, snapshot, tell, pass);
    snapshot.pop();
    table.close();
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
            ereport(LOG,
                    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                     errmsg("backfill runs no jobs in database \"%s\": the extension has "
                            "version %s, the library %s",
                            get_database_name(MyDatabaseId), installed.c_str(), BACKFILL_VERSION),
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

/* Ends executors beyond so many: backfill.max_executors may have been lowered, and the tables of
 * another version than the library's are not to be touched. */
void retire_surplus(int limit)
{
    SharedLock lock;
    int staying = 0;
    for_each_executor([&](WorkerSlot &worker) {
        if (worker.retire || ++staying <= limit)
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

long wait_time(const Pass &pass, const Shortage &shortage)
{
    if (pass.more || was_called())
        return 0;
    const TimestampTz now = GetCurrentTimestamp();
    long wait_ms = TimestampDifferenceMilliseconds(now, next_sweep());
    if (pass.next_due) {
        const long due_ms = TimestampDifferenceMilliseconds(clock::now(), *pass.next_due) + 1;
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

/* --- Steps of a pass, besides those above ----------------------------------------- */

/* Something that is done every backfill.dlq_processor_interval. */
struct Chore {
    TimestampTz done_at = 0;
    TimestampTz clock = clock::kReal; /* what backfill.fake_now was then */

    bool is_due() const
    {
        return clock != clock::fake ||
               GetCurrentTimestamp() - done_at >=
                   static_cast<int64>(guc::dlq_processor_interval_s) * USECS_PER_SEC;
    }
    void note_done() { *this = {GetCurrentTimestamp(), clock::fake}; }
};

/* Jobs without attempts left become dead letters. */
void bury_exhausted_jobs(Pass &pass)
{
    static Chore chore;
    static TimestampTz again_at = 0; /* for those that could not be buried; 0: there are none */
    if (!chore.is_due() && (again_at == 0 || GetCurrentTimestamp() < again_at)) {
        if (again_at != 0)
            note_due(pass.next_due, clock::of(again_at));
        return;
    }
    struct Job {
        int64 id;
        std::string task;
    };
    std::vector<Job> jobs;
    const pg::TableRows rows = pg::query_as_owner(
        "SELECT j.id, j.task_identifier FROM backfill.job j"
        " WHERE j.attempts >= j.max_attempts AND j.lease_expires_at IS NULL LIMIT 10000",
        {});
    for (int i = 0; i < rows.count; i++)
        jobs.push_back(
            {DatumGetInt64(rows.rows[i].values[0]), pg::to_string(rows.rows[i].values[1])});
    const queue::Done done = queue::each_apart(
        {set_aside::Kind::kLetter, "make a dead letter of job", queue::Transaction::kOurs}, jobs,
        [](const Job &job) {
            return queue::Thing{job.id, job.task};
        },
        [](queue::JobTable &, const Job &job) {
            const pg::Param id{INT8OID, Int64GetDatum(job.id), false};
            return pg::execute_as_owner(
                       "SELECT backfill._bury(j.id, 'no attempts left', j.last_error)"
                       "  FROM backfill.job j WHERE j.id = $1",
                       std::span(&id, 1))
                .has_value;
        });
    again_at = done.aside ? set_aside::next_retry(set_aside::Kind::kLetter) : 0;
    if (again_at != 0)
        note_due(pass.next_due, clock::of(again_at));
    pass.more = pass.more || done.more;
    if (!done.more)
        chore.note_done();
}

/* What somebody has locked is left for the next time. */
void delete_old_letters(Pass &)
{
    static Chore chore;
    if (!chore.is_due())
        return;
    (void) pg::execute_as_owner("SELECT backfill._apply_dlq_retention()", {});
    (void) pg::execute_as_owner(
        "DELETE FROM backfill.no_retry n WHERE n.job_id IN"
        " (SELECT m.job_id FROM backfill.no_retry m"
        "   WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = m.job_id)"
        "     FOR UPDATE SKIP LOCKED)",
        {});
    chore.note_done();
}

/* Whether a charge has to wait, because it failed or, worse, has ended our process. */
bool is_charge_set_aside(const ledger::Entry &entry, Pass &pass)
{
    const int64 job = entry.run.job_id;
    if (set_aside::is_set_aside(set_aside::Kind::kCharge, job)) {
        note_retry(pass, set_aside::Kind::kCharge);
        return true;
    }
    if (entry.charge_not_before <= GetCurrentTimestamp())
        return false;
    const std::string until = pg::call([&] { return timestamptz_to_str(entry.charge_not_before); });
    queue::set_aside_and_say(
        set_aside::Kind::kCharge, {job, ""}, "charge job " + std::to_string(job),
        {"58000",
         "this has ended the dispatcher " + std::to_string(entry.charge_begun) +
             " times, and waits until " + until,
         "The server's log may say why.",
         {},
         {}});
    note_retry(pass, set_aside::Kind::kCharge);
    return true;
}

/* Charges the jobs whose run was their process's last. */
void charge_lost_runs(Pass &pass)
{
    memory().charged.clear();
    for (const ledger::Entry &entry : ledger::charges()) {
        if (is_charge_set_aside(entry, pass))
            continue;
        const int64 job = entry.run.job_id;
        queue::lost_run::Charged result = queue::lost_run::Charged::kLater;
        ledger::begin_charging(entry);
        const auto error = queue::try_apart(queue::Transaction::kOurs,
                                            [&] { result = queue::lost_run::charge(entry); });
        if (!error && result == queue::lost_run::Charged::kYes) {
            memory().charged.push_back(entry);
            continue;
        }
        ledger::end_charging(entry);
        if (error) {
            queue::set_aside_and_say(
                set_aside::Kind::kCharge, {job, ""},
                "charge job " + std::to_string(job) + " for the end of its executor", *error);
            note_retry(pass, set_aside::Kind::kCharge);
        } else if (result == queue::lost_run::Charged::kNo) {
            set_aside::clear(set_aside::Kind::kCharge, job);
            ledger::settle(entry);
        } else
            note_soon(pass, kBusyChargeMs);
    }
}

/* After the commit. Should we not come to this, the charges are refused the next time, for the
 * jobs have changed. */
void settle_charges()
{
    for (const ledger::Entry &entry : memory().charged) {
        ledger::settle(entry);
        set_aside::clear(set_aside::Kind::kCharge, entry.run.job_id);
    }
    memory().charged.clear();
}

void move_orphans(Pass &pass)
{
    pass.more = queue::dead_letter_orphans(kOrphanBatch) || pass.more;
}

/* Deletes a batch of the history that is no longer wanted. */
void trim_history_when_due(Pass &pass)
{
    const TimestampTz now = GetCurrentTimestamp();
    if (now < memory().next_trim)
        return;
    memory().next_trim = now + kHistoryPauseUs;
    if (queue::job_end::trim_history(kHistoryBatch) == kHistoryBatch) {
        memory().next_trim = now;
        pass.more = true;
    }
}

struct Step {
    int64 number;     /* not 0; for the list of what is set aside */
    const char *name; /* completes "could not" */
    void (*take)(Pass &pass);
};

constexpr Step kSteps[] = {
    {1, "charge jobs for the ends of their executors", charge_lost_runs},
    {2, "release the jobs of procedures whose executors are gone", release_lost_claims},
    {3, "make dead letters of jobs without attempts", bury_exhausted_jobs},
    {4, "delete old dead letters", delete_old_letters},
    {5, "make dead letters of the jobs of missing roles", move_orphans},
    {6, "delete old history", trim_history_when_due},
    {7, "end leases", end_leases},
    {8, "look for ready jobs", look_for_work},
};

void set_aside_step(const Step &step, const core::ErrorInfo &error)
{
    queue::set_aside_and_say(set_aside::Kind::kStep, {step.number, step.name}, step.name, error);
}

void take_step(const Step &step, Pass &pass)
{
    if (set_aside::is_set_aside(set_aside::Kind::kStep, step.number)) {
        note_retry(pass, set_aside::Kind::kStep);
        return;
    }
    const auto error = pg::in_subtransaction([&] { step.take(pass); });
    if (error) {
        set_aside_step(step, *error);
        note_retry(pass, set_aside::Kind::kStep);
    } else if (!memory().apart)
        set_aside::clear(set_aside::Kind::kStep, step.number);
}

void after_commit(const Pass &pass)
{
    settle_charges();
    memory().look_for_lost_claims = memory().lost_claims_left;
    memory().all_leases = memory().all_leases_left;
    if (pass.has_told)
        wake_consumers();
}

/* Takes steps and ends the transaction. Returns the error of its commit. */
std::optional<core::ErrorInfo> finish_transaction(std::span<const Step> steps, Pass &pass)
{
    std::optional<core::ErrorInfo> error;
    memory().all_leases_left = memory().all_leases;
    memory().lost_claims_left = memory().look_for_lost_claims;
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
    for (const ledger::Entry &entry : memory().charged)
        ledger::end_charging(entry);
    memory().charged.clear();
    memory().tell_consumers = memory().tell_consumers || pass.has_told;
    pass.has_told = false;
    return error;
}

/* The first transaction has begun. */
void take_steps_apart(Pass &pass)
{
    bool all_succeeded = true;
    bool begun = true;
    for (const Step &step : kSteps) {
        if (!begun && try_begin_extension_transaction() != Extension::kPresent)
            return;
        begun = false;
        const auto error = finish_transaction(std::span(&step, 1), pass);
        if (error) {
            set_aside_step(step, *error);
            note_retry(pass, set_aside::Kind::kStep);
        } else if (!set_aside::is_set_aside(set_aside::Kind::kStep, step.number))
            set_aside::clear(set_aside::Kind::kStep, step.number);
        all_succeeded =
            all_succeeded && !error && !set_aside::find(set_aside::Kind::kStep, step.number);
    }
    memory().apart = !all_succeeded;
}

/* The transaction has begun; afterwards there is none. */
void take_steps(Pass &pass)
{
    if (memory().apart) {
        take_steps_apart(pass);
        return;
    }
    if (const auto error = finish_transaction(kSteps, pass)) {
        /* Whose fault it was, the next pass finds out. */
        memory().apart = true;
        pass.more = true;
    }
}

/* Sweeps become rarer while they find nothing. */
void note_sweep(TimestampTz start)
{
    const TimestampTz now = GetCurrentTimestamp();
    memory().last_sweep = now;
    memory().sweep_time = now - start;
    memory().sweep_factor = Min(memory().sweep_factor * 2, kMaxSweepFactor);
}

/* Returns how long to wait. */
long take_pass()
{
    Pass pass;
    const TimestampTz start = GetCurrentTimestamp();
    pass.sweep = start >= next_sweep();
    pass.other_version = !version_matches();
    if (pass.other_version)
        commit_transaction();
    else
        take_steps(pass);
    set_status(DatabaseStatus::kPresent, pass.next_due);
    stats::note_poll(WorkerKind::kDispatcher,
                     std::any_of(pass.roles.begin(), pass.roles.end(),
                                 [](const RoleWork &work) { return work.ready > 0; }));

    reap_executors();
    retire_surplus(pass.other_version ? 0 : guc::max_executors);
    Shortage shortage;
    serve_idle_roles_first(pass.roles);
    for (const RoleWork &work : pass.roles)
        provide_executors(work, shortage);
    publish_held_roles();
    note_slots(shortage.exhausted);
    if (shortage.missed)
        memory().sweep_factor = 1;
    if (pass.sweep)
        note_sweep(start);
    return wait_time(pass, shortage);
}

long dispatcher_iteration()
{
    /* A fresh process has the new settings of the server. */
    if (config_reloads() > 0 && own_settings::are_outdated())
        end_worker();
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
    own_settings::take();
    pgstat_report_appname("backfill dispatcher");
    worker_loop(dispatcher_iteration);
}
