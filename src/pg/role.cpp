/* role.cpp - see role.hpp. */
#include "backfill/pg/role.hpp"

#include "backfill/pg/datum.hpp"

namespace backfill::pg
{

Oid role_type()
{
    return call([] {
        const Oid schema = get_namespace_oid("backfill", true);
        return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("role"),
                               ObjectIdGetDatum(schema));
    });
}

Oid existing_role(const StoredRole &role)
{
    const bool exists = OidIsValid(role.oid) && call([&] {
                            return SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role.oid));
                        });
    return exists ? role.oid : InvalidOid;
}

std::string name_of(const StoredRole &role)
{
    const std::string present = OidIsValid(role.oid) ? role_name(role.oid) : std::string();
    return present.empty() ? std::string(NameStr(role.name)) : present;
}

} // namespace backfill::pg
