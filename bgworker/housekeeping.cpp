/* housekeeping.cpp - see housekeeping.hpp. */
#include "backfill/bgworker/housekeeping.hpp"

#include "backfill/consumers/lease.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/run/batch.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/settle/each_apart.hpp"
#include "backfill/settle/history.hpp"
#include "backfill/shmem/signals.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr int kOrphanBatch = 100;
constexpr int kHistoryBatch = 5000;
constexpr TimestampTz kHistoryPauseUs = 10000000;
constexpr int kLeaseBatch = 500;
/* How soon to try again to end a lease whose row somebody is changing. */
constexpr int kBusyLeaseMs = 100;
/* How soon to try again to charge a job whose row somebody is changing. */
constexpr int kBusyChargeMs = 100;

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

} // namespace

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

void release_lost_claims(Pass &pass)
{
    bool &wanted = memory().look_for_lost_claims;
    wanted = take_lost_claims(MyDatabaseId) || pass.sweep || wanted;
    if (wanted)
        memory().lost_claims_left = queue::leases::release_orphaned(queue::Transaction::kOurs);
    if (wanted && memory().lost_claims_left)
        note_soon(pass, kBusyLeaseMs);
}

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

} // namespace backfill::bgworker
