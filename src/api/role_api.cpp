/* role_api.cpp - the SQL type backfill.role; see role.hpp. */
#include "backfill/pg/datum.hpp"
#include "backfill/pg/role.hpp"

using namespace backfill;

namespace
{

/* What follows the name of a role that does not exist. A restore that reads it in again must
 * not take the role that has the name then for the one that had it. */
constexpr std::string_view kMissing = " (missing)";

Datum to_datum(Oid oid, std::string_view name)
{
    auto *const role =
        pg::call([] { return static_cast<pg::StoredRole *>(palloc0(sizeof(pg::StoredRole))); });
    const std::string_view kept = pg::clipped(name, NAMEDATALEN - 1);
    role->oid = oid;
    memcpy(NameStr(role->name), kept.data(), kept.size());
    return PointerGetDatum(role);
}

/* Never fails: an unknown role must not keep a table from being restored. */
Datum from_name(std::string_view given)
{
    if (given.ends_with(kMissing))
        return to_datum(InvalidOid, given.substr(0, given.size() - kMissing.size()));
    const std::string name(given);
    const Oid oid = name.size() < NAMEDATALEN
                        ? pg::call([&] { return get_role_oid(name.c_str(), true); })
                        : InvalidOid;
    return to_datum(oid, name);
}

std::string to_name(Datum value)
{
    const pg::StoredRole &role = pg::stored_role(value);
    const bool exists = OidIsValid(pg::existing_role(role));
    return exists ? pg::name_of(role) : pg::name_of(role) + std::string(kMissing);
}

int compare(FunctionCallInfo fcinfo)
{
    const pg::Arguments arguments(fcinfo);
    const pg::StoredRole &a = pg::stored_role(arguments.datum(0));
    const pg::StoredRole &b = pg::stored_role(arguments.datum(1));
    if (a.oid != b.oid)
        return a.oid < b.oid ? -1 : 1;
    return OidIsValid(a.oid) ? 0 : strncmp(NameStr(a.name), NameStr(b.name), NAMEDATALEN);
}

} // namespace

BACKFILL_FUNCTION(backfill_role_in)
{
    return from_name(DatumGetCString(pg::Arguments(fcinfo).datum(0)));
}

BACKFILL_FUNCTION(backfill_role_out)
{
    const std::string name = to_name(pg::Arguments(fcinfo).datum(0));
    return pg::call([&] { return CStringGetDatum(pstrdup(name.c_str())); });
}

BACKFILL_FUNCTION(backfill_role_recv)
{
    const auto message =
        reinterpret_cast<StringInfo>(DatumGetPointer(pg::Arguments(fcinfo).datum(0)));
    const std::string_view name = pg::call([&] {
        int length;
        const char *const bytes = pq_getmsgtext(message, message->len - message->cursor, &length);
        return std::string_view(bytes, static_cast<std::size_t>(length));
    });
    return from_name(name);
}

BACKFILL_FUNCTION(backfill_role_send)
{
    const std::string name = to_name(pg::Arguments(fcinfo).datum(0));
    return pg::call([&] {
        StringInfoData message;
        pq_begintypsend(&message);
        pq_sendtext(&message, name.data(), static_cast<int>(name.size()));
        return PointerGetDatum(pq_endtypsend(&message));
    });
}

/* The role with an oid; the SQL function is a cast from regrole. */
BACKFILL_FUNCTION(backfill_role_of)
{
    const Oid oid = DatumGetObjectId(pg::Arguments(fcinfo).datum(0));
    const std::string name = pg::role_name(oid);
    if (name.empty())
        fail(ERRCODE_UNDEFINED_OBJECT, "role with oid " + std::to_string(oid) + " does not exist");
    return to_datum(oid, name);
}

BACKFILL_FUNCTION(backfill_role_oid)
{
    return ObjectIdGetDatum(pg::stored_role(pg::Arguments(fcinfo).datum(0)).oid);
}

BACKFILL_FUNCTION(backfill_role_cmp)
{
    return Int32GetDatum(compare(fcinfo));
}

BACKFILL_FUNCTION(backfill_role_eq)
{
    return BoolGetDatum(compare(fcinfo) == 0);
}

BACKFILL_FUNCTION(backfill_role_ne)
{
    return BoolGetDatum(compare(fcinfo) != 0);
}

BACKFILL_FUNCTION(backfill_role_lt)
{
    return BoolGetDatum(compare(fcinfo) < 0);
}

BACKFILL_FUNCTION(backfill_role_le)
{
    return BoolGetDatum(compare(fcinfo) <= 0);
}

BACKFILL_FUNCTION(backfill_role_ge)
{
    return BoolGetDatum(compare(fcinfo) >= 0);
}

BACKFILL_FUNCTION(backfill_role_gt)
{
    return BoolGetDatum(compare(fcinfo) > 0);
}
