/* candidates.hpp - which ready jobs come into question, and which of them come first. For the
 * readers of the ready index. */
#pragma once

#include "backfill/core/low_water.hpp"
#include "backfill/core/read_ahead.hpp"
#include "backfill/pg/pg.hpp"

#include <algorithm>

namespace backfill::queue
{

struct Candidate {
    ItemPointerData tid;
    int64 id;
    TimestampTz run_at;
    int64 priority; /* as it counts now: ageing may have lifted it */
    core::QueueHash queue;
    int range; /* its place in NextJobs' list of ranges */
};

/* A mark that spares fewer entries than this is not worth its place, nor a stretch to pass over. */
inline constexpr int kFewEntries = 16;

bool sorts_before(const Candidate &a, const Candidate &b);
/* The priority as it counts: one better for each ageing interval of waiting. */
int64 aged_priority(int priority, TimestampTz run_at, TimestampTz now);

/* The best candidates so far, the worst of them on top of the heap. Never grows beyond
 * the memory it was given, so it may be used inside pg::call(). */
class BestCandidates
{
  public:
    explicit BestCandidates(int limit) : limit_(static_cast<std::size_t>(limit))
    {
        heap_.reserve(limit_);
    }
    /* False if this candidate, and so any that sorts after it, is not among the best. */
    bool add(const Candidate &candidate)
    {
        if (heap_.size() == limit_) {
            if (!sorts_before(candidate, heap_.front()))
                return false;
            std::pop_heap(heap_.begin(), heap_.end(), sorts_before);
            heap_.back() = candidate;
        } else {
            heap_.push_back(candidate);
        }
        std::push_heap(heap_.begin(), heap_.end(), sorts_before);
        return true;
    }
    std::size_t size() const { return heap_.size(); }
    /* Whether a job of this priority may be among them. */
    bool takes_priority(int64 priority) const
    {
        return heap_.size() < limit_ || priority <= heap_.front().priority;
    }
    std::vector<Candidate> sorted() &&
    {
        std::sort_heap(heap_.begin(), heap_.end(), sorts_before);
        return std::move(heap_);
    }

  private:
    std::size_t limit_;
    std::vector<Candidate> heap_;
};

/* Which rows are claimed, and by which transactions. Rows of a batch stand together, so the last
 * answer usually serves again. Plain data. */
struct RowOwners {
    enum class Owner { kNobody, kExecutor, kOther };

    static constexpr int kMaxExecutors = 128;

    TransactionId executors[kMaxExecutors];
    int executor_count;
    TransactionId last;
    Owner last_owner;

    void begin();
    /* The transaction that is deleting, updating or locking the row in the slot. Several lockers at
     * once are left for the claim to find out: they may all be our own. */
    Owner owner_of(TupleTableSlot *slot);
};

/* What executors, this one among them, are working through (read_ahead.hpp). */
class ReadAheadRanges
{
  public:
    /* Null: there are none to pass over. */
    ReadAheadRanges(const core::ReadAhead *own, std::vector<core::ReadAhead> others)
        : own_(own), others_(std::move(others))
    {
    }
    /* Moves `key` behind the stretches that it lies in; whether it lay in one. No allocation. */
    bool pass(core::RangeId range, core::ReadyKey &key) noexcept
    {
        bool moved = false;
        while (const core::ReadyKey *end = end_of(range, key)) {
            key = {end->run_at, end->id + 1};
            moved = true;
        }
        return moved;
    }

    /* Whether it has moved behind what another executor is working through. */
    bool has_passed_others() const { return has_passed_others_; }

  private:
    const core::ReadyKey *end_of(core::RangeId range, core::ReadyKey key) noexcept
    {
        if (own_ == nullptr)
            return nullptr;
        /* To pass over its own saves only time. */
        if (const core::ReadyKey *end = own_->end_of(range, key, kFewEntries))
            return end;
        for (const core::ReadAhead &other : others_) {
            if (const core::ReadyKey *end = other.end_of(range, key)) {
                has_passed_others_ = true;
                return end;
            }
        }
        return nullptr;
    }

    bool has_passed_others_ = false;
    const core::ReadAhead *own_;
    std::vector<core::ReadAhead> others_;
};

} // namespace backfill::queue
