/* advisory_lock.hpp - locks of a transaction in the server's lock manager, in classes of our own of
 * the advisory space, which no pg_advisory_lock() call can name. */
#pragma once

#include "backfill/pg/pg.hpp"

#include <array>
#include <string_view>

namespace backfill::pg
{

LOCKTAG lock_tag(uint16 lock_class, uint32 high, uint32 low);
LOCKTAG hash_lock_tag(uint16 lock_class, uint64 hash);
uint64 hash_text(std::string_view text);

/* False if this transaction holds it already. */
bool lock(const LOCKTAG &tag, LOCKMODE mode);
void unlock(const LOCKTAG &tag, LOCKMODE mode);
/* How many other transactions hold the lock in a mode that conflicts with this one. */
int count_holders(const LOCKTAG &tag, LOCKMODE conflicting);

/* Tells whether this process has got a lock on anything new in the meantime: to look through all
 * that it holds takes long if they are many. Other processes may only add to them (they move what
 * was taken by the fast path), so at worst it tells of one that was held before. */
class LockWatch
{
  public:
    LockWatch() : last_(last_locks()) {}
    bool has_new() const { return last_locks() != last_; }

  private:
    using Locks = std::array<const void *, NUM_LOCK_PARTITIONS>;
    static Locks last_locks();

    Locks last_;
};

/* Runs body so that the locks it takes belong to the whole transaction, at whatever nesting level
 * it is, and can be given back at any other. */
template <class Body> void in_whole_transaction(Body &&body)
{
    const ResourceOwner present = CurrentResourceOwner;
    CurrentResourceOwner = TopTransactionResourceOwner;
    body(); /* an error ends the level, and with it this */
    CurrentResourceOwner = present;
}

} // namespace backfill::pg
