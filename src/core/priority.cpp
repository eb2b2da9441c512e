/* priority.cpp - see priority.hpp. */
#include "backfill/core/priority.hpp"

#include <algorithm>
#include <array>

namespace backfill::core
{

namespace
{

struct NamedPriority {
    std::string_view name;
    int priority;
};

constexpr std::array<NamedPriority, 6> kNames = {{
    {"EMERGENCY", kPriorityEmergency},
    {"FAST_HIGH", kPriorityFastHigh},
    {"FAST_DEFAULT", kPriorityFastDefault},
    {"BULK_DEFAULT", kPriorityBulkDefault},
    {"BULK_LOW", kPriorityBulkLow},
    {"BULK_LOWEST", kPriorityBulkLowest},
}};

/* Names are ASCII; the C library's toupper would ask the locale. */
constexpr char to_upper(char c)
{
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

} // namespace

std::optional<int> priority_from_name(std::string_view name)
{
    for (const NamedPriority &named : kNames) {
        if (std::equal(name.begin(), name.end(), named.name.begin(), named.name.end(),
                       [](char a, char b) { return to_upper(a) == b; }))
            return named.priority;
    }
    return std::nullopt;
}

std::string_view priority_band(int priority)
{
    if (priority <= kPriorityEmergency)
        return "emergency";
    if (priority <= kPriorityFastHigh)
        return "fast_high";
    if (priority < kPriorityBulkDefault)
        return "fast_default";
    if (priority == kPriorityBulkDefault)
        return "bulk_default";
    if (priority <= kPriorityBulkLow)
        return "bulk_low";
    if (priority <= kPriorityBulkLowest)
        return "bulk_lowest";
    return "other";
}

} // namespace backfill::core
