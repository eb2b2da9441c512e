/* why_waiting.cpp - see why_waiting.hpp. */
#include "backfill/insight/why_waiting.hpp"

#include "backfill/call/handler.hpp"
#include "backfill/call/run_job.hpp"
#include "backfill/clock.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/config/config.hpp"
#include "backfill/config/job_rights.hpp"
#include "backfill/core/sqlstates.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/dequeue/queue_permits.hpp"
#include "backfill/dequeue/rate_limit.hpp"
#include "backfill/guc.hpp"
#include "backfill/insight/facts.hpp"
#include "backfill/pg/jsonb.hpp"
#include "backfill/pg/subtransaction.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/shared_state.hpp"
#include "backfill/shmem/signals.hpp"
#include "backfill/shmem/worker_slots.hpp"
#include "backfill/table/row_lock.hpp"

namespace backfill::queue
{

namespace
{

using namespace facts;
using bgworker::WorkerCopy;
using bgworker::WorkerState;

struct Answer {
    const char *code;
    std::string text;
};
using MaybeAnswer = std::optional<Answer>;

Answer table_locked(const std::string &lockers)
{
    return {"table_locked", "the table backfill.job is locked by " + lockers};
}

/* --- The checks --------------------------------------------------------------------------------
 */

class Diagnosis
{
  public:
    explicit Diagnosis(int64 id) : id_(id), now_(clock::now()) {}

    Answer answer()
    {
        /* Its handler asks; to us a function's row is gone already. */
        if (const JobRow *own = running_job(); own != nullptr && own->id() == id_)
            return {"running", "this session runs it, attempt " +
                                   std::to_string(own->attempts() + 1) + " of " +
                                   std::to_string(own->max_attempts())};
        const std::string lockers = table_lockers(true);
        if (!lockers.empty())
            return table_locked(lockers);
        const SeenJob seen = read_job(id_);
        if (!seen.found)
            return absent();
        row_ = seen.row;
        tid_ = seen.tid;
        pg::call([] { AcceptInvalidationMessages(); });
        config_ = config();
        task_name_ = std::string(row_.task_identifier());
        task_ = config_->find_task(task_name_);
        queue_ = std::string(row_.text_or_empty(Column::kQueueName));
        if (TransactionIdIsCurrentTransactionId(seen.xmin))
            return {"not_committed", "this transaction has enqueued or changed it: it can run when "
                                     "that is committed"};
        using Check = MaybeAnswer (Diagnosis::*)() const;
        constexpr Check kChecks[] = {
            &Diagnosis::standby,   &Diagnosis::locked_table, &Diagnosis::claimed,
            &Diagnosis::uncharged, &Diagnosis::set_aside,    &Diagnosis::leased,
            &Diagnosis::later,     &Diagnosis::task,         &Diagnosis::paused,
            &Diagnosis::full,      &Diagnosis::rate,         &Diagnosis::consumers,
            &Diagnosis::server,    &Diagnosis::unannounced,  &Diagnosis::executors,
            &Diagnosis::doomed,
        };
        for (const Check check : kChecks)
            if (const MaybeAnswer found = (this->*check)())
                return *found;
        return {"ready", "an executor takes it now, or at the latest after the dispatcher's next "
                         "sweep"};
    }

  private:
    /* --- There is no such row --- */

    Answer absent() const
    {
        const auto inserting = JobTable::find_inserting(id_);
        if (inserting && TransactionIdIsValid(*inserting))
            return {"not_committed", "it is enqueued, or changed, by " + owner_of(*inserting) +
                                         ", and can run when that is committed"};
        const std::string letter = ask_text(
            "SELECT pg_catalog.format('it is in the dead letter queue (id %s) since %s: %s',"
            "         d.id, d.failed_at,"
            "         CASE WHEN $2 THEN d.failure_reason"
            "              ELSE coalesce('error ' || (d.last_error ->> 'sqlstate'), 'no error') "
            "END)"
            "  FROM backfill.dead_letter d WHERE d.original_job_id = $1",
            {pg::int8_param(id_), pg::bool_param(job_rights::may_see_all())});
        if (!letter.empty())
            return {"dead", in_one_line(letter)};
        const std::string end =
            ask_text("SELECT pg_catalog.format('it ended at %s: %s', h.finished_at, h.outcome)"
                     "  FROM backfill.job_history h"
                     " WHERE h.job_id = $1 AND h.outcome <> 'retried'"
                     " ORDER BY h.finished_at DESC LIMIT 1",
                     {pg::int8_param(id_)});
        if (!end.empty())
            return {"ended", end};
        const int64 last_id = ask_count("SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END"
                                        "  FROM backfill.job_id_seq s",
                                        {});
        if (id_ < 1 || id_ > last_id)
            return {"unknown",
                    "no job has had this id; the last one given is " + std::to_string(last_id)};
        return {"ended", "it was completed, cancelled or removed, or its enqueueing was rolled "
                         "back; the history does not know"};
    }

    /* --- A process has it --- */

    MaybeAnswer standby() const
    {
        if (!RecoveryInProgress())
            return std::nullopt;
        return Answer{"standby", "this server is in recovery; jobs run on the primary"};
    }

    MaybeAnswer locked_table() const
    {
        const std::string lockers = table_lockers(false);
        return lockers.empty() ? MaybeAnswer() : table_locked(lockers);
    }

    MaybeAnswer claimed() const
    {
        const RowClaim claim = RowClaim::of_job(tid_);
        if (TransactionIdIsValid(claim.changing) && in_progress(claim.changing))
            return running(claim.changing);
        if (TransactionIdIsValid(claim.locking))
            return Answer{"row_locked", "its row is locked by " + owner_of(claim.locking)};
        return std::nullopt;
    }

    Answer running(TransactionId xid) const
    {
        const TransactionId top = pg::call([&] { return SubTransGetTopmostTransaction(xid); });
        for (const WorkerCopy &worker : bgworker::copy_workers()) {
            if (!TransactionIdEquals(worker.xid, top))
                continue;
            if (worker.job_id != id_)
                return {"running", "executor " + std::to_string(worker.pid) +
                                       " has run it and is about to commit"};
            return running_in(worker);
        }
        return {"claimed", "its row is being run, changed or deleted by " + owner_of(xid)};
    }

    Answer running_in(const WorkerCopy &worker) const
    {
        std::string text = "executor " + std::to_string(worker.pid) +
                           " has been running it since " + at_time(worker.state_since) +
                           ", attempt " + std::to_string(worker.attempt) + " of " +
                           std::to_string(row_.max_attempts());
        if (worker.progress >= 0)
            text += ", " + std::to_string(static_cast<int>(worker.progress * 100)) + " % done";
        if (worker.progress_message[0] != '\0')
            text += ": " + in_one_line(worker.progress_message);
        return {"running", text};
    }

    /* The job of a procedure. */
    Answer in_executor() const
    {
        const int64 token = DatumGetInt64(row_.get(Column::kClaimToken));
        for (const WorkerCopy &worker : bgworker::copy_workers())
            if (worker.claim_token == token)
                return running_in(worker);
        return {"run_lost", pg::to_string(row_.get(Column::kWorker)) +
                                ", which ran it, has ended: the dispatcher makes it ready again"};
    }

    MaybeAnswer uncharged() const
    {
        if (!bgworker::ledger::awaits_charge(lost_run::run_of(row_)))
            return std::nullopt;
        return Answer{"uncharged", "its last run has ended the process that ran it: the dispatcher "
                                   "counts that as a failed attempt, and then it goes on"};
    }

    MaybeAnswer set_aside() const
    {
        using bgworker::set_aside::Kind;
        auto entry = bgworker::set_aside::find(Kind::kJob, id_);
        if (!entry)
            entry = bgworker::set_aside::find(Kind::kClaim, id_);
        if (!entry)
            return std::nullopt;
        const bool terminated = entry->sqlstate == std::string_view(core::sqlstate::kAdminShutdown);
        if (terminated && !bgworker::set_aside::is_set_aside(Kind::kJob, id_))
            return std::nullopt; /* its pause is over, and something else holds it up */
        const std::string what = terminated ? "its executor has been terminated since "
                                            : "its outcome could not be recorded since ";
        return Answer{"set_aside",
                      what + at_time(entry->since) + ", " +
                          counted(entry->failures, "time", "times") + "; it is tried again at " +
                          at_time(entry->retry_at) + ": error " + entry->sqlstate +
                          (job_rights::may_see_all() ? " " + in_one_line(entry->message) : "")};
    }

    MaybeAnswer leased() const
    {
        if (row_.is_null(Column::kLeaseExpiresAt))
            return std::nullopt;
        if (row_.is_in_executor())
            return in_executor();
        const TimestampTz until = DatumGetTimestampTz(row_.get(Column::kLeaseExpiresAt));
        const std::string consumer = quoted_name(row_.text_or_empty(Column::kWorker));
        if (until > now_)
            return Answer{"leased", "consumer " + consumer + " has it until " + at_time(until)};
        const bool served = bgworker::available() && bgworker::has_dispatcher(MyDatabaseId);
        return Answer{"lease_expired", "the lease of consumer " + consumer + " ran out at " +
                                           at_time(until) + "; " +
                                           (served ? "the dispatcher" : "the next claim_jobs()") +
                                           " makes it ready again"};
    }

    /* --- It is not its time --- */

    MaybeAnswer later() const
    {
        const TimestampTz run_at = DatumGetTimestampTz(row_.get(Column::kRunAt));
        if (run_at <= now_)
            return std::nullopt;
        if (row_.attempts() >= row_.max_attempts())
            return Answer{"no_attempts", "it has no attempts left (" +
                                             std::to_string(row_.attempts()) + " of " +
                                             std::to_string(row_.max_attempts()) +
                                             "): the next clean-up moves it to the dead letter "
                                             "queue"};
        const bool has_failed = row_.attempts() > 0 || row_.free_retries() > 0;
        if (!has_failed || row_.is_null(Column::kLastError))
            return Answer{"scheduled", "it is due at " + at_time(run_at)};
        const Datum error = row_.get(Column::kLastError);
        const std::string state = pg::get_text(error, "sqlstate").value_or(std::string());
        return Answer{"retry_later", "attempt " + std::to_string(row_.attempts() + 1) + " of " +
                                         std::to_string(row_.max_attempts()) + " is due at " +
                                         at_time(run_at) + "; the last error was " +
                                         (state.empty() ? "a consumer's" : state) +
                                         message_of(error)};
    }

    /* It may quote the payload. */
    static std::string message_of(Datum error)
    {
        if (!job_rights::may_see_all())
            return {};
        return " " + in_one_line(pg::get_text(error, "message").value_or(std::string()));
    }

    /* --- No process can run it --- */

    MaybeAnswer task() const
    {
        if (task_ == nullptr)
            return Answer{"unregistered", "task " + quoted_name(task_name_) +
                                              " is not registered: register it, or claim its jobs "
                                              "by naming it to claim_jobs()"};
        if (!task_->has_handler() || OidIsValid(task_->run_as_oid))
            return std::nullopt;
        return Answer{"role_missing", "role " + quoted_name(task_->run_as) + " of task " +
                                          quoted_name(task_name_) +
                                          " does not exist: its jobs become dead letters"};
    }

    /* --- Its queue --- */

    MaybeAnswer paused() const
    {
        if (!queue_limit(queue_).paused)
            return std::nullopt;
        return Answer{"queue_paused", "queue " + quoted_name(queue_) +
                                          " is paused: backfill.resume_queue() lets it go on"};
    }

    MaybeAnswer full() const
    {
        const QueueLimit limit = queue_limit(queue_);
        if (limit.concurrency == 0)
            return std::nullopt;
        if (deleter_of(queue_))
            return Answer{
                "queue_full",
                "queue " + quoted_name(queue_) +
                    " is just being deleted by a transaction that has "
                    "called backfill.delete_queue(); it starts no job until that has ended"};
        const uint64 hash = unlimited_queue_hash(queue_);
        const std::initializer_list<pg::Param> params = {
            pg::text_param(queue_),
            pg::oid_param(MyDatabaseId),
            pg::oid_param(static_cast<Oid>(limit.queue_id)),
            pg::int2_param(kQueuePermitClass),
            pg::oid_param(static_cast<Oid>(hash >> 32)),
            pg::oid_param(static_cast<Oid>(hash)),
            pg::int2_param(kUnlimitedQueueClass)};
        JobTable table;
        const int taken = QueuePermits::count_taken(limit, queue_, table);
        table.close();
        if (taken < limit.concurrency)
            return std::nullopt;
        const std::string holders = ask_text(
            "SELECT pg_catalog.string_agg(h.holder, ', ') FROM ("
            "   SELECT CASE WHEN l.pid IS NULL THEN 'a prepared transaction'"
            "               ELSE coalesce(w.kind, 'session') || ' ' || l.pid END"
            "          || coalesce(' with job ' || w.job_id, '') AS holder"
            "     FROM pg_catalog.pg_locks l LEFT JOIN backfill._workers() w ON w.pid = l.pid"
            "    WHERE l.locktype = 'advisory' AND l.database = $2 AND l.classid = $3"
            "      AND l.objsubid = $4 AND l.granted"
            "       OR l.locktype = 'advisory' AND l.database = $2 AND l.classid = $5"
            "      AND l.objid = $6 AND l.objsubid = $7 AND l.granted"
            "    UNION ALL "
            "   SELECT CASE WHEN j.lease_expires_at = 'infinity' THEN j.worker"
            "               ELSE 'consumer \"' || j.worker || '\"' END || ' with job ' || j.id"
            "     FROM backfill.job j WHERE j.queue_name = $1 AND j.lease_permit IS NOT NULL"
            "    LIMIT 5) h",
            params);
        return Answer{"queue_full", "queue " + quoted_name(queue_) + " runs " +
                                        counted(limit.concurrency, "job", "jobs") + " at a time: " +
                                        in_one_line(holders) + (taken > 5 ? " and others" : "") +
                                        "; " + jobs_before(true)};
    }

    MaybeAnswer rate() const
    {
        const QueueLimit limit = queue_limit(queue_);
        if (limit.rate_limit == 0)
            return std::nullopt;
        const TimestampTz next = next_rate_token(limit, now_);
        if (next == 0)
            return std::nullopt;
        return Answer{"rate_limited", "queue " + quoted_name(queue_) +
                                          " has used up its rate; it starts the next job at " +
                                          at_time(next)};
    }

    /* --- It is for consumers --- */

    MaybeAnswer consumers() const
    {
        if (task_->has_handler())
            return std::nullopt;
        const std::string known =
            ask_text("SELECT pg_catalog.string_agg(c.worker, ', ') FROM ("
                     "   SELECT DISTINCT '\"' || j.worker || '\"' AS worker FROM backfill.job j"
                     "    WHERE j.lease_expires_at > $2 AND j.task_identifier = $1 LIMIT 5) c",
                     {pg::text_param(task_name_), pg::time_param(now_)});
        std::string text = "task " + quoted_name(task_name_) +
                           " has no handler: the job waits for a consumer to claim it; ";
        text += known.empty() ? "no consumer has a job of this task now"
                              : "these have jobs of this task now: " + in_one_line(known);
        if (!bgworker::available() || !bgworker::has_dispatcher(MyDatabaseId))
            text += "; no dispatcher runs, so those that listen on channel " +
                    quoted_name(task_->notify_channel) + " are not told";
        return Answer{"no_consumer", text};
    }

    /* --- The server does not serve this database --- */

    MaybeAnswer server() const
    {
        if (!bgworker::available())
            return Answer{"not_preloaded", "backfill is not in shared_preload_libraries: run jobs "
                                           "with CALL backfill.process_available_jobs()"};
        if (executors_of_role(WorkerState::kBusy) + executors_of_role(WorkerState::kIdle) > 0)
            return std::nullopt; /* they are there, whatever holds for new ones */
        const auto database = bgworker::copy_database();
        const std::string name =
            pg::call([] { return static_cast<const char *>(get_database_name(MyDatabaseId)); });
        if (!pg::call([&] { return guc::is_listed(name.c_str()); }))
            return Answer{"database_not_served",
                          "backfill.databases does not name database " + quoted_name(name)};
        if (ask_count("SELECT pg_catalog.count(*) FROM pg_catalog.pg_database d"
                      " WHERE d.oid = $1 AND (d.datistemplate OR NOT d.datallowconn)",
                      {pg::oid_param(MyDatabaseId)}) > 0)
            return Answer{"database_not_served",
                          "database " + quoted_name(name) +
                              " is a template, or allows no connections: no worker connects to it"};
        if (database && database->blocked_by != 0)
            return Answer{"database_blocked",
                          "process " + std::to_string(database->blocked_by) +
                              " has ended the workers of this database for the time of its "
                              "command (DROP, RENAME, CREATE ... TEMPLATE, DROP EXTENSION)"};
        const std::string installed = ask_text(
            "SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'backfill'", {});
        if (installed != BACKFILL_VERSION)
            return Answer{"version_mismatch",
                          "the extension has version " + quoted_name(installed) + ", the library " +
                              quoted_name(BACKFILL_VERSION) +
                              ": run ALTER EXTENSION backfill UPDATE, or restart the server"};
        if (guc::max_executors == 0)
            return Answer{"no_executors", "backfill.max_executors is 0"};
        if (!bgworker::has_dispatcher(MyDatabaseId))
            return no_dispatcher(database.has_value());
        return role();
    }

    static Answer no_dispatcher(bool has_place)
    {
        if (!bgworker::has_launcher())
            return {"no_dispatcher", "the launcher does not run; the server starts it again within "
                                     "a second"};
        if (!has_place)
            return {"no_dispatcher", "no dispatcher runs in this database; the launcher has not "
                                     "noticed it yet, or looks after as many as it can"};
        const int64 workers = ask_count("SELECT backfill._worker_processes()", {});
        if (workers >= max_worker_processes)
            return no_slot("a dispatcher");
        return {"no_dispatcher",
                "no dispatcher runs in this database; the launcher starts one, see the server's "
                "log if it does not come"};
    }

    static Answer no_slot(const char *process)
    {
        return {"no_worker_slot", std::string("no background worker slot is free for ") + process +
                                      ": raise max_worker_processes (" +
                                      std::to_string(max_worker_processes) + ")"};
    }

    /* Why no executor can log in as the role. */
    MaybeAnswer role() const
    {
        const std::string refused =
            ask_text("SELECT backfill._login_problem($1)", {pg::oid_param(task_->run_as_oid)});
        const std::string start = "no executor can log in as role " + quoted_name(task_->run_as);
        if (!refused.empty())
            return Answer{"role_cannot_log_in", start + ": it " + refused};
        const auto database = bgworker::copy_database();
        if (!database)
            return std::nullopt;
        for (const bgworker::HeldRole &held : database->held)
            if (held.role == task_->run_as_oid && held.until > now_)
                return Answer{"role_cannot_log_in",
                              start + ", see the server's log; the next try is at " +
                                  at_time(held.until)};
        return std::nullopt;
    }

    /* --- The executors --- */

    int executors_of_role(WorkerState state) const
    {
        int count = 0;
        for (const WorkerCopy &worker : bgworker::copy_workers())
            if (is_executor(worker) && worker.role == task_->run_as_oid && !worker.retire &&
                worker.state == state)
                count++;
        return count;
    }

    static bool is_executor(const WorkerCopy &worker)
    {
        return worker.kind == bgworker::WorkerKind::kExecutor;
    }

    /* Below the mark only the dispatcher's sweep looks. */
    MaybeAnswer unannounced() const
    {
        const core::RangeId range = low_water::range_of(task_name_, row_.priority());
        const core::ReadyKey key{DatumGetTimestampTz(row_.get(Column::kRunAt)), id_};
        const core::Backlog backlog = low_water::backlog(range);
        const bool is_hidden = key < low_water::mark(range) ||
                               (backlog.count > 0 && key < backlog.end &&
                                !backlog.has(low_water::hash_of(queue_)));
        if (!bgworker::available() || !is_hidden)
            return std::nullopt;
        return Answer{"unannounced",
                      "the executors were not told of it (it came by COPY, replication or a "
                      "prepared transaction): the dispatcher's next sweep finds it"};
    }

    MaybeAnswer executors() const
    {
        int total = 0;
        int bulk = 0;
        for (const WorkerCopy &worker : bgworker::copy_workers()) {
            total += is_executor(worker) ? 1 : 0;
            bulk += is_executor(worker) && worker.bulk ? 1 : 0;
        }
        const int reserved = guc::reserved_urgent_executors;
        if (reserved > 0 && row_.priority() > kLastUrgentPriority &&
            bulk >= guc::max_executors - reserved)
            return Answer{"reserved", std::to_string(reserved) + " of " +
                                          counted(guc::max_executors, "executor", "executors") +
                                          " are reserved for urgent jobs, and the others are "
                                          "busy: " +
                                          occupants() + "; " + jobs_before(false)};
        if (executors_of_role(WorkerState::kIdle) > 0)
            return std::nullopt;
        if (executors_of_role(WorkerState::kStarting) > 0)
            return Answer{"ready", "an executor for it is starting"};
        if (total < guc::max_executors) {
            const auto database = bgworker::copy_database();
            return database && database->retry_at > now_ ? MaybeAnswer(no_slot("an executor"))
                                                         : std::nullopt;
        }
        return Answer{"no_executor_free",
                      (total == 1 ? std::string("the only executor is busy: ")
                                  : "all " + std::to_string(total) + " executors are busy: ") +
                          occupants() + "; " + jobs_before(false)};
    }

    static std::string occupants()
    {
        return in_one_line(
            ask_text("SELECT pg_catalog.string_agg(o.what, ', ') FROM ("
                     "   SELECT pg_catalog.count(*) || ' with ' || coalesce(w.task_identifier,"
                     "            'nothing yet') || ' as ' || coalesce(r.rolname, '?') AS what"
                     "     FROM backfill._workers() w"
                     "     LEFT JOIN pg_catalog.pg_roles r ON r.oid = w.role_oid"
                     "    WHERE w.kind = 'executor'"
                     "    GROUP BY w.task_identifier, r.rolname"
                     "    ORDER BY pg_catalog.count(*) DESC LIMIT 5) o",
                     {}));
    }

    /* How many ready jobs sort before this one: of its queue, or of its role's tasks. */
    std::string jobs_before(bool in_queue) const
    {
        constexpr int64 kMost = 10000;
        const int64 count =
            ask_count("SELECT pg_catalog.count(*) FROM ("
                      "   SELECT FROM backfill.job j"
                      "    WHERE j.lease_expires_at IS NULL AND j.run_at <= $1"
                      "      AND (j.priority, j.run_at, j.id) < ($2, $3, $4)"
                      "      AND (CASE WHEN $5 THEN j.queue_name = $6 ELSE EXISTS"
                      "             (SELECT FROM backfill.task t"
                      "               WHERE t.task_identifier = j.task_identifier"
                      "                 AND backfill._role_oid(t.run_as) = $7"
                      "                 AND t.handler_name IS NOT NULL) END)"
                      "      AND NOT backfill._claimed(j.ctid, j.xmax)"
                      "    LIMIT $8) b",
                      {pg::time_param(now_), pg::int2_param(row_.priority()),
                       pg::time_param(DatumGetTimestampTz(row_.get(Column::kRunAt))),
                       pg::int8_param(id_), pg::bool_param(in_queue), pg::text_param(queue_),
                       pg::oid_param(task_ == nullptr ? InvalidOid : task_->run_as_oid),
                       pg::int8_param(kMost)});
        return (count == kMost ? "at least " : "") +
               counted(count, "ready job comes", "ready jobs come") + " before it";
    }

    /* Its run can only fail. */
    MaybeAnswer doomed() const
    {
        const auto error =
            pg::in_subtransaction([&] { (void) check_function(*task_, task_->run_as_oid); });
        if (!error)
            return std::nullopt;
        return Answer{"handler_unusable",
                      "an executor takes it now, but it will fail: " + in_one_line(error->message)};
    }

    int64 id_;
    TimestampTz now_;
    JobRow row_{};
    ItemPointerData tid_{};
    std::shared_ptr<const Config> config_;
    const Task *task_ = nullptr;
    std::string task_name_;
    std::string queue_;
};

} // namespace

std::string why_not_running(int64 job_id)
{
    Answer answer{};
    const auto error = pg::in_subtransaction([&] {
        const int nest_level = pg::call([] {
            const int level = NewGUCNestLevel();
            (void) set_config_option("lock_timeout", "1000", PGC_USERSET, PGC_S_SESSION,
                                     GUC_ACTION_SAVE, true, 0, false);
            return level;
        });
        answer = Diagnosis(job_id).answer();
        pg::call([&] { AtEOXact_GUC(false, nest_level); });
    });
    if (error && error->sqlstate == core::sqlstate::kLockNotAvailable)
        answer = {"table_locked", "a table of the extension is locked, by DROP EXTENSION perhaps"};
    else if (error) {
        const char *const state = error->sqlstate.c_str();
        fail(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]), error->message,
             error->detail, error->hint);
    }
    return std::string(answer.code) + ": " + answer.text;
}

} // namespace backfill::queue
