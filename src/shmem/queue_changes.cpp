/* queue_changes.cpp - see queue_changes.hpp. */
#include "backfill/shmem/queue_changes.hpp"

#include "backfill/shmem/shared_state.hpp"

namespace backfill::bgworker::queue_changes
{

namespace
{

pg_atomic_uint64 &place_of(core::QueueHash queue) noexcept
{
    return lock_free_state().queue_changes.queues[queue % State::kPlaces];
}

/* Two processes may write in any order; the greater number counts. */
void raise_number(pg_atomic_uint64 &place, uint64 number) noexcept
{
    uint64 current = pg_atomic_read_u64(&place);
    while (current < number && !pg_atomic_compare_exchange_u64(&place, &current, number))
        ;
}

uint64 next_number() noexcept
{
    return pg_atomic_add_fetch_u64(&lock_free_state().queue_changes.last, 1);
}

} // namespace

uint64 last() noexcept
{
    if (!available())
        return 0;
    const uint64 number = pg_atomic_read_u64(&lock_free_state().queue_changes.last);
    pg_memory_barrier();
    return number;
}

bool since(uint64 number, core::QueueHash queue) noexcept
{
    return !available() || pg_atomic_read_u64(&place_of(queue)) > number ||
           pg_atomic_read_u64(&lock_free_state().queue_changes.all) > number;
}

void note(core::QueueHash queue) noexcept
{
    if (available())
        raise_number(place_of(queue), next_number());
}

void note_all() noexcept
{
    if (available())
        raise_number(lock_free_state().queue_changes.all, next_number());
}

void note_always(core::QueueHash queue) noexcept
{
    if (available())
        raise_number(place_of(queue), PG_UINT64_MAX);
}

void note_always_all() noexcept
{
    if (available())
        raise_number(lock_free_state().queue_changes.all, PG_UINT64_MAX);
}

} // namespace backfill::bgworker::queue_changes
