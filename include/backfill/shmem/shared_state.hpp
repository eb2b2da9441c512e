/* shared_state.hpp - what the server's backfill processes know of each other.
 *
 * One block of shared memory: a slot per worker, a slot per database, the marks of the
 * ready index, and an LWLock for the marks and one for the rest. It holds nothing that cannot be
 * lost: after a crash it is made anew, and the tables say what there is to do. Without
 * shared_preload_libraries there is none, and available() is false.
 *
 * Lock order: the LWLock is never held while anything is called that can raise or wait,
 * except SetLatch. A slot's spinlock guards only what its worker publishes about its
 * current job. */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/core/rate_window.hpp"
#include "backfill/core/read_ahead.hpp"
#include "backfill/pg/pg.hpp"
#include "backfill/shmem/job_waiters.hpp"
#include "backfill/shmem/set_aside.hpp"

namespace backfill::bgworker
{

enum class WorkerKind : int { kNone, kDispatcher, kExecutor };
enum class WorkerState : int { kStarting, kIdle, kBusy };

inline constexpr int kMaxTaskName = 128 * 4 + 1; /* 128 characters in any encoding */
inline constexpr int kMaxProgressMessage = 256;  /* bytes, with the terminating zero */
inline constexpr int kMaxDatabases = 256;
inline constexpr int kMaxRateWindows = 1024;

struct WorkerSlot {
    /* Guarded by the LWLock. */
    WorkerKind kind;
    WorkerState state;
    uint64 generation; /* changes whenever the slot is given to another worker */
    Oid database;
    Oid role;       /* executors: whose jobs it runs */
    int pid;        /* 0 until it has started */
    Latch *latch;   /* null until it has started */
    bool woken;     /* its latch was set since it went idle; dispatchers: began to look */
    bool retire;    /* it shall end as soon as its batch is over */
    bool bulk;      /* it may be running a job that is not urgent */
    int parent;     /* pid of who started it, until that has taken note of its end; 0: nobody */
    bool logged_in; /* it got as far as that */
    TimestampTz started_at;

    /* Guarded by the spinlock. */
    slock_t mutex;
    TransactionId xid;
    int64 job_id;              /* 0: none */
    int64 claim_token;         /* of a procedure's job, until its outcome is committed; 0: none */
    int64 stoppable_job;       /* the job whose handler others may tell to stop; 0: none */
    TimestampTz stop_asked_at; /* somebody has told it to; 0: nobody has */
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

/* An executor could not log in as the role: none is started before then. */
struct HeldRole {
    Oid role; /* InvalidOid: free */
    TimestampTz until;
};
inline constexpr int kMaxHeldRoles = 8;

enum class DatabaseStatus : int {
    kUnknown, /* nobody has looked yet whether it has the extension */
    kPresent,
    kAbsent,
};

struct DatabaseSlot {
    Oid database; /* InvalidOid: free */
    DatabaseStatus status;
    int blocked_by;       /* pid of a session that needs the database without workers */
    TimestampTz next_due; /* when the dispatcher's timer goes off */
    TimestampTz retry_at; /* no worker could be started: not before then */
    bool queue_was_full;  /* somebody passed over a full queue since the last release */
    bool role_waits;      /* the dispatcher did, for jobs of a role whose executors are busy: */
    Oid waiting_role;     /* this one, or InvalidOid: of several */
    bool consumers;       /* there may be something new for external consumers */
    bool lost_claims;     /* an executor has ended that had claimed a procedure's job */
    /* No lease runs out before then that the dispatcher, having read this, could not see. */
    TimestampTz lease_low;
    HeldRole held[kMaxHeldRoles]; /* for people to see; the dispatcher knows them all */
};

/* The starts of one rate-limited queue; queue_id 0: free. */
struct RateSlot {
    Oid database;
    int32 queue_id;
    core::RateWindow window;
};

struct SharedState {
    LWLock *lock;
    LWLock *marks_lock; /* guards marks, and nothing else is locked while it is held */
    uint64 hash_seed;   /* random; constant */
    core::LowWaterMarks marks;
    Latch *launcher;
    ConditionVariable consumers; /* of all databases: sessions that wait for jobs to claim */
    JobWaiters job_waiters;
    set_aside::List set_aside;
    int worker_count;
    DatabaseSlot databases[kMaxDatabases];
    RateSlot rates[kMaxRateWindows];
    TimestampTz no_rate_window_at;      /* when a queue found all of them in use; 0: never */
    pg_atomic_uint32 setting_places[2]; /* of queues fast and bulk, see raise_setting_places() */
    WorkerSlot workers[FLEXIBLE_ARRAY_MEMBER];
};

/* Reserve and create the block; from _PG_init, when preloaded. */
void init_shared_state();
bool available();
SharedState &shared();

/* Holds the LWLock for a scope in which nothing can raise. */
class SharedLock
{
  public:
    explicit SharedLock(LWLockMode mode = LW_EXCLUSIVE) { LWLockAcquire(shared().lock, mode); }
    ~SharedLock() { LWLockRelease(shared().lock); }
    SharedLock(const SharedLock &) = delete;
    SharedLock &operator=(const SharedLock &) = delete;
};

/* --- The functions below take the lock themselves. They raise nothing. --- */

/* A database's slot, made if there is none and `create` is set; null if there is no
 * room. Caller holds the lock. */
DatabaseSlot *find_database(Oid database, bool create);

/* The window of a rate-limited queue; null if as many queues have started jobs within their
 * periods as there are windows. One with a negative id follows a test's clock. Caller holds the
 * lock. */
core::RateWindow *find_rate_window(Oid database, int32 queue_id);

/* The highest value given for queue fast, or bulk, since the server's start; takes no lock. */
int raise_setting_places(bool fast, int value) noexcept;

/* The slot of this database, if it has one. For functions that show it. */
std::optional<DatabaseSlot> copy_database();
/* How many of the places for databases are taken. */
int count_databases() noexcept;

} // namespace backfill::bgworker
