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

constexpr std::array<NamedPriority, 6> kNamedPriorities = {{
    {"EMERGENCY", kPriorityEmergency},
    {"FAST_HIGH", kPriorityFastHigh},
    {"FAST_DEFAULT", kPriorityFastDefault},
    {"BULK_DEFAULT", kPriorityBulkDefault},
    {"BULK_LOW", kPriorityBulkLow},
    {"BULK_LOWEST", kPriorityBulkLowest},
}};

constexpr std::array<std::string_view, kPriorityBands> kBands = {
    "emergency", "fast_high", "fast_default", "bulk_default", "bulk_low", "bulk_lowest", "other"};

/* Names are ASCII; the C library's toupper would ask the locale. */
constexpr char to_upper(char c)
{
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

} // namespace

std::optional<int> priority_from_name(std::string_view name)
{
    for (const NamedPriority &named : kNamedPriorities) {
        if (std::equal(name.begin(), name.end(), named.name.begin(), named.name.end(),
                       [](char a, char b) { return to_upper(a) == b; }))
            return named.priority;
    }
    return std::nullopt;
}

int priority_band_number(std::int64_t priority)
{
    if (priority <= kPriorityEmergency)
        return 0;
    if (priority <= kPriorityFastHigh)
        return 1;
    if (priority < kPriorityBulkDefault)
        return 2;
    if (priority == kPriorityBulkDefault)
        return 3;
    if (priority <= kPriorityBulkLow)
        return 4;
    if (priority <= kPriorityBulkLowest)
        return 5;
    return 6;
}

std::string_view priority_band(int priority)
{
    return kBands[static_cast<std::size_t>(priority_band_number(priority))];
}

} // namespace backfill::core
