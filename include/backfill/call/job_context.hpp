/* job_context.hpp - the context line of every message that is raised while a job runs. */
#pragma once

#include "backfill/config/config.hpp"
#include "backfill/table/job_row.hpp"

namespace backfill::queue
{

/* Plain data, so that it may be used inside pg::call(). */
struct JobContext {
    long long id;
    const char *task;
    const char *queue;
    int attempt;
    int max_attempts;
};

/* The strings must outlive the result. */
inline JobContext describe(const JobRow &row, const Task &task, const std::string &queue)
{
    return {static_cast<long long>(row.id()), task.identifier.c_str(), queue.c_str(),
            row.attempts() + 1, row.max_attempts()};
}

/* An error context callback; `argument` is a JobContext. */
inline void add_job_context(void *argument)
{
    const auto *job = static_cast<const JobContext *>(argument);
    errcontext("job %lld, task \"%s\", queue \"%s\", attempt %d of %d", job->id, job->task,
               job->queue, job->attempt, job->max_attempts);
}

/* The same for a scope of C++. */
class JobContextScope
{
  public:
    explicit JobContextScope(JobContext *job)
    {
        callback_.previous = error_context_stack;
        callback_.callback = add_job_context;
        callback_.arg = job;
        error_context_stack = &callback_;
    }
    ~JobContextScope() { error_context_stack = callback_.previous; }
    JobContextScope(const JobContextScope &) = delete;
    JobContextScope &operator=(const JobContextScope &) = delete;

  private:
    ErrorContextCallback callback_;
};

} // namespace backfill::queue
