/* running_job.cpp - see running_job.hpp. */
#include "backfill/call/running_job.hpp"

namespace backfill::queue
{

namespace
{

const JobRow *running = nullptr;
bool dirty = false;

} // namespace

RunningMark::RunningMark(const JobRow &row)
{
    running = &row;
    said::begin();
}

RunningMark::~RunningMark()
{
    said::end();
    running = nullptr;
}

const JobRow *running_job()
{
    return running;
}

bool session_is_dirty()
{
    return dirty;
}

void mark_session_dirty() noexcept
{
    dirty = true;
}

void mark_session_clean()
{
    dirty = false;
}

} // namespace backfill::queue
