/* housekeeping.cpp - see housekeeping.hpp. */
#include "backfill/bgworker/housekeeping.hpp"

#include "backfill/audit/audit.hpp"
#include "backfill/bgworker/empty_queues.hpp"
#include "backfill/consumers/lease.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/run/orphaned_tasks.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/settle/each_apart.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr int kOrphanBatch = 100;
constexpr int kHistoryBatch = 1000;
constexpr int kMarkBatch = 1000;
constexpr int kAuditBatch = 1000;
/* More than can be set aside, so that there are others, too. */
constexpr int kLetterBatch = 1000;
constexpr int kBuryBatch = 500;
static_assert(std::min(kLetterBatch, kBuryBatch) > set_aside::kMaxEntries);
constexpr TimestampTz kHistoryPauseUs = 10000000;
constexpr int kLeaseBatch = 500;
/* How soon to try again to end a lease whose row another transaction is changing. */
constexpr int kBusyLeaseMs = 100;
/* How soon to try again to charge a job whose row another transaction is changing. */
constexpr int kBusyChargeMs = 100;

constexpr int kQueueBatch = 1000;
constexpr TimestampTz kQueuePauseUs = 1000000;
constexpr int64 kMaxPause = 60;

int64 interval_us()
{
    return static_cast<int64>(guc::dlq_processor_interval_s) * USECS_PER_SEC;
}

/* A job or a dead letter. */
struct Named {
    int64 id;
    std::string task;
};

queue::Thing to_thing(const Named &named)
{
    return {named.id, named.task};
}

/* Of a query for id and task_identifier. */
std::vector<Named> find_named(const char *query, std::span<const pg::Param> params)
{
    std::vector<Named> found;
    const pg::TableRows rows = pg::query_as_owner(query, params);
    for (int i = 0; i < rows.count; i++)
        found.push_back(
            {DatumGetInt64(rows.rows[i].values[0]), pg::to_string(rows.rows[i].values[1])});
    return found;
}

/* For each of what find_named() has found. */
bool execute_for(const char *statement, int64 id)
{
    const pg::Param param = pg::int8_param(id);
    return pg::execute_as_owner(statement, std::span(&param, 1)).rows > 0;
}

} // namespace

bool Housekeeping::Chore::is_due() const
{
    return clock != clock::fake || GetCurrentTimestamp() - done_at >= interval_us();
}

void Housekeeping::on_begin()
{
    all_leases_.left = all_leases_.wanted;
    lost_claims_.left = lost_claims_.wanted;
}

/* Should we not come to this, the charges are refused the next time, because the jobs have changed.
 */
void Housekeeping::on_commit()
{
    for (const ledger::Entry &entry : charged_) {
        ledger::settle(entry);
        set_aside::clear(set_aside::Kind::kCharge, entry.run.job_id);
    }
    charged_.clear();
    lost_claims_.wanted = lost_claims_.left;
    all_leases_.wanted = all_leases_.left;
}

void Housekeeping::on_abort()
{
    charged_.clear();
}

/* Nothing else may happen in the database when the interval is over, and then we wake for it only
 * if there are such queues, ever more rarely while none of them becomes empty. */
void Housekeeping::delete_empty_queues(Pass &pass)
{
    const TimestampTz now = GetCurrentTimestamp();
    if (now < queues_.next_look && !clock::is_fake()) {
        pass.note_due(clock::of(queues_.next_look));
        return;
    }
    if (!is_due(queues_.round, queues_.again_at, pass)) {
        note_next_round(pass);
        return;
    }
    const EmptyQueues found = bgworker::delete_empty_queues(queues_.last_id, kQueueBatch);
    queues_.has_any = queues_.last_id != 0 || found.looked_at > 0;
    queues_.has_deleted = queues_.has_deleted || found.deleted > 0;
    queues_.has_aside = queues_.has_aside || found.aside;
    if (found.more) {
        pass.more = true;
        return;
    }
    if (found.looked_at == kQueueBatch) {
        queues_.last_id = found.last_id;
        queues_.next_look = now + kQueuePauseUs;
        pass.note_due(clock::of(queues_.next_look));
        return;
    }
    queues_.last_id = 0;
    queues_.next_look = 0;
    queues_.pause = queues_.has_deleted ? 1 : Min(2 * Max(queues_.pause, 1), kMaxPause);
    queues_.has_deleted = false;
    queues_.again_at = queues_.has_aside ? set_aside::next_retry(set_aside::Kind::kQueue) : 0;
    queues_.has_aside = false;
    queues_.round.note_done();
    note_next_round(pass);
}

void Housekeeping::note_next_round(Pass &pass) const
{
    if (queues_.again_at != 0)
        pass.note_due(clock::of(queues_.again_at));
    if (queues_.has_any)
        pass.note_due(clock::of(queues_.round.done_at + queues_.pause * interval_us()));
}

void Housekeeping::end_leases(Pass &pass)
{
    const TimestampTz announced = take_lease_low(MyDatabaseId);
    const bool all = pass.sweep || all_leases_.wanted;
    all_leases_.wanted = true; /* should we not come to the commit */
    const queue::leases::Expired expired = queue::leases::expire(
        all ? 0 : announced, clock::now(), kLeaseBatch, queue::Transaction::kOurs);
    lower_lease_low(MyDatabaseId, expired.lowest);
    all_leases_.left = false;
    pass.note_due(expired.next);
    if (expired.more)
        pass.note_due(clock::now());
    if (expired.busy)
        pass.note_soon(kBusyLeaseMs);
    if (expired.aside)
        pass.note_retry(set_aside::Kind::kLease);
}

void Housekeeping::release_lost_claims(Pass &pass)
{
    bool &wanted = lost_claims_.wanted;
    wanted = take_lost_claims(MyDatabaseId) || pass.sweep || wanted;
    if (wanted)
        lost_claims_.left = queue::leases::release_orphaned(queue::Transaction::kOurs);
    if (wanted && lost_claims_.left)
        pass.note_soon(kBusyLeaseMs);
}

/* A chore is due sooner if something of it is set aside, and to be tried again at a time (0: no).
 */
bool Housekeeping::is_due(const Chore &chore, TimestampTz again_at, Pass &pass)
{
    if (chore.is_due() || (again_at != 0 && GetCurrentTimestamp() >= again_at))
        return true;
    if (again_at != 0)
        pass.note_due(clock::of(again_at));
    return false;
}

void Housekeeping::bury_exhausted_jobs(Pass &pass)
{
    if (!is_due(burying_, bury_again_at_, pass))
        return;
    const pg::Param limit = pg::int8_param(kBuryBatch);
    const std::vector<Named> jobs =
        find_named("SELECT j.id, j.task_identifier FROM backfill.job j"
                   " WHERE j.attempts >= j.max_attempts AND j.lease_expires_at IS NULL LIMIT $1",
                   std::span(&limit, 1));
    const queue::Done done = queue::each_apart(
        {set_aside::Kind::kLetter, "make a dead letter of job", queue::Transaction::kOurs}, jobs,
        to_thing, [](queue::JobTable &, const Named &job) {
            return execute_for("SELECT b.letter FROM backfill.job j,"
                               " backfill._bury(j.id, 'no attempts left', j.last_error) b (letter)"
                               " WHERE j.id = $1 AND b.letter IS NOT NULL",
                               job.id);
        });
    bury_again_at_ = done.aside ? set_aside::next_retry(set_aside::Kind::kLetter) : 0;
    if (bury_again_at_ != 0)
        pass.note_due(clock::of(bury_again_at_));
    const bool more = done.more || (jobs.size() == kBuryBatch && done.count > 0);
    pass.more = pass.more || more;
    if (!more)
        burying_.note_done();
}

void Housekeeping::delete_old_letters(Pass &pass)
{
    if (!is_due(deleting_letters_, letters_again_at_, pass))
        return;
    std::vector<Named> letters;
    if (guc::dlq_retention_s > 0) {
        const pg::Param params[] = {pg::int4_param(guc::dlq_retention_s),
                                    pg::int4_param(kLetterBatch)};
        letters = find_named("SELECT d.id, d.task_identifier FROM backfill.dead_letter d"
                             " WHERE d.failed_at < backfill._now() - $1 * interval '1 second'"
                             " LIMIT $2",
                             params);
    }
    const queue::Done done = queue::each_apart(
        {set_aside::Kind::kOldLetter, "delete the old dead letter", queue::Transaction::kOurs},
        letters, to_thing, [](queue::JobTable &, const Named &letter) {
            /* One that a session is working on is left for the next time. */
            return execute_for("DELETE FROM backfill.dead_letter d"
                               " WHERE d.id = (SELECT l.id FROM backfill.dead_letter l"
                               "                WHERE l.id = $1 FOR UPDATE SKIP LOCKED)",
                               letter.id);
        });
    letters_again_at_ = done.aside ? set_aside::next_retry(set_aside::Kind::kOldLetter) : 0;
    if (letters_again_at_ != 0)
        pass.note_due(clock::of(letters_again_at_));
    const bool more = done.more || (letters.size() == kLetterBatch && done.count > 0);
    pass.more = pass.more || more;
    if (!more)
        deleting_letters_.note_done();
}

void Housekeeping::delete_old_marks(Pass &pass)
{
    if (!deleting_marks_.is_due())
        return;
    const pg::Param limit = pg::int8_param(kMarkBatch);
    const pg::StatementResult deleted = pg::execute_as_owner(
        "DELETE FROM backfill.no_retry n WHERE n.job_id IN"
        " (SELECT m.job_id FROM backfill.no_retry m"
        "   WHERE NOT EXISTS (SELECT FROM backfill.job j WHERE j.id = m.job_id)"
        "   LIMIT $1 FOR UPDATE SKIP LOCKED)",
        std::span(&limit, 1));
    if (deleted.rows == kMarkBatch)
        pass.more = true;
    else
        deleting_marks_.note_done();
}

void Housekeeping::charge_lost_runs(Pass &pass)
{
    const TimestampTz start = GetCurrentTimestamp();
    charged_.clear();
    for (const ledger::Entry &entry : ledger::charges()) {
        const int64 job = entry.run.job_id;
        if (set_aside::is_set_aside(set_aside::Kind::kCharge, job)) {
            pass.note_retry(set_aside::Kind::kCharge);
            continue;
        }
        if (TimestampDifferenceExceeds(start, GetCurrentTimestamp(), queue::kMaxApartMs)) {
            pass.more = true;
            break;
        }
        queue::lost_run::Charged result = queue::lost_run::Charged::kLater;
        const auto failed = queue::try_apart(queue::Transaction::kOurs, set_aside::Kind::kCharge,
                                             job, [&] { result = queue::lost_run::charge(entry); });
        if (failed) {
            queue::set_aside_and_say(set_aside::Kind::kCharge, {job, ""},
                                     "charge job " + std::to_string(job) +
                                         " for the end of its executor",
                                     failed->error, failed->not_before);
            pass.note_retry(set_aside::Kind::kCharge);
        } else if (result == queue::lost_run::Charged::kYes) {
            charged_.push_back(entry);
        } else if (result == queue::lost_run::Charged::kNo) {
            set_aside::clear(set_aside::Kind::kCharge, job);
            ledger::settle(entry);
        } else
            pass.note_soon(kBusyChargeMs);
    }
}

void Housekeeping::move_orphans(Pass &pass)
{
    pass.more = queue::dead_letter_orphans(kOrphanBatch) || pass.more;
}

void Housekeeping::trim_history_when_due(Pass &pass)
{
    const TimestampTz now = GetCurrentTimestamp();
    if (now < next_trim_)
        return;
    next_trim_ = now + kHistoryPauseUs;
    if (queue::job_end::trim_history(kHistoryBatch) == kHistoryBatch) {
        next_trim_ = now;
        pass.more = true;
    }
}

void Housekeeping::trim_audit(Pass &pass)
{
    if (!trimming_audit_.is_due())
        return;
    if (audit::trim(kAuditBatch) == kAuditBatch)
        pass.more = true;
    else
        trimming_audit_.note_done();
}

} // namespace backfill::bgworker
