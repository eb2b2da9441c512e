/* each_apart.cpp - see each_apart.hpp. */
#include "backfill/settle/each_apart.hpp"

namespace backfill::queue
{

void set_aside_and_say(bgworker::set_aside::Kind kind, Thing thing, const std::string &what,
                       const core::ErrorInfo &error)
{
    namespace set_aside = bgworker::set_aside;
    const auto before = set_aside::find(kind, thing.id);
    (void) set_aside::note_failure(kind, thing.id, thing.name, error);
    /* What is kept of a message may be its beginning only. */
    if (before && error.message.starts_with(before->message))
        return;
    pg::call([&] {
        ereport(LOG,
                (errmsg("backfill could not %s: %s", what.c_str(), error.message.c_str()),
                 error.detail.empty() ? 0 : errdetail_internal("%s", error.detail.c_str()),
                 errhint("It is tried again, and shown by backfill.health() until it succeeds; "
                         "everything else goes on.")));
    });
}

void fire_deferred_triggers()
{
    pg::call([] {
        ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);
        all_immediate->constraints = NIL;
        all_immediate->deferred = false;
        AfterTriggerSetState(all_immediate);
    });
}

} // namespace backfill::queue
