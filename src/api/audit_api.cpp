/* audit_api.cpp - what SQL functions note of their calls. Functions in C++ call audit::note(). */
#include "backfill/audit/audit.hpp"
#include "backfill/enqueue/job_spec.hpp"

using namespace backfill;

namespace
{

/* A restore reads the rules in; that is no change. It acts for the owner, which could leave the
 * trigger out, too: a role that was given the right to change rules cannot hide by COPY. */
bool is_restored()
{
    return ActivePortal != nullptr && ActivePortal->commandTag == CMDTAG_COPY &&
           pg::call([] { return has_privs_of_role(GetOuterUserId(), GetUserId()); });
}

} // namespace

/* Only the owner may call it. Its callers run as the owner, so that the session's role is what is
 * left of their caller. */
BACKFILL_FUNCTION(backfill_audit)
{
    const pg::Arguments arguments(fcinfo);
    const auto action = queue::require_text("action", arguments.text(0));
    audit::Entry entry{queue::require_text("kind", arguments.text(1))};
    if (entry.kind == audit::kind::kErrorRule && is_restored())
        return static_cast<Datum>(0);
    const auto objects = arguments.array(2, TEXTOID);
    for (int i = 0; objects && i < objects->count; i++)
        if (!objects->nulls[i])
            entry.add(pg::to_view(objects->values[i]));
    entry.count = arguments.int8(3).value_or(entry.count);
    entry.before = arguments.is_null(4) ? 0 : arguments.datum(4);
    entry.after = arguments.is_null(5) ? 0 : arguments.datum(5);
    audit::note(action, pg::call([] { return GetOuterUserId(); }), entry);
    return static_cast<Datum>(0);
}
