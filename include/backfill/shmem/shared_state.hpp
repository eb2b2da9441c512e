/* shared_state.hpp - what the server's backfill processes know of each other.
 *
 * One block of shared memory: a slot per worker, a slot per database, the marks of the
 * ready index, and an LWLock for the marks and one for the rest. It holds nothing that cannot be
 * lost: after a crash it is made anew, and the tables say what there is to do. Without
 * shared_preload_libraries there is none, and available() is false.
 *
 * What a lock guards is reached through an object that holds it: SharedLock and SharedReadLock,
 * MarksLock, SlotLock. A function that needs its caller to hold one takes the object, or is a
 * member of what the object leads to.
 *
 * Lock order: the LWLock is never held while anything is called that can raise or wait,
 * except SetLatch. A slot's spinlock guards only what its worker publishes about its
 * current job; it may be taken under the LWLock, and nothing is called while it is held. */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/core/rate_window.hpp"
#include "backfill/core/read_ahead.hpp"
#include "backfill/pg/pg.hpp"
#include "backfill/shmem/job_waiter.hpp"
#include "backfill/shmem/queue_change_numbers.hpp"
#include "backfill/shmem/ready_band_counts.hpp"
#include "backfill/shmem/set_aside_entry.hpp"

namespace backfill::bgworker
{

enum class WorkerKind : int { kNone, kDispatcher, kExecutor };
enum class WorkerState : int { kStarting, kIdle, kBusy };

inline constexpr int kMaxTaskName = 128 * 4 + 1; /* 128 characters in any encoding */
inline constexpr int kMaxProgressMessage = 256;  /* bytes, with the terminating zero */
inline constexpr int kMaxDatabases = 256;
inline constexpr int kMaxRateWindows = 1024;

/* What others have to know of a worker to wake it, to end it, or to count it; guarded by the
 * LWLock. */
struct Worker {
    WorkerKind kind;
    WorkerState state;
    uint64 generation; /* changes whenever the slot is given to another worker */
    Oid database;
    Oid role;       /* executors: whose jobs it runs */
    int pid;        /* 0 until it has started */
    Latch *latch;   /* null until it has started */
    bool woken;     /* its latch was set since it went idle; dispatchers: began to look */
    bool retire;    /* it must end as soon as its batch is over */
    bool bulk;      /* it may be running a job that is not urgent */
    int parent;     /* pid of its parent, until that has taken note of its end; 0: none */
    bool logged_in; /* it got as far as that */
    TimestampTz started_at;

    bool is_executor_in(Oid in_database) const
    {
        return kind == WorkerKind::kExecutor && database == in_database;
    }
};

/* What a worker publishes about itself and its current job; guarded by its slot's spinlock. */
struct WorkerReport {
    TransactionId xid;
    int64 job_id;          /* 0: none */
    int64 claim_token;     /* of a procedure's job, until its outcome is committed; 0: none */
    int64 accepts_stop_of; /* the job whose handler others may ask to stop; 0: none */
    TimestampTz stop_requested_at; /* 0: that was not asked */
    int64 unsettled_job;           /* see unsettled_job.hpp; 0: none */
    int attempt;
    char task[kMaxTaskName];
    TimestampTz state_since;
    uint64 jobs_done;
    uint64 jobs_failed;
    float8 progress; /* of the current job; below 0: it has not said */
    char progress_message[kMaxProgressMessage];
    core::ReadAhead read_ahead;   /* what its batch is working through */
    TimestampTz read_ahead_until; /* for other executors to pass over until then */
};

/* A worker's place. Whole cache lines, because each executor writes its own all the time. */
class alignas(PG_CACHE_LINE_SIZE) WorkerSlot : public Worker
{
  public:
    void init() { SpinLockInit(&mutex_); }
    void wake()
    {
        woken = true;
        if (latch != nullptr)
            SetLatch(latch);
    }

  private:
    friend class SlotLock;
    mutable slock_t mutex_;
    mutable WorkerReport report_;
};

/* Holds a slot's spinlock during a few instructions. */
class SlotLock
{
  public:
    explicit SlotLock(const WorkerSlot &slot) noexcept : slot_(slot)
    {
        SpinLockAcquire(&slot_.mutex_);
    }
    ~SlotLock() { SpinLockRelease(&slot_.mutex_); }
    SlotLock(const SlotLock &) = delete;
    SlotLock &operator=(const SlotLock &) = delete;
    WorkerReport *operator->() const { return &slot_.report_; }
    WorkerReport &operator*() const { return slot_.report_; }

  private:
    const WorkerSlot &slot_;
};

/* An executor could not log in as the role: none is started before then. */
struct HeldRole {
    Oid role; /* InvalidOid: free */
    TimestampTz until;
};
inline constexpr int kMaxHeldRoles = 8;

enum class DatabaseStatus : int {
    kUnknown, /* whether it has the extension has not been looked up yet */
    kPresent,
    kAbsent,
};

struct DatabaseSlot {
    Oid database; /* InvalidOid: free */
    DatabaseStatus status;
    int blocked_by;       /* pid of a session that needs the database without workers */
    TimestampTz next_due; /* when the dispatcher's timer goes off */
    TimestampTz retry_at; /* no worker could be started: not before then */
    bool queue_was_full;  /* an executor passed over a full queue since the last release */
    bool role_waits;      /* the dispatcher did; jobs of a role whose executors are busy wait: */
    Oid waiting_role;     /* this one, or InvalidOid: of several */
    bool consumers;       /* there may be something new for external consumers */
    bool lost_claims;     /* an executor has ended that had claimed a procedure's job */
    bool schedules;       /* they have changed: others may be due next */
    /* No lease runs out before then that the dispatcher, having read this, could not see. */
    TimestampTz lease_low;
    HeldRole held[kMaxHeldRoles]; /* to be shown; the dispatcher knows them all */
};

/* The starts of one rate-limited queue; queue_id 0: free. */
struct RateSlot {
    Oid database;
    int32 queue_id;
    core::RateWindow window;
};

/* What the LWLock guards. */
struct SharedState {
    Latch *launcher;
    int worker_count;
    WorkerSlot *worker_slots;
    DatabaseSlot databases[kMaxDatabases];
    RateSlot rates[kMaxRateWindows];
    TimestampTz no_rate_window_at; /* when a queue found all of them in use; 0: never */
    JobWaiter job_waiters[kMaxJobWaiters];
    set_aside::Entry set_aside[set_aside::kMaxEntries];

    std::span<WorkerSlot> workers()
    {
        return {worker_slots, static_cast<std::size_t>(worker_count)};
    }
    std::span<const WorkerSlot> workers() const
    {
        return {worker_slots, static_cast<std::size_t>(worker_count)};
    }
    WorkerSlot &worker(int slot) { return worker_slots[slot]; }
    const WorkerSlot &worker(int slot) const { return worker_slots[slot]; }

    /* The first executor of the database for which matches(slot) is true; null if there is none. */
    template <class Matches> WorkerSlot *find_executor(Oid database, Matches &&matches)
    {
        for (WorkerSlot &slot : workers())
            if (slot.is_executor_in(database) && matches(slot))
                return &slot;
        return nullptr;
    }
    template <class Matches> const WorkerSlot *find_executor(Oid database, Matches &&matches) const
    {
        for (const WorkerSlot &slot : workers())
            if (slot.is_executor_in(database) && matches(slot))
                return &slot;
        return nullptr;
    }
    /* Calls visit(slot) for every executor of the database. */
    template <class Visit> void for_each_executor(Oid database, Visit &&visit)
    {
        for (WorkerSlot &slot : workers())
            if (slot.is_executor_in(database))
                visit(slot);
    }
    template <class Visit> void for_each_executor(Oid database, Visit &&visit) const
    {
        for (const WorkerSlot &slot : workers())
            if (slot.is_executor_in(database))
                visit(slot);
    }

    void wake_launcher();

    /* The slot of a database's dispatcher, also while it starts; null if there is none. */
    WorkerSlot *find_dispatcher(Oid database);
    const WorkerSlot *find_dispatcher(Oid database) const;

    /* A database's slot; null if there is none, or, of the last one, no room for it. */
    DatabaseSlot *find_database(Oid database);
    const DatabaseSlot *find_database(Oid database) const;
    DatabaseSlot *find_or_add_database(Oid database);

    /* The window of a rate-limited queue; null if as many queues have started jobs within their
     * periods as there are windows. One with a negative id follows a test's clock. */
    core::RateWindow *find_rate_window(Oid database, int32 queue_id);
};

/* What needs no lock: it is atomic, has one of its own, or never changes. */
struct LockFreeState {
    uint64 hash_seed;            /* random; constant */
    ConditionVariable consumers; /* of all databases: sessions that wait for jobs to claim */
    JobWaiterCounts job_waiters;
    queue_changes::State queue_changes;
    ready_bands::State ready_bands;
    pg_atomic_uint64 read_aheads;       /* how many have been published */
    pg_atomic_uint32 set_aside_count;   /* how many entries are not free */
    pg_atomic_uint32 unsettled_jobs;    /* how many executors have one */
    pg_atomic_uint32 setting_places[2]; /* of queues fast and bulk, see raise_setting_places() */
};

/* The whole of it; the slots of workers are behind it. */
struct alignas(PG_CACHE_LINE_SIZE) SharedBlock {
    LWLock *lock;
    LWLock *marks_lock; /* nothing else is locked while it is held */
    LockFreeState lock_free;
    core::LowWaterMarks marks;
    SharedState state;
};

/* Null without shared_preload_libraries. For the inline functions below. */
extern SharedBlock *shared_block;

/* Reserve and create the block; from _PG_init, when preloaded. */
void init_shared_state();

inline bool available()
{
    return shared_block != nullptr;
}

inline LockFreeState &lock_free_state()
{
    return shared_block->lock_free;
}

/* Holds the LWLock for a scope in which nothing can raise. */
class SharedLock
{
  public:
    SharedLock() { LWLockAcquire(shared_block->lock, LW_EXCLUSIVE); }
    ~SharedLock() { LWLockRelease(shared_block->lock); }
    SharedLock(const SharedLock &) = delete;
    SharedLock &operator=(const SharedLock &) = delete;
    SharedState *operator->() const { return &shared_block->state; }
    SharedState &operator*() const { return shared_block->state; }
};

/* The same beside others that only read. */
class SharedReadLock
{
  public:
    SharedReadLock() { LWLockAcquire(shared_block->lock, LW_SHARED); }
    ~SharedReadLock() { LWLockRelease(shared_block->lock); }
    SharedReadLock(const SharedReadLock &) = delete;
    SharedReadLock &operator=(const SharedReadLock &) = delete;
    const SharedState *operator->() const { return &shared_block->state; }
    const SharedState &operator*() const { return shared_block->state; }
};

/* Holds the lock of the low-water marks. */
class MarksLock
{
  public:
    MarksLock() { LWLockAcquire(shared_block->marks_lock, LW_EXCLUSIVE); }
    ~MarksLock() { LWLockRelease(shared_block->marks_lock); }
    MarksLock(const MarksLock &) = delete;
    MarksLock &operator=(const MarksLock &) = delete;
    core::LowWaterMarks *operator->() const { return &shared_block->marks; }
    core::LowWaterMarks &operator*() const { return shared_block->marks; }
};

/* --- The functions below take the lock themselves. They raise nothing. --- */

/* The highest value given for queue fast, or bulk, since the server's start; takes no lock. */
int raise_setting_places(bool fast, int value) noexcept;

/* The slot of this database, if it has one. For functions that show it. */
std::optional<DatabaseSlot> copy_database();
/* How many of the slots for databases are taken. */
int count_databases() noexcept;
/* Whether the launcher runs. */
bool has_launcher();
/* When a rate-limited queue last found no window free; 0: never. */
TimestampTz no_rate_window_at();

} // namespace backfill::bgworker
