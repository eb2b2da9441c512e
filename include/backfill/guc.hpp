/* guc.hpp - the settings, "backfill.<name>". Set by PostgreSQL; read-only for us. */
#pragma once

namespace backfill::guc
{

extern int ageing_interval_ms;
extern int audit_retention_s;
extern int batch_time_ms;
extern int bulk_queue_concurrency;
extern int cron_clock; /* one of the four below */
extern char *databases;
extern int dlq_processor_interval_s;
extern int dlq_retention_s;
extern int executor_idle_timeout_s;
extern int executor_max_jobs;
extern int executor_synchronous_commit; /* changes when executors must be replaced */
extern char *fake_now;                  /* see clock.hpp */
extern int fast_queue_concurrency;
extern char *headers;           /* a JSON object, or empty */
extern int headers_assignments; /* counts them: what was made of the last value is void */
extern double hint_faults;
extern double undo_faults;
extern int max_executors;
extern int max_free_retries;
extern int metrics_idle_time;
extern int metrics_max_label_sets;
extern int notify_interval_ms;
extern int poll_interval_ms;
extern int random_seed;
extern int random_seed_assignments; /* counts them: each begins the sequence again */
extern int reserved_urgent_executors;
extern int savepoint_per_job; /* one of the three below */

/* Whether backfill.databases names this database. Inside pg::call(): allocates. */
bool is_listed(const char *database_name);

/* What executors set synchronous_commit to; null: nothing. */
const char *executor_synchronous_commit_name();

inline constexpr int kSavepointsAuto = 0;
inline constexpr int kSavepointsOn = 1;
inline constexpr int kSavepointsOff = 2;

inline constexpr int kAutoClock = 0; /* pg_cron if it runs in this database, or the dispatcher */
inline constexpr int kPgCronClock = 1;
inline constexpr int kDispatcherClock = 2;
inline constexpr int kExternalClock = 3;

/* Defines them all; from _PG_init. */
void define();

} // namespace backfill::guc
