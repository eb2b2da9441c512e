/* low_water.cpp - see low_water.hpp. */
#include "backfill/commit/low_water.hpp"

#include "backfill/shmem/queue_changes.hpp"
#include "backfill/shmem/shared_state.hpp"

namespace backfill::queue::low_water
{

namespace queue_changes = bgworker::queue_changes;

namespace
{

/* The lowest key of each range of a kind that the transaction has touched. Plain data, no
 * allocation: the callbacks must not fail. */
class Notes
{
  public:
    void add(core::RangeId range, core::ReadyKey key, core::QueueHash queue) noexcept
    {
        for (int i = count_ - 1; i >= 0; i--) {
            Note &note = notes_[i];
            if (note.range == range) {
                note.key = Min(note.key, key);
                if (note.queue != queue)
                    note.queue = 0;
                return;
            }
        }
        if (count_ < kMaxNotes)
            notes_[count_++] = {range, key, queue};
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
    bool has_everything() const noexcept { return overflow_; }
    void announce(core::LowWaterMarks &marks) const noexcept
    {
        for (int i = 0; i < count_; i++)
            marks.announce(notes_[i].range, notes_[i].key, notes_[i].queue);
    }
    void note_queue_changes() const noexcept
    {
        if (overflow_)
            queue_changes::note_all();
        for (int i = 0; i < count_; i++)
            queue_changes::note(notes_[i].queue);
    }
    void note_later_changes() const noexcept
    {
        if (overflow_)
            queue_changes::note_always_all();
        for (int i = 0; i < count_; i++)
            queue_changes::note_always(notes_[i].queue);
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
        core::QueueHash queue;
    };
    int count_ = 0;
    bool overflow_ = false;
    Note notes_[kMaxNotes];
};

/* Of both kinds of ranges: a transaction may touch very many queues. */
struct RangeNotes {
    Notes all;
    Notes of_queues;

    void add(const JobRow &row) noexcept
    {
        const core::ReadyKey key{DatumGetTimestampTz(row.get(Column::kRunAt)), row.id()};
        const std::string_view task = row.task_identifier();
        const core::QueueHash queue = hash_of(row.text_or_empty(Column::kQueueName));
        all.add(range_of(task, row.priority()), key, queue);
        if (queue != 0)
            of_queues.add(range_of(queue, task, row.priority()), key, queue);
    }
    void announce(core::LowWaterMarks &marks) const noexcept
    {
        if (all.has_everything()) {
            marks.forget(MyDatabaseId);
            return;
        }
        all.announce(marks);
        if (of_queues.has_everything())
            marks.forget_queues(MyDatabaseId);
        else
            of_queues.announce(marks);
    }
    void note_queue_changes() const noexcept
    {
        if (all.has_everything())
            queue_changes::note_all();
        else
            of_queues.note_queue_changes();
    }
    void note_later_changes() const noexcept
    {
        if (all.has_everything())
            queue_changes::note_always_all();
        else
            of_queues.note_later_changes();
    }
    core::ReadyKey lowest(core::RangeId range) const noexcept
    {
        return all.has_everything() || !range.of_queue ? all.lowest(range)
                                                       : of_queues.lowest(range);
    }
    void clear() noexcept
    {
        all.clear();
        of_queues.clear();
    }
};

RangeNotes inserted;
RangeNotes claimed;

uint64 hash_text(std::string_view text, uint64 seed) noexcept
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text.data()),
                               static_cast<int>(text.size()), seed);
}

/* The server's secret: no producer can choose names so that what is noted of its jobs hides those
 * of another. */
uint64 seed() noexcept
{
    return bgworker::available() ? bgworker::lock_free_state().hash_seed : 0;
}

/* In this order: a process that finds no change since its look must have looked from such marks. */
void tell(const RangeNotes &notes) noexcept
{
    if (!bgworker::available() || notes.all.empty())
        return;
    {
        const bgworker::MarksLock lock;
        notes.announce(*lock);
    }
    notes.note_queue_changes();
}

} // namespace

core::QueueHash hash_of(std::string_view queue) noexcept
{
    return queue.empty() ? 0 : Max(hash_text(queue, seed()), 1);
}

core::RangeId range_of(std::string_view task, int priority) noexcept
{
    return {MyDatabaseId, false,
            hash_text(task, seed() + static_cast<uint64>(priority + PG_INT16_MAX + 1))};
}

core::RangeId range_of(core::QueueHash queue, std::string_view task, int priority) noexcept
{
    return {MyDatabaseId, true,
            hash_text(task, queue + static_cast<uint64>(priority + PG_INT16_MAX + 1))};
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

core::ReadyKey lowest_own_job(core::RangeId range) noexcept
{
    return inserted.lowest(range);
}

core::Backlog backlog(core::RangeId range) noexcept
{
    if (!bgworker::available())
        return {};
    const bgworker::MarksLock lock;
    return lock->backlog(range);
}

void extend_backlog(const core::Backlog &found, core::ReadyKey from,
                    std::uint64_t announcements) noexcept
{
    if (!bgworker::available())
        return;
    const bgworker::MarksLock lock;
    lock->extend_backlog(found, from, announcements);
}

void raise_mark(core::RangeId range, core::ReadyKey from, core::ReadyKey to,
                std::uint64_t announcements) noexcept
{
    if (!bgworker::available())
        return;
    const bgworker::MarksLock lock;
    lock->raise_mark(range, from, to, announcements);
}

void forget_queues() noexcept
{
    if (!bgworker::available())
        return;
    const bgworker::MarksLock lock;
    lock->forget_queues(MyDatabaseId);
}

void announce(core::RangeId range, core::ReadyKey key, core::QueueHash queue) noexcept
{
    if (!bgworker::available())
        return;
    const bgworker::MarksLock lock;
    lock->announce(range, key, queue);
}

void note_inserted(const JobRow &row) noexcept
{
    if (bgworker::available())
        inserted.add(row);
}

void note_claimed(const JobRow &row) noexcept
{
    if (bgworker::available())
        claimed.add(row);
}

void note_changed() noexcept
{
    inserted.all.add_everything();
    claimed.all.add_everything();
}

void on_transaction_end(bool committed) noexcept
{
    tell(committed ? inserted : claimed);
    drop_notes();
}

void on_rollback_to_savepoint() noexcept
{
    tell(claimed); /* more than has come back, perhaps */
}

void on_prepare() noexcept
{
    inserted.note_later_changes();
    claimed.note_later_changes();
    drop_notes();
}

void drop_notes() noexcept
{
    inserted.clear();
    claimed.clear();
}

} // namespace backfill::queue::low_water
