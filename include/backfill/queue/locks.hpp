/* locks.hpp - transaction-level locks that the queue keeps in the server's lock manager.
 *
 * A slot of a queue is a lock: it is given back at commit or abort, whatever ends the
 * transaction, a crash included, so limits cannot leak. The tags have their own class
 * in the advisory space, which no pg_advisory_lock() call can name. */
#pragma once

#include "backfill/queue/job_table.hpp"
#include "backfill/queue/queue_config.hpp"

namespace backfill::queue
{

/* Lock tags of queue slots: (queue id, slot, this class). pg_advisory_lock(bigint) uses class 1,
 * (int, int) uses 2. */
inline constexpr uint16 kQueueSlotClass = 0xBF01;

/* The queues that this transaction may run jobs of. One object per transaction.
 *
 * A consumer's lease outlives its transaction: the job's row says which slot it has. The row is
 * visible before the claim's lock is given back, and who gets the lock looks for such a row,
 * so that a slot is never given away twice. */
class QueueSlots
{
  public:
    enum class Entry {
        kFull,
        kEntered, /* a slot was taken just now */
        kHeld,    /* the queue has no limit, or this transaction has a slot already */
    };
    /* Takes one of the queue's slots unless this transaction has one; never waits. */
    Entry enter(const QueueLimit &limit, std::string_view queue_name, JobTable &table);

    /* Lets go of the slot: a leased job's row says from now on that it has it. The next job
     * of the queue needs another. Nothing if the queue has no limit. */
    std::optional<int> lease(const QueueLimit &limit);

    /* How many locks on slots this transaction has got here. The server's table of locks is
     * shared by everybody: stop at kMostTaken. */
    std::size_t taken() const { return taken_; }
    static constexpr std::size_t kMostTaken = 200;

    /* Whether a slot is free now, or as good as free: its holder is just ending. Takes none;
     * for a process that runs no jobs itself. */
    static bool has_free_slot(const QueueLimit &limit, std::string_view queue_name,
                              JobTable &table);

  private:
    std::unordered_map<int32, int> held_; /* the slot of each queue */
    std::size_t taken_ = 0;
};

/* Serialises the producers of a queue that has a max_depth until the end of the
 * transaction: what one of them has not committed yet, the next could not count. */
void lock_queue_depth(const QueueLimit &limit);

/* Serialises the producers of one job_key until the end of the transaction. Waits for
 * other producers, never for the running job.
 *
 * The server's table of locks is shared by all sessions, so a transaction keeps a lock for each of
 * its first keys only. A further one is locked until the next is, and by then what it was locked
 * for must be in the table: others find there that a transaction with many keys uses the key,
 * and wait for the end of that. */
void lock_job_key(std::string_view job_key);
/* The same for several keys, in an order that is the same everywhere, so that calls
 * which name several keys never deadlock with each other. Of many keys each must be locked by
 * lock_job_key() besides, when its turn comes; of two calls with many, one waits for the other. */
void lock_job_keys(const std::vector<std::string_view> &job_keys);

/* Registers a callback; once per process, from _PG_init. */
void init_locks();

} // namespace backfill::queue
