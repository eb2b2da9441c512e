/* headers.cpp - see headers.hpp. */
#include "backfill/enqueue/headers.hpp"

#include "backfill/call/running_job.hpp"
#include "backfill/guc.hpp"

namespace backfill::queue
{

namespace
{

/* What backfill.headers says, as jsonb: read once for each of its values. */
MemoryContext memory = nullptr;
Datum parsed = 0;
int parsed_assignment = -1;

void describe_setting(void *)
{
    errcontext("setting \"backfill.headers\"");
}

Datum parse(const char *text)
{
    return pg::call([&] {
        ErrorContextCallback context;
        context.previous = error_context_stack;
        context.callback = describe_setting;
        context.arg = nullptr;
        error_context_stack = &context; /* call() puts the old one back */
        if (memory == nullptr)
            memory =
                AllocSetContextCreate(TopMemoryContext, "backfill headers", ALLOCSET_SMALL_SIZES);
        MemoryContextReset(memory);
        /* A file of settings may be in any encoding. */
        (void) pg_verifymbstr(text, static_cast<int>(strlen(text)), false);
        const Datum value = DirectFunctionCall1(jsonb_in, CStringGetDatum(text));
        const MemoryContext caller = MemoryContextSwitchTo(memory);
        const Datum copy = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
        MemoryContextSwitchTo(caller);
        return copy;
    });
}

/* A copy, because a hook may change the setting before the row is in the table. */
Datum headers_of_setting()
{
    if (parsed_assignment != guc::headers_assignments) {
        parsed_assignment = -1; /* unless it succeeds */
        parsed = parse(guc::headers);
        parsed_assignment = guc::headers_assignments;
    }
    return pg::call([] { return PointerGetDatum(PG_DETOAST_DATUM_COPY(parsed)); });
}

bool is_empty(Datum headers)
{
    return pg::call([&] { return JB_ROOT_COUNT(DatumGetJsonbP(headers)) == 0; });
}

} // namespace

Datum headers_of(const JobSpec &spec)
{
    Datum headers = spec.headers;
    if (headers == 0 && !spec.no_headers_of_session) {
        if (guc::headers[0] != '\0')
            headers = headers_of_setting();
        else if (const JobRow *running = running_job();
                 running != nullptr && !running->is_null(Column::kHeaders))
            return running->get(Column::kHeaders);
    }
    return headers == 0 ? 0 : kept_headers(headers);
}

Datum kept_headers(Datum headers)
{
    return is_empty(headers) ? 0 : headers;
}

} // namespace backfill::queue
