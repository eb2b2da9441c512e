/* lock_wait.hpp - a bound on waits for locks, where the engine writes what users may have locked.
 */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* From enter() to leave() a statement that waits for a lock longer than that fails with 55P03. Has
 * no destructor on purpose: on an error the (sub)transaction's abort restores the setting. */
class LockWaitLimit
{
  public:
    void enter(const char *milliseconds)
    {
        call([&] {
            nest_level_ = NewGUCNestLevel();
            (void) set_config_option("lock_timeout", milliseconds, PGC_USERSET, PGC_S_SESSION,
                                     GUC_ACTION_SAVE, true, 0, false);
        });
    }
    void leave()
    {
        if (nest_level_ > 0)
            call([&] { AtEOXact_GUC(false, nest_level_); });
        nest_level_ = 0;
    }

  private:
    int nest_level_ = 0;
};

} // namespace backfill::pg
