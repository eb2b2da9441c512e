/* pending.cpp - see pending.hpp.
 *
 * The collected counts form a stack: those of inner levels lie above those of outer ones.
 * Each label set knows its topmost entry, and each entry the one below of the same label
 * set, so that finding, merging and dropping need no search. The callbacks allocate
 * nothing and cannot fail. */
#include "backfill/stats/pending.hpp"

namespace backfill::stats
{

namespace
{

constexpr int kNone = -1;
/* Label sets for which there was no room are remembered up to this number. */
constexpr std::size_t kMaxRemembered = 10000;

/* How long a label set that was counted as "other" does not look for a place again. */
constexpr int64 kLookAgainUs = 10000000;

/* What this process knows of a label set that has a place. */
struct Handle {
    JobCountersRef ref;
    int top = kNone; /* its topmost entry on the stack */
};

struct Entry {
    Handle *handle;
    int below; /* the next lower entry of the same handle */
    int level; /* nesting level of the transaction */
    uint64 counts[kJobCounterCount];
};

struct Memory {
    /* By serial number. Several label sets may share "other", and then the handle. */
    std::unordered_map<uint64, Handle> handles; /* its nodes stay where they are */
    std::unordered_map<std::string, Handle *> by_labels;
    std::string key; /* kept, so that a look-up allocates nothing */
    std::string last_key;
    Handle *last = nullptr;
    uint64 version = 0;        /* places_version() when they were found */
    TimestampTz missed_at = 0; /* when a label set was first counted as "other" */
    std::vector<Entry> stack;
};

Memory &memory()
{
    static Memory instance;
    return instance;
}

/* Entries on the stack need their handles, also that of a label set that has lost its place. */
void forget_places()
{
    Memory &known = memory();
    known.last = nullptr;
    known.by_labels.clear();
    known.missed_at = 0;
    if (known.stack.empty())
        known.handles.clear();
}

/* Whether places may be had that could not, or were lost that could be had, before. */
bool may_have_changed()
{
    const Memory &known = memory();
    return known.version != places_version() ||
           (known.missed_at != 0 &&
            GetCurrentTransactionStartTimestamp() - known.missed_at >= kLookAgainUs);
}

Handle *find_handle(const LabelSet &labels)
{
    Memory &known = memory();
    if (may_have_changed()) {
        known.version = places_version();
        forget_places();
    }
    known.key.assign(labels.task);
    known.key += '\0';
    known.key += labels.queue;
    known.key += '\0';
    known.key += labels.band;
    if (known.last != nullptr && known.key == known.last_key)
        return known.last;

    Handle *handle = nullptr;
    const auto found = known.by_labels.find(known.key);
    if (found != known.by_labels.end()) {
        handle = found->second;
    } else {
        const JobCountersRef ref = find_job_counters(labels);
        if (ref.counters == nullptr)
            return nullptr;
        if (ref.is_other && known.missed_at == 0)
            known.missed_at = GetCurrentTransactionStartTimestamp();
        handle = &known.handles.try_emplace(ref.serial, Handle{ref}).first->second;
        if (known.by_labels.size() < kMaxRemembered)
            known.by_labels.emplace(known.key, handle);
    }
    known.last_key = known.key;
    known.last = handle;
    return handle;
}

bool is_top_at(const Handle &handle, int level)
{
    return handle.top != kNone && memory().stack[handle.top].level == level;
}

void pop() noexcept
{
    const Entry &entry = memory().stack.back();
    entry.handle->top = entry.below;
    memory().stack.pop_back();
}

void forget_all() noexcept
{
    while (!memory().stack.empty())
        pop();
}

void add_all_to_shared() noexcept
{
    for (const Entry &entry : memory().stack)
        add_job_counts(entry.handle->ref, entry.counts);
}

/* Hands the entries of a level that ends to the level above. */
void merge_level(int level) noexcept
{
    std::vector<Entry> &stack = memory().stack;
    std::size_t first = stack.size();
    while (first > 0 && stack[first - 1].level >= level)
        first--;
    /* Those whose label set has an entry above merge with it, the others move up; they keep
     * their order, so what they know of each other stays true. */
    std::size_t kept = first;
    for (std::size_t i = first; i < stack.size(); i++) {
        Entry &entry = stack[i];
        const int below = entry.below;
        if (below != kNone && stack[below].level == level - 1) {
            for (int counter = 0; counter < kJobCounterCount; counter++)
                stack[below].counts[counter] += entry.counts[counter];
            entry.handle->top = below;
            continue;
        }
        entry.level = level - 1;
        entry.handle->top = static_cast<int>(kept);
        if (kept != i)
            stack[kept] = entry;
        kept++;
    }
    stack.resize(kept);
}

void drop_level(int level) noexcept
{
    while (!memory().stack.empty() && memory().stack.back().level >= level)
        pop();
}

/* At the commit the rows are visible, and nothing can fail any more. */
void on_transaction_end(XactEvent event, void *) noexcept
{
    switch (event) {
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
        add_all_to_shared();
        forget_all();
        break;
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PARALLEL_ABORT:
    case XACT_EVENT_PREPARE:
        forget_all();
        break;
    default:
        break;
    }
}

void on_subtransaction_end(SubXactEvent event, SubTransactionId, SubTransactionId, void *) noexcept
{
    if (memory().stack.empty())
        return;
    if (event == SUBXACT_EVENT_COMMIT_SUB)
        merge_level(GetCurrentTransactionNestLevel());
    else if (event == SUBXACT_EVENT_ABORT_SUB)
        drop_level(GetCurrentTransactionNestLevel());
}

} // namespace

void init_pending()
{
    RegisterXactCallback(on_transaction_end, nullptr);
    RegisterSubXactCallback(on_subtransaction_end, nullptr);
}

uint64 *pending_counts(const LabelSet &labels)
{
    Handle *handle = find_handle(labels);
    if (handle == nullptr)
        return nullptr;
    const int level = GetCurrentTransactionNestLevel();
    std::vector<Entry> &stack = memory().stack;
    if (!is_top_at(*handle, level)) {
        stack.push_back(Entry{handle, handle->top, level, {}});
        handle->top = static_cast<int>(stack.size()) - 1;
    }
    return stack[handle->top].counts;
}

} // namespace backfill::stats
