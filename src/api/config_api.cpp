/* config_api.cpp - the trigger that tells of changes to the configuration tables. */
#include "backfill/commit/wake.hpp"

using namespace backfill;

BACKFILL_FUNCTION(backfill_config_changed)
{
    pg::call([&] {
        if (!CALLED_AS_TRIGGER(fcinfo))
            ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                            errmsg("_config_changed() must be called as a trigger")));
        CacheInvalidateRelcache(reinterpret_cast<TriggerData *>(fcinfo->context)->tg_relation);
    });
    /* Waiting jobs may have got a handler, a resumed queue, or a higher limit. */
    queue::wake::announce_dispatcher();
    return static_cast<Datum>(0);
}
