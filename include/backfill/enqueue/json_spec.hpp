/* json_spec.hpp - specifications of jobs as a JSON array, as enqueue_jobs() takes them. */
#pragma once

#include "backfill/enqueue/job_spec.hpp"

namespace backfill::queue
{

/* Runs body for an element of jobs, counted from 1; a Failure of it says which one it was. */
template <class Body> auto for_element(std::size_t number, Body &&body)
{
    try {
        return body();
    } catch (Failure &failure) {
        failure.detail = "In element " + std::to_string(number) + " of jobs." +
                         (failure.detail.empty() ? "" : " " + failure.detail);
        throw;
    }
}

/* The specifications, whose strings point into the array. Only enqueueing them checks their values.
 * Errors: Failure 22023 for what is no specification, with the element's number. */
std::vector<JobSpec> read_job_specs(Jsonb *jobs);

} // namespace backfill::queue
