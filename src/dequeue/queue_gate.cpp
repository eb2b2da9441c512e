/* queue_gate.cpp - see queue_gate.hpp. */
#include "backfill/dequeue/queue_gate.hpp"

#include "backfill/clock.hpp"
#include "backfill/dequeue/rate_limit.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/signals.hpp"

namespace backfill::queue
{

namespace
{

/* How many jobs of a serial queue are read again. */
constexpr int kReread = 16;

/* Lets the dispatcher's timer know until when the rate is used up. */
bool is_below_rate(TimestampTz later)
{
    if (later != 0 && bgworker::available())
        bgworker::signal_due(MyDatabaseId, later);
    return later == 0;
}

} // namespace

bool QueueGate::take_permit(const QueueLimit &limit, const JobRow &row)
{
    const std::string_view queue = row.text_or_empty(Column::kQueueName);
    QueuePermits::Entry entry = permits_.enter(limit, queue, table_);
    if (entry == QueuePermits::Entry::kFull && bgworker::available()) {
        /* The next job that leaves the queue will tell us; look again, because one may have left
         * just before it could see that. */
        bgworker::note_queue_full(MyDatabaseId);
        entry = permits_.enter(limit, queue, table_);
    }
    if (entry == QueuePermits::Entry::kFull) {
        next_.exclude_queue(queue);
        return false;
    }
    const bool just_entered = entry == QueuePermits::Entry::kEntered;
    if (limit.concurrency == 1 && !next_.knows_first_of(queue, just_entered)) {
        if (next_.is_first_of_queue(row))
            return true;
        snapshot_.renew();
        next_.read_queue(snapshot_, row, kReread);
        return false;
    }
    return true;
}

bool QueueGate::enter(const JobRow &row)
{
    const std::string_view queue = row.text_or_empty(Column::kQueueName);
    if (queue.empty())
        return true;
    const QueueLimit limit = queue_limit(queue);
    const bool has_rate = limit.rate_limit > 0;
    if (limit.paused || (has_rate && !is_below_rate(next_rate_token(limit, clock::now())))) {
        next_.exclude_queue(queue);
        return false;
    }
    if (!take_permit(limit, row))
        return false;
    /* Another process may just have started the last job that the rate allows. */
    if (!has_rate)
        return true;
    if (is_below_rate(take_rate_token(limit, clock::now()))) {
        tokens_.push_back(limit);
        return true;
    }
    next_.exclude_queue(queue);
    return false;
}

void QueueGate::give_back(const JobRow &row)
{
    const QueueLimit limit = queue_limit(row.text_or_empty(Column::kQueueName));
    const auto token = std::find_if(tokens_.begin(), tokens_.end(), [&](const QueueLimit &taken) {
        return taken.queue_id == limit.queue_id;
    });
    if (token == tokens_.end())
        return;
    return_rate_token(*token, clock::now());
    tokens_.erase(token);
}

void QueueGate::give_back_all()
{
    for (const QueueLimit &token : tokens_)
        return_rate_token(token, clock::now());
    tokens_.clear();
}

std::optional<int> QueueGate::lease(const JobRow &row)
{
    return permits_.lease(row.text_or_empty(Column::kQueueName));
}

void QueueGate::tell_if_exhausted(const char *function)
{
    if (!is_exhausted())
        return;
    pg::call([&] {
        ereport(NOTICE,
                (errmsg("%s may have left ready jobs", function),
                 errdetail("This transaction holds %d permits of queues, as many as one may hold.",
                           QueuePermits::count_held()),
                 errhint("Commit, and call it again.")));
    });
}

bool is_queue_open(const QueueLimit &limit, std::string_view queue, JobTable &table, bool tell,
                   std::optional<TimestampTz> &later)
{
    if (limit.paused)
        return false;
    if (!QueuePermits::has_free_permit(limit, queue, table)) {
        if (!tell || !bgworker::available())
            return false;
        bgworker::note_queue_full(MyDatabaseId);
        /* It may have got a free one just before that could be seen. */
        if (!QueuePermits::has_free_permit(limit, queue, table))
            return false;
    }
    if (limit.rate_limit == 0)
        return true;
    const TimestampTz next = next_rate_token(limit, clock::now());
    if (next != 0 && (!later || next < *later))
        later = next;
    return next == 0;
}

} // namespace backfill::queue
