/* claim.cpp - see claim.hpp. */
#include "backfill/consumers/claim.hpp"

#include "backfill/call/hooks.hpp"
#include "backfill/clock.hpp"
#include "backfill/consumers/lease.hpp"
#include "backfill/pg/table.hpp"
#include "backfill/run/job_claimer.hpp"
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
                 "It is registered with the handler " + task->handler.signature +
                     ", and the server runs its jobs.",
                 "Register it without a handler, or claim jobs of other tasks.");
        names.emplace_back(name);
    }
    return names;
}

/* Without a dispatcher no other process makes jobs ready whose leases have run out. */
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

class Claimer final : public JobClaimer
{
  public:
    explicit Claimer(const ClaimRequest &request) : Claimer(request, config()) {}

    std::vector<JobRow> run()
    {
        while (static_cast<int>(claimed_.size()) < request_.limit) {
            auto job = next();
            if (!job)
                break;
            lease(*job);
        }
        if (claimed_.empty())
            gate_.tell_if_exhausted("claim_jobs()");
        close();
        return std::move(claimed_);
    }

  private:
    Claimer(const ClaimRequest &request, const std::shared_ptr<const Config> &config)
        : JobClaimer(PermitUser::kLessor, config, claimable_tasks(*config, request.filter),
                     reader_here()),
          request_(request)
    {
        if (request.filter.queues)
            next_.only_queues(*request.filter.queues);
        exclude_paused_queues();
    }

    bool may_continue() override { return !gate_.is_exhausted(); }

    void read() override
    {
        snapshot_.renew();
        next_.read(snapshot_, Max(request_.limit - static_cast<int>(claimed_.size()),
                                  Min(request_.limit, kReadAhead)));
    }

    void lease(TakenJob &job)
    {
        const TimestampTz now = clock::now();
        stats::note_claim(job.row, now);
        JobRow row = job.row;
        row.set(Column::kLeaseExpiresAt, TimestampTzGetDatum(now + request_.lease_us));
        row.set(Column::kClaimToken, Int64GetDatum(token()));
        row.set(Column::kWorker, pg::from_text(request_.worker));
        if (const auto permit = gate_.lease(row))
            row.set(Column::kLeasePermit, Int32GetDatum(*permit));
        put_back(table_, *config_, job, row);
        hooks::notify(*config_, core::HookEvent::kJobStart, &row);
        claimed_.push_back(row);
    }

    /* One for all jobs of a call. */
    int64 token()
    {
        if (token_ == 0)
            token_ = JobTable::next_claim_token();
        return token_;
    }

    const ClaimRequest &request_;
    std::vector<JobRow> claimed_;
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
    constexpr int kMostWanted = 1024;
    bool looking = true;
    for (int wanted = 1; looking; wanted = Min(wanted * 4, kMostWanted)) {
        looking = false;
        next.read(snapshot, wanted);
        while (const auto candidate = next.pop()) {
            const auto found = next.fetch(*candidate, snapshot);
            if (!found)
                continue;
            const std::string_view queue = found->row.text_or_empty(Column::kQueueName);
            const QueueLimit limit = queue_limit(queue);
            if (!limit.is_limited() || is_queue_open(limit, queue, table, true, later))
                return true;
            next.exclude_queue(queue);
            looking = true; /* behind those of full queues there may be others */
        }
    }
    return false;
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
