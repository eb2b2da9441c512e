/* role.hpp - a role as our tables keep it: the SQL type backfill.role.
 *
 * Identity is the oid, so a renamed role stays itself and another one that gets its name is
 * another role. In a dump a role is its present name, because another cluster has other oids. A
 * role that is not there is shown as "name (missing)" and is never looked up by name again: what a
 * dropped role had does not pass to the next role of that name. */
#pragma once

#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* Of fixed length and without pointers, as it lies in a row. */
struct StoredRole {
    Oid oid;       /* InvalidOid: there was no such role when the value was read in */
    NameData name; /* as it was then; the present one counts while the role exists */
};

inline const StoredRole &stored_role(Datum value)
{
    return *reinterpret_cast<const StoredRole *>(DatumGetPointer(value));
}

/* The oid of the SQL type; InvalidOid if there is none. */
Oid role_type();

/* The role's oid if it exists now, else InvalidOid. */
Oid existing_role(const StoredRole &role);

/* Its present name; of a role that does not exist, the name it had. */
std::string name_of(const StoredRole &role);

} // namespace backfill::pg
