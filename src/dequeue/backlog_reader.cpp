/* backlog_reader.cpp - see backlog_reader.hpp. */
#include "backfill/dequeue/backlog_reader.hpp"

#include "backfill/commit/hint_faults.hpp"
#include "backfill/commit/low_water.hpp"
#include "backfill/dequeue/candidates.hpp"

namespace backfill::queue
{

namespace
{

/* A long one is told piece by piece: what is announced while it is read stops only the rest. */
constexpr int kPiece = 4096;

} // namespace

BacklogReader::BacklogReader(core::RangeId range, std::uint64_t announcements)
    : known_(low_water::backlog(range)), announcements_(announcements)
{
    found_.range = range;
}

void BacklogReader::begin(core::ReadyKey from, bool behind_known) noexcept
{
    if (behind_known)
        found_ = known_;
    from_ = from;
    reads_ = true;
}

void BacklogReader::pass(core::QueueHash queue, core::ReadyKey key) noexcept
{
    if (!reads_)
        return;
    if (!found_.add(queue)) {
        stop(key);
        return;
    }
    if (++passed_ >= kPiece) {
        tell(key);
        from_ = key;
        passed_ = 0;
    }
}

void BacklogReader::stop(core::ReadyKey key) noexcept
{
    if (reads_ && passed_ >= kFewEntries)
        tell(key);
    reads_ = false;
}

void BacklogReader::tell(core::ReadyKey end) noexcept
{
    found_.end = end;
    if (next_hint_fault() == HintFault::kWrong)
        found_.end.run_at += USECS_PER_HOUR;
    low_water::extend_backlog(found_, from_, announcements_);
}

void BacklogReader::sweep(core::QueueHash queue, core::ReadyKey key) const noexcept
{
    if (known_.count > 0 && !known_.has(queue) && key < known_.end)
        low_water::announce(found_.range, key, queue);
}

} // namespace backfill::queue
