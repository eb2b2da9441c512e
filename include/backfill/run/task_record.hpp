/* task_record.hpp - what this process has seen of the jobs of a task: how long they take, and how
 * often they fail.
 *
 * A job that is done waits for the end of its batch, so a job that may be slow must not join one:
 * neither of a task that is new here, nor of one that had slow jobs lately. One slow job among fast
 * ones does not count: on a busy machine any process may be kept waiting for that long.
 *
 * A job that runs without a savepoint costs less, and no transaction id; but if it fails, all of
 * its batch is run again. So a task's jobs run without one while few of them fail, and in a batch
 * of no more than such a failure may cost. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::queue
{

class TaskRecord
{
  public:
    /* Of a task, new or known. */
    static TaskRecord &of(const std::string &task);

    bool may_be_slow() const { return slowness_ >= kSlow; }
    /* How many jobs a failure of the next one may undo, itself included, if it runs without a
     * savepoint; 0: it had better have one. */
    int jobs_at_stake() const;
    void note_run(int64 duration_us, bool failed);

  private:
    static constexpr int kSlow = 5;
    static constexpr int kSlowest = 16;

    bool is_new_ = true;
    int slowness_ = kSlow;
    double runs_per_failure_ = 0; /* smoothed */
};

} // namespace backfill::queue
