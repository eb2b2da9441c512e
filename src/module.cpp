/* module.cpp - where PostgreSQL enters the library. Start reading here.
 *
 * With shared_preload_libraries the postmaster runs _PG_init: shared memory is
 * reserved and the launcher registered. Without it a session loads the library at its
 * first call; everything works but the server's own workers. */
#include "backfill/bgworker/launcher.hpp"
#include "backfill/call/deferred_events.hpp"
#include "backfill/call/handler.hpp"
#include "backfill/call/said.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/config/config.hpp"
#include "backfill/config/queue_config.hpp"
#include "backfill/config/serial_queues.hpp"
#include "backfill/dequeue/queue_permits.hpp"
#include "backfill/enqueue/producer_locks.hpp"
#include "backfill/guc.hpp"
#include "backfill/pg_hooks/parallel_worker_hook.hpp"
#include "backfill/pg_hooks/table_guard.hpp"
#include "backfill/pg_hooks/utility_hook.hpp"
#include "backfill/settle/no_retry.hpp"
#include "backfill/settle/take.hpp"
#include "backfill/shmem/run_ledger.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/stats/pending.hpp"

extern "C" {

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void _PG_init(void)
{
    using namespace backfill;

    pg::init_error_store();
    guc::define();
    queue::init_config();
    queue::init_queue_config();
    queue::init_serial_queues();
    queue::init_handlers();
    queue::deferred::init();
    queue::init_no_retry();
    queue::init_take();
    queue::init_queue_permits(); /* before wake: what is registered last is called first */
    queue::init_producer_locks();
    queue::wake::init();
    queue::said::init();
    hooks::install_table_guard();

    if (process_shared_preload_libraries_in_progress) {
        bgworker::init_shared_state();
        bgworker::ledger::init();
        stats::init_counters();
        stats::init_pending();
        bgworker::register_launcher();
        hooks::install_utility_hook();
        hooks::install_parallel_worker_hook();
    }
}
}
