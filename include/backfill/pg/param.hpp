/* param.hpp - parameters of our own SQL statements. An absent value is NULL. */
#pragma once

#include "backfill/pg/datum.hpp"

namespace backfill::pg
{

struct Param {
    Oid type;
    Datum value;
    bool is_null;
};

inline Param text_param(std::optional<std::string_view> value)
{
    return {TEXTOID, value ? from_text(*value) : static_cast<Datum>(0), !value};
}
inline Param bool_param(bool value)
{
    return {BOOLOID, BoolGetDatum(value), false};
}
inline Param int2_param(std::optional<int32> value)
{
    return {INT2OID, Int16GetDatum(static_cast<int16>(value.value_or(0))), !value};
}
inline Param int4_param(std::optional<int32> value)
{
    return {INT4OID, Int32GetDatum(value.value_or(0)), !value};
}
inline Param int8_param(int64 value)
{
    return {INT8OID, Int64GetDatum(value), false};
}
inline Param float8_param(double value)
{
    return {FLOAT8OID, Float8GetDatum(value), false};
}
inline Param oid_param(Oid value)
{
    return {OIDOID, ObjectIdGetDatum(value), false};
}
/* For backfill._role_of(). */
inline Param role_param(std::optional<Oid> value)
{
    return {REGROLEOID, ObjectIdGetDatum(value.value_or(InvalidOid)), !value};
}
inline Param time_param(TimestampTz value)
{
    return {TIMESTAMPTZOID, TimestampTzGetDatum(value), false};
}
inline Param interval_param(const Interval *value)
{
    return {INTERVALOID, PointerGetDatum(value), value == nullptr};
}
inline Param text_array_param(std::span<const std::string> values)
{
    return {TEXTARRAYOID, from_texts(values), false};
}
/* 0: NULL. */
inline Param jsonb_param(Datum value)
{
    return {JSONBOID, value, value == 0};
}

} // namespace backfill::pg
