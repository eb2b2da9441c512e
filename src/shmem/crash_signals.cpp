/* crash_signals.cpp - what the signal handlers of an executor, and of its parallel workers, leave
 * in the ledger (run_ledger.hpp).
 *
 * Each notes which process sent the signal, which PostgreSQL's own handlers are not told, and then
 * does what these do. The only file that sets handlers by sigaction(). Everything here is
 * async-signal-safe: it stores plain values and calls sigaction(), raise(), _exit(), and
 * die(), which is a handler. */
#include "backfill/shmem/run_ledger.hpp"

#include <csignal>
#include <unistd.h>

namespace backfill::bgworker::ledger
{

namespace
{

/* A handler that has used up its stack leaves none to run a signal handler on. */
alignas(16) char signal_stack[65536];

volatile sig_atomic_t terminated_by = static_cast<int>(Terminator::kNobody);

/* In a child between fork() and exec() the ledger is not ours to write. */
bool is_our_process()
{
    return getpid() == MyProcPid;
}

void set_default(int signal)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    (void) sigaction(signal, &action, nullptr);
}

/* The first one decides: it ends the process at its next opportunity. */
void on_terminate(int signal, siginfo_t *info, void *)
{
    const int saved_errno = errno;
    if (!is_our_process()) {
        set_default(signal);
        (void) raise(signal);
        return;
    }
    if (terminator() == Terminator::kNobody) {
        terminator_pid = info->si_pid;
        terminated_by = static_cast<int>(info->si_pid == MyProcPid ? Terminator::kItself
                                         : info->si_pid == PostmasterPid
                                             ? Terminator::kPostmaster
                                             : Terminator::kOther);
    }
    die(signal);
    errno = saved_errno;
}

/* The server goes down: the job is innocent, unless a parallel worker of its query was the one
 * that crashed; so is what a dispatcher was trying. */
void on_crash_of_others()
{
    if (mine->signal != 0)
        return;
    end_run();
    mine->deed.kind = set_aside::Kind::kNone;
}

/* Another process has crashed, or the server stops at once, unless the handler itself did this. The
 * rest is SignalHandlerForCrashExit(). */
void on_quit(int, siginfo_t *info, void *)
{
    if (is_our_process() && info->si_pid != MyProcPid)
        on_crash_of_others();
    _exit(2);
}

void note_crash(int signal)
{
    if (mine->signal != 0)
        return;
    mine->crashed_pid = MyProcPid;
    mine->signal = signal;
}

/* Notes the signal and lets it have its way: a fault happens again when we return, and
 * leaves its core at the right place. PostgreSQL 16 may send SIGABRT where others send SIGQUIT
 * (send_abort_for_crash). */
void on_crash(int signal, siginfo_t *info, void *)
{
    const bool sent = info->si_code <= 0;
    if (is_our_process()) {
        if (sent && info->si_pid == PostmasterPid)
            on_crash_of_others();
        else
            note_crash(signal);
    }
    set_default(signal);
    if (sent)
        (void) raise(signal);
}

void set_handler(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    (void) sigemptyset(&action.sa_mask);
    if (sigaction(signal, &action, nullptr) != 0)
        elog(LOG, "could not set a handler for signal %d: %m", signal);
}

} // namespace

volatile sig_atomic_t terminator_pid = 0;

Terminator terminator() noexcept
{
    return static_cast<Terminator>(terminated_by);
}

void install_crash_handlers() noexcept
{
    stack_t stack;
    memset(&stack, 0, sizeof(stack));
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof(signal_stack);
    const int on_stack = sigaltstack(&stack, nullptr) == 0 ? SA_ONSTACK : 0;
    /* Not SIGFPE, which is an ordinary error. */
    for (const int signal : {SIGSEGV, SIGBUS, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
        set_handler(signal, on_crash, SA_NODEFER | on_stack);
}

void install_signal_handlers() noexcept
{
    set_handler(SIGTERM, on_terminate, SA_RESTART);
    set_handler(SIGQUIT, on_quit, SA_RESTART);
    install_crash_handlers();
}

} // namespace backfill::bgworker::ledger
