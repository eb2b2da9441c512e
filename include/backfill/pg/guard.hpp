/* guard.hpp - the wall between PostgreSQL's longjmp and C++'s exceptions.
 *
 *   call(f)        PostgreSQL from C++: an ereport(ERROR) inside f becomes a pg::Error.
 *   boundary(f)    C++ from PostgreSQL: an exception inside f becomes an ereport(ERROR).
 *
 * A longjmp runs no destructors, so a frame that has a non-trivial local must not
 * call anything of PostgreSQL that can raise, except inside call(). An exception that
 * leaves an extern "C" function takes the whole server down, so every function that
 * PostgreSQL calls goes through boundary(). */
#pragma once

#include "backfill/pg/error.hpp"

namespace backfill::pg
{

/* Creates the memory that errors are copied into (it is emptied at the end of every
 * transaction); once per process, from _PG_init. */
void init_error_store();
/* Copies the current error into the error store and clears PostgreSQL's error stack;
 * NULL if there is no memory to do so. For call() only. */
ErrorData *take_current_error(sigjmp_buf *outer_jump, ErrorContextCallback *outer_context,
                              MemoryContext outer_memory) noexcept;

/* call - run f, which may call PostgreSQL; its errors are thrown as pg::Error.
 *
 * f captures by reference, holds no non-trivial locals and throws nothing: an
 * exception through the sigsetjmp frame would leave PG_exception_stack dangling.
 * Costs about 10 ns. */
template <class F> [[gnu::noinline]] auto call(F &&f) -> std::invoke_result_t<F &>
{
    using Result = std::invoke_result_t<F &>;
    static_assert(std::is_void_v<Result> || std::is_trivially_destructible_v<Result>);
    static_assert(std::is_trivially_destructible_v<std::remove_cvref_t<F>>, "capture by reference");

    sigjmp_buf *const outer_jump = PG_exception_stack;
    ErrorContextCallback *const outer_context = error_context_stack;
    const MemoryContext outer_memory = CurrentMemoryContext;
    sigjmp_buf here;

    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        if constexpr (std::is_void_v<Result>) {
            f();
            PG_exception_stack = outer_jump;
            error_context_stack = outer_context;
            return;
        } else {
            Result result = f();
            PG_exception_stack = outer_jump;
            error_context_stack = outer_context;
            return result;
        }
    }
    ErrorData *error = take_current_error(outer_jump, outer_context, outer_memory);
    if (error == nullptr)
        throw std::bad_alloc();
    throw Error(error);
}

/* What boundary() keeps of an exception until no C++ object is alive any more. */
struct PendingError {
    ErrorData *from_pg = nullptr;
    int sqlstate = ERRCODE_INTERNAL_ERROR;
    char message[1024] = "";
    char detail[1024] = "";
    char hint[1024] = "";

    void set(const Failure &failure) noexcept;
    void set(int code, const char *text) noexcept;
    [[noreturn]] void raise() const;
};

/* boundary - run f for PostgreSQL; its exceptions are raised as errors, after the
 * catch block has ended (an ereport inside would leave the exception current for ever). */
template <class F> auto boundary(F &&f) -> std::invoke_result_t<F &>
{
    PendingError pending;
    try {
        return f();
    } catch (const Error &error) {
        pending.from_pg = error.data();
    } catch (const Failure &failure) {
        pending.set(failure);
    } catch (const std::bad_alloc &) {
        pending.set(ERRCODE_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception &error) {
        pending.set(ERRCODE_INTERNAL_ERROR, error.what());
    } catch (...) {
        pending.set(ERRCODE_INTERNAL_ERROR, "unrecognized C++ exception");
    }
    pending.raise();
}

/* Raises in a read-only transaction; the message names the SQL function: "cancel_job()". */
inline void prevent_if_read_only(const char *function)
{
    call([&] { PreventCommandIfReadOnly(function); });
}

} // namespace backfill::pg

/* Defines an SQL-callable function whose body may throw:
 *     BACKFILL_FUNCTION(backfill_version) { return ...; }   -- fcinfo is in scope */
#define BACKFILL_FUNCTION(name)                                                                    \
    static Datum name##_body(FunctionCallInfo fcinfo);                                             \
    extern "C" {                                                                                   \
    PG_FUNCTION_INFO_V1(name);                                                                     \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS)                                                       \
    {                                                                                              \
        return ::backfill::pg::boundary([fcinfo] { return name##_body(fcinfo); });                 \
    }                                                                                              \
    }                                                                                              \
    static Datum name##_body([[maybe_unused]] FunctionCallInfo fcinfo)
