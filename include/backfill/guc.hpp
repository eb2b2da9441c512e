/* guc.hpp - the settings, "backfill.<name>". Set by PostgreSQL; read-only for us. */
#pragma once

namespace backfill::guc
{

extern int ageing_interval_s;
extern int batch_time_ms;
extern int bulk_queue_concurrency;
extern char *databases;
extern int dlq_processor_interval_s;
extern int dlq_retention_s;
extern int executor_idle_timeout_s;
extern int executor_max_jobs;
extern int fast_queue_concurrency;
extern int max_executors;
extern int max_free_retries;
extern int metrics_max_label_sets;
extern int poll_interval_ms;
extern int random_seed;
extern int reserved_urgent_executors;

/* Defines them all; from _PG_init. */
void define();

} // namespace backfill::guc
