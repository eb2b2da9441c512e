/* said.cpp - see said.hpp. */
#include "backfill/call/said.hpp"

namespace backfill::queue::said
{

namespace
{

/* Plain data, in memory of its own: callbacks drop it, and must not fail. */
struct Saying {
    Saying *below; /* what was said at a lower nesting level */
    int level;
    core::Fate fate; /* of a verdict */
    int64 delay_us;
    void *value; /* the reason of a verdict; or the result, null if there is to be none */
};

enum Topic { kVerdict, kResult, kTopics };

/* The last word on each topic. Further down levels decrease: 0 is what a procedure has committed.
 */
Saying *last[kTopics] = {};
MemoryContext memory = nullptr;
bool handler_runs = false;

void forget() noexcept
{
    if (last[kVerdict] == nullptr && last[kResult] == nullptr)
        return;
    std::fill(std::begin(last), std::end(last), nullptr);
    MemoryContextReset(memory);
}

/* Takes it out of the list. */
void drop(Saying *&place) noexcept
{
    Saying *const saying = place;
    place = saying->below;
    if (saying->value != nullptr)
        pfree(saying->value);
    pfree(saying);
}

/* What say() copies a value by, inside pg::call(). */
using Copy = void *(*) (const void *value);

void *copy_said_text(const void *text)
{
    return pstrdup(static_cast<const char *>(text));
}

void *copy_said_value(const void *value)
{
    return PG_DETOAST_DATUM_COPY(PointerGetDatum(value));
}

/* `value` may be null. */
void say(Topic topic, const Saying &content, Copy copy, const void *value)
{
    pg::call([&] {
        if (memory == nullptr)
            memory = AllocSetContextCreate(TopMemoryContext, "backfill said", ALLOCSET_SMALL_SIZES);
        const MemoryContext caller = MemoryContextSwitchTo(memory);
        Saying *const saying = static_cast<Saying *>(palloc(sizeof(Saying)));
        *saying = content;
        saying->value = value == nullptr ? nullptr : copy(value);
        saying->below = last[topic];
        saying->level = GetCurrentTransactionNestLevel();
        last[topic] = saying;
        if (saying->below != nullptr && saying->below->level >= saying->level)
            drop(saying->below);
        MemoryContextSwitchTo(caller);
    });
}

/* What was said at a level that ends counts at the one below, or not at all. */
void end_level(int level, bool committed) noexcept
{
    for (Saying *&top : last) {
        while (!committed && top != nullptr && top->level >= level)
            drop(top);
        if (top == nullptr || top->level < level)
            continue;
        top->level = level - 1;
        if (top->below != nullptr && top->below->level >= top->level)
            drop(top->below);
    }
}

void on_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void *) noexcept
{
    if (event == SUBXACT_EVENT_COMMIT_SUB || event == SUBXACT_EVENT_ABORT_SUB)
        end_level(GetCurrentTransactionNestLevel(), event == SUBXACT_EVENT_COMMIT_SUB);
}

void on_transaction_end(XactEvent event, void *) noexcept
{
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
        return;
    if (handler_runs)
        end_level(1, event == XACT_EVENT_COMMIT);
    else
        forget();
}

} // namespace

void begin() noexcept
{
    forget();
    handler_runs = true;
}

void end() noexcept
{
    handler_runs = false;
}

void set_verdict(const Verdict &verdict)
{
    say(kVerdict, {nullptr, 0, verdict.fate, verdict.delay_us, nullptr}, copy_said_text,
        verdict.reason.c_str());
}

Verdict verdict()
{
    const Saying *const saying = last[kVerdict];
    if (saying == nullptr)
        return {};
    return {saying->fate, saying->delay_us, static_cast<const char *>(saying->value)};
}

void set_result(std::optional<Datum> result)
{
    say(kResult, {}, copy_said_value, result ? DatumGetPointer(*result) : nullptr);
}

std::optional<Datum> result()
{
    const Saying *const saying = last[kResult];
    if (saying == nullptr || saying->value == nullptr)
        return std::nullopt;
    return PointerGetDatum(saying->value);
}

void init()
{
    RegisterXactCallback(on_transaction_end, nullptr);
    RegisterSubXactCallback(on_subtransaction_end, nullptr);
}

} // namespace backfill::queue::said
