/* wake.cpp - see wake.hpp.
 *
 * The signals go out in the last phase of the transaction's end, when its locks are
 * released: by then the rows are visible, every backend has been told about changed
 * configuration tables, and the permits of queues that the transaction held are free. */
#include "backfill/commit/wake.hpp"

#include "backfill/clock.hpp"
#include "backfill/commit/ended_jobs.hpp"
#include "backfill/commit/hint_faults.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/shmem/job_waiters.hpp"
#include "backfill/shmem/ready_bands.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/table/job_table.hpp"

namespace backfill::queue::wake
{

namespace
{

struct ReadyJobs {
    Oid role;
    int jobs;
};

constexpr int kMaxRoles = 8;

enum class Outcome { kOpen, kCommitted, kAborted };

/* What the current transaction has collected. Plain data, no allocation: the callbacks
 * must not fail. */
struct Pending {
    Outcome outcome;
    int role_count;
    ReadyJobs ready[kMaxRoles];
    int best_band = core::kPriorityBands; /* of the ready jobs; kPriorityBands: there are none */
    TimestampTz earliest_due;             /* 0: none */
    TimestampTz earliest_lease;           /* 0: none */
    bool consumers;
    bool dispatcher; /* also: more roles than fit */
    bool schedules;
    bool permits;
    int taken_at; /* how deep in savepoints jobs were taken, at most; 0: none were */
    bool installed;
    bool databases;
    HintFault fault;
};
Pending pending;

void forget() noexcept
{
    pending = Pending{};
}

/* What it has enqueued can be seen now, or what it had taken is there again. The marks must say so
 * before its permits of queues are free: whichever process gets one looks from the marks. */
void end_transaction(bool committed) noexcept
{
    pending.outcome = committed ? Outcome::kCommitted : Outcome::kAborted;
    pending.fault = next_hint_fault();
    if (pending.fault == HintFault::kLost)
        low_water::drop_notes();
    else
        low_water::on_transaction_end(committed);
}

void on_transaction_end(XactEvent event, void *) noexcept
{
    switch (event) {
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
        end_transaction(event == XACT_EVENT_COMMIT);
        break;
    case XACT_EVENT_PREPARE:
        forget();
        low_water::on_prepare();
        ended_jobs::on_transaction_end(false);
        break;
    default:
        break;
    }
}

/* What was enqueued is gone, and sessions that wait for a job of it must know. */
void tell_rollback(const Pending &work) noexcept
{
    if (work.role_count > 0 || work.earliest_due != 0 || work.consumers || work.dispatcher)
        bgworker::tell_rollback();
}

/* Its jobs are free at once, but they are announced at the end of the transaction. */
void on_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void *) noexcept
{
    const int level = GetCurrentTransactionNestLevel();
    if (event == SUBXACT_EVENT_ABORT_SUB && bgworker::available())
        tell_rollback(pending);
    if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
        ended_jobs::on_subtransaction_end(event == SUBXACT_EVENT_COMMIT_SUB, level);
    if (pending.taken_at < level)
        return;
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        pending.dispatcher = true;
        low_water::on_rollback_to_savepoint();
    }
    if (event == SUBXACT_EVENT_ABORT_SUB || event == SUBXACT_EVENT_COMMIT_SUB)
        pending.taken_at = level - 1; /* at least what was taken there, perhaps more */
}

void pass_on(const Pending &work) noexcept
{
    if (work.permits)
        bgworker::signal_permits_released(MyDatabaseId);
    if (work.databases)
        bgworker::signal_launcher(InvalidOid);
    if (work.outcome != Outcome::kCommitted) {
        tell_rollback(work);
        if (work.earliest_lease != 0)
            bgworker::signal_consumers(MyDatabaseId);
        if (work.taken_at > 0)
            bgworker::signal_dispatcher(MyDatabaseId);
        return;
    }
    if (work.earliest_lease != 0)
        bgworker::signal_lease(MyDatabaseId, work.earliest_lease);
    if (work.best_band < core::kPriorityBands)
        bgworker::ready_bands::note(work.best_band);
    for (int i = 0; i < work.role_count; i++)
        bgworker::signal_ready(MyDatabaseId, work.ready[i].role, work.ready[i].jobs);
    if (work.earliest_due != 0)
        bgworker::signal_due(MyDatabaseId, work.earliest_due);
    if (work.consumers)
        bgworker::signal_consumers(MyDatabaseId);
    if (work.dispatcher)
        bgworker::signal_dispatcher(MyDatabaseId);
    if (work.schedules)
        bgworker::signal_schedules(MyDatabaseId);
    if (work.installed)
        bgworker::signal_launcher(MyDatabaseId);
}

/* Called for every resource owner of the transaction: the first call takes it all. */
void on_resource_release(ResourceReleasePhase phase, bool, bool is_top_level, void *) noexcept
{
    if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level || pending.outcome == Outcome::kOpen)
        return;
    const Pending work = pending;
    forget();
    if (bgworker::available() && work.fault != HintFault::kLost)
        pass_on(work);
    if (bgworker::available() && work.fault == HintFault::kRepeated)
        pass_on(work);
    ended_jobs::on_transaction_end(work.outcome == Outcome::kCommitted);
}

void announce_insert_by_sql() noexcept
{
    low_water::note_changed();
    announce_dispatcher();
}

void announce_ready(Oid role) noexcept
{
    for (int i = 0; i < pending.role_count; i++) {
        if (pending.ready[i].role == role) {
            pending.ready[i].jobs = Min(pending.ready[i].jobs + 1, PG_INT16_MAX);
            return;
        }
    }
    if (pending.role_count < kMaxRoles)
        pending.ready[pending.role_count++] = {role, 1};
    else
        pending.dispatcher = true;
}

} // namespace

void init()
{
    JobTable::on_insert_by_sql(announce_insert_by_sql);
    RegisterXactCallback(on_transaction_end, nullptr);
    RegisterSubXactCallback(on_subtransaction_end, nullptr);
    RegisterResourceReleaseCallback(on_resource_release, nullptr);
}

void announce_due(TimestampTz run_at) noexcept
{
    if (pending.earliest_due == 0 || run_at < pending.earliest_due)
        pending.earliest_due = run_at;
}

void announce_consumers() noexcept
{
    pending.consumers = true;
}

void announce_lease(TimestampTz expires_at) noexcept
{
    if (pending.earliest_lease == 0 || expires_at < pending.earliest_lease)
        pending.earliest_lease = expires_at;
}

void announce_dispatcher() noexcept
{
    pending.dispatcher = true;
}

void announce_schedules() noexcept
{
    pending.schedules = true;
}

void announce_permits() noexcept
{
    pending.permits = true;
}

void announce_taken() noexcept
{
    pending.taken_at = Max(pending.taken_at, GetCurrentTransactionNestLevel());
}

void announce_installed() noexcept
{
    pending.installed = true;
}

void announce_databases() noexcept
{
    pending.databases = true;
}

void announce_job(const JobRow &row, const Task *task, TimestampTz now)
{
    low_water::note_inserted(row);
    const bool external = task == nullptr || !task->has_handler();
    const TimestampTz run_at = DatumGetTimestampTz(row.get(Column::kRunAt));
    if (external)
        announce_consumers();
    if (run_at > now && run_at > clock::now())
        announce_due(run_at);
    else if (!external) {
        announce_ready(task->run_as_oid);
        pending.best_band = Min(pending.best_band, core::priority_band_number(row.priority()));
    }
}

} // namespace backfill::queue::wake
