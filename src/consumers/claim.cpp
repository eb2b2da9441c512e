/* claim.cpp - see claim.hpp. */
#include "backfill/consumers/claim.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/clock.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/consumers/lease.hpp"
#include "backfill/dequeue/queue_gate.hpp"
#include "backfill/enqueue/job_key.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/settle/settle.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/stats/events.hpp"

namespace backfill::queue
{

namespace
{

constexpr int kReadAhead = 64;
constexpr int kMaxExpired = 100;

/* The views point into the configuration or the filter. */
std::vector<std::string_view> claimable_tasks(const Config &config, const ClaimFilter &filter)
{
    std::vector<std::string_view> names;
    if (!filter.tasks) {
        for (const Task &task : config.tasks())
            if (!task.has_handler())
                names.emplace_back(task.identifier);
        return names;
    }
    for (const std::string &name : *filter.tasks) {
        const Task *task = config.find_task(name);
        if (task != nullptr && task->has_handler())
            fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                 "task \"" + name + "\" is not for external consumers",
                 "It is registered with the handler " + task->handler_signature +
                     ", and the server runs its jobs.",
                 "Register it without a handler, or claim jobs of other tasks.");
        names.emplace_back(name);
    }
    return names;
}

/* Without a dispatcher nobody else makes jobs ready whose leases have run out. */
void expire_leases_ourselves()
{
    if (!bgworker::available() || !bgworker::has_dispatcher(MyDatabaseId))
        (void) leases::expire(0, clock::now(), kMaxExpired, Transaction::kCallers);
}

/* What this transaction has claimed at an outer level cannot come back without its end. */
Reader reader_here()
{
    return GetCurrentTransactionNestLevel() == 1 ? Reader::kWorker : Reader::kSession;
}

class Claimer
{
  public:
    explicit Claimer(const ClaimRequest &request)
        : request_(request), config_(config()),
          next_(table_, claimable_tasks(*config_, request.filter), reader_here())
    {
        if (request.filter.queues)
            next_.only_queues(*request.filter.queues);
        for (const std::string_view queue : paused_queues())
            next_.exclude_queue(queue);
    }

    std::vector<JobRow> run()
    {
        std::vector<JobRow> claimed;
        while (static_cast<int>(claimed.size()) < request_.limit && !gate_.is_exhausted()) {
            if (next_.empty()) {
                snapshot_.renew();
                next_.read(snapshot_, Max(request_.limit - static_cast<int>(claimed.size()),
                                          Min(request_.limit, kReadAhead)));
            }
            const auto candidate = next_.pop();
            if (!candidate)
                break;
            snapshot_.see_own_changes();
            auto row = table_.fetch(candidate->tid, snapshot_.get());
            if (!row || row->id() != candidate->id)
                continue;
            if (!gate_.enter(*row))
                continue;
            if (!claim(*candidate, *row)) {
                gate_.give_back(*row);
                continue;
            }
            claimed.push_back(*row);
        }
        snapshot_.pop();
        table_.close();
        return claimed;
    }

  private:
    bool claim(const Candidate &candidate, JobRow &row)
    {
        const RemoveResult removed = table_.remove(candidate.tid, snapshot_.get());
        if (removed == RemoveResult::kBusy)
            next_.exclude_job(candidate.id);
        if (removed != RemoveResult::kRemoved)
            return false;
        low_water::note_claimed(row);
        pg::call([] { CommandCounterIncrement(); });
        if (settle_if_unwanted(table_, *config_, row))
            return false;
        const TimestampTz now = clock::now();
        const TimestampTz expires_at = now + request_.lease_us;
        stats::note_claim(row, now);
        row.set(Column::kLeaseExpiresAt, TimestampTzGetDatum(expires_at));
        row.set(Column::kClaimToken, Int64GetDatum(token()));
        row.set(Column::kWorker, pg::from_text(request_.worker));
        if (const auto slot = gate_.lease(row))
            row.set(Column::kLeaseSlot, Int32GetDatum(*slot));
        table_.insert(row);
        pg::call([] { CommandCounterIncrement(); });
        wake::announce_lease(expires_at);
        hooks::notify(*config_, core::HookEvent::kJobStart, &row);
        return true;
    }

    /* Later claims have greater tokens, so that other systems can fence with them, too. */
    int64 token()
    {
        if (token_ == 0) {
            const Oid sequence = pg::relation_oid("claim_token_seq");
            token_ = pg::call([&] { return nextval_internal(sequence, false); });
        }
        return token_;
    }

    const ClaimRequest &request_;
    std::shared_ptr<const Config> config_;
    JobTable table_;
    NextJobs next_;
    LatestSnapshot snapshot_;
    QueueGate gate_{SlotUser::kLessor, table_, next_, snapshot_};
    int64 token_ = 0;
};

} // namespace

std::vector<JobRow> claim_jobs(const ClaimRequest &request)
{
    pg::call([] { AcceptInvalidationMessages(); });
    expire_leases_ourselves();
    return Claimer(request).run();
}

bool is_any_claimable(JobTable &table, NextJobs &next, const LatestSnapshot &snapshot,
                      std::optional<TimestampTz> &later)
{
    for (const std::string_view queue : paused_queues())
        next.exclude_queue(queue);
    for (;;) {
        next.read(snapshot, 1);
        const auto candidate = next.pop();
        if (!candidate)
            return false;
        const auto row = table.fetch(candidate->tid, snapshot.get());
        if (!row)
            return false;
        const std::string_view queue = row->text_or_empty(Column::kQueueName);
        const QueueLimit limit = queue_limit(queue);
        if (!limit.is_limited() || is_queue_open(limit, queue, table, true, later))
            return true;
        next.exclude_queue(queue);
    }
}

bool is_any_claimable(const ClaimFilter &filter)
{
    pg::call([] { AcceptInvalidationMessages(); });
    expire_leases_ourselves();
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    NextJobs next(table, claimable_tasks(*current, filter), Reader::kSession);
    LatestSnapshot snapshot;
    std::optional<TimestampTz> later;
    if (filter.queues)
        next.only_queues(*filter.queues);
    snapshot.renew();
    const bool any = is_any_claimable(table, next, snapshot, later);
    snapshot.pop();
    table.close();
    if (later && bgworker::available())
        bgworker::signal_due(MyDatabaseId, *later);
    return any;
}

} // namespace backfill::queue
