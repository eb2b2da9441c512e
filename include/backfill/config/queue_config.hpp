/* queue_config.hpp - what queues allow, cached per backend.
 *
 * There may be very many queues (one per customer, say), so each is read when it is first
 * asked for, unlike the rest of the configuration (config.hpp). A trigger on
 * backfill.queue empties every backend's cache. All of this needs a transaction. */
#pragma once

#include "backfill/pg/datum.hpp"

namespace backfill::queue
{

/* Of jobs that name none. */
inline constexpr std::string_view kDefaultQueue = "bulk";

/* What a queue allows. */
struct QueueLimit {
    int32 queue_id = 0;       /* names the queue in lock tags; 0: the queue is not configured */
    int concurrency = 0;      /* jobs that run at once; 0: no limit */
    int rate_limit = 0;       /* jobs that start in any rate_period; 0: no limit */
    int64 rate_period_us = 0; /* microseconds */
    int max_depth = 0;        /* jobs that wait or run; enqueueing checks it; 0: no limit */
    bool paused = false;
    /* The limit may have been higher: places below this number may be taken, and if there was none,
     * jobs run that have no number. Unless this process knows that all of those have ended. */
    int places = 0;
    bool was_unlimited = false;
    bool settled = true;
    bool was_counted = false; /* by this process: it has found nothing that is left */
    TimestampTz rated_since = 0; /* since when it has had a rate_limit */

    bool is_limited() const { return concurrency > 0 || rate_limit > 0 || paused; }
};

/* Errors, as of the functions below: Failure 55000 if the extension is not installed. */
QueueLimit queue_limit(std::string_view queue_name);
/* Whether anything has changed about a queue since it was asked for last. */
bool have_limits_changed();
/* Whether some transaction is just changing queues: others may not have heard of it. */
bool are_limits_changing();
/* Nothing is left just now of what ran under other limits. */
void note_counted(std::string_view queue_name);
/* And nothing will be. */
void note_settled(std::string_view queue_name, const QueueLimit &limit);
/* What the queue's row in backfill.queue says now, our own changes included, without defaults. */
std::optional<QueueLimit> latest_limit(std::string_view queue_name);
/* Whether the queue has such a row. */
bool is_configured(std::string_view queue_name);
std::vector<std::string> paused_queues();

/* A queue's row is not deleted while there is a job that counts on what it says. delete_queue()
 * announces that first, then deletes the row, and looks for jobs, and for locks on what its id
 * names, last. A session that adds a job, or takes such a lock, asks afterwards whether the row is
 * just being deleted: at least one of the two sees the other. A transaction that deletes very many
 * queues has one lock. */
void announce_deletion();
/* The transaction in progress of another session that deletes the queue's row. */
std::optional<TransactionId> deleter_of(std::string_view queue_name);
/* Returns when no other transaction is just deleting it; what the queue allows may have changed. */
void wait_for_deletion(std::string_view queue_name);

/* The id of a new row. The sequence begins anew when it comes to its end; ids that are still there are
 * passed over. */
int32 new_queue_id();

/* Registers the invalidation callback; once per process, from _PG_init. */
void init_queue_config();

} // namespace backfill::queue
