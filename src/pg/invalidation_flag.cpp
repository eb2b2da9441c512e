/* invalidation_flag.cpp - see invalidation_flag.hpp. */
#include "backfill/pg/invalidation_flag.hpp"

namespace backfill::pg
{

namespace
{

InvalidationFlag &flag_of(Datum flag) noexcept
{
    return *reinterpret_cast<InvalidationFlag *>(DatumGetPointer(flag));
}

} // namespace

void InvalidationFlag::on_any_relation(Datum flag, Oid) noexcept
{
    flag_of(flag).set();
}

/* InvalidOid: all relations may have changed. */
void InvalidationFlag::on_relation(Datum flag, Oid relation) noexcept
{
    const auto &followed = flag_of(flag).relations_;
    if (!OidIsValid(relation) ||
        std::find(followed.begin(), followed.end(), relation) != followed.end())
        flag_of(flag).set();
}

void InvalidationFlag::on_catalog(Datum flag, int, uint32) noexcept
{
    flag_of(flag).set();
}

void InvalidationFlag::register_for_all_relations()
{
    CacheRegisterRelcacheCallback(on_any_relation, PointerGetDatum(this));
}

void InvalidationFlag::register_for_relations()
{
    CacheRegisterRelcacheCallback(on_relation, PointerGetDatum(this));
}

void InvalidationFlag::register_for_catalog(int cache)
{
    CacheRegisterSyscacheCallback(cache, on_catalog, PointerGetDatum(this));
}

} // namespace backfill::pg
