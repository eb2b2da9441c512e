/* priority_test.cpp - names of priorities and the bands that metrics show. */
#include "backfill/core/priority.hpp"

#include <doctest/doctest.h>

#include <climits>
#include <string>
#include <vector>

using namespace backfill::core;

namespace
{

struct Named {
    const char *name;
    int priority;
};

const std::vector<Named> kNamed = {
    {"EMERGENCY", -20},  {"FAST_HIGH", -10}, {"FAST_DEFAULT", -5},
    {"BULK_DEFAULT", 0}, {"BULK_LOW", 5},    {"BULK_LOWEST", 10},
};

std::string lower(std::string text)
{
    for (char &c : text)
        if (c >= 'A' && c <= 'Z')
            c = static_cast<char>(c + 32);
    return text;
}

} // namespace

TEST_CASE("every named priority has the number that the documentation gives")
{
    for (const Named &named : kNamed) {
        CAPTURE(named.name);
        CHECK(priority_from_name(named.name) == named.priority);
    }
}

TEST_CASE("the constants are the named priorities")
{
    CHECK(kPriorityEmergency == priority_from_name("EMERGENCY"));
    CHECK(kPriorityFastHigh == priority_from_name("FAST_HIGH"));
    CHECK(kPriorityFastDefault == priority_from_name("FAST_DEFAULT"));
    CHECK(kPriorityBulkDefault == priority_from_name("BULK_DEFAULT"));
    CHECK(kPriorityBulkLow == priority_from_name("BULK_LOW"));
    CHECK(kPriorityBulkLowest == priority_from_name("BULK_LOWEST"));
}

TEST_CASE("names are found in any case of letters")
{
    CHECK(priority_from_name("fast_high") == -10);
    CHECK(priority_from_name("Fast_High") == -10);
    CHECK(priority_from_name("fAST_hIGH") == -10);
}

TEST_CASE("no other text is a priority")
{
    const std::vector<std::string> strangers = {
        "",           "FAST",       "FAST_HIG",     "FAST_HIGHER", " FAST_HIGH",
        "FAST_HIGH ", "FAST-HIGH",  "fast\x7fhigh", "-10",         "BULK_LOWES",
        "BULK",       "EMERGENCYY", "\xc3\x84",     "OTHER",       std::string("EMERGENCY\0", 10),
    };
    for (const std::string &name : strangers) {
        CAPTURE(name);
        CHECK_FALSE(priority_from_name(name).has_value());
    }
}

TEST_CASE("a band's borders belong to the band that the documentation gives")
{
    struct Border {
        int priority;
        const char *band;
    };
    const std::vector<Border> borders = {
        {INT_MIN, "emergency"}, {-32768, "emergency"}, {-21, "emergency"},  {-20, "emergency"},
        {-19, "fast_high"},     {-11, "fast_high"},    {-10, "fast_high"},  {-9, "fast_default"},
        {-5, "fast_default"},   {-1, "fast_default"},  {0, "bulk_default"}, {1, "bulk_low"},
        {5, "bulk_low"},        {6, "bulk_lowest"},    {10, "bulk_lowest"}, {11, "other"},
        {32767, "other"},       {INT_MAX, "other"},
    };
    for (const Border &border : borders) {
        CAPTURE(border.priority);
        CHECK(priority_band(border.priority) == border.band);
    }
}

TEST_CASE("a named priority lies in the band of its name")
{
    for (const Named &named : kNamed) {
        CAPTURE(named.name);
        CHECK(priority_band(named.priority) == lower(named.name));
    }
}

TEST_CASE("every priority of a job has one of the seven bands, and bands follow each other")
{
    const std::vector<std::string> order = {"emergency",    "fast_high", "fast_default",
                                            "bulk_default", "bulk_low",  "bulk_lowest",
                                            "other"};
    std::size_t at = 0;
    for (int priority = SHRT_MIN; priority <= SHRT_MAX; priority++) {
        const std::string band(priority_band(priority));
        if (band != order[at])
            at++;
        REQUIRE(at < order.size());
        REQUIRE(band == order[at]);
    }
    CHECK(at == order.size() - 1);
}
