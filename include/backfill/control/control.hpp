/* control.hpp - what operators do to jobs by id or key: to those that wait, and to those that have
 * failed for good and are dead letters. A job that runs or is leased is passed over, never waited
 * for; so is a letter whose job is on its way again.
 *
 * All return the rows that they have changed, as they are then. */
#pragma once

#include "backfill/table/job_table.hpp"

namespace backfill::queue::control
{

/* Ends them as if they were done, without a run; their dead letters go, too. */
std::vector<JobRow> complete(std::vector<int64> ids);

/* Into the dead letter queue; a letter that is there already gets this reason and error. */
std::vector<JobRow> fail_for_good(std::vector<int64> ids, std::string_view message);

/* A job as it was, and as it is. */
struct Changed {
    JobRow before;
    JobRow after;
};

/* Absent: as it is. */
struct Changes {
    std::optional<TimestampTz> run_at;
    std::optional<int32> priority;
    std::optional<int32> attempts;
    std::optional<int32> max_attempts;
};
/* A dead job has used up its attempts. One that has some left by this waits again; a waiting job
 * that has none left is dead. A letter whose key another job has is passed over. */
std::vector<Changed> reschedule(std::vector<int64> ids, const Changes &changes);

/* What update() changes of a job; absent, or 0: as it is. The strings point into the caller's
 * memory. */
struct Update {
    Changes changes; /* of the attempts only how many there are at most */
    Datum payload = 0;
    Datum headers = 0; /* jsonb, an object; an empty one: none from now on */
    std::optional<std::string_view> queue_name;
    std::optional<std::string_view> retry_policy;
    std::optional<int32> timeout_ms;
};
/* Changes a waiting job, which keeps its id, key and age; nothing if it does not wait. Errors:
 * Failure JB001 if it is to go to a queue that is full, 22023 if it has had all of the attempts
 * that it is to have. */
std::optional<Changed> update(int64 id, const Update &update);

/* Deletes the waiting job with this key, else lets the running or leased one not be retried, else
 * deletes the dead letters with it. Errors: Failure 42501 if the job is of a task that the current
 * user may not enqueue; letters of such tasks are passed over. */
std::vector<JobRow> remove(std::string_view job_key);

/* Moves a waiting job to the dead letter queue and returns the letter's id; nothing if it does
 * not wait. last_error: 0 leaves it. */
std::optional<int64> bury(int64 id, std::string_view reason, Datum last_error);

} // namespace backfill::queue::control
