/* ticker.cpp - see ticker.hpp. */
#include "backfill/bgworker/ticker.hpp"

#include "backfill/cron/schedule.hpp"
#include "backfill/shmem/signals.hpp"

namespace backfill::bgworker
{

namespace
{

/* Less than the minute after which an idle dispatcher sweeps. */
constexpr int64 kLookAgainUs = 30 * USECS_PER_SEC;
/* How soon to try again if another session has locked a schedule. */
constexpr int64 kBusyScheduleUs = 1000000;

} // namespace

/* Either way round, because the machine's clock may be set back. */
bool Ticker::is_time_to_look(TimestampTz now) const
{
    return must_look_ || (next_ && now >= *next_) ||
           std::abs(GetCurrentTimestamp() - looked_at_) >= kLookAgainUs;
}

void Ticker::tick(Pass &pass)
{
    must_look_ = take_schedules(MyDatabaseId) || must_look_;
    const TimestampTz now = clock::now();
    if (!is_time_to_look(now)) {
        pass.note_due(next_);
        return;
    }
    must_look_ = true; /* should this fail */
    const queue::OwnTick tick = queue::run_due_schedules_apart(now);
    next_ = tick.next;
    if (tick.busy)
        note_due(next_, clock::of(GetCurrentTimestamp() + kBusyScheduleUs));
    if (tick.aside) {
        const TimestampTz retry = set_aside::next_retry(set_aside::Kind::kSchedule);
        note_due(next_, retry == 0 ? now : clock::of(retry));
    }
    looked_at_ = GetCurrentTimestamp();
    must_look_ = tick.more;
    pass.more = pass.more || tick.more;
    pass.note_due(next_);
}

} // namespace backfill::bgworker
