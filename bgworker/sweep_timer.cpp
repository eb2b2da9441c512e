/* sweep_timer.cpp - see sweep_timer.hpp. */
#include "backfill/bgworker/sweep_timer.hpp"

#include "backfill/guc.hpp"
#include "backfill/pg/table.hpp"

namespace backfill::bgworker
{

namespace
{

constexpr int kMaxFactor = 32;
/* How many times as long as a sweep took, there is no other sweep. */
constexpr int kPause = 50;
constexpr int64 kLongestRestUs = 60 * USECS_PER_SEC;

/* How many rows have been inserted, updated or deleted, as the statistics have it by now. */
std::optional<int64> count_changes(Oid table)
{
    if (!pgstat_track_counts)
        return std::nullopt;
    return pg::call([&]() -> std::optional<int64> {
        pgstat_clear_snapshot();
        const PgStat_StatTabEntry *const entry = pgstat_fetch_stat_tabentry(table);
        if (entry == nullptr)
            return std::nullopt;
        return entry->tuples_inserted + entry->tuples_updated + entry->tuples_deleted;
    });
}

} // namespace

/* Asked anew each time, because backfill.poll_interval may have changed. */
TimestampTz SweepTimer::next() const
{
    return last_ + Max(static_cast<TimestampTz>(guc::poll_interval_ms) * 1000 * factor_,
                       duration_ * kPause);
}

void SweepTimer::begin_sweep()
{
    table_ = pg::relation_oid("job");
    changes_ = count_changes(table_);
}

/* Sweeps become rarer while they find nothing. */
void SweepTimer::note_sweep(TimestampTz start)
{
    last_ = GetCurrentTimestamp();
    duration_ = last_ - start;
    factor_ = Min(factor_ * 2, kMaxFactor);
}

void SweepTimer::note_idle_until(TimestampTz due)
{
    rest_.reset();
    if (changes_)
        rest_ = Rest{*changes_, Min(due, GetCurrentTimestamp() + kLongestRestUs)};
}

bool SweepTimer::may_rest() const
{
    return rest_ && GetCurrentTimestamp() < rest_->due && count_changes(table_) == rest_->changes;
}

TimestampTz SweepTimer::rest()
{
    last_ = GetCurrentTimestamp();
    return rest_->due;
}

} // namespace backfill::bgworker
