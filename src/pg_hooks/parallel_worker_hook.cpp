/* parallel_worker_hook.cpp - see parallel_worker_hook.hpp. */
#include "backfill/pg_hooks/parallel_worker_hook.hpp"

#include "backfill/shmem/run_ledger.hpp"

extern "C" {
#include "access/parallel.h"
}

namespace backfill::hooks
{

namespace
{

ExecutorStart_hook_type previous_executor_start_hook = nullptr;

/* The first code of ours that runs in a parallel worker. */
void on_executor_start(QueryDesc *query, int flags)
{
    if (IsParallelWorker())
        bgworker::ledger::join_leader();
    if (previous_executor_start_hook != nullptr)
        previous_executor_start_hook(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

} // namespace

void install_parallel_worker_hook()
{
    previous_executor_start_hook = ExecutorStart_hook;
    ExecutorStart_hook = on_executor_start;
}

} // namespace backfill::hooks
