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

void ExecutorPool::reap()
{
    std::erase_if(executors_, [&](Executor &executor) { return reap(executor); });
}

/* Returns whether it has ended. */
bool ExecutorPool::reap(Executor &executor)
{
    pid_t pid;
    const BgwHandleStatus status =
        pg::call([&] { return GetBackgroundWorkerPid(executor.handle, &pid); });
    const Reservation &place = executor.reservation;
    /* Once: that it could log in says nothing about those which try long after. */
    if (!executor.seen_logged_in && has_logged_in(place.slot, place.generation)) {
        executor.seen_logged_in = true;
        backoff_.erase(executor.role);
    }
    if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
        return false;
    pg::call([&] { pfree(executor.handle); });
    if (!forget_worker(place.slot, place.generation))
        hold(executor.role);
    else if (!executor.seen_logged_in)
        backoff_.erase(executor.role);
    return true;
}

/* An executor could not log in. */
void ExecutorPool::hold(Oid role)
{
    if (!backoff_[role].note_failure(GetCurrentTimestamp()))
        return;
    const std::string name = role_for_message(role);
    pg::call([&] {
        ereport(WARNING, (errmsg("backfill could not start an executor as role %s", name.c_str()),
                          errdetail("The jobs of its tasks wait; the message of the failed process "
                                    "says why."),
                          errhint("The role needs LOGIN, CONNECT on the database and a free "
                                  "connection.")));
    });
}

/* Outside of a transaction there is no catalog to ask: the configuration knows it. */
std::string ExecutorPool::role_for_message(Oid role) const
{
    const auto found = role_names_.find(role);
    return found != role_names_.end() ? "\"" + found->second + "\""
                                      : "with oid " + std::to_string(role);
}

/* To be shown; called when there are any, or have been. */
void ExecutorPool::publish_held_roles()
{
    const TimestampTz now = GetCurrentTimestamp();
    HeldRole held[kMaxHeldRoles] = {};
    int count = 0;
    for (const auto &[role, backoff] : backoff_)
        if (count < kMaxHeldRoles && backoff.holds(now))
            held[count++] = {role, backoff.not_before()};
    if (count == 0 && !has_published_)
        return;
    has_published_ = count > 0;
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(MyDatabaseId))
        memcpy(slot->held, held, sizeof(held));
}

bool ExecutorPool::is_on_hold(Oid role) const
{
    const auto found = backoff_.find(role);
    return found != backoff_.end() && found->second.holds(GetCurrentTimestamp());
}

/* The result of a pass. While there are no slots, a commit need not wake us for more
 * executors of a role that has one. */
void ExecutorPool::note_slots(bool exhausted)
{
    const TimestampTz now = GetCurrentTimestamp();
    if (exhausted && slot_shortage_.note_failure(now))
        pg::call([] {
            ereport(WARNING,
                    (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                     errmsg("backfill could not start an executor: no background worker slot is "
                            "free"),
                     errdetail("Jobs run with fewer executors than backfill.max_executors allows."),
                     errhint("Raise max_worker_processes, or lower backfill.max_executors.")));
        });
    if (!exhausted && !waits_for_slots_)
        return;
    waits_for_slots_ = exhausted;
    const SharedLock lock;
    if (DatabaseSlot *slot = lock->find_or_add_database(MyDatabaseId))
        slot->retry_at = exhausted ? now + StartBackoff::kFirstPauseUs : 0;
}

StartResult ExecutorPool::start(Oid role)
{
    const MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
    Executor executor{role, nullptr, {-1, 0}};
    const StartResult result = start_worker(
        describe_worker("backfill executor", "backfill executor", "backfill_executor_main"),
        WorkerKind::kExecutor, MyDatabaseId, role, &executor.handle, &executor.reservation);
    MemoryContextSwitchTo(caller);
    if (result == StartResult::kStarted) {
        executors_.push_back(executor);
        served_at_[role] = GetCurrentTimestamp();
    }
    return result;
}

void ExecutorPool::retire_surplus(int limit)
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

/* Roles without any executor come first, or roles with much to do would take every place
 * that becomes free; among these, the one that has been without for longest. */
void ExecutorPool::serve_idle_roles_first(std::vector<RoleWork> &roles)
{
    const TimestampTz now = GetCurrentTimestamp();
    std::unordered_map<Oid, int> executors;
    for (const RoleWork &work : roles) {
        executors[work.role] = count_executors(work.role).of_role;
        if (executors[work.role] > 0)
            served_at_[work.role] = now;
    }
    std::stable_sort(roles.begin(), roles.end(), [&](const RoleWork &a, const RoleWork &b) {
        if (executors[a.role] != executors[b.role])
            return executors[a.role] < executors[b.role];
        return served_at_[a.role] < served_at_[b.role];
    });
}

void ExecutorPool::provide_for(const RoleWork &work, Shortage &shortage)
{
    if (work.ready == 0 || guc::max_executors == 0)
        return;
    if (is_on_hold(work.role)) {
        shortage.held = true;
        return;
    }
    shortage.missed = wake_idle_executors(work.role, work.ready) || shortage.missed;
    ExecutorCounts counts = count_executors(work.role);
    int needed = work.ready - counts.available;
    while (needed > 0 && counts.total < guc::max_executors && !shortage.exhausted) {
        shortage.exhausted = start(work.role) == StartResult::kNoWorkerSlot;
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

Shortage ExecutorPool::provide(std::vector<RoleWork> &roles)
{
    Shortage shortage;
    for (const RoleWork &work : roles)
        if (!work.role_name.empty())
            role_names_[work.role] = work.role_name;
    serve_idle_roles_first(roles);
    for (const RoleWork &work : roles)
        provide_for(work, shortage);
    publish_held_roles();
    note_slots(shortage.exhausted);
    return shortage;
}

} // namespace backfill::bgworker
