/* priority.hpp - named priorities and their bands. Smaller numbers run first. */
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace backfill::core
{

inline constexpr int kPriorityEmergency = -20;
inline constexpr int kPriorityFastHigh = -10;
inline constexpr int kPriorityFastDefault = -5;
inline constexpr int kPriorityBulkDefault = 0;
inline constexpr int kPriorityBulkLow = 5;
inline constexpr int kPriorityBulkLowest = 10;

/* The number of a named priority, in any case of letters; nothing for an unknown name. */
std::optional<int> priority_from_name(std::string_view name);

/* The band a priority belongs to: one of the six names in lower case, or "other". */
std::string_view priority_band(int priority);

/* The bands by their numbers, the best first. */
inline constexpr int kPriorityBands = 7;
int priority_band_number(std::int64_t priority);

} // namespace backfill::core
