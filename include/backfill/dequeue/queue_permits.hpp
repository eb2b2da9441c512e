/* queue_permits.hpp - transaction-level locks that the queue keeps in the server's lock manager.
 *
 * A slot of a queue is a lock: it is given back at commit or abort, whatever ends the
 * transaction, a crash included, so limits cannot leak. The tags have their own class
 * in the advisory space, which no pg_advisory_lock() call can name. */
#pragma once

#include "backfill/config/queue_config.hpp"
#include "backfill/table/job_table.hpp"

#include <map>
#include <set>

namespace backfill::queue
{

/* Lock tags of queue slots: (queue id, slot, this class). pg_advisory_lock(bigint) uses class 1,
 * (int, int) uses 2. */
inline constexpr uint16 kQueueSlotClass = 0xBF01;
/* Of queues without a limit: (hash of the name, this class). */
inline constexpr uint16 kUnlimitedQueueClass = 0xBF05;

/* The slot of jobs in a queue that has no limit, so that those are found that run when it gets one.
 */
inline constexpr int kNoSlot = -1;

/* The session that takes slots: one that runs the jobs of a queue one after the other, or one that
 * leases many at once. */
enum class SlotUser { kRunner, kLessor };

/* The queues that this transaction may run jobs of. One object per transaction.
 *
 * A consumer's lease outlives its transaction: the job's row says which slot it has. The row is
 * visible before the claim's lock is given back, and the next holder of the lock looks for such a
 * row, so that a slot is never given away twice.
 *
 * A limit may be lowered, or set, while jobs run in slots beyond it, or in none. The queue's row
 * says that this is possible (QueueLimit::places, was_unlimited). Then each session that enters
 * counts all, one at a time, until a process has seen that none of those is left. Every session
 * asks for the limit again after it has got a slot: so, once a change is known, no more slots
 * beyond it are taken. */
class QueueSlots
{
  public:
    explicit QueueSlots(SlotUser user) : user_(user) {}

    enum class Entry {
        kFull,
        kEntered, /* a slot was taken just now */
        kHeld,    /* this transaction has a slot already */
    };
    /* Takes one of the queue's slots unless this transaction has one; waits at most for others
     * that count. */
    Entry enter(QueueLimit limit, std::string_view queue_name, JobTable &table);

    /* Lets go of the slot: a leased job's row says from now on that it has it. The next job
     * of the queue needs another. Nothing if it has not entered the queue. */
    std::optional<int> lease(std::string_view queue_name);

    /* Whether this transaction has got as many locks on slots as one may: the server's table of
     * locks is shared by all sessions. */
    static bool is_exhausted();

    /* Whether a slot is free now, or as good as free: its holder is just ending. Takes none;
     * for a process that runs no jobs itself. */
    static bool has_free_slot(const QueueLimit &limit, std::string_view queue_name,
                              JobTable &table);
    /* How many jobs of the queue others run or lease. */
    static int count_taken(const QueueLimit &limit, std::string_view queue_name, JobTable &table);

  private:
    struct Queue {
        std::optional<int> held; /* the slot */
        int tried = 0;           /* slots that were tried in this round */
        std::optional<std::vector<int>> leased;
    };

    Entry take(const QueueLimit &limit, std::string_view queue_name, Queue &queue, JobTable &table);
    std::optional<int> take_slot(const QueueLimit &limit, std::string_view queue_name, Queue &queue,
                                 JobTable &table);
    std::optional<int> take_slot_beside_others(const QueueLimit &limit, std::string_view queue_name,
                                               Queue &queue, JobTable &table);
    void leave(const QueueLimit &limit, std::string_view queue_name, Queue &queue) const;
    LOCKMODE unlimited_mode() const;

    SlotUser user_;
    std::map<std::string, Queue, std::less<>> queues_;
};

/* The hash that names an unlimited queue in lock tags. */
uint64 unlimited_queue_hash(std::string_view queue_name);

/* Whether others hold locks of the slots, or of the depth, of the queue with this id. */
bool is_id_used(int32 queue_id);

/* Producers of one job_key, or of a queue that has a max_depth, come one after the other: what one
 * of them has not committed yet, the next could not see. A lock is kept until the end of the
 * transaction; it waits for other producers, never for a running job.
 *
 * The server's table of locks is shared by all sessions, so a transaction keeps the locks of its
 * first keys, and of its first queues, only. A further one is locked until the next is, and by then
 * the job must be in the table: others find there that a transaction with many locks uses the key
 * or has a job in the queue, and wait for the end of that. */
void lock_job_key(std::string_view job_key);
/* The same for several keys, in an order that is the same everywhere, so that calls
 * which name several keys never deadlock with each other. Of many keys each must be locked by
 * lock_job_key() besides, when its turn comes; of two calls with many, one waits for the other. */
void lock_job_keys(const std::vector<std::string_view> &job_keys);
/* Locks the depth of a queue, if it has a max_depth, and returns its limits as they are then. */
QueueLimit lock_queue_depth(std::string_view queue_name, JobTable &table);
/* The same for those among several queues that have one, as lock_job_keys() does; each must be
 * locked by lock_queue_depth() besides. */
void lock_queue_depths(const std::set<std::string_view> &queue_names, JobTable &table);

/* Registers a callback; once per process, from _PG_init. */
void init_locks();

} // namespace backfill::queue
