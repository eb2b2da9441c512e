/* look_pace.hpp - how many candidates a batch reads at once, and for how long it keeps them.
 *
 * Few at first, as the first job may be slow, and twice as many each time; but if the last batch
 * has run many jobs, half of these at once. Executors that read few at a time work on rows of the
 * same pages, and wait for each other's locks of these. Where looking takes long, since there are
 * very many queues, as many as possible. What it has read it may give up when a better job comes,
 * but not so often that an endless stream of these would leave no time for the others. Times are in
 * microseconds. */
#pragma once

#include <algorithm>
#include <cstdint>

namespace backfill::core
{

class LookPace
{
  public:
    LookPace(bool last_look_took_long, int jobs_of_last_batch)
        : looking_takes_long_(last_look_took_long)
    {
        while (next_ * 4 <= jobs_of_last_batch && next_ < kMost)
            next_ *= 2;
    }

    /* How many more jobs a batch has time for, to judge by the `jobs` that took `spent` of `limit`;
     * some more, because others may run what was read. */
    static std::int64_t room(int jobs, std::int64_t spent, std::int64_t limit)
    {
        if (jobs == 0 || spent <= 0)
            return kMost;
        const double left = static_cast<double>(std::max<std::int64_t>(limit - spent, 0));
        return static_cast<std::int64_t>(
            std::min(1.25 * left * jobs / static_cast<double>(spent), double{kMost}));
    }

    /* How many to read next, if the batch has room for `room` jobs. */
    int candidates(std::int64_t room = kMost) const
    {
        if (reads_few_)
            return kFirst;
        return looking_takes_long_
                   ? kMost
                   : static_cast<int>(std::clamp<std::int64_t>(room, kFirst, next_));
    }
    void note_look(std::int64_t start, std::int64_t end)
    {
        keeps_until_ = end + std::max(kLeastKept, kKeptForLook * (end - start));
        if (reads_few_) { /* which says nothing about how long others take */
            reads_few_ = false;
            return;
        }
        looking_takes_long_ = end - start > kLong;
        next_ = std::min(next_ * 2, kMost);
    }
    bool looks_for_better() const { return reads_few_; }
    bool looking_takes_long() const { return looking_takes_long_; }
    /* Whether a better job is reason enough to give up what was read, and look again. */
    bool may_give_up(std::int64_t now) const { return now >= keeps_until_; }
    /* The next look is for better jobs, of which there are few. */
    void note_given_up() { reads_few_ = true; }

  private:
    static constexpr int kFirst = 16;
    static constexpr int kMost = 1024;
    static constexpr std::int64_t kLong = 1000; /* a fifth of a batch by default */
    /* Giving up costs two looks, of a few tens of microseconds each, and of these only a part of
     * the time may go. */
    static constexpr std::int64_t kLeastKept = 1000;
    static constexpr std::int64_t kKeptForLook = 4;

    int next_ = kFirst;
    bool looking_takes_long_;
    bool reads_few_ = false;
    std::int64_t keeps_until_ = 0;
};

} // namespace backfill::core
