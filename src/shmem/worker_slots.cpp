/* worker_slots.cpp - see worker_slots.hpp. */
#include "backfill/shmem/worker_slots.hpp"

namespace backfill::bgworker
{

namespace
{

int slot_number = -1;

} // namespace

void set_my_slot(int number) noexcept
{
    slot_number = number;
}

WorkerSlot &my_slot()
{
    return shared().workers[slot_number];
}

int my_slot_number()
{
    return slot_number;
}

void publish_progress(double fraction, const char *message) noexcept
{
    if (slot_number < 0)
        return;
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.progress = fraction;
    strlcpy(slot.progress_message, message, sizeof(slot.progress_message));
    SpinLockRelease(&slot.mutex);
}

void publish_read_ahead(const core::ReadAhead &read_ahead, TimestampTz until) noexcept
{
    if (slot_number < 0)
        return;
    WorkerSlot &slot = my_slot();
    SpinLockAcquire(&slot.mutex);
    slot.read_ahead = read_ahead;
    slot.read_ahead_until = until;
    SpinLockRelease(&slot.mutex);
}

} // namespace backfill::bgworker
