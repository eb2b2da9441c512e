/* time_zone.hpp - PostgreSQL's time zones for core/cron_expression.hpp. */
#pragma once

#include "backfill/core/cron_expression.hpp"
#include "backfill/pg/guard.hpp"

namespace backfill::pg
{

/* Seconds since 1970 (rounded down) and back. */
int64 to_unix_seconds(TimestampTz time);
TimestampTz from_unix_seconds(int64 seconds);

class TimeZone final : public core::ZoneRules
{
  public:
    /* Any name that SET timezone takes. Errors: Failure 22023 if there is no such zone. */
    explicit TimeZone(std::string_view name);

    Change next_change(std::int64_t utc) const override;
    /* The name as PostgreSQL spells it. */
    std::string name() const;

  private:
    pg_tz *zone_; /* lives as long as the process */
};

} // namespace backfill::pg
