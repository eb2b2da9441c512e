/* low_water.cpp - see low_water.hpp. */
#include "backfill/commit/low_water.hpp"

#include "backfill/shmem/shared_state.hpp"

namespace backfill::queue::low_water
{

namespace
{

/* The lowest key of each range that the transaction has touched. Plain data, no
 * allocation: the callbacks must not fail. */
class Notes
{
  public:
    void add(core::RangeId range, core::ReadyKey key) noexcept
    {
        for (int i = count_ - 1; i >= 0; i--) {
            if (notes_[i].range == range) {
                notes_[i].key = Min(notes_[i].key, key);
                return;
            }
        }
        if (count_ < kMaxNotes)
            notes_[count_++] = {range, key};
        else
            overflow_ = true;
    }
    core::ReadyKey lowest(core::RangeId range) const noexcept
    {
        if (overflow_)
            return {};
        for (int i = 0; i < count_; i++)
            if (notes_[i].range == range)
                return notes_[i].key;
        return {PG_INT64_MAX, PG_INT64_MAX};
    }
    void add_everything() noexcept { overflow_ = true; }
    void announce(core::LowWaterMarks &marks) const noexcept
    {
        if (overflow_)
            marks.forget(MyDatabaseId);
        else
            for (int i = 0; i < count_; i++)
                marks.announce(notes_[i].range, notes_[i].key);
    }
    bool empty() const noexcept { return count_ == 0 && !overflow_; }
    void clear() noexcept
    {
        count_ = 0;
        overflow_ = false;
    }

  private:
    static constexpr int kMaxNotes = 32;
    struct Note {
        core::RangeId range;
        core::ReadyKey key;
    };
    int count_ = 0;
    bool overflow_ = false;
    Note notes_[kMaxNotes];
};

Notes inserted;
Notes claimed;

uint64 hash_text(std::string_view text, uint64 seed) noexcept
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text.data()),
                               static_cast<int>(text.size()), seed);
}

core::RangeId range_of_row(const JobRow &row) noexcept
{
    return range_of(row.task_identifier(), row.text_or_empty(Column::kQueueName), row.priority());
}

core::ReadyKey key_of_row(const JobRow &row) noexcept
{
    return {DatumGetTimestampTz(row.get(Column::kRunAt)), row.id()};
}

} // namespace

/* The seed is the server's secret: no producer can choose names so that its jobs' marks hide
 * those of another. */
core::RangeId range_of(std::string_view task, std::string_view queue, int priority) noexcept
{
    const uint64 seed = bgworker::available() ? bgworker::lock_free_state().hash_seed : 0;
    const uint64 hash =
        hash_text(queue, hash_text(task, seed + static_cast<uint64>(priority + PG_INT16_MAX + 1)));
    return {MyDatabaseId, hash};
}

std::uint64_t announcements() noexcept
{
    if (!bgworker::available())
        return 0;
    const bgworker::MarksLock lock;
    return lock->announcements();
}

core::ReadyKey mark(core::RangeId range) noexcept
{
    if (!bgworker::available())
        return {};
    const bgworker::MarksLock lock;
    return lock->mark(range);
}

core::ReadyKey mark_for_own_jobs(core::RangeId range) noexcept
{
    return Min(inserted.lowest(range), mark(range));
}

void raise_mark(core::RangeId range, core::ReadyKey from, core::ReadyKey to,
                std::uint64_t announcements) noexcept
{
    if (!bgworker::available())
        return;
    const bgworker::MarksLock lock;
    lock->raise_mark(range, from, to, announcements);
}

void announce(core::RangeId range, core::ReadyKey key) noexcept
{
    if (!bgworker::available())
        return;
    const bgworker::MarksLock lock;
    lock->announce(range, key);
}

void note_inserted(const JobRow &row) noexcept
{
    if (bgworker::available())
        inserted.add(range_of_row(row), key_of_row(row));
}

void note_claimed(const JobRow &row) noexcept
{
    if (bgworker::available())
        claimed.add(range_of_row(row), key_of_row(row));
}

void note_changed() noexcept
{
    inserted.add_everything();
    claimed.add_everything();
}

void on_transaction_end(bool committed) noexcept
{
    const Notes &notes = committed ? inserted : claimed;
    if (bgworker::available() && !notes.empty()) {
        const bgworker::MarksLock lock;
        notes.announce(*lock);
    }
    drop_notes();
}

void drop_notes() noexcept
{
    inserted.clear();
    claimed.clear();
}

} // namespace backfill::queue::low_water
