/* launcher.cpp - see launcher.hpp.
 *
 * The launcher is connected to no database: it reads pg_database, and what it cannot
 * see, namely whether a database has the extension, it learns by starting a dispatcher
 * there, which ends at once if it is not wanted. It looks when it is told (CREATE
 * EXTENSION, CREATE DATABASE, a job enqueued where no dispatcher runs) and once a minute.
 *
 * Only databases that have the extension, or where that is not known, keep a place in shared
 * memory; which ones have it not, the launcher remembers for itself. */
#include "backfill/bgworker/launcher.hpp"

#include "backfill/bgworker/own_settings.hpp"
#include "backfill/bgworker/worker.hpp"
#include "backfill/guc.hpp"
#include "backfill/shmem/signals.hpp"

extern "C" {
#include "utils/varlena.h"

PGDLLEXPORT void backfill_launcher_main(Datum argument);
}

namespace backfill::bgworker
{

namespace
{

constexpr long kLookAroundMs = 60000;
constexpr long kPollMs = 1000;
/* Databases that no worker has looked into yet are visited a few at a time, so that a server
 * with many of them keeps worker slots for others. */
constexpr int kMaxScouts = 2;

/* A dispatcher that we started. */
struct StartedDispatcher {
    Oid database = InvalidOid;
    BackgroundWorkerHandle *handle = nullptr;
    Reservation reservation{-1, 0};
};

struct LauncherState {
    std::vector<StartedDispatcher> dispatchers;
    std::unordered_map<Oid, StartBackoff> backoff; /* databases whose dispatcher fails */
    std::unordered_set<Oid> absent;                /* databases without the extension */
    SlotShortage shortage;
    bool room_reported = false;
};

LauncherState &state()
{
    static LauncherState instance;
    return instance;
}

struct DatabaseList {
    Oid *oids;
    int count;
};

/* Whether a worker may connect to it. A DROP DATABASE that was interrupted leaves one behind to
 * which no session may connect. */
bool is_connectable(const FormData_pg_database &database)
{
    constexpr int32 kInvalid = -2; /* DATCONNLIMIT_INVALID_DB of later minor releases */
    return database.datallowconn && !database.datistemplate && database.datconnlimit != kInvalid;
}

/* Every database that a worker may connect to and that the settings name. */
DatabaseList connectable_databases()
{
    DatabaseList result{};
    const MemoryContext caller = CurrentMemoryContext;
    pg::call([&] {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        (void) GetTransactionSnapshot();
        Relation databases = table_open(DatabaseRelationId, AccessShareLock);
        TableScanDesc scan = table_beginscan_catalog(databases, 0, nullptr);
        List *found = NIL;
        HeapTuple tuple;
        while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection))) {
            const auto *database = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
            if (is_connectable(*database) && guc::is_listed(NameStr(database->datname)))
                found = lappend_oid(found, database->oid);
        }
        table_endscan(scan);
        table_close(databases, AccessShareLock);
        result.oids =
            static_cast<Oid *>(MemoryContextAlloc(caller, sizeof(Oid) * (list_length(found) + 1)));
        ListCell *cell;
        foreach (cell, found)
            result.oids[result.count++] = lfirst_oid(cell);
        CommitTransactionCommand();
    });
    return result;
}

bool is_among(const DatabaseList &list, Oid database)
{
    const Oid *end = list.oids + list.count;
    return std::find(static_cast<const Oid *>(list.oids), end, database) != end;
}

/* Frees the places of databases that are gone, or have no workers. */
void free_database_slots(const DatabaseList &existing)
{
    /* So that nothing has to be allocated under the lock. */
    state().absent.reserve(state().absent.size() + kMaxDatabases);
    const SharedLock lock;
    for (DatabaseSlot &slot : lock->databases) {
        /* A session that died without giving the database free. */
        if (slot.blocked_by != 0 && BackendPidGetProc(slot.blocked_by) == nullptr)
            slot.blocked_by = 0;
        if (slot.database == InvalidOid || slot.blocked_by != 0)
            continue;
        if (!is_among(existing, slot.database))
            slot.database = InvalidOid;
        else if (slot.status == DatabaseStatus::kAbsent)
            state().absent.insert(std::exchange(slot.database, InvalidOid));
        else
            state().absent.erase(slot.database); /* we were told to look again */
    }
    for (RateSlot &slot : lock->rates)
        if (slot.queue_id != 0 && lock->find_database(slot.database) == nullptr)
            slot.queue_id = 0;
}

/* Makes the database slots agree with the databases that exist. */
void update_database_slots(const DatabaseList &existing)
{
    free_database_slots(existing);
    for (auto absent = state().absent.begin(); absent != state().absent.end();)
        absent = is_among(existing, *absent) ? std::next(absent) : state().absent.erase(absent);
    bool full = false;
    {
        const SharedLock lock;
        for (int i = 0; i < existing.count; i++)
            if (!state().absent.contains(existing.oids[i]))
                full = lock->find_or_add_database(existing.oids[i]) == nullptr || full;
    }
    if (full && !state().room_reported)
        pg::call([] {
            ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                              errmsg("backfill can look after %d databases only", kMaxDatabases),
                              errhint("Name the databases that have the extension in "
                                      "backfill.databases.")));
        });
    state().room_reported = full;
}

DatabaseStatus status_of(Oid database)
{
    const SharedReadLock lock;
    const DatabaseSlot *slot = lock->find_database(database);
    return slot == nullptr ? DatabaseStatus::kAbsent : slot->status;
}

/* Forgets dispatchers that have ended; one that ended although its database has the
 * extension failed, and is started again, at once the first time. */
void reap_dispatchers()
{
    const TimestampTz now = GetCurrentTimestamp();
    std::vector<StartedDispatcher> alive;
    for (const StartedDispatcher &dispatcher : state().dispatchers) {
        pid_t pid;
        const BgwHandleStatus status =
            pg::call([&] { return GetBackgroundWorkerPid(dispatcher.handle, &pid); });
        if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED) {
            alive.push_back(dispatcher);
            continue;
        }
        const bool logged_in =
            forget_worker(dispatcher.reservation.slot, dispatcher.reservation.generation);
        pg::call([&] { pfree(dispatcher.handle); });
        if (logged_in)
            state().backoff.erase(dispatcher.database);
        else
            (void) state().backoff[dispatcher.database].note_failure(now);
    }
    state().dispatchers = std::move(alive);
}

/* Also one that has not come so far as to listen. */
bool has_dispatcher_slot(Oid database)
{
    const SharedReadLock lock;
    return lock->find_dispatcher(database) != nullptr;
}

/* Returns false if the server has no worker slot left. */
bool start_dispatcher(Oid database)
{
    const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    StartedDispatcher dispatcher;
    dispatcher.database = database;
    const StartResult result = start_worker(
        describe_worker("backfill dispatcher", "backfill dispatcher", "backfill_dispatcher_main"),
        WorkerKind::kDispatcher, database, InvalidOid, &dispatcher.handle, &dispatcher.reservation);
    MemoryContextSwitchTo(caller);
    if (result == StartResult::kStarted)
        state().dispatchers.push_back(dispatcher);
    return result != StartResult::kNoWorkerSlot;
}

void note_no_slots()
{
    if (!state().shortage.note_failure(GetCurrentTimestamp()))
        return;
    pg::call([] {
        ereport(WARNING,
                (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                 errmsg("backfill could not start a dispatcher: no background worker slot is free"),
                 errhint("Raise max_worker_processes, or name fewer databases in "
                         "backfill.databases.")));
    });
}

/* Starts what is missing; returns whether anything is left to do soon. */
bool start_dispatchers(const DatabaseList &existing)
{
    const TimestampTz now = GetCurrentTimestamp();
    bool exhausted = false;
    bool waiting = false;
    int scouts = 0;
    for (int i = 0; i < existing.count; i++)
        if (has_dispatcher_slot(existing.oids[i]) &&
            status_of(existing.oids[i]) == DatabaseStatus::kUnknown)
            scouts++;
    for (int i = 0; i < existing.count && !exhausted; i++) {
        const Oid database = existing.oids[i];
        const DatabaseStatus status = status_of(database);
        if (status == DatabaseStatus::kAbsent || has_dispatcher_slot(database))
            continue;
        const bool scouting = status == DatabaseStatus::kUnknown;
        if (state().backoff[database].holds(now) || (scouting && scouts >= kMaxScouts)) {
            waiting = true;
            continue;
        }
        exhausted = !start_dispatcher(database);
        scouts += scouting ? 1 : 0;
    }
    if (exhausted)
        note_no_slots();
    return exhausted || waiting;
}

/* Databases that the settings no longer name lose their workers. */
void stop_unlisted_workers(const DatabaseList &existing)
{
    const SharedReadLock lock;
    for (const WorkerSlot &worker : lock->workers()) {
        if (worker.kind != WorkerKind::kNone && worker.pid != 0 &&
            !is_among(existing, worker.database))
            (void) kill(worker.pid, SIGTERM);
    }
}

long launcher_iteration()
{
    reap_dispatchers();
    const DatabaseList existing = connectable_databases();
    stop_unlisted_workers(existing);
    update_database_slots(existing);
    return start_dispatchers(existing) ? kPollMs : kLookAroundMs;
}

void set_latch(Latch *latch) noexcept
{
    const SharedLock lock;
    lock->launcher = latch;
}

void forget_latch(int, Datum) noexcept
{
    set_latch(nullptr);
}

} // namespace

void register_launcher()
{
    if (IsBinaryUpgrade)
        return;
    BackgroundWorker worker =
        describe_worker("backfill launcher", "backfill launcher", "backfill_launcher_main");
    worker.bgw_restart_time = 1;
    RegisterBackgroundWorker(&worker);
}

} // namespace backfill::bgworker

void backfill_launcher_main(Datum)
{
    using namespace backfill::bgworker;

    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    before_shmem_exit(forget_latch, static_cast<Datum>(0));
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    own_settings::take();
    set_latch(MyLatch);
    worker_loop(launcher_iteration);
}
