/* time_zone.cpp - see time_zone.hpp. */
#include "backfill/pg/time_zone.hpp"

namespace backfill::pg
{

namespace
{

constexpr int64 kEpochDifference =
    static_cast<int64>(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

} // namespace

int64 to_unix_seconds(TimestampTz time)
{
    const int64 seconds = time / USECS_PER_SEC - (time % USECS_PER_SEC < 0 ? 1 : 0);
    return seconds + kEpochDifference;
}

TimestampTz from_unix_seconds(int64 seconds)
{
    return (seconds - kEpochDifference) * USECS_PER_SEC;
}

TimeZone::TimeZone(std::string_view name)
{
    const std::string terminated(name);
    zone_ = call([&] {
        pg_tz *zone = terminated.size() <= TZ_STRLEN_MAX ? pg_tzset(terminated.c_str()) : nullptr;
        return zone != nullptr && pg_tz_acceptable(zone) ? zone : nullptr;
    });
    if (zone_ == nullptr)
        fail(ERRCODE_INVALID_PARAMETER_VALUE, "time zone \"" + terminated + "\" is unknown", {},
             "See pg_timezone_names for the names, such as Europe/Berlin.");
}

core::ZoneRules::Change TimeZone::next_change(std::int64_t utc) const
{
    const pg_time_t from = utc;
    pg_time_t at = 0;
    long offset = 0;
    long offset_after = 0;
    int is_dst;
    int found = 0;
    call([&] {
        found = pg_next_dst_boundary(&from, &offset, &is_dst, &at, &offset_after, &is_dst, zone_);
    });
    return {static_cast<std::int32_t>(offset),
            found > 0 ? std::optional<std::int64_t>(at) : std::nullopt,
            static_cast<std::int32_t>(offset_after)};
}

std::string TimeZone::name() const
{
    return call([&] { return pg_get_timezone_name(zone_); });
}

} // namespace backfill::pg
