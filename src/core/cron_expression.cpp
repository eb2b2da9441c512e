/* cron_expression.cpp - see cron_expression.hpp. */
#include "backfill/core/cron_expression.hpp"

#include "backfill/core/syntax_error.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

namespace backfill::core
{

namespace
{

constexpr std::int64_t kSecondsPerMinute = 60;
constexpr std::int64_t kSecondsPerDay = 86400;
constexpr std::int64_t kMinutesPerDay = 1440;
/* From one 29 February to the next, around a year like 2100, and a day to spare. */
constexpr std::int64_t kHorizonDays = 8 * 366 + 1;
/* No offset has ever changed by more; see next_due(). */
constexpr std::int64_t kLongestJump = 2 * kSecondsPerDay;

struct Field {
    const char *name;
    int first;
    int last;
    std::string_view words; /* three letters each, in order from `first` */
};
constexpr Field kMinuteField = {"minute", 0, 59, ""};
constexpr Field kHourField = {"hour", 0, 23, ""};
constexpr Field kDayField = {"day of month", 1, 31, ""};
constexpr Field kMonthField = {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"};
constexpr Field kWeekdayField = {"day of week", 0, 6, "sunmontuewedthufrisat"};

struct Macro {
    std::string_view name;
    std::string_view fields;
};
constexpr std::array<Macro, 7> kMacros = {{
    {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
    {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"},
    {"@daily", "0 0 * * *"},
    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
}};

constexpr const char *kGraphileHint =
    "Five fields: minute hour day-of-month month day-of-week; each a list of *, */n, n and a-b.";
constexpr const char *kExtendedHint =
    "Five fields: minute hour day-of-month month day-of-week; each a list of *, */n, n, a-b and "
    "a-b/n. Also names (jan, mon), $ for the last day of the month, and @hourly to @yearly.";

constexpr bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

constexpr char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::vector<std::string_view> split_blank(std::string_view text)
{
    std::vector<std::string_view> words;
    std::size_t at = 0;
    while (at < text.size()) {
        const std::size_t begin = at;
        while (at < text.size() && !is_blank(text[at]))
            at++;
        if (at > begin)
            words.push_back(text.substr(begin, at - begin));
        while (at < text.size() && is_blank(text[at]))
            at++;
    }
    return words;
}

std::int64_t floor_div(std::int64_t value, std::int64_t by)
{
    return value / by - (value % by < 0 ? 1 : 0);
}

std::int64_t ceil_div(std::int64_t value, std::int64_t by)
{
    return -floor_div(-value, by);
}

/* Reads one field of an expression into a set. */
class FieldParser
{
  public:
    FieldParser(const Field &field, CronSyntax syntax, std::string_view expression)
        : field_(field), syntax_(syntax), expression_(expression)
    {
    }

    std::uint64_t parse(std::string_view list)
    {
        std::uint64_t set = 0;
        std::size_t begin = 0;
        while (begin <= list.size()) {
            const std::size_t end = std::min(list.find(',', begin), list.size());
            set |= parse_item(list.substr(begin, end - begin));
            begin = end + 1;
        }
        return set;
    }
    bool last_day() const { return last_day_; }

  private:
    [[noreturn]] void refuse(std::string_view value, std::string problem, std::string detail) const
    {
        throw SyntaxError{"value " + in_quotes(value) + " " + problem + " in the " + field_.name +
                              " field of cron expression " + in_quotes(expression_),
                          std::move(detail),
                          syntax_ == CronSyntax::kGraphile ? kGraphileHint : kExtendedHint};
    }

    /* Digits only; more than fit are out of every range, too. */
    std::optional<int> digits(std::string_view text) const
    {
        if (text.empty() ||
            !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
            return std::nullopt;
        int value = 0;
        for (const char c : text)
            value = std::min(value * 10 + (c - '0'), 1000000);
        return value;
    }

    std::optional<int> word(std::string_view text) const
    {
        if (syntax_ == CronSyntax::kGraphile || text.size() != 3)
            return std::nullopt;
        for (std::size_t at = 0; at < field_.words.size(); at += 3)
            if (std::equal(text.begin(), text.end(), field_.words.begin() + static_cast<long>(at),
                           [](char a, char b) { return to_lower(a) == b; }))
                return field_.first + static_cast<int>(at / 3);
        return std::nullopt;
    }

    /* A number or a name; 7 is Sunday as well as 0. */
    int number(std::string_view item, std::string_view text) const
    {
        const std::optional<int> value = digits(text) ? digits(text) : word(text);
        if (!value)
            refuse(item, "is not understood", {});
        const int last = is_weekday() ? 7 : field_.last;
        if (*value < field_.first || *value > last)
            refuse(item, "is out of range",
                   "It must be between " + std::to_string(field_.first) + " and " +
                       std::to_string(last) + ".");
        return *value;
    }

    bool is_weekday() const { return field_.last == 6; }

    std::uint64_t bit(int value) const
    {
        return std::uint64_t{1} << (is_weekday() && value == 7 ? 0 : value);
    }

    std::uint64_t range(int from, int to, int step) const
    {
        std::uint64_t set = 0;
        for (int value = from; value <= to; value += step)
            set |= bit(value);
        return set;
    }

    std::uint64_t parse_item(std::string_view item)
    {
        if (item == "$" && syntax_ == CronSyntax::kExtended && field_.last == 31) {
            last_day_ = true;
            return 0;
        }
        const std::size_t slash = item.find('/');
        const std::string_view what = item.substr(0, slash);
        const std::size_t dash = what.find('-');
        const bool all = what == "*";
        const bool one = !all && dash == std::string_view::npos;
        int step = 1;
        if (slash != std::string_view::npos) {
            const std::optional<int> given = digits(item.substr(slash + 1));
            if (!given || one || (!all && syntax_ == CronSyntax::kGraphile))
                refuse(item, "is not understood", {});
            if (*given < 1)
                refuse(item, "is out of range", "A step must be at least 1.");
            step = *given;
        }
        if (all)
            return range(field_.first, field_.last, step);
        if (one)
            return bit(number(item, what));
        const int from = number(item, what.substr(0, dash));
        const int to = number(item, what.substr(dash + 1));
        if (to < from || (to == from && syntax_ == CronSyntax::kGraphile))
            refuse(item, "is not a range", "The second number must be larger than the first one.");
        return range(from, to, step);
    }

    const Field &field_;
    CronSyntax syntax_;
    std::string_view expression_;
    bool last_day_ = false;
};

/* The set of all values of a field. */
constexpr std::uint64_t all_of(const Field &field)
{
    return ((std::uint64_t{1} << (field.last + 1)) - 1) & ~((std::uint64_t{1} << field.first) - 1);
}

constexpr bool contains(std::uint64_t set, unsigned value)
{
    return (set >> value & 1) != 0;
}

} // namespace

CronExpression CronExpression::parse(std::string_view text, CronSyntax syntax)
{
    std::vector<std::string_view> fields = split_blank(text);
    if (syntax == CronSyntax::kExtended && fields.size() == 1)
        for (const Macro &macro : kMacros)
            if (std::equal(fields[0].begin(), fields[0].end(), macro.name.begin(), macro.name.end(),
                           [](char a, char b) { return to_lower(a) == b; })) {
                fields = split_blank(macro.fields);
                break;
            }
    if (fields.size() != 5)
        throw SyntaxError{"cron expression " + in_quotes(text) + " must have five fields",
                          "It has " + std::to_string(fields.size()) + ".",
                          syntax == CronSyntax::kGraphile ? kGraphileHint : kExtendedHint};

    CronExpression result;
    result.minutes_ = FieldParser(kMinuteField, syntax, text).parse(fields[0]);
    result.hours_ = FieldParser(kHourField, syntax, text).parse(fields[1]);
    FieldParser days(kDayField, syntax, text);
    result.days_ = days.parse(fields[2]);
    result.last_day_ = days.last_day();
    result.months_ = FieldParser(kMonthField, syntax, text).parse(fields[3]);
    result.weekdays_ = FieldParser(kWeekdayField, syntax, text).parse(fields[4]);
    return result;
}

bool CronExpression::names_every_hour() const
{
    return hours_ == all_of(kHourField);
}

bool CronExpression::names_day(std::int64_t day) const
{
    const std::chrono::sys_days date{std::chrono::days{day}};
    const std::chrono::year_month_day parts{date};
    if (!contains(months_, static_cast<unsigned>(parts.month())))
        return false;
    const unsigned day_of_month = static_cast<unsigned>(parts.day());
    const bool day_named =
        contains(days_, day_of_month) ||
        (last_day_ && (parts.year() / parts.month() / std::chrono::last).day() == parts.day());
    const bool weekday_named = contains(weekdays_, std::chrono::weekday(date).c_encoding());
    const bool every_day = days_ == all_of(kDayField);
    const bool every_weekday = weekdays_ == all_of(kWeekdayField);
    return every_day || every_weekday ? day_named && weekday_named : day_named || weekday_named;
}

bool CronExpression::matches(std::int64_t local_minute) const
{
    const std::int64_t day = floor_div(local_minute, kMinutesPerDay);
    const auto minute_of_day = static_cast<unsigned>(local_minute - day * kMinutesPerDay);
    return contains(hours_, minute_of_day / 60) && contains(minutes_, minute_of_day % 60) &&
           names_day(day);
}

std::optional<std::int64_t> CronExpression::next_match(std::int64_t local_minute) const
{
    const std::int64_t first_day = floor_div(local_minute, kMinutesPerDay);
    auto from = static_cast<unsigned>(local_minute - first_day * kMinutesPerDay);
    for (std::int64_t day = first_day; day <= first_day + kHorizonDays; day++, from = 0) {
        if (!names_day(day))
            continue;
        for (unsigned hour = from / 60; hour < 24; hour++) {
            if (!contains(hours_, hour))
                continue;
            for (unsigned minute = hour == from / 60 ? from % 60 : 0; minute < 60; minute++)
                if (contains(minutes_, minute))
                    return day * kMinutesPerDay + hour * 60 + minute;
        }
    }
    return std::nullopt;
}

/* Goes from one change of the offset to the next. In between, local time is UTC plus a
 * constant; what a change skips or repeats is dealt with where it happens. It starts a
 * little early, so that a repetition that `utc` lies in is seen from its beginning. */
std::optional<std::int64_t> next_due(const CronExpression &expression, const ZoneRules &zone,
                                     std::int64_t utc)
{
    const bool elapsed = expression.names_every_hour();
    const std::int64_t horizon = utc + kHorizonDays * kSecondsPerDay;
    std::int64_t begin = utc - kLongestJump;
    ZoneRules::Change change = zone.next_change(begin);
    std::int64_t local_begin = begin + change.offset;

    while (begin <= horizon) {
        const std::int64_t local = std::max(local_begin, utc + 1 + change.offset);
        const auto match = expression.next_match(ceil_div(local, kSecondsPerMinute));
        if (match) {
            const std::int64_t due = *match * kSecondsPerMinute - change.offset;
            if (!change.at || due < *change.at)
                return due;
        }
        if (!change.at)
            return std::nullopt;

        const std::int64_t local_before = *change.at + change.offset;
        const std::int64_t local_after = *change.at + change.offset_after;
        if (!elapsed && *change.at > utc && local_before < local_after) {
            const auto skipped = expression.next_match(ceil_div(local_before, kSecondsPerMinute));
            if (skipped && *skipped * kSecondsPerMinute < local_after)
                return ceil_div(*change.at, kSecondsPerMinute) * kSecondsPerMinute;
        }
        local_begin = elapsed ? local_after : std::max(local_before, local_after);
        begin = *change.at;
        change = zone.next_change(begin);
    }
    return std::nullopt;
}

} // namespace backfill::core
