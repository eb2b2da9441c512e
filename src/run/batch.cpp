/* batch.cpp - see batch.hpp. */
#include "backfill/run/batch.hpp"

#include "backfill/call/deferred_events.hpp"
#include "backfill/call/hooks.hpp"
#include "backfill/call/run_limit.hpp"
#include "backfill/clock.hpp"
#include "backfill/core/look_pace.hpp"
#include "backfill/dequeue/next_job.hpp"
#include "backfill/guc.hpp"
#include "backfill/run/job_claimer.hpp"
#include "backfill/run/own_tasks.hpp"
#include "backfill/run/task_record.hpp"
#include "backfill/settle/crash_charge.hpp"
#include "backfill/settle/settle.hpp"
#include "backfill/shmem/set_aside.hpp"
#include "backfill/shmem/unsettled_job.hpp"

namespace backfill::queue
{

namespace
{

/* How long others pass over what an executor has read ahead, which it runs in far less. */
constexpr int64 kReadAheadUs = 10000;
/* A batch of this many says that jobs are fast. */
constexpr int kManyJobs = 64;
/* PostgreSQL caches 64 subtransaction ids per backend; more slow down the snapshots of
 * all sessions. Only subtransactions that wrote have one. */
constexpr int kMaxWritingSubtransactions = 60;
/* This long, if the batch may last as long, a job may wait for locks while others are done. */
constexpr int64 kLongestLockWaitUs = 100000;
namespace set_aside = bgworker::set_aside;

/* Ends a batch whose transaction must be aborted; result.undone says why. */
struct Undone {
};

/* What one batch of this process tells the next: its last look took long, so that the next one had
 * better find much, and how many jobs it has run. */
bool looking_takes_long = false;
int jobs_of_last_batch = 0;

/* A procedure needs a session without a transaction around it, and others have to see its claim. */
std::vector<std::string_view> tasks_of(const Config &config, const BatchOptions &options)
{
    return own_tasks(config, options.tasks, options.observer != nullptr && options.procedures);
}

class Batch final : public JobClaimer
{
  public:
    Batch(const BatchOptions &options, BatchResult &result) : Batch(options, result, config()) {}

    ~Batch() { stop_watching(); }

    void run()
    {
        const MemoryContext caller = MemoryContextSwitchTo(job_memory_);
        while (auto job = next()) {
            run_taken(*job);
            if (is_slow_ || session_is_dirty() ||
                (options_.commits && deferred::triggers_of_users_pending())) {
                result_.more = true;
                break;
            }
        }
        result_.current_id = 0;
        jobs_of_last_batch = result_.jobs;
        if (shares_read_ahead_)
            (void) share_read_ahead(false);
        MemoryContextSwitchTo(caller);
        pg::call([&] { MemoryContextDelete(job_memory_); });
        close();
    }

  private:
    Batch(const BatchOptions &options, BatchResult &result,
          const std::shared_ptr<const Config> &config)
        : JobClaimer(PermitUser::kRunner, config, tasks_of(*config, options),
                     options.session == SessionKind::kExecutor ? Reader::kExecutor
                                                               : Reader::kSession),
          options_(options), result_(result), started_(GetCurrentTimestamp())
    {
        exclude_paused_queues();
        if (options.urgent_only)
            next_.only_urgent();
        job_memory_ = pg::call([] {
            return AllocSetContextCreate(CurrentMemoryContext, "backfill job",
                                         ALLOCSET_DEFAULT_SIZES);
        });
    }

    bool may_continue() override
    {
        if (!has_room())
            return false;
        pg::call([&] { MemoryContextReset(job_memory_); });
        result_.current_id = 0;
        follow_config();
        if (options_.observer != nullptr && next_.misses_better() &&
            pace_.may_give_up(GetCurrentTimestamp())) {
            next_.give_up();
            pace_.note_given_up();
        }
        return true;
    }

    bool has_room()
    {
        if (gate_.is_exhausted())
            result_.more = true;
        if (result_.jobs == 0)
            return !result_.more;
        if ((options_.max_jobs > 0 && result_.jobs >= options_.max_jobs) ||
            writers_ >= kMaxWritingSubtransactions ||
            GetCurrentTimestamp() - started_ >= Max(options_.time_limit_us, looked_us_))
            result_.more = true;
        return !result_.more;
    }

    /* A job may have registered tasks, or an operator has paused a queue. */
    void follow_config()
    {
        pg::call([] { AcceptInvalidationMessages(); });
        std::shared_ptr<const Config> latest = config();
        if (latest == config_)
            return;
        next_.set_tasks(tasks_of(*latest, options_));
        config_ = std::move(latest);
        exclude_paused_queues();
    }

    void read() override
    {
        TimestampTz start = GetCurrentTimestamp();
        const int candidates = pace_.candidates(room(start));
        snapshot_.renew();
        next_.read(snapshot_, candidates);
        /* Executors that look at the same moment read the same: the later to say so looks again. */
        if (result_.jobs > 0 || jobs_before_ >= kManyJobs) {
            const uint64 number = share_read_ahead(true);
            if (!pace_.looks_for_better() && next_.is_overtaken(number)) {
                start = GetCurrentTimestamp();
                next_.read(snapshot_, candidates);
                (void) share_read_ahead(true);
            }
        }
        /* There is no dispatcher that would sweep for a session. */
        if (next_.empty() && options_.session == SessionKind::kUser)
            next_.sweep(snapshot_, candidates);
        const TimestampTz end = GetCurrentTimestamp();
        pace_.note_look(start, end);
        looking_takes_long = pace_.looking_takes_long();
        if (result_.jobs == 0) {
            started_ = end; /* looking is no reason to stop after one job */
            looked_us_ = end - start;
        }
    }

    int64 room(TimestampTz now) const
    {
        const int64 in_time = core::LookPace::room(result_.jobs, now - started_,
                                                   Max(options_.time_limit_us, looked_us_));
        return options_.max_jobs > 0 ? Min(in_time, options_.max_jobs - result_.jobs) : in_time;
    }

    void look_at(int64 id) override
    {
        result_.current_id = id;
        result_.current_task.clear();
    }

    Choice choose(const JobRow &row) override
    {
        if (is_set_aside(row))
            return Choice::kPassOver;
        if (options_.commits && put_back_.count(row.id()) > 0) {
            result_.more = true;
            return Choice::kStop;
        }
        task_ = config_->find_task(row.task_identifier());
        if (task_ == nullptr)
            return Choice::kPassOver;
        result_.current_task = task_->identifier;
        /* What has failed before must not fail others with it. */
        failed_before_ =
            !set_aside::is_empty() && set_aside::find(set_aside::Kind::kJob, row.id()).has_value();
        is_slow_ = task_->handler.is_procedure || failed_before_ ||
                   TaskRecord::of(task_->identifier).may_be_slow();
        if (is_slow_ && result_.jobs == 0 && shares_read_ahead_)
            (void) share_read_ahead(false); /* the others take what is behind it */
        if (!is_slow_ || result_.jobs == 0)
            return Choice::kTake;
        result_.more = true;
        return Choice::kStop;
    }

    /* Lets the other executors begin behind what we are about to run, or leave us our share of it.
     * At the end of the batch, behind what we have run: until the commit they could only walk over
     * it. */
    uint64 share_read_ahead(bool with_rest)
    {
        if (options_.observer == nullptr)
            return 0;
        shares_read_ahead_ = with_rest;
        return options_.observer->has_read_ahead(next_.read_ahead(with_rest),
                                                 GetCurrentTimestamp() + kReadAheadUs);
    }

    /* Its last run has ended its process, and the dispatcher charges it first; or it has failed,
     * and another executor does that. */
    bool is_held_back(const JobRow &row) override
    {
        const bool awaits_charge = options_.session == SessionKind::kExecutor &&
                                   bgworker::ledger::awaits_charge(lost_run::run_of(row));
        if (!awaits_charge && !bgworker::is_unsettled(row.id()))
            return false;
        next_.exclude_job(row.id());
        return true;
    }

    /* It could not be settled a short while ago. */
    bool is_set_aside(const JobRow &row)
    {
        if (!set_aside::is_set_aside(set_aside::Kind::kJob, row.id()))
            return false;
        next_.exclude_job(row.id());
        return true;
    }

    void run_taken(TakenJob &job)
    {
        const Task &task = *task_;
        result_.was_set_aside = failed_before_;
        if (failed_before_ && ending::is_spent(*config_, job.row))
            settle_spent(job);
        else if (task.handler.is_procedure)
            hand_over(job, task);
        else
            run_claimed(job, task);
    }

    /* Keeps the row of a procedure's job, as claimed; the caller runs it. */
    void hand_over(TakenJob &job, const Task &task)
    {
        const JobRow &row = job.row;
        start(row, task);
        result_.last_job_id = row.id();
        result_.procedure = claim_for_procedure(table_, job, gate_.lease(row), config_, task);
        options_.observer->job_claimed(result_.procedure->token());
        hooks::notify(*config_, core::HookEvent::kJobStart, &row);
    }

    /* It has had all its runs, only their end could not be recorded. */
    void settle_spent(TakenJob &job)
    {
        result_.jobs++;
        result_.first_task = task_->identifier;
        result_.last_job_id = job.row.id();
        (void) settle(table_, *config_, job, ending::spent(*config_, job.row));
    }

    void start(const JobRow &row, const Task &task)
    {
        if (result_.jobs++ == 0)
            result_.first_task = task.identifier;
        if (options_.observer != nullptr)
            options_.observer->job_starts(row, task);
    }

    void run_claimed(TakenJob &job, const Task &task)
    {
        const JobRow &row = job.row;
        const Undo undo = undo_of(task);
        start(row, task);
        const uint64 xids_before = writing_subtransactions();
        JobRun run = call(row, task, undo);
        if (undo == Undo::kTransaction && !run.result.error && is_undo_wanted()) {
            run.result.error = core::ErrorInfo{};
            run.result.given_back = true; /* and not charged */
        }
        if (run.result.error && undo == Undo::kTransaction)
            undo_all(job, run);
        if (run.result.given_back) {
            give_back(job);
            return;
        }
        if (run.result.error && !run.result.cancelled)
            result_.run_error = run.result.error;
        const Settled settled =
            settle(table_, *config_, job,
                   ending::after_run(*config_, row, run.result, run.started, run.ended));
        result_.run_error.reset();
        has_told_ = has_told_ || settled.fate != core::Fate::kCompleted;
        if (core::info(settled.fate).row == core::RowAfter::kBack)
            put_back_.insert(row.id());
        result_.last_job_id = row.id();
        writers_ += static_cast<int>(writing_subtransactions() - xids_before);
        if (run.result.cancelled)
            result_.more = true; /* the session that cancelled it must not wait for our next jobs */
        if (options_.observer != nullptr)
            options_.observer->job_ended(run.result.error.has_value());
        if (result_.jobs == 1 && options_.commits && options_.max_jobs != 1)
            watch_lock_waits(Max(Min(options_.time_limit_us, kLongestLockWaitUs), 1000));
    }

    JobRun call(const JobRow &row, const Task &task, Undo undo)
    {
        JobRun run;
        run.started = GetCurrentTimestamp();
        const lost_run::InLedger in_ledger(row, run.started);
        hooks::notify(*config_, core::HookEvent::kJobStart, &row);
        run.result = run_job(*config_, row, task, options_.session, undo);
        run.ended = GetCurrentTimestamp();
        in_ledger.check_end();
        TaskRecord::of(task.identifier)
            .note_run(run.ended - run.started, run.result.error.has_value());
        return run;
    }

    /* A hook may do what cannot be undone, and must not do it twice; and of a job that has failed
     * the log has been told. */
    Undo undo_of(const Task &task) const
    {
        if (!options_.may_undo || has_told_ || guc::savepoint_per_job == guc::kSavepointsOn ||
            task.savepoint_per_job || failed_before_ || config_->has_run_hooks())
            return Undo::kJob;
        const bool is_trusted = guc::savepoint_per_job == guc::kSavepointsOff ||
                                result_.jobs < TaskRecord::of(task.identifier).jobs_at_stake();
        return is_trusted ? Undo::kTransaction : Undo::kJob;
    }

    /* By chance; never unless a test wants it. */
    static bool is_undo_wanted()
    {
        return guc::undo_faults > 0 && pg_prng_double(&pg_global_prng_state) < guc::undo_faults;
    }

    [[noreturn]] void undo_all(const TakenJob &job, const JobRun &run)
    {
        gate_.give_back_all();
        result_.undone = UndoneRun{job.row.id(), job.tid, job.xmin, run};
        throw Undone();
    }

    /* Its effects are gone. The batch ends, so that those which are done are committed; the job is
     * the first of the next one and may wait there. */
    void give_back(TakenJob &job)
    {
        (void) settle(table_, *config_, job, ending::released());
        gate_.give_back(job.row);
        result_.jobs--;
        result_.more = true;
    }

    /* Committed subtransactions of this transaction that have an xid. */
    static uint64 writing_subtransactions()
    {
        return pg::call([] {
            TransactionId *children;
            return static_cast<uint64>(xactGetCommittedChildren(&children));
        });
    }

    const BatchOptions &options_;
    BatchResult &result_;
    /* Of the job that choose() has seen last. */
    const Task *task_ = nullptr;
    bool failed_before_ = false;
    bool is_slow_ = false;
    /* Jobs that have run and wait again. An executor commits before it runs one of them again: if a
     * run cannot be recorded, it is charged after an abort, which would take back what is noted of
     * the run before. */
    std::unordered_set<int64> put_back_;
    MemoryContext job_memory_ = nullptr;
    TimestampTz started_;
    /* What took looked_us_ to find is run for as long, lest looking takes all the time. */
    int64 looked_us_ = 0;
    const int jobs_before_ = std::exchange(jobs_of_last_batch, 0); /* none if it did not end well */
    core::LookPace pace_{looking_takes_long, jobs_before_};
    int writers_ = 0;
    bool shares_read_ahead_ = false;
    bool has_told_ = false; /* other processes and the log of what a job has come to */
};

/* Takes the job with this id if it is waiting, and is_meant(found). */
template <class IsMeant = bool (*)(const FoundJob &)>
std::optional<TakenJob> claim_by_id(
    JobTable &table, int64 job_id, const IsMeant &is_meant = [](const FoundJob &) { return true; })
{
    for (const FoundJob &found : table.find_by_id(job_id)) {
        if (!found.row.is_null(Column::kLeaseExpiresAt) || !is_meant(found))
            continue;
        if (Take taken = take(table, found); taken.job)
            return std::move(taken.job);
    }
    return std::nullopt;
}

} // namespace

void run_batch(const BatchOptions &options, BatchResult &result)
{
    try {
        Batch(options, result).run();
    } catch (const Undone &) {
        Assert(result.undone);
    }
}

void charge_unsettled_job(int64 job_id, const core::ErrorInfo &error)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    if (auto job = claim_by_id(table, job_id))
        charge_unsettled(table, *current, *job, error);
    table.close();
}

void settle_undone(const UndoneRun &undone)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    const auto is_same = [&](const FoundJob &found) {
        ItemPointerData then = undone.tid;
        ItemPointerData now = found.tid;
        return found.xmin == undone.xmin &&
               pg::call([&] { return ItemPointerEquals(&then, &now); });
    };
    const JobRun &run = undone.run;
    if (auto job = claim_by_id(table, undone.job_id, is_same))
        (void) settle(table, *current, *job,
                      ending::after_run(*current, job->row, run.result, run.started, run.ended));
    table.close();
}

void fail_unrun_job(int64 job_id, const core::ErrorInfo &error)
{
    const std::shared_ptr<const Config> current = config();
    JobTable table;
    if (auto job = claim_by_id(table, job_id))
        (void) settle(table, *current, *job, ending::lost_run(*current, job->row, error));
    table.close();
}

} // namespace backfill::queue
