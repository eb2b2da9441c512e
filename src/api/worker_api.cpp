/* worker_api.cpp - SQL functions about running jobs and the workers that do. */
#include "backfill/call/deferred_events.hpp"
#include "backfill/commit/wake.hpp"
#include "backfill/config/queue_config.hpp"
#include "backfill/dequeue/queue_gate.hpp"
#include "backfill/pg/waiting.hpp"
#include "backfill/run/batch.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/table/row_lock.hpp"

using namespace backfill;

namespace
{

const char *kind_name(bgworker::WorkerKind kind)
{
    return kind == bgworker::WorkerKind::kDispatcher ? "dispatcher" : "executor";
}

const char *state_name(const bgworker::WorkerCopy &worker)
{
    switch (worker.state) {
    case bgworker::WorkerState::kStarting:
        return "starting";
    case bgworker::WorkerState::kIdle:
        return "idle";
    default:
        return worker.kind == bgworker::WorkerKind::kDispatcher ? "active" : "busy";
    }
}

std::vector<std::string> text_elements(const pg::Arguments &arguments, int n)
{
    std::vector<std::string> result;
    if (const auto elements = arguments.array(n, TEXTOID))
        for (int i = 0; i < elements->count; i++)
            if (!elements->nulls[i])
                result.push_back(pg::to_string(elements->values[i]));
    return result;
}

} // namespace

BACKFILL_FUNCTION(backfill_process_available_jobs)
{
    const pg::Arguments arguments(fcinfo);
    const auto max_jobs = arguments.int4(0);
    if (max_jobs && *max_jobs < 0)
        fail(ERRCODE_INVALID_PARAMETER_VALUE,
             "max_jobs must not be negative: " + std::to_string(*max_jobs));
    if (queue::is_running_job())
        fail(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "a job cannot call process_available_jobs()",
             {}, "Let the job enqueue others instead; they run by themselves.");
    pg::prevent_if_read_only("process_available_jobs()");

    /* Inside a transaction block, or in a function, everything is the caller's one
     * transaction; else each batch is committed. */
    const bool atomic = pg::is_atomic_call(fcinfo);
    queue::BatchOptions options;
    options.session = queue::SessionKind::kUser;
    options.tasks = text_elements(arguments, 1);
    options.time_limit_us = atomic ? PG_INT64_MAX : 5000;
    options.commits = !atomic;
    const bool nothing_wanted = !arguments.is_null(1) && options.tasks.empty();

    int64 processed = 0;
    bool more = !nothing_wanted && (!max_jobs || *max_jobs > 0);
    queue::deferred::OwnedTransaction transaction;
    pg::call([&] { SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC); });
    while (more) {
        options.max_jobs = max_jobs ? static_cast<int>(*max_jobs - processed) : 0;
        queue::mark_session_clean(); /* it ended the batch before; the session is the user's */
        queue::BatchResult batch;
        queue::run_batch(options, batch);
        processed += batch.jobs;
        more = batch.jobs > 0 && (!max_jobs || processed < *max_jobs);
        if (!atomic) {
            pg::call([] { SPI_commit(); });
            transaction.begin();
        }
        pg::call([] { CHECK_FOR_INTERRUPTS(); });
    }
    pg::call([] { SPI_finish(); });
    if (!max_jobs || processed < *max_jobs)
        queue::QueueGate::tell_if_exhausted("process_available_jobs()");

    const Datum value = Int64GetDatum(processed);
    const bool is_null = false;
    return pg::make_row(fcinfo, &value, &is_null);
}

BACKFILL_FUNCTION(backfill_workers)
{
    const std::vector<bgworker::WorkerCopy> workers = bgworker::copy_workers();
    pg::ResultSet result(fcinfo);
    for (const bgworker::WorkerCopy &worker : workers) {
        const bool executor = worker.kind == bgworker::WorkerKind::kExecutor;
        const bool running = worker.job_id != 0;
        const Datum values[] = {
            Int32GetDatum(worker.pid),
            pg::from_text(kind_name(worker.kind)),
            ObjectIdGetDatum(worker.role),
            pg::from_text(state_name(worker)),
            TransactionIdGetDatum(worker.xid),
            Int64GetDatum(worker.job_id),
            pg::from_text(worker.task),
            Int32GetDatum(worker.attempt),
            TimestampTzGetDatum(worker.started_at),
            TimestampTzGetDatum(worker.state_since),
            Int64GetDatum(static_cast<int64>(worker.jobs_done)),
            Int64GetDatum(static_cast<int64>(worker.jobs_failed)),
            Float8GetDatum(worker.progress),
            pg::from_text(worker.progress_message),
        };
        const bool nulls[std::size(values)] = {
            worker.pid == 0,
            false,
            !executor,
            false,
            !TransactionIdIsValid(worker.xid),
            !running,
            !running,
            !running,
            false,
            false,
            !executor,
            !executor,
            !running || worker.progress < 0,
            !running || worker.progress_message[0] == '\0',
        };
        result.add(values, nulls);
    }
    return static_cast<Datum>(0);
}

/* Whether the transaction that deletes a row that a query sees was doing so when the query's
 * snapshot was taken. Its end since then does not count, unless it was an abort: then the row is
 * free again. Nor does one that only locks the row: xmax alone does not tell, so we look at the
 * row. */
BACKFILL_FUNCTION(backfill_claimed)
{
    const pg::Arguments arguments(fcinfo);
    const auto tid = *reinterpret_cast<ItemPointer>(DatumGetPointer(arguments.datum(0)));
    if (!TransactionIdIsValid(DatumGetTransactionId(arguments.datum(1))))
        return BoolGetDatum(false); /* the rule: a job that waits */
    const TransactionId deleter = queue::RowClaim::of_job(tid).changing;
    return BoolGetDatum(TransactionIdIsNormal(deleter) && pg::call([&] {
                            return XidInMVCCSnapshot(deleter, GetActiveSnapshot()) &&
                                   !TransactionIdDidAbort(deleter);
                        }));
}

BACKFILL_FUNCTION(backfill_queue_limit)
{
    const int concurrency = queue::queue_limit(*pg::Arguments(fcinfo).text(0)).concurrency;
    fcinfo->isnull = concurrency == 0;
    return Int32GetDatum(concurrency);
}

BACKFILL_FUNCTION(backfill_installed)
{
    if (bgworker::available())
        queue::wake::announce_installed();
    else
        pg::call([] {
            /* Not a NOTICE: CREATE EXTENSION shows nothing less than a warning. */
            ereport(WARNING,
                    (errmsg("backfill is not in shared_preload_libraries"),
                     errdetail("Jobs can be enqueued, but the server does not run them."),
                     errhint("Add backfill to shared_preload_libraries and restart the server, or "
                             "run jobs with CALL backfill.process_available_jobs().")));
        });
    return static_cast<Datum>(0);
}

BACKFILL_FUNCTION(backfill_version)
{
    return pg::from_text(BACKFILL_VERSION);
}
