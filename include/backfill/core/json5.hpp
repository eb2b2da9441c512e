/* json5.hpp - JSON5, as crontab lines have it, to JSON.
 *
 * JSON5 adds to JSON: keys without quotes, strings in single quotes, trailing commas,
 * comments, hexadecimal numbers, a plus sign, and a decimal point at either end. */
#pragma once

#include <string>
#include <string_view>

namespace backfill::core
{

/* The same value as JSON text. Throws a SyntaxError that says where the text is wrong.
 * Infinity and NaN have no counterpart in JSON and are refused. */
std::string json5_to_json(std::string_view text);

} // namespace backfill::core
