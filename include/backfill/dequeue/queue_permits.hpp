/* queue_permits.hpp - the permits of queues that run a limited number of jobs at once.
 *
 * A permit of a queue is a lock of its transaction (pg/advisory_lock.hpp): it is given back at
 * commit or abort, whatever ends the transaction, a crash included, so limits cannot leak. */
#pragma once

#include "backfill/config/queue_config.hpp"
#include "backfill/table/job_table.hpp"

#include <map>

namespace backfill::queue
{

/* Lock tags of queue permits: (queue id, permit, this class). pg_advisory_lock(bigint) uses class
 * 1, (int, int) uses 2. */
inline constexpr uint16 kQueuePermitClass = 0xBF01;
/* Of queues without a limit: (hash of the name, this class). */
inline constexpr uint16 kUnlimitedQueueClass = 0xBF05;

/* The permit of jobs in a queue that has no limit, so that those are found that run when it gets
 * one.
 */
inline constexpr int kNoPermit = -1;

/* The session that takes permits: one that runs the jobs of a queue one after the other, or one
 * that leases many at once. */
enum class PermitUser { kRunner, kLessor };

/* The queues that this transaction may run jobs of. One object per transaction.
 *
 * A consumer's lease outlives its transaction: the job's row says which permit it has. The row is
 * visible before the claim's lock is given back, and the next holder of the lock looks for such a
 * row, so that a permit is never given away twice.
 *
 * A limit may be lowered, or set, while jobs run in permits beyond it, or in none. The queue's row
 * says that this is possible (QueueLimit::places, was_unlimited). Then each session that enters
 * counts all, one at a time, until a process has seen that none of those is left. Every session
 * asks for the limit again after it has got a permit: so, once a change is known, no more permits
 * beyond it are taken. */
class QueuePermits
{
  public:
    explicit QueuePermits(PermitUser user) : user_(user) {}

    enum class Entry {
        kFull,
        kEntered, /* a permit was taken just now */
        kHeld,    /* this transaction has a permit already */
    };
    /* Takes one of the queue's permits unless this transaction has one; waits at most for others
     * that count. */
    Entry enter(QueueLimit limit, std::string_view queue_name, JobTable &table);

    /* Lets go of the permit: a leased job's row says from now on that it has it. The next job
     * of the queue needs another. Nothing if it has not entered the queue. */
    std::optional<int> lease(std::string_view queue_name);

    /* Whether this transaction has got as many locks on permits as one may: the server's table of
     * locks is shared by all sessions. */
    static bool is_exhausted();
    /* How many it has got; of queues, not counting a queue again. */
    static int count_held();

    /* Whether a permit is free now, or as good as free: its holder is just ending. Takes none;
     * for a process that runs no jobs itself. */
    static bool has_free_permit(const QueueLimit &limit, std::string_view queue_name,
                                JobTable &table);
    /* How many jobs of the queue others run or lease. */
    static int count_taken(const QueueLimit &limit, std::string_view queue_name, JobTable &table);

  private:
    struct Queue {
        std::optional<int> held; /* the permit */
        bool is_new = false;     /* not one that the transaction had before this object */
        int tried = 0;           /* permits that were tried in this round */
        std::optional<std::vector<int>> leased;
    };

    Entry take(const QueueLimit &limit, std::string_view queue_name, Queue &queue, JobTable &table);
    std::optional<int> take_permit(const QueueLimit &limit, std::string_view queue_name,
                                   Queue &queue, JobTable &table);
    std::optional<int> take_permit_beside_others(const QueueLimit &limit,
                                                 std::string_view queue_name, Queue &queue,
                                                 JobTable &table);
    void leave(const QueueLimit &limit, std::string_view queue_name, Queue &queue) const;
    LOCKMODE unlimited_mode() const;

    PermitUser user_;
    std::map<std::string, Queue, std::less<>> queues_;
};

/* The hash that names an unlimited queue in lock tags. */
uint64 unlimited_queue_hash(std::string_view queue_name);

/* Held by producers of a queue that has a max_depth: (queue id, this class). */
inline constexpr uint16 kQueueDepthClass = 0xBF03;
LOCKTAG queue_depth_tag(int32 queue_id);

/* Whether others hold locks of the permits, or of the depth, of the queue with this id, of which
 * none from `places` on was ever taken. */
bool is_id_used(int32 queue_id, int places);

/* Registers a callback; once per process, from _PG_init. */
void init_queue_permits();

} // namespace backfill::queue
