/* executor_pool.cpp - see executor_pool.hpp. */
#include "backfill/bgworker/executor_pool.hpp"

#include "backfill/guc.hpp"
#include "backfill/shmem/signals.hpp"

namespace backfill::bgworker
{

namespace
{

/* Returns whether an executor slept although there was work for it: a commit should
 * have woken it. */
bool wake_idle_executors(Oid role, int jobs)
{
    bool missed = false;
    const SharedLock lock;
    lock->for_each_executor(MyDatabaseId, [&](WorkerSlot &worker) {
        if (worker.role != role || worker.state != WorkerState::kIdle || jobs <= 0)
            return;
        jobs--;
        missed = missed || !worker.woken;
        worker.wake();
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

bool on_hold(Oid role)
{
    const auto found = memory().backoff.find(role);
    return found != memory().backoff.end() && found->second.holds(GetCurrentTimestamp());
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
    const SharedLock lock;
    WorkerSlot *chosen = nullptr;
    bool retiring = false;
    lock->for_each_executor(MyDatabaseId, [&](WorkerSlot &worker) {
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
    chosen->wake();
}

} // namespace

ExecutorCounts count_executors(Oid role)
{
    ExecutorCounts counts;
    const SharedReadLock lock;
    lock->for_each_executor(MyDatabaseId, [&](const WorkerSlot &worker) {
        counts.total++;
        if (worker.role != role || worker.retire)
            return;
        counts.of_role++;
        if (worker.state != WorkerState::kBusy)
            counts.available++;
    });
    return counts;
}

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
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(MyDatabaseId))
        memcpy(slot->held, held, sizeof(held));
}

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
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(MyDatabaseId))
        slot->retry_at = exhausted ? now + StartBackoff::kFirstPauseUs : 0;
}

void retire_surplus(int limit)
{
    const SharedLock lock;
    int staying = 0;
    lock->for_each_executor(MyDatabaseId, [&](WorkerSlot &worker) {
        if (worker.retire || ++staying <= limit)
            return;
        worker.retire = true;
        worker.wake();
    });
}

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

} // namespace backfill::bgworker
