/* owner_scope.hpp - do something as another role than the session's current user.
 *
 * Jobs run as the session's user. For the moments in which the engine writes its own
 * tables through SQL it switches up to their owner, and for a hook to the role that
 * registered it; with a search_path of its own, so that nothing a job or a caller has set
 * can steer what is done there. */
#pragma once

#include "backfill/pg/pg.hpp"

namespace backfill::pg
{

/* Use inside pg::call() and inside a transaction: entering can raise. There is no
 * destructor on purpose: on an error the (sub)transaction's abort restores the user and
 * the settings; on success call leave(). Inside, SET ROLE and SET SESSION AUTHORIZATION are
 * refused; restrictions may add SECURITY_RESTRICTED_OPERATION. */
class RoleScope
{
  public:
    RoleScope(Oid role, const char *search_path, int restrictions = 0)
    {
        GetUserIdAndSecContext(&user_, &security_);
        SetUserIdAndSecContext(role, security_ | SECURITY_LOCAL_USERID_CHANGE | restrictions);
        nest_level_ = NewGUCNestLevel();
        (void) set_config_option("search_path", search_path, PGC_USERSET, PGC_S_SESSION,
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

class OwnerScope : public RoleScope
{
  public:
    explicit OwnerScope(Oid owner) : RoleScope(owner, "pg_catalog, pg_temp") {}
};

} // namespace backfill::pg
