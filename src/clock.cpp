/* clock.cpp - see clock.hpp. */
#include "backfill/clock.hpp"

#include "backfill/pg/datetime.hpp"
#include "backfill/pg/guard.hpp"

namespace backfill::clock
{

TimestampTz fake = kReal;

namespace
{

/* Rate windows and marks count from the year 2000. */
constexpr int kFirstYear = 2001;
constexpr int kLastYear = 9999;

bool is_relative(const char *word)
{
    for (const char *const relative : {"now", "today", "tomorrow", "yesterday"})
        if (pg_strcasecmp(word, relative) == 0)
            return true;
    return false;
}

/* Like timestamptz's input, but it raises nothing and knows no transaction. */
std::optional<TimestampTz> parse(const char *text)
{
    char work[MAXDATELEN + MAXDATEFIELDS];
    char *fields[MAXDATEFIELDS];
    int types[MAXDATEFIELDS];
    int field_count;
    int kind;
    struct pg_tm time;
    fsec_t fraction;
    int zone = 0;

    if (ParseDateTime(text, work, sizeof(work), fields, types, MAXDATEFIELDS, &field_count) != 0)
        return std::nullopt;
    for (int i = 0; i < field_count; i++)
        if (types[i] == DTK_STRING && is_relative(fields[i]))
            return std::nullopt;
    /* A time zone is an error where none is asked for. */
    if (pg::decode_datetime(fields, types, field_count, &kind, &time, &fraction, nullptr) != 0) {
        if (ParseDateTime(text, work, sizeof(work), fields, types, MAXDATEFIELDS, &field_count) !=
                0 ||
            pg::decode_datetime(fields, types, field_count, &kind, &time, &fraction, &zone) != 0)
            return std::nullopt;
    }
    TimestampTz result;
    if (kind != DTK_DATE || time.tm_year < kFirstYear || time.tm_year > kLastYear ||
        tm2timestamp(&time, fraction, &zone, &result) != 0)
        return std::nullopt;
    return result;
}

} // namespace

bool check_fake_now(char **value, void **extra, GucSource)
{
    if (*value == nullptr || (*value)[0] == '\0')
        return true;
    const auto time = parse(*value);
    if (!time) {
        GUC_check_errdetail("It must be a date and time of the years %d to %d, such as "
                            "\"2026-01-05 10:00:00+00\".",
                            kFirstYear, kLastYear);
        return false;
    }
    *extra = pg::allocate_for_setting(sizeof(TimestampTz));
    if (*extra == nullptr)
        return false;
    *static_cast<TimestampTz *>(*extra) = *time;
    return true;
}

void assign_fake_now(const char *, void *extra) noexcept
{
    fake = extra == nullptr ? kReal : *static_cast<const TimestampTz *>(extra);
}

} // namespace backfill::clock

BACKFILL_FUNCTION(backfill_now)
{
    return TimestampTzGetDatum(backfill::clock::now());
}
