/* guard.cpp - see guard.hpp. */
#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

namespace
{

/* A child of TopMemoryContext: an error must outlive the rollback of the
 * subtransaction whose memory it was raised in. */
MemoryContext error_store = nullptr;

/* No pg::Error is kept across the end of a transaction, so its memory may go then. */
void forget_errors(XactEvent event, void *) noexcept
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        MemoryContextReset(error_store);
}

/* Like strlcpy, but never cuts a multibyte character in two. */
template <std::size_t N> void copy_text(char (&target)[N], const char *source) noexcept
{
    const std::size_t length = strlen(source);
    const std::size_t kept =
        length < N ? length : static_cast<std::size_t>(pg_mbcliplen(source, length, N - 1));
    memcpy(target, source, kept);
    target[kept] = '\0';
}

std::string text_or_empty(const char *text)
{
    return text == nullptr ? std::string() : std::string(text);
}

} // namespace

void init_error_store()
{
    error_store = AllocSetContextCreate(TopMemoryContext, "backfill errors", ALLOCSET_SMALL_SIZES);
    RegisterXactCallback(forget_errors, nullptr);
}

ErrorData *take_current_error(sigjmp_buf *outer_jump, ErrorContextCallback *outer_context,
                              MemoryContext outer_memory) noexcept
{
    ErrorData *volatile copy = nullptr;
    sigjmp_buf here;

    /* Copying can run out of memory, which is an error in its own right. */
    PG_exception_stack = outer_jump;
    error_context_stack = outer_context;
    if (sigsetjmp(here, 0) == 0) {
        PG_exception_stack = &here;
        MemoryContextSwitchTo(error_store);
        copy = CopyErrorData();
    }
    PG_exception_stack = outer_jump;
    error_context_stack = outer_context;
    MemoryContextSwitchTo(outer_memory);
    FlushErrorState(); /* five errors deep is a PANIC */
    return copy;
}

std::string kept_error_text(std::string_view text)
{
    if (text.size() <= core::kMaxErrorText)
        return std::string(text);
    /* Cut between two characters, of which the longest has four bytes; this does not raise. */
    const int length = static_cast<int>(Min(text.size(), core::kMaxErrorText + 4));
    const int kept = pg_mbcliplen(text.data(), length, static_cast<int>(core::kMaxErrorText));
    return std::string(text.substr(0, static_cast<std::size_t>(kept)));
}

core::ErrorInfo to_error_info(const Error &error)
{
    const ErrorData *data = error.data();
    const auto text = [](const char *field) { return kept_error_text(text_or_empty(field)); };
    return {unpack_sql_state(data->sqlerrcode), text(data->message), text(data->detail),
            text(data->hint), text(data->context)};
}

core::ErrorInfo to_error_info(const Failure &failure)
{
    return {unpack_sql_state(failure.sqlstate), failure.message, failure.detail, failure.hint, {}};
}

void PendingError::set(const Failure &failure) noexcept
{
    set(failure.sqlstate, failure.message.c_str());
    copy_text(detail, failure.detail.c_str());
    copy_text(hint, failure.hint.c_str());
}

void PendingError::set(int code, const char *text) noexcept
{
    sqlstate = code;
    copy_text(message, text);
}

void PendingError::raise() const
{
    if (from_pg != nullptr)
        ReThrowError(from_pg);
    ereport(ERROR, (errcode(sqlstate), errmsg_internal("%s", message),
                    detail[0] != '\0' ? errdetail_internal("%s", detail) : 0,
                    hint[0] != '\0' ? errhint("%s", hint) : 0));
    pg_unreachable();
}

} // namespace backfill::pg
