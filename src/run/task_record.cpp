/* task_record.cpp - see task_record.hpp. */
#include "backfill/run/task_record.hpp"

#include <cmath>

namespace backfill::queue
{

namespace
{

/* A job longer than this is slow. */
constexpr int64 kSlowJobUs = 5000;
/* A commit costs about as much as this number of small jobs that write. */
constexpr double kJobsPerCommit = 50;
/* With fewer runs per failure, running batches again costs more than savepoints do. */
constexpr double kFewFailures = 100;
constexpr double kLongestRecord = 1e6;

} // namespace

TaskRecord &TaskRecord::of(const std::string &task)
{
    static std::unordered_map<std::string, TaskRecord> records;
    return records[task];
}

/* In batches of n jobs, of which one in r fails, a job costs kJobsPerCommit / n for its part of the
 * commit, and n / r half a time for what is run again, which is dearer by a half: their sum is
 * least where n * n is kJobsPerCommit * r * 4 / 3. */
int TaskRecord::jobs_at_stake() const
{
    if (runs_per_failure_ < kFewFailures)
        return 0;
    return static_cast<int>(std::sqrt(kJobsPerCommit * runs_per_failure_ * 4 / 3));
}

void TaskRecord::note_run(int64 duration_us, bool failed)
{
    const int before = std::exchange(is_new_, false) ? 1 : slowness_;
    slowness_ = duration_us > kSlowJobUs ? Min(before + kSlow - 1, kSlowest) : Max(before - 1, 0);
    if (failed)
        runs_per_failure_ /= 2;
    else
        runs_per_failure_ = Min(runs_per_failure_ + 1, kLongestRecord);
}

} // namespace backfill::queue
