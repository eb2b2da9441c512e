/* cron_expression.hpp - cron expressions, and the minutes in which they are due.
 *
 * Five fields: minute, hour, day of month, month, day of week. Where both day fields
 * leave days out, a day that either of them names is due (decided by the resulting sets,
 * as Graphile Worker does, so that * and 0-6 are the same).
 *
 * An expression speaks of local time, which jumps. One whose hour field names every hour
 * means "every so often" and follows elapsed time: in spring it leaves out the minutes that
 * do not exist, in autumn it runs in both copies of a minute. Any other means a time of
 * day: it runs once in the first copy only, and what the clock skips runs once, in the
 * first minute after the jump. */
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace backfill::core
{

enum class CronSyntax {
    kGraphile, /* n, a-b, * and a step after it: what crontab lines may use */
    kExtended, /* also a-b/n, names (jan, mon), $ (last day of the month) and @daily */
};

/* A time zone: how far local time is ahead of UTC, and when that changes. */
class ZoneRules
{
  public:
    struct Change {
        std::int32_t offset;            /* seconds east of UTC, before the change */
        std::optional<std::int64_t> at; /* seconds since 1970 UTC; nothing: never again */
        std::int32_t offset_after;      /* only with at */
    };
    virtual ~ZoneRules() = default;
    /* The first change after `utc`, and the offset that holds at `utc`. */
    virtual Change next_change(std::int64_t utc) const = 0;
};

class CronExpression
{
  public:
    /* Throws a SyntaxError that names the field and the value. */
    static CronExpression parse(std::string_view text, CronSyntax syntax);

    /* Whether a local minute, counted from 1970-01-01 00:00 local time, is named. */
    bool matches(std::int64_t local_minute) const;
    /* The first named local minute that is not before this one; nothing if there is none
     * in the next eight years, the longest time between two days of 29 February. */
    std::optional<std::int64_t> next_match(std::int64_t local_minute) const;
    bool names_every_hour() const;

  private:
    bool names_day(std::int64_t day) const;

    std::uint64_t minutes_ = 0; /* bit n: n is in the set */
    std::uint64_t hours_ = 0;
    std::uint64_t days_ = 0;
    std::uint64_t months_ = 0;
    std::uint64_t weekdays_ = 0;
    bool last_day_ = false;
};

/* The first time after `utc` (seconds since 1970) at which the expression is due; nothing
 * if it never is. */
std::optional<std::int64_t> next_due(const CronExpression &expression, const ZoneRules &zone,
                                     std::int64_t utc);

} // namespace backfill::core
