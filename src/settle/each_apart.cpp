/* each_apart.cpp - see each_apart.hpp. */
#include "backfill/settle/each_apart.hpp"

#include "backfill/shmem/set_aside.hpp"

namespace backfill::queue
{

void set_aside_and_say(bgworker::set_aside::Kind kind, Thing thing, const std::string &what,
                       const core::ErrorInfo &error, TimestampTz not_before)
{
    namespace set_aside = bgworker::set_aside;
    const auto before = set_aside::find(kind, thing.id);
    (void) set_aside::note_failure(kind, thing.id, thing.name, error, not_before);
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

std::string label_of(bgworker::set_aside::Kind kind, const Thing &thing)
{
    using bgworker::set_aside::Kind;
    return kind == Kind::kSchedule || kind == Kind::kQueue ? "\"" + std::string(thing.name) + "\""
                                                           : std::to_string(thing.id);
}

int64 time_for(bgworker::set_aside::Kind kind, int64 id)
{
    if (id == 0)
        return kTogetherUs;
    const auto before = bgworker::set_aside::find(kind, id);
    int64 limit = kShortestAttemptUs;
    for (int i = 0; before && i < before->failures && limit < kLongestAttemptUs; i++)
        limit *= 2;
    return limit;
}

Failed describe_timeout(core::ErrorInfo error, int64 limit_us)
{
    error.message = "it took longer than " + std::to_string(limit_us / 1000) + " ms";
    return {std::move(error), GetCurrentTimestamp() + limit_us * kShareOfTime};
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
