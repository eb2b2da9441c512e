/* worker.cpp - see worker.hpp. */
#include "backfill/bgworker/worker.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr long kFirstErrorPauseMs = 100;
constexpr long kLongestErrorPauseMs = 10000;

WorkerArguments my_arguments;
int reloads = 0;

/* Runs after the transaction has been aborted and before the process leaves shared memory. */
void on_worker_exit(int, Datum) noexcept
{
    release_worker(my_arguments.slot, my_arguments.generation);
}

/* Enters our process into its slot; false if the slot is no longer ours, or the database
 * must be left alone. */
bool take_slot()
{
    const SharedLock lock;
    WorkerSlot &slot = lock->worker(my_arguments.slot);
    if (slot.kind == WorkerKind::kNone || slot.generation != my_arguments.generation)
        return false;
    slot.pid = MyProcPid;
    slot.latch = MyLatch;
    const DatabaseSlot *database = lock->find_database(my_arguments.database);
    return database != nullptr && database->blocked_by == 0;
}

void mark_ready()
{
    const SharedLock lock;
    WorkerSlot &slot = my_slot(lock);
    slot.logged_in = true;
    /* An executor counts as available until it has its first job. */
    if (slot.kind == WorkerKind::kDispatcher)
        slot.state = WorkerState::kBusy;
}

} // namespace

BackgroundWorker describe_worker(const char *type, const char *name, const char *function)
{
    BackgroundWorker worker;
    memset(&worker, 0, sizeof(worker));
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(worker.bgw_type, type, sizeof(worker.bgw_type));
    strlcpy(worker.bgw_name, name, sizeof(worker.bgw_name));
    strlcpy(worker.bgw_library_name, "backfill", sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, function, sizeof(worker.bgw_function_name));
    return worker;
}

StartResult start_worker(const BackgroundWorker &description, WorkerKind kind, Oid database,
                         Oid role, BackgroundWorkerHandle **handle, Reservation *reservation)
{
    *reservation = reserve_worker(kind, database, role);
    if (reservation->slot < 0)
        return StartResult::kNotAllowed;

    BackgroundWorker worker = description;
    const WorkerArguments arguments{reservation->slot, reservation->generation, database, role};
    static_assert(sizeof(arguments) <= BGW_EXTRALEN);
    memcpy(worker.bgw_extra, &arguments, sizeof(arguments));
    worker.bgw_notify_pid = MyProcPid;
    if (pg::call([&] { return RegisterDynamicBackgroundWorker(&worker, handle); }))
        return StartResult::kStarted;
    (void) forget_worker(reservation->slot, reservation->generation);
    return StartResult::kNoWorkerSlot;
}

void attach_worker(Datum)
{
    memcpy(&my_arguments, MyBgworkerEntry->bgw_extra, sizeof(my_arguments));
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    before_shmem_exit(on_worker_exit, static_cast<Datum>(0));
    if (!take_slot())
        end_worker();
    set_my_slot(my_arguments.slot);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(my_arguments.database, my_arguments.role,
                                              pg::kWorkerConnectFlags);
    mark_ready();
}

bool was_called()
{
    const SharedReadLock lock;
    const WorkerSlot &slot = my_slot(lock);
    return slot.woken || slot.retire;
}

namespace
{

/* In a transaction. With the lock the extension cannot be dropped. */
Extension lock_extension(bool wait)
{
    Oid locked = InvalidOid;
    for (;;) {
        const Oid extension = get_extension_oid("backfill", true);
        if (!OidIsValid(extension))
            return Extension::kAbsent;
        if (extension == locked)
            return Extension::kPresent;
        /* Look again under the lock: DROP EXTENSION may have been first, and CREATE EXTENSION
         * have made another one in the same transaction. */
        LOCKTAG tag;
        SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
        if (LockAcquire(&tag, AccessShareLock, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
            return Extension::kBeingDropped;
        AcceptInvalidationMessages();
        locked = extension;
    }
}

Extension begin_with_extension(bool wait)
{
    return pg::call([&] {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        const Extension found = lock_extension(wait);
        if (found != Extension::kPresent)
            CommitTransactionCommand();
        return found;
    });
}

} // namespace

bool begin_extension_transaction()
{
    return begin_with_extension(true) == Extension::kPresent;
}

Extension try_begin_extension_transaction()
{
    return begin_with_extension(false);
}

int config_reloads()
{
    return reloads;
}

void commit_transaction()
{
    pg::call([] { CommitTransactionCommand(); });
}

void abort_transaction()
{
    pg::call([] { AbortCurrentTransaction(); });
}

void worker_loop(long (*iteration)())
{
    const MemoryContext loop_memory =
        AllocSetContextCreate(TopMemoryContext, "backfill worker loop", ALLOCSET_DEFAULT_SIZES);
    volatile long error_pause = 0;

    for (;;) {
        volatile long wait_ms = 0;
        MemoryContextSwitchTo(loop_memory);
        ResetLatch(MyLatch);
        PG_TRY();
        {
            CHECK_FOR_INTERRUPTS();
            wait_ms = pg::boundary(iteration);
            error_pause = 0;
        }
        PG_CATCH();
        {
            HOLD_INTERRUPTS();
            disable_all_timeouts(false);
            QueryCancelPending = false;
            EmitErrorReport();
            AbortCurrentTransaction();
            LWLockReleaseAll();
            pgstat_report_wait_end();
            MemoryContextSwitchTo(loop_memory);
            FlushErrorState();
            RESUME_INTERRUPTS();
            error_pause = Min(Max(error_pause * 2, kFirstErrorPauseMs), kLongestErrorPauseMs);
            wait_ms = error_pause;
        }
        PG_END_TRY();

        MemoryContextSwitchTo(loop_memory);
        MemoryContextReset(loop_memory);
        /* Without this autovacuum would never learn of what we wrote and deleted. */
        (void) pgstat_report_stat(wait_ms > 0);
        /* A wait for a lock may have used up the latch of a signal that came before. */
        if (wait_ms > 0 && !ConfigReloadPending)
            (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait_ms,
                             PG_WAIT_EXTENSION);
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            reloads++;
        }
    }
}

void end_worker()
{
    proc_exit(0);
}

} // namespace backfill::bgworker
