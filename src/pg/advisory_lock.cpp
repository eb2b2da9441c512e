/* advisory_lock.cpp - see advisory_lock.hpp. */
#include "backfill/pg/advisory_lock.hpp"

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

LOCKTAG lock_tag(uint16 lock_class, uint32 high, uint32 low)
{
    LOCKTAG tag;
    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, high, low, lock_class);
    return tag;
}

LOCKTAG hash_lock_tag(uint16 lock_class, uint64 hash)
{
    return lock_tag(lock_class, static_cast<uint32>(hash >> 32), static_cast<uint32>(hash));
}

uint64 hash_text(std::string_view text)
{
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(text.data()),
                               static_cast<int>(text.size()), 0);
}

bool lock(const LOCKTAG &tag, LOCKMODE mode)
{
    return call([&] { return LockAcquire(&tag, mode, false, false); }) == LOCKACQUIRE_OK;
}

void unlock(const LOCKTAG &tag, LOCKMODE mode)
{
    call([&] { (void) LockRelease(&tag, mode, false); });
}

int count_holders(const LOCKTAG &tag, LOCKMODE conflicting)
{
    return call([&] {
        int holders = 0;
        pfree(GetLockConflicts(&tag, conflicting, &holders));
        return holders;
    });
}

namespace
{

/* The list's last element; since PostgreSQL 16 the list is of another type. */
template <class List> const void *tail_of(const List &list)
{
    if constexpr (requires { list.prev; })
        return list.prev;
    else
        return list.head.prev;
}

} // namespace

LockWatch::Locks LockWatch::last_locks()
{
    Locks locks;
    for (std::size_t partition = 0; partition < locks.size(); partition++)
        locks[partition] = tail_of(MyProc->myProcLocks[partition]);
    return locks;
}

} // namespace backfill::pg
