/* cron_expression_test.cpp - what cron expressions mean, and when they are due, against a
 * second implementation that tries every minute. */
#include "backfill/core/cron_expression.hpp"
#include "backfill/core/syntax_error.hpp"

#include <doctest/doctest.h>

#include <boost/random/mersenne_twister.hpp>
#include <boost/random/uniform_int_distribution.hpp>

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

using namespace backfill::core;

namespace
{

/* A zone whose offset changes at given times. */
class TestZone final : public ZoneRules
{
  public:
    struct Step {
        std::int64_t at;
        std::int32_t offset; /* from then on */
    };
    explicit TestZone(std::int32_t first, std::vector<Step> steps = {})
        : first_(first), steps_(std::move(steps))
    {
    }
    Change next_change(std::int64_t utc) const override
    {
        Change change{first_, std::nullopt, 0};
        for (const Step &step : steps_) {
            if (step.at > utc) {
                change.at = step.at;
                change.offset_after = step.offset;
                break;
            }
            change.offset = step.offset;
        }
        return change;
    }
    std::int32_t offset(std::int64_t utc) const { return next_change(utc).offset; }

  private:
    std::int32_t first_;
    std::vector<Step> steps_;
};

std::int64_t utc(int year, unsigned month, unsigned day, int hour = 0, int minute = 0)
{
    const std::chrono::sys_days date =
        std::chrono::year(year) / std::chrono::month(month) / std::chrono::day(day);
    return date.time_since_epoch().count() * std::int64_t{86400} + hour * 3600 + minute * 60;
}

std::string shown(std::optional<std::int64_t> seconds)
{
    if (!seconds)
        return "never";
    const std::chrono::sys_seconds time{std::chrono::seconds(*seconds)};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date{day};
    const std::int64_t minute = (time - day).count() / 60;
    const auto two = [](std::int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); };
    return std::to_string(static_cast<int>(date.year())) + "-" +
           two(static_cast<unsigned>(date.month())) + "-" + two(static_cast<unsigned>(date.day())) +
           " " + two(minute / 60) + ":" + two(minute % 60) +
           ((time - day).count() % 60 == 0 ? "" : ":?");
}

const TestZone kUtc(0);
/* Europe/Berlin in 2026: +1, in summer +2. */
const TestZone kBerlin(3600, {{utc(2026, 3, 29, 1), 7200}, {utc(2026, 10, 25, 1), 3600}});

CronExpression extended(const std::string &text)
{
    return CronExpression::parse(text, CronSyntax::kExtended);
}

std::string next(const std::string &expression, std::int64_t after, const ZoneRules &zone = kUtc)
{
    return shown(next_due(extended(expression), zone, after));
}

/* All times in (from, to]. */
std::vector<std::string> due(const std::string &expression, const ZoneRules &zone,
                             std::int64_t from, std::int64_t to)
{
    std::vector<std::string> times;
    const CronExpression parsed = extended(expression);
    for (auto at = next_due(parsed, zone, from); at && *at <= to; at = next_due(parsed, zone, *at))
        times.push_back(shown(at));
    return times;
}

std::string refusal(const std::string &expression, CronSyntax syntax)
{
    try {
        (void) CronExpression::parse(expression, syntax);
    } catch (const SyntaxError &error) {
        CHECK_FALSE(error.hint.empty());
        return error.message + (error.detail.empty() ? "" : ": " + error.detail);
    }
    return "accepted";
}

/* --- a second implementation, as plain as can be ------------------------------------ */

struct Sets {
    std::set<int> minutes, hours, days, months, weekdays;
    bool last_day = false;
};

bool names(const Sets &sets, std::int64_t local_seconds)
{
    const std::int64_t day_number =
        local_seconds >= 0 ? local_seconds / 86400 : -((-local_seconds + 86399) / 86400);
    const std::int64_t second = local_seconds - day_number * 86400;
    const std::chrono::sys_days date{std::chrono::days(day_number)};
    const std::chrono::year_month_day parts{date};
    const std::chrono::year_month_day tomorrow{date + std::chrono::days(1)};
    if (!sets.minutes.count(static_cast<int>(second / 60 % 60)) ||
        !sets.hours.count(static_cast<int>(second / 3600)) ||
        !sets.months.count(static_cast<int>(static_cast<unsigned>(parts.month()))))
        return false;
    const bool day = sets.days.count(static_cast<int>(static_cast<unsigned>(parts.day()))) ||
                     (sets.last_day && tomorrow.month() != parts.month());
    const bool weekday =
        sets.weekdays.count(static_cast<int>(std::chrono::weekday(date).c_encoding())) > 0;
    if (sets.days.size() < 31 && sets.weekdays.size() < 7)
        return day || weekday;
    return day && weekday;
}

/* Every UTC minute of a span, one after the other. */
std::set<std::int64_t> brute_force(const Sets &sets, const TestZone &zone, std::int64_t from,
                                   std::int64_t to)
{
    std::set<std::int64_t> result;
    std::set<std::int64_t> seen; /* local minutes that have been */
    const bool elapsed = sets.hours.size() == 24;
    std::int64_t before = from - 3 * 86400 + zone.offset(from - 3 * 86400) - 60;
    for (std::int64_t at = from - 3 * 86400; at <= to; at += 60) {
        const std::int64_t local = at + zone.offset(at);
        bool runs = names(sets, local);
        if (!elapsed) {
            runs = runs && !seen.count(local);
            for (std::int64_t skipped = before + 60; skipped < local; skipped += 60)
                if (!seen.count(skipped))
                    runs = runs || names(sets, skipped);
        }
        seen.insert(local);
        before = local;
        if (runs && at > from)
            result.insert(at);
    }
    return result;
}

/* A random field: its text and its set. */
std::string random_field(boost::random::mt19937_64 &random, int first, int last, std::set<int> &set)
{
    const auto pick = [&](int a, int b) {
        return boost::random::uniform_int_distribution<int>(a, b)(random);
    };
    std::string text;
    const int items = pick(1, 3);
    for (int i = 0; i < items; i++) {
        const int from = pick(first, last);
        const int to = pick(from, last);
        const int step = pick(1, 7);
        int begin = from;
        int end = to;
        int by = 1;
        std::string item;
        switch (pick(0, 5)) {
        case 0:
            item = "*";
            begin = first;
            end = last;
            break;
        case 1:
            item = "*/" + std::to_string(step);
            begin = first;
            end = last;
            by = step;
            break;
        case 2:
            item = std::to_string(from) + "-" + std::to_string(to);
            break;
        case 3:
            item = std::to_string(from) + "-" + std::to_string(to) + "/" + std::to_string(step);
            by = step;
            break;
        default:
            item = std::to_string(from);
            end = from;
        }
        for (int value = begin; value <= end; value += by)
            set.insert(value);
        text += (i > 0 ? "," : "") + item;
    }
    return text;
}

} // namespace

TEST_CASE("fields name minutes, hours, days, months and weekdays")
{
    const std::int64_t start = utc(2026, 1, 1, 0, 0); /* a Thursday */
    CHECK(next("* * * * *", start) == "2026-01-01 00:01");
    CHECK(next("0 * * * *", start) == "2026-01-01 01:00");
    CHECK(next("15,45 3 * * *", start) == "2026-01-01 03:15");
    CHECK(next("0 0 * * *", start) == "2026-01-02 00:00");
    CHECK(next("0 0 13 * *", start) == "2026-01-13 00:00");
    CHECK(next("0 0 1 5 *", start) == "2026-05-01 00:00");
    CHECK(next("0 0 * * 0", start) == "2026-01-04 00:00");
    CHECK(next("0 0 * * 7", start) == "2026-01-04 00:00");
    CHECK(next("0 0 * * 5-7", utc(2026, 1, 3, 0, 0)) == "2026-01-04 00:00");
    CHECK(next("*/20 * * * *", start) == "2026-01-01 00:20");
    CHECK(next("0 0 */10 * *", start) == "2026-01-11 00:00");
    CHECK(next("10-30/10 8-9 * * *", utc(2026, 1, 1, 8, 30)) == "2026-01-01 09:10");
    CHECK(next("0 12 1-7 * *", utc(2026, 1, 7, 12)) == "2026-02-01 12:00");
}

TEST_CASE("the result lies after the given second, at a whole minute")
{
    CHECK(next("* * * * *", utc(2026, 1, 1) - 1) == "2026-01-01 00:00");
    CHECK(next("* * * * *", utc(2026, 1, 1)) == "2026-01-01 00:01");
    CHECK(next("* * * * *", utc(2026, 1, 1) + 59) == "2026-01-01 00:01");
    CHECK(next("0 0 1 1 *", utc(1969, 12, 30)) == "1970-01-01 00:00");
    CHECK(next("0 0 1 1 *", utc(1899, 6, 1)) == "1900-01-01 00:00");
}

TEST_CASE("two incomplete day fields: either will do")
{
    const std::int64_t start = utc(2026, 1, 1);
    CHECK(due("0 0 13 * 1", kUtc, start, utc(2026, 1, 20)) ==
          std::vector<std::string>{"2026-01-05 00:00", "2026-01-12 00:00", "2026-01-13 00:00",
                                   "2026-01-19 00:00"});
    /* A set that is complete restricts nothing, however it is written. */
    CHECK(next("0 0 13 * */1", start) == "2026-01-13 00:00");
    CHECK(next("0 0 13 * 0-6", start) == "2026-01-13 00:00");
    CHECK(next("0 0 1-31 * 1", start) == "2026-01-05 00:00");
    CHECK(next("0 0 */2 * 5", start) == "2026-01-02 00:00"); /* the 2nd is a Friday */
}

TEST_CASE("extended syntax: names, steps of ranges, the last day, macros")
{
    const std::int64_t start = utc(2026, 1, 1);
    CHECK(next("0 0 1 MAR *", start) == "2026-03-01 00:00");
    CHECK(next("0 0 * * mon-fri", utc(2026, 1, 2)) == "2026-01-05 00:00");
    CHECK(next("0 0 $ * *", start) == "2026-01-31 00:00");
    CHECK(next("0 0 $ feb *", start) == "2026-02-28 00:00");
    CHECK(next("0 0 $ 2 *", utc(2028, 1, 1)) == "2028-02-29 00:00");
    CHECK(next("0 0 15,$ * *", start) == "2026-01-15 00:00");
    CHECK(next("0 0 $ * mon", start) == "2026-01-05 00:00");
    CHECK(next("@yearly", start) == "2027-01-01 00:00");
    CHECK(next("@annually", start) == "2027-01-01 00:00");
    CHECK(next("@monthly", start) == "2026-02-01 00:00");
    CHECK(next("@weekly", start) == "2026-01-04 00:00");
    CHECK(next("@daily", start) == "2026-01-02 00:00");
    CHECK(next("@midnight", start) == "2026-01-02 00:00");
    CHECK(next(" @Hourly ", start) == "2026-01-01 01:00");
    CHECK(next("\t0  0 1\t2 * ", start) == "2026-02-01 00:00");
}

TEST_CASE("days that are rare, and days that never come")
{
    CHECK(next("0 0 29 2 *", utc(2026, 1, 1)) == "2028-02-29 00:00");
    CHECK(next("0 0 29 2 *", utc(2096, 2, 29)) == "2104-02-29 00:00");
    CHECK(next("0 0 30 2 *", utc(2026, 1, 1)) == "never");
    CHECK(next("0 0 31 4,6,9,11 *", utc(2026, 1, 1)) == "never");
    CHECK(next("0 0 30 2 *", utc(2026, 1, 1), kBerlin) == "never");
    CHECK(next("0 0 30 2 1", utc(2026, 1, 1)) == "2026-02-02 00:00"); /* or a Monday */
}

TEST_CASE("what is wrong is named, with its field")
{
    const auto graphile = [](const std::string &text) {
        return refusal(text, CronSyntax::kGraphile);
    };
    CHECK(graphile("60 * * * *") == "value \"60\" is out of range in the minute field of cron "
                                    "expression \"60 * * * *\": It must be between 0 and 59.");
    CHECK(graphile("* 24 * * *").find("the hour field") != std::string::npos);
    CHECK(graphile("* * 0 * *").find("It must be between 1 and 31") != std::string::npos);
    CHECK(graphile("* * * 13 *").find("the month field") != std::string::npos);
    CHECK(graphile("* * * * 8").find("It must be between 0 and 7") != std::string::npos);
    CHECK(graphile("99999999999999999999 * * * *").find("out of range") != std::string::npos);
    CHECK(graphile("* * * *") == "cron expression \"* * * *\" must have five fields: It has 4.");
    CHECK(graphile("* * * * * *").find("It has 6.") != std::string::npos);
    CHECK(graphile("").find("It has 0.") != std::string::npos);
    for (const char *bad :
         {"5-5 * * * *", "9-5 * * * *",   "*/0 * * * *",  ", * * * *",     "1, * * * *",
          ",1 * * * *",  "1-2-3 * * * *", "1/2 * * * *",  "1-9/2 * * * *", "- * * * *",
          "-1 * * * *",  "1- * * * *",    "*/ * * * *",   "/2 * * * *",    "** * * * *",
          "*-5 * * * *", "a * * * *",     "1a * * * *",   "* * $ * *",     "* * * jan *",
          "* * * * mon", "@daily",        "*/-1 * * * *", "+1 * * * *"}) {
        CAPTURE(bad);
        CHECK(graphile(bad) != "accepted");
    }
    for (const char *bad :
         {"9-5 * * * *", "1/2 * * * *", "*/0 * * * *", "1-9/0 * * * *", "$ * * * *", "* * * * $",
          "jan * * * *", "* * * january *", "* * * ja *", "* * mon * *", "* * * * jan",
          "* * * * fri-sun", "@never", "@daily x", "5 seconds", "* * $/2 * *", "* * 1-$ * *"}) {
        CAPTURE(bad);
        CHECK(refusal(bad, CronSyntax::kExtended) != "accepted");
    }
    CHECK(refusal("5-5 * * * *", CronSyntax::kExtended) == "accepted");
}

TEST_CASE("spring: a time of day that is skipped runs once, right after the jump")
{
    const std::int64_t from = utc(2026, 3, 28, 12);
    const std::int64_t to = utc(2026, 3, 30, 12);
    CHECK(due("30 2 * * *", kBerlin, from, to) ==
          std::vector<std::string>{"2026-03-29 01:00", "2026-03-30 00:30"});
    CHECK(due("0,15,30 2 * * *", kBerlin, from, utc(2026, 3, 29, 12)) ==
          std::vector<std::string>{"2026-03-29 01:00"});
    /* 3:00, which follows the jump, is not run twice. */
    CHECK(due("0 2,3 * * *", kBerlin, from, utc(2026, 3, 29, 12)) ==
          std::vector<std::string>{"2026-03-29 01:00"});
    CHECK(due("30 1,3 * * *", kBerlin, from, utc(2026, 3, 29, 12)) ==
          std::vector<std::string>{"2026-03-29 00:30", "2026-03-29 01:30"});
    /* Not for a day that is not named. */
    CHECK(due("30 2 * * mon", kBerlin, from, to) == std::vector<std::string>{"2026-03-30 00:30"});
}

TEST_CASE("autumn: a time of day that comes twice runs the first time")
{
    const std::int64_t from = utc(2026, 10, 24, 12);
    CHECK(due("30 2 * * *", kBerlin, from, utc(2026, 10, 26, 12)) ==
          std::vector<std::string>{"2026-10-25 00:30", "2026-10-26 01:30"});
    /* Asked from within the repetition. */
    CHECK(next("30 2 * * *", utc(2026, 10, 25, 1, 15), kBerlin) == "2026-10-26 01:30");
    CHECK(next("45 2,3 * * *", utc(2026, 10, 25, 1, 15), kBerlin) == "2026-10-25 02:45");
    CHECK(next("0 3 * * *", utc(2026, 10, 25, 1, 15), kBerlin) == "2026-10-25 02:00");
}

TEST_CASE("an expression for every hour follows elapsed time")
{
    CHECK(due("30 * * * *", kBerlin, utc(2026, 3, 29), utc(2026, 3, 29, 3)) ==
          std::vector<std::string>{"2026-03-29 00:30", "2026-03-29 01:30", "2026-03-29 02:30"});
    CHECK(due("30 0-23 * * *", kBerlin, utc(2026, 10, 25), utc(2026, 10, 25, 3)) ==
          std::vector<std::string>{"2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"});
    CHECK(due("* * * * *", kBerlin, utc(2026, 10, 25), utc(2026, 10, 25, 3)).size() == 180);
    CHECK(due("* * * * *", kBerlin, utc(2026, 3, 29), utc(2026, 3, 29, 3)).size() == 180);
}

TEST_CASE("a day that does not exist: its runs come once, at the next midnight")
{
    /* As Samoa did: from UTC-10 to UTC+14 in one moment. */
    const TestZone samoa(-36000, {{utc(2011, 12, 30, 10), 50400}});
    CHECK(due("0 5 * * *", samoa, utc(2011, 12, 29), utc(2012, 1, 1)) ==
          std::vector<std::string>{"2011-12-29 15:00", "2011-12-30 10:00", "2011-12-30 15:00",
                                   "2011-12-31 15:00"});
    CHECK(next("0 5 30 12 *", utc(2011, 12, 29), samoa) == "2011-12-30 10:00");
}

TEST_CASE("3000 random expressions in jumping zones: what trying every minute finds")
{
    boost::random::mt19937_64 random(20260329);
    const auto pick = [&](int a, int b) {
        return boost::random::uniform_int_distribution<int>(a, b)(random);
    };
    const std::vector<TestZone> zones = {
        kUtc,
        kBerlin,
        TestZone(-34200, {{utc(2026, 3, 29, 13, 30), -37800}, {utc(2026, 10, 25, 4), -34200}}),
        TestZone(37800,
                 {{utc(2026, 3, 29, 1), 39600}, {utc(2026, 10, 25, 1), 37800}}), /* half an hour */
        TestZone(0, {{utc(2026, 3, 29, 1), 86400}, {utc(2026, 10, 25, 1), 0}}),  /* a day */
        TestZone(
            0,
            {{utc(2026, 3, 29, 1), 3600}, {utc(2026, 3, 29, 2), 7200}, {utc(2026, 3, 29, 5), 0}}),
    };
    std::size_t compared = 0;
    for (int i = 0; i < 3000; i++) {
        Sets sets;
        std::string text = random_field(random, 0, 59, sets.minutes);
        text += " " + random_field(random, 0, 23, sets.hours);
        const bool any_day = pick(0, 1) == 0;
        const bool any_weekday = pick(0, 1) == 0;
        std::set<int> ignored;
        text += " " + (any_day ? "*" : random_field(random, 1, 31, sets.days));
        if (any_day)
            for (int day = 1; day <= 31; day++)
                sets.days.insert(day);
        if (!any_day && pick(0, 9) == 0) {
            text += ",$";
            sets.last_day = true;
        }
        text += " " + (pick(0, 3) > 0 ? "*" : random_field(random, 1, 12, ignored));
        sets.months = ignored;
        if (sets.months.empty())
            for (int month = 1; month <= 12; month++)
                sets.months.insert(month);
        text += " " + (any_weekday ? "*" : random_field(random, 0, 6, sets.weekdays));
        if (any_weekday)
            for (int weekday = 0; weekday <= 6; weekday++)
                sets.weekdays.insert(weekday);

        const TestZone &zone =
            zones[static_cast<std::size_t>(pick(0, static_cast<int>(zones.size()) - 1))];
        const std::int64_t from = pick(0, 1) == 0 ? utc(2026, 3, 28, pick(0, 23), pick(0, 59))
                                                  : utc(2026, 10, 24, pick(0, 23), pick(0, 59));
        const std::int64_t to = from + 2 * 86400;
        CAPTURE(text);
        CAPTURE(shown(from));
        std::set<std::int64_t> found;
        const CronExpression expression = extended(text);
        std::int64_t last = from;
        for (auto at = next_due(expression, zone, from); at && *at <= to;
             at = next_due(expression, zone, *at)) {
            REQUIRE(*at > last);
            last = *at;
            found.insert(*at);
        }
        const std::set<std::int64_t> expected = brute_force(sets, zone, from, to);
        REQUIRE(found == expected);
        compared += expected.size();
    }
    CHECK(compared > 30000);
}

TEST_CASE("matches() agrees with next_match()")
{
    const CronExpression expression = extended("*/7 3,9 1-9,$ */2 mon");
    for (std::int64_t minute = -3000; minute < 50000; minute++) {
        const auto match = expression.next_match(minute);
        if (!match || (*match == minute) != expression.matches(minute))
            FAIL(minute);
    }
}
