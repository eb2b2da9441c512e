/* owner_scope.hpp - do our own bookkeeping as the owner of the extension.
 *
 * Jobs run as the session's user. For the moments in which the engine writes its own
 * tables through SQL it switches up to their owner, with a pinned search_path, so that
 * nothing a job or a caller has set can steer that SQL. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::pg
{

/* Use inside pg::call() and inside a transaction: entering can raise. There is no
 * destructor on purpose: on an error the (sub)transaction's abort restores the user and
 * the settings; on success call leave(). */
class OwnerScope
{
  public:
    /* With restrictions = SECURITY_RESTRICTED_OPERATION another role's functions may run, too:
     * they can neither change the role nor leave anything behind that runs later. */
    explicit OwnerScope(Oid owner, int restrictions = 0)
    {
        GetUserIdAndSecContext(&user_, &security_);
        SetUserIdAndSecContext(owner, security_ | SECURITY_LOCAL_USERID_CHANGE | restrictions);
        nest_level_ = NewGUCNestLevel();
        (void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                                 GUC_ACTION_SAVE, true, 0, false);
    }
    void leave()
    {
        AtEOXact_GUC(false, nest_level_);
        SetUserIdAndSecContext(user_, security_);
    }

  private:
    Oid user_;
    int security_;
    int nest_level_;
};

} // namespace backfill::pg
