/* set_aside_entry.hpp - an entry of the list of set_aside.hpp, as the shared state holds it. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::bgworker::set_aside
{

enum class Kind : int {
    kNone,
    kJob,       /* id: of the job */
    kLease,     /* of the leased job */
    kClaim,     /* of a procedure's job */
    kCharge,    /* of the job that has ended its process */
    kSchedule,  /* hash of the name of the schedule */
    kLetter,    /* of the job whose dead letter cannot be written */
    kOldLetter, /* of the dead letter that is to be deleted */
    kQueue,     /* of the automatic queue that is to be deleted */
    kStep,      /* number of a step of the dispatcher's pass */
    /* Of each kind, id 0: several of them together. */
};

inline constexpr int kMaxEntries = 256;
inline constexpr int kMaxName = 128 * 4 + 1; /* 128 characters in any encoding */
inline constexpr int kMaxMessage = 512;      /* bytes, with the terminating zero */

/* Part of the shared state, guarded by its LWLock. */
struct Entry {
    Kind kind; /* kNone: free */
    Oid database;
    int64 id;
    int failures;         /* one after the other */
    TimestampTz since;    /* the first of them */
    TimestampTz retry_at; /* by the machine's clock */
    char name[kMaxName];  /* a task's, schedule's, queue's or step's */
    char sqlstate[6];
    char message[kMaxMessage];
};

} // namespace backfill::bgworker::set_aside
